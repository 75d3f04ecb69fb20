//! PodTopologyLabels: a pod that gets a node also gets the labels that say in which zone and region that is.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_api::{KindInfo, Object, Subresource, pod};

use super::Plugin;
use crate::error::ApiResult;
use crate::registry::{AdmissionRequest, Operation, Registry};

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

pub(super) struct PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let placed = match request.subresource {
            None => request.operation == Operation::Create,
            Some(subresource) => subresource == Subresource::Binding,
        };
        if !placed {
            return Ok(());
        }
        let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() else {
            return Ok(());
        };
        let name = pod::node_name(pod);
        if name.is_empty() {
            return Ok(());
        }
        let info = KindInfo::of::<Node>("node");
        let node = registry
            .resource(&info.group, &info.version, &info.plural)
            .and_then(|nodes| nodes.at_hand("", name));
        // A pod may name a node that is yet to come.
        let Some(node) = node else { return Ok(()) };
        for label in LABELS {
            if let Some(value) = node.facts().labels.get(label) {
                let labels = pod.metadata.labels.get_or_insert_default();
                labels.insert(label.into(), value.clone());
            }
        }
        Ok(())
    }
}
