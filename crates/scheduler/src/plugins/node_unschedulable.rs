//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;
use skiff_api::toleration::any_tolerates;

use crate::framework::{Filter, Reason, Rejection};
use crate::snapshot::{NodeInfo, PodInfo};

pub(super) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !node.is_unschedulable() {
            return Ok(());
        }
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_string(),
            effect: "NoSchedule".to_string(),
            ..Taint::default()
        };
        let tolerations = pod
            .spec()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default();
        if any_tolerates(tolerations, &taint) {
            return Ok(());
        }
        Err(Rejection::unresolvable(Reason::Unschedulable))
    }
}
