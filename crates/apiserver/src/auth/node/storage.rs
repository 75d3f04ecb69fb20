//! What belongs to a node besides what its pods name: the volumes of its pods' claims, the secrets of these volumes, and
//! the objects that name the node themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::ApiResult;
use crate::follow::{Follower, follow};
use crate::registry::{Entry, Registry};

/// A namespace and a name.
type Key = (String, String);

/// A volume: whose it is, and what the node needs to mount it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Volume {
    claim: Option<Key>,
    secrets: Vec<Key>,
}

#[derive(Debug, Default)]
struct State {
    volumes: HashMap<String, Volume>,
    /// The volumes that need a secret.
    by_secret: HashMap<Key, HashSet<String>>,
    /// The node of each attachment, and of each slice of resources.
    attachments: HashMap<String, String>,
    slices: HashMap<String, String>,
}

impl State {
    fn forget(&mut self, name: &str) {
        for secret in self.volumes.remove(name).unwrap_or_default().secrets {
            if let Some(volumes) = self.by_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.by_secret.remove(&secret);
                }
            }
        }
    }

    fn know(&mut self, name: &str, volume: Volume) {
        if self.volumes.get(name) == Some(&volume) {
            return;
        }
        self.forget(name);
        for secret in &volume.secrets {
            self.by_secret
                .entry(secret.clone())
                .or_default()
                .insert(name.to_string());
        }
        self.volumes.insert(name.to_string(), volume);
    }
}

/// What is kept of volumes, attachments and slices; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage(Arc<RwLock<State>>);

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    spec: Value,
}

fn text(value: &Value, key: &str) -> Option<String> {
    let text = value.get(key).and_then(Value::as_str)?;
    (!text.is_empty()).then(|| text.to_string())
}

/// What a volume's specification says. Secrets that only controllers need are left out.
fn volume(spec: &Value) -> Volume {
    let claim = spec.get("claimRef");
    let claim = claim.and_then(|claim| Some((text(claim, "namespace")?, text(claim, "name")?)));
    let of_claim = || claim.as_ref().map(|(namespace, _)| namespace.clone());
    let mut secrets = Vec::new();
    let mut add = |namespace: Option<String>, name: Option<String>| {
        secrets.extend(namespace.or_else(of_claim).zip(name));
    };
    if let Some(file) = spec.get("azureFile") {
        add(text(file, "secretNamespace"), text(file, "secretName"));
    }
    let references = [
        "cephfs",
        "cinder",
        "flexVolume",
        "iscsi",
        "rbd",
        "scaleIO",
        "storageos",
    ]
    .iter()
    .map(|source| (*source, "secretRef"));
    let csi = [
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ]
    .iter()
    .map(|field| ("csi", *field));
    for (source, field) in references.chain(csi) {
        if let Some(reference) = spec.get(source).and_then(|source| source.get(field)) {
            add(text(reference, "namespace"), text(reference, "name"));
        }
    }
    Volume { claim, secrets }
}

/// Which objects are followed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Volumes,
    Attachments,
    Slices,
}

struct Of(Storage, Kind);

impl Of {
    fn take(&self, state: &mut State, entry: &Entry) {
        let Ok(object) = serde_json::from_slice::<Object>(entry.json()) else {
            tracing::error!(name = entry.name(), kind = ?self.1, "a stored object cannot be read");
            return;
        };
        let node = text(&object.spec, "nodeName").unwrap_or_default();
        let name = entry.name().to_string();
        match self.1 {
            Kind::Volumes => state.know(&name, volume(&object.spec)),
            Kind::Attachments => drop(state.attachments.insert(name, node)),
            Kind::Slices => drop(state.slices.insert(name, node)),
        }
    }
}

impl Follower for Of {
    fn replace(&self, entries: &[Arc<Entry>]) {
        let mut state = self.0.0.write();
        match self.1 {
            Kind::Volumes => {
                state.volumes.clear();
                state.by_secret.clear();
            }
            Kind::Attachments => state.attachments.clear(),
            Kind::Slices => state.slices.clear(),
        }
        for entry in entries {
            self.take(&mut state, entry);
        }
    }

    fn put(&self, entry: &Entry) {
        self.take(&mut self.0.0.write(), entry);
    }

