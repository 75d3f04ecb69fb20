//! The catalogue: every kind the server knows, found by resource path or by kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::{Kind, KindInfo, Strategy, Typed};
use crate::sent;
use crate::version::Converted;

/// The kinds of a server.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// By group, version and plural name.
    resources: BTreeMap<(String, String, String), Arc<dyn Strategy>>,
    /// The kinds that are answered and never stored.
    sent: Vec<KindInfo>,
}

impl Catalogue {
    /// A catalogue with no kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind; one that serves the same resource is replaced.
    pub fn register(&mut self, strategy: Arc<dyn Strategy>) {
        let info = strategy.info();
        let key = (
            info.group.to_string(),
            info.version.to_string(),
            info.plural.to_string(),
        );
        self.resources.insert(key, strategy);
    }

    fn add<K: Kind>(&mut self) {
        self.register(Arc::new(Typed::<K>::new()));
    }

    /// The kind that a resource path names.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<dyn Strategy>> {
        self.resources
            .get(&(group.to_string(), version.to_string(), plural.to_string()))
    }

    /// The kind with this name.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<dyn Strategy>> {
        self.iter().find(|strategy| {
            let info = strategy.info();
            info.group == group && info.version == version && info.kind == kind
        })
    }

    /// All versions of a kind, of which this is one: those that are kept in the store under the same keys.
    pub fn versions<'a>(&'a self, of: &'a dyn Strategy) -> impl Iterator<Item = &'a Arc<dyn Strategy>> {
        self.iter()
            .filter(|strategy| strategy.info().store_prefix == of.info().store_prefix)
    }

    /// All kinds, by group, version and plural name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Strategy>> {
        self.resources.values()
    }

    /// The facts of the kinds that are sent to be answered and never stored (`TokenReview`, …).
    pub fn sent(&self) -> &[KindInfo] {
        &self.sent
    }

    /// The facts of all kinds, those that are never stored included.
    pub fn infos(&self) -> impl Iterator<Item = &KindInfo> {
        self.iter().map(|strategy| strategy.info()).chain(&self.sent)
    }
}

/// The kinds that Kubernetes has built in.
pub fn builtin() -> Catalogue {
    let mut catalogue = Catalogue::new();
    macro_rules! add {
        ($($kind:ty,)*) => {{ $(catalogue.add::<$kind>();)* }};
    }
    macro_rules! serve {
        ($($version:ty,)*) => {{ $(catalogue.register(Arc::new(Converted::<$version>::new()));)* }};
    }
    include!("kinds.rs");
    catalogue.sent = sent::kinds();
    catalogue
}
