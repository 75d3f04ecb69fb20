//! NodePorts: no two pods share a host port.

use crate::framework::{ClusterEvent, Filter, Reason, Rejection};
use crate::snapshot::{NodeInfo, PodInfo};

pub(super) struct NodePorts;

impl Filter for NodePorts {
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = |wanted| node.ports.iter().any(|port| port.conflicts(wanted));
        if pod.ports.iter().any(taken) {
            return Err(Rejection::crowded(Reason::Ports));
        }
        Ok(())
    }

    fn may_help(&self, event: ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::Node(node) => self.filter(pod, node).is_ok(),
            ClusterEvent::PodLeft(left) => left
                .ports
                .iter()
                .any(|freed| pod.ports.iter().any(|wanted| freed.conflicts(wanted))),
        }
    }
}