    fn remove(&self, entry: &Entry) {
        let mut state = self.0.0.write();
        match self.1 {
            Kind::Volumes => state.forget(entry.name()),
            Kind::Attachments => drop(state.attachments.remove(entry.name())),
            Kind::Slices => drop(state.slices.remove(entry.name())),
        }
    }
}

impl Storage {
    /// Follows the objects until `shutdown`. When this returns, those that are there now are known.
    pub(super) async fn follow(
        &self,
        registry: &Arc<Registry>,
        shutdown: &CancellationToken,
    ) -> ApiResult<()> {
        for (group, plural, kind) in [
            ("", "persistentvolumes", Kind::Volumes),
            ("storage.k8s.io", "volumeattachments", Kind::Attachments),
            ("resource.k8s.io", "resourceslices", Kind::Slices),
        ] {
            if let Some(resource) = registry.resource(group, "v1", plural).cloned() {
                follow(resource, Of(self.clone(), kind), shutdown.clone()).await?;
            }
        }
        Ok(())
    }

    /// The namespace and name of a volume's claim.
    pub(super) fn claim_of(&self, volume: &str) -> Option<Key> {
        self.0.read().volumes.get(volume)?.claim.clone()
    }

    /// The claims of the volumes that need a secret.
    pub(super) fn claims_with(&self, namespace: &str, secret: &str) -> Vec<Key> {
        let state = self.0.read();
        if state.by_secret.is_empty() {
            return Vec::new();
        }
        let volumes = state.by_secret.get(&(namespace.to_string(), secret.to_string()));
        volumes
            .into_iter()
            .flatten()
            .filter_map(|name| state.volumes.get(name)?.claim.clone())
            .collect()
    }

    /// Whether an attachment is to a node.
    pub(super) fn is_attached_to(&self, attachment: &str, node: &str) -> bool {
        self.0
            .read()
            .attachments
            .get(attachment)
            .is_some_and(|its| its == node)
    }

    /// Whether a slice is of a node.
    pub(super) fn is_slice_of(&self, slice: &str, node: &str) -> bool {
        self.0.read().slices.get(slice).is_some_and(|its| its == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_names_its_claim_and_what_a_node_needs_to_mount_it() {
        let key = |namespace: &str, name: &str| (namespace.to_string(), name.to_string());
        let claim = json!({ "namespace": "a", "name": "c" });
        let cases = [
            (json!({ "claimRef": claim, "hostPath": { "path": "/x" } }), vec![]),
            (
                json!({ "claimRef": claim, "csi": {
                    "nodePublishSecretRef": { "namespace": "b", "name": "publish" },
                    "nodeStageSecretRef": { "namespace": "b", "name": "stage" },
                    "controllerPublishSecretRef": { "namespace": "b", "name": "controller" },
                } }),
                vec![key("b", "publish"), key("b", "stage")],
            ),
            (
                json!({ "claimRef": claim, "azureFile": { "secretName": "s" } }),
                vec![key("a", "s")],
            ),
            (
                json!({ "claimRef": claim, "rbd": { "secretRef": { "name": "s", "namespace": "b" } } }),
                vec![key("b", "s")],
            ),
        ];
        for (spec, secrets) in cases {
            let found = volume(&spec);
            assert_eq!(
                (found.claim, found.secrets),
                (Some(key("a", "c")), secrets),
                "{spec}"
            );
        }
        assert_eq!(volume(&json!({})), Volume::default());
    }

    #[test]
    fn a_secret_is_needed_as_long_as_a_volume_says_so() {
        let storage = Storage::default();
        let spec =
            json!({ "claimRef": { "namespace": "a", "name": "c" }, "azureFile": { "secretName": "s" } });
        storage.0.write().know("v", volume(&spec));
        assert_eq!(
            storage.claims_with("a", "s"),
            [("a".to_string(), "c".to_string())]
        );
        let other = json!({ "claimRef": { "namespace": "a", "name": "c" } });
        storage.0.write().know("v", volume(&other));
        assert!(storage.claims_with("a", "s").is_empty());
        storage.0.write().forget("v");
        let state = storage.0.read();
        assert!(state.volumes.is_empty() && state.by_secret.is_empty());
    }
}
