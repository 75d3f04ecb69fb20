//! Nodes: their part of the pod network, whether they are alive, and what becomes of their pods when they are not.

mod cidr;
mod eviction;
mod health;
mod ipam;
mod lifecycle;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use skiff_informer::{Index, Informers};
use tokio_util::sync::CancellationToken;

use crate::pods;
pub(crate) use eviction::disruption;
pub(crate) use ipam::{parts, run as run_ipam};

/// Finds the pods of a node.
pub(crate) fn pods_by_node(informers: &Informers) -> Index<String, Pod> {
    Index::new(&informers.all::<Pod>(), |pod: &Pod| {
        let node = pods::node_name(pod);
        if node.is_empty() {
            vec![]
        } else {
            vec![node.to_string()]
        }
    })
}

/// Runs the node lifecycle and the taint-eviction controller until `shutdown`.
pub(crate) async fn run_lifecycle(
    grace: Duration,
    pods_by_node: Index<String, Pod>,
    informers: Informers,
    shutdown: CancellationToken,
) {
    tokio::join!(
        lifecycle::run(grace, pods_by_node.clone(), informers.clone(), shutdown.clone()),
        eviction::run(pods_by_node, informers, shutdown),
    );
}
