//! Which node uses what: the pods on it, and what these name.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::auth::node::storage::Storage;
use crate::error::ApiResult;
use crate::follow::{Follower, follow};
use crate::registry::{Entry, ListOptions, Registry, Resource};

/// A kind of thing that a node uses through its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Used {
    Pod,
    Secret,
    ConfigMap,
    /// A persistent volume claim.
    Claim,
    /// A persistent volume, used by who uses its claim.
    Volume,
    /// A volume attachment; it names its node.
    Attachment,
    ResourceClaim,
    /// A slice of resources; it names its node.
    Slice,
    /// A service account.
    Account,
}

/// What the JSON of a pod contains that has claims to resources, or may have.
const CLAIM: &[u8] = b"esourceClaim";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A thing: what it is, and its name.
type Thing = (Used, String);

/// What the pods of the nodes use; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    state: Arc<RwLock<State>>,
    storage: Storage,
    pods: Arc<OnceLock<Arc<Resource>>>,
}

#[derive(Debug, Default)]
struct State {
    /// By namespace and name: the pod's node and what it uses.
    pods: HashMap<(String, String), (String, Vec<Thing>)>,
    /// By node, namespace and thing: how many pods use it.
    uses: HashMap<String, HashMap<String, HashMap<Thing, usize>>>,
}

impl State {
    fn put(&mut self, node: &str, namespace: &str, name: &str, things: HashSet<Thing>) {
        self.remove(namespace, name);
        let uses = self
            .uses
            .entry(node.to_string())
            .or_default()
            .entry(namespace.to_string())
            .or_default();
        for thing in &things {
            *uses.entry(thing.clone()).or_default() += 1;
        }
        let key = (namespace.to_string(), name.to_string());
        self.pods
            .insert(key, (node.to_string(), things.into_iter().collect()));
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some((node, things)) = self.pods.remove(&(namespace.to_string(), name.to_string())) else {
            return;
        };
        let Some(namespaces) = self.uses.get_mut(&node) else {
            return;
        };
        if let Some(uses) = namespaces.get_mut(namespace) {
            for thing in &things {
                if let Some(count) = uses.get_mut(thing) {
                    *count -= 1;
                    if *count == 0 {
                        uses.remove(thing);
                    }
                }
            }
            if uses.is_empty() {
                namespaces.remove(namespace);
            }
        }
        if namespaces.is_empty() {
            self.uses.remove(&node);
        }
    }
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    resource_claim_statuses: Vec<ClaimStatus>,
    extended_resource_claim_status: Option<ClaimStatus>,
}

/// The claim that was made for a pod.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimStatus {
    resource_claim_name: Option<String>,
}

impl Status {
    fn claims(self) -> impl Iterator<Item = Thing> {
        let claims = self.resource_claim_statuses.into_iter();
        claims
            .chain(self.extended_resource_claim_status)
            .filter_map(|status| status.resource_claim_name)
            .map(|name| (Used::ResourceClaim, name))
    }
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// What a pod uses, itself included.
fn things(name: &str, spec: &Value, is_mirror: bool) -> HashSet<Thing> {
    let mut found = HashSet::from([(Used::Pod, name.to_string())]);
    // A node makes mirror pods itself; they give it nothing.
    if is_mirror {
        return found;
    }
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(String::from);
    found.extend(text(spec, "serviceAccountName").map(|name| (Used::Account, name)));
    let mut rest = vec![spec];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(fields) => {
                if fields.contains_key("ephemeral")
                    && let Some(volume) = text(value, "name")
                {
                    found.insert((Used::Claim, format!("{name}-{volume}")));
                }
                for (key, value) in fields {
                    let thing = match key.as_str() {
                        "secret" | "azureFile" => text(value, "secretName")
                            .or_else(|| text(value, "name"))
                            .map(|name| (Used::Secret, name)),
                        "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                            text(value, "name").map(|name| (Used::Secret, name))
                        }
                        "configMap" | "configMapRef" | "configMapKeyRef" => {
                            text(value, "name").map(|name| (Used::ConfigMap, name))
                        }
                        "persistentVolumeClaim" => text(value, "claimName").map(|name| (Used::Claim, name)),
                        "resourceClaims" => {
                            let claims = value.as_array().into_iter().flatten();
                            found.extend(claims.filter_map(|claim| {
                                Some((Used::ResourceClaim, text(claim, "resourceClaimName")?))
                            }));
                            None
                        }
                        "imagePullSecrets" => {
                            let names = value.as_array().into_iter().flatten();
                            found.extend(names.filter_map(|item| Some((Used::Secret, text(item, "name")?))));
                            None
                        }
                        _ => None,
                    };
                    found.extend(thing);
                    rest.push(value);
                }
            }
            _ => {}
        }
    }
    found
}

/// What of the cluster's a pod's specification names, as a refusal calls it; the first such.
pub(crate) fn first_used(spec: &Value) -> Option<&'static str> {
    let used = things("", spec, false);
    [
        (Used::Account, "a service account"),
        (Used::Secret, "secrets"),
        (Used::ConfigMap, "configmaps"),
        (Used::Claim, "persistentvolumeclaims"),
    ]
    .into_iter()
    .find(|(kind, _)| used.iter().any(|(its, _)| its == kind))
    .map(|(_, shown)| shown)
}

