//! NodeName: a pod that names its node goes nowhere else.

use crate::framework::{Filter, Reason, Rejection};
use crate::snapshot::{NodeInfo, PodInfo};

pub(super) struct NodeName;

impl Filter for NodeName {
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match skiff_api::pod::node_name(&pod.pod) {
            "" => Ok(()),
            name if name == node.name => Ok(()),
            _ => Err(Rejection::unresolvable(Reason::NodeName)),
        }
    }
}
