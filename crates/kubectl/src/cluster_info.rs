//! `kubectl cluster-info`: where the control plane and the cluster's own services are.

use serde_json::Value;

use crate::cluster::{Cluster, JSON, with_query};
use crate::failure::Failure;
use crate::output;

pub(crate) async fn run(cluster: &Cluster) -> Result<(), Failure> {
    let selector = [("labelSelector", "kubernetes.io/cluster-service=true")];
    let services = cluster
        .get(
            &with_query("/api/v1/namespaces/kube-system/services", &selector),
            JSON,
        )
        .await?;
    output::line(&format!("Kubernetes control plane is running at {}", cluster.url))?;
    for service in services
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |pointer: &str| {
            service
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let name = match text("/metadata/labels/kubernetes.io~1name") {
            "" => text("/metadata/name"),
            name => name,
        };
        let url = format!(
            "{}/api/v1/namespaces/kube-system/services/{}/proxy",
            cluster.url,
            text("/metadata/name")
        );
        output::line(&format!("{name} is running at {url}"))?;
    }
    output::line("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.")
}
