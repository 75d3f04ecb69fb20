//! Which kinds the API serves, found by discovery.

use std::collections::HashMap;

use kube::Client;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope, verbs};

/// A kind that the API serves, in the version that the API prefers.
#[derive(Clone, Debug)]
pub(crate) struct Discovered {
    /// Where it is found.
    pub(crate) resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Discovered {
    fn new((resource, capabilities): (ApiResource, ApiCapabilities)) -> Self {
        Self {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
            verbs: capabilities.operations,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(resource: ApiResource) -> Self {
        let verbs = [verbs::LIST, verbs::WATCH, verbs::DELETE]
            .map(str::to_string)
            .to_vec();
        Self {
            resource,
            namespaced: true,
            verbs,
        }
    }

    /// Whether the API serves all of these verbs for it.
    pub(crate) fn supports(&self, verbs: &[&str]) -> bool {
        verbs
            .iter()
            .all(|verb| self.verbs.iter().any(|served| served == verb))
    }

    /// Whether its objects can be found and deleted.
    pub(crate) fn is_deletable(&self) -> bool {
        self.supports(&[verbs::LIST, verbs::DELETE])
    }
}

/// All kinds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds {
    kinds: Vec<Discovered>,
    /// By group and kind: owner references may name a version that is not the preferred one.
    by_kind: HashMap<(String, String), usize>,
}

impl Kinds {
    /// Asks the API.
    pub(crate) async fn discover(client: &Client) -> Result<Self, kube::Error> {
        let discovery = match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovery) => discovery,
            // A server without aggregated discovery.
            Err(_) => Discovery::new(client.clone()).run().await?,
        };
        let kinds = discovery
            .groups()
            .flat_map(|group| group.recommended_resources())
            .map(Discovered::new);
        Ok(Self::of(kinds))
    }

    /// These kinds.
    pub(crate) fn of(kinds: impl IntoIterator<Item = Discovered>) -> Self {
        let mut all = Self::default();
        for kind in kinds {
            let key = (kind.resource.group.clone(), kind.resource.kind.clone());
            all.by_kind.insert(key, all.kinds.len());
            all.kinds.push(kind);
        }
        all
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Discovered> {
        self.kinds.iter()
    }

    /// The kind that an `apiVersion` and a `kind` name.
    pub(crate) fn resolve(&self, api_version: &str, kind: &str) -> Option<&Discovered> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let index = self.by_kind.get(&(group.to_string(), kind.to_string()))?;
        self.kinds.get(*index)
    }
}
