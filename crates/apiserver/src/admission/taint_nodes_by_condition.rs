//! TaintNodesByCondition: a new node takes no pods until it is ready.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Taint};
use skiff_api::Object;

use super::Plugin;
use crate::error::ApiResult;
use crate::registry::{AdmissionRequest, Operation, Registry};

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation == Operation::Create
            && let Some(node) = object.as_any_mut().downcast_mut::<Node>()
        {
            taint(node);
        }
        Ok(())
    }
}

fn taint(node: &mut Node) {
    let not_ready = Taint {
        key: "node.kubernetes.io/not-ready".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !taints
        .iter()
        .any(|taint| taint.key == not_ready.key && taint.effect == not_ready.effect)
    {
        taints.push(not_ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_is_tainted_once() {
        let mut node = Node::default();
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node.spec.unwrap().taints.unwrap().len(), 1);
    }
}