fn node_of(entry: &Entry) -> &str {
    entry.facts().field("spec.nodeName").unwrap_or_default()
}

fn things_of(entry: &Entry) -> HashSet<Thing> {
    match serde_json::from_slice::<Pod>(entry.json()) {
        Ok(pod) => {
            let is_mirror = pod.metadata.annotations.contains_key(MIRROR);
            let mut found = things(entry.name(), &pod.spec, is_mirror);
            if !is_mirror {
                found.extend(pod.status.claims());
            }
            found
        }
        Err(error) => {
            tracing::error!(pod = entry.name(), %error, "a stored pod cannot be read");
            HashSet::new()
        }
    }
}

impl Graph {
    /// Follows the pods until `shutdown`. When this returns, those that are there now are known.
    pub(crate) async fn follow(
        &self,
        registry: &Arc<Registry>,
        shutdown: &CancellationToken,
    ) -> ApiResult<()> {
        self.storage.follow(registry, shutdown).await?;
        let Some(pods) = registry.resource("", "v1", "pods").cloned() else {
            return Ok(());
        };
        let _ = self.pods.set(pods.clone());
        follow(pods, self.clone(), shutdown.clone()).await
    }

    /// Whether the node uses a thing: through a pod on it, through the volume of a pod's claim, or because the thing
    /// names the node.
    pub(crate) async fn is_used_on(&self, node: &str, used: Used, namespace: &str, name: &str) -> bool {
        match used {
            Used::Attachment => self.storage.is_attached_to(name, node),
            Used::Slice => self.storage.is_slice_of(name, node),
            Used::Volume => match self.storage.claim_of(name) {
                Some((namespace, claim)) => self.is_named_on(node, Used::Claim, &namespace, &claim).await,
                None => false,
            },
            Used::Secret => {
                for (namespace, claim) in self.storage.claims_with(namespace, name) {
                    if self.is_named_on(node, Used::Claim, &namespace, &claim).await {
                        return true;
                    }
                }
                self.is_named_on(node, used, namespace, name).await
            }
            _ => self.is_named_on(node, used, namespace, name).await,
        }
    }

    /// Whether a pod on the node names a thing.
    async fn is_named_on(&self, node: &str, used: Used, namespace: &str, name: &str) -> bool {
        let thing = (used, name.to_string());
        let known = || {
            let state = self.state.read();
            let uses = state.uses.get(node).and_then(|uses| uses.get(namespace));
            uses.is_some_and(|uses| uses.contains_key(&thing))
        };
        if known() {
            return true;
        }
        // A kubelet may have heard of its pod before this graph has.
        let Some(pods) = self.pods.get() else { return false };
        let options = ListOptions {
            namespace: Some(namespace.to_string()),
            field_selector: format!("spec.nodeName={node}"),
            resource_version: Some("0".into()),
            ..ListOptions::default()
        };
        match pods.list(&options).await {
            Ok(list) => list.items.iter().any(|entry| things_of(entry).contains(&thing)),
            Err(_) => false,
        }
    }

    #[cfg(test)]
    pub(super) fn know_pod(&self, node: &str, namespace: &str, name: &str, spec: &Value) {
        self.state
            .write()
            .put(node, namespace, name, things(name, spec, false));
    }
}

impl Follower for Graph {
    fn replace(&self, entries: &[Arc<Entry>]) {
        *self.state.write() = State::default();
        for entry in entries {
            self.put(entry);
        }
    }

    fn put(&self, entry: &Entry) {
        let (node, namespace, name) = (node_of(entry), entry.namespace(), entry.name());
        if node.is_empty() {
            return;
        }
        let key = (namespace.to_string(), name.to_string());
        let known = self
            .state
            .read()
            .pods
            .get(&key)
            .is_some_and(|(its, _)| its == node);
        // What a pod names never changes, nor does its node once it has one; the claims that are made for it come later.
        if known && memchr::memmem::find(entry.json(), CLAIM).is_none() {
            return;
        }
        self.state.write().put(node, namespace, name, things_of(entry));
    }

    fn remove(&self, entry: &Entry) {
        self.state.write().remove(entry.namespace(), entry.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_pod_uses_any_more_is_forgotten() {
        let graph = Graph::default();
        let spec = json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]});
        graph.know_pod("n", "a", "p", &spec);
        graph.know_pod("n", "a", "q", &spec);
        let uses = |graph: &Graph| {
            let state = graph.state.read();
            let uses = state.uses.get("n").and_then(|uses| uses.get("a"));
            uses.and_then(|uses| uses.get(&(Used::Secret, "s".into())).copied())
        };
        assert_eq!(uses(&graph), Some(2));
        graph.state.write().remove("a", "p");
        assert_eq!(uses(&graph), Some(1));
        graph.state.write().remove("a", "q");
        assert!(graph.state.read().uses.is_empty() && graph.state.read().pods.is_empty());
    }
}
