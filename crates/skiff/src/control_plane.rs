//! The label of a machine that runs the control plane. Its kubelet may not set it (NodeRestriction), so the binary does
//! it, as kubeadm would: with the administrator's rights, and once for each time the node is registered.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use skiff_informer::{Informer, ObjectKey};
use tokio::sync::Notify;

const LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Nothing tells when a server that refused will take the label.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether the node has the label.
pub(crate) fn is_marked(node: &Node) -> bool {
    node.labels().contains_key(LABEL)
}

/// Labels the node whenever it is registered. Whoever takes the label away afterwards has their way.
pub(crate) async fn mark(client: Client, nodes: Informer<Node>, name: String) {
    let changed = Arc::new(Notify::new());
    let key = ObjectKey::new("", &name);
    nodes.on_change({
        let changed = changed.clone();
        move |_, _| changed.notify_one()
    });
    let api: Api<Node> = Api::all(client);
    let patch = Patch::Merge(serde_json::json!({ "metadata": { "labels": { LABEL: "" } } }));
    let mut marked = None;
    loop {
        changed.notified().await;
        let Some(uid) = nodes.get(&key).and_then(|node| node.uid()) else {
            continue;
        };
        if marked.as_ref() == Some(&uid) {
            continue;
        }
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(node) => marked = node.uid(),
            Err(error) => {
                tracing::warn!(%error, node = name, "labelling the node of the control plane");
                tokio::time::sleep(AGAIN).await;
                changed.notify_one();
            }
        }
    }
}
