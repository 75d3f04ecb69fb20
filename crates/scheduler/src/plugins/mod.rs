//! The default plugins, in upstream's order.

mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;
#[cfg(test)]
mod tests;

use crate::framework::Framework;

/// The framework with the default plugins.
pub(crate) fn default_framework() -> Framework {
    Framework::new(
        vec![
            Box::new(node_unschedulable::NodeUnschedulable),
            Box::new(node_name::NodeName),
            Box::new(taint_toleration::TaintToleration),
            Box::new(node_affinity::NodeAffinity),
            Box::new(node_ports::NodePorts),
            Box::new(node_resources::Fit),
        ],
        vec![
            Box::new(taint_toleration::TaintToleration),
            Box::new(node_affinity::NodeAffinity),
            Box::new(node_resources::Fit),
            Box::new(node_resources::BalancedAllocation),
            Box::new(image_locality::ImageLocality),
        ],
    )
}
