//! The kinds of the core group.

pub(crate) mod address;
pub mod binding;
mod component_status;
mod config_map;
mod endpoints;
mod event;
mod limit_range;
mod namespace;
mod node;
mod node_legacy;
pub(crate) mod persistent_volume;
pub mod persistent_volume_claim;
mod persistent_volume_sources;
mod pod;
pub mod pod_spec;
mod pod_template;
mod pod_update;
mod replication_controller;
pub mod resource_quota;
mod secret;
mod service;
mod service_account;
mod service_rules;

pub(crate) use endpoints::check_range as check_endpoint_range;
pub(crate) use service::check_protocol;
