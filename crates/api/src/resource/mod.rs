//! The kinds of the group `resource.k8s.io`: devices that are allocated to pods.

mod allocation;
mod claim_spec;
mod device;
mod device_class;
mod device_taint_rule;
mod disabled;
mod names;
mod request_policy;
mod resource_claim;
mod resource_claim_template;
mod resource_slice;
mod taints;
