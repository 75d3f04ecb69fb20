//! The kinds of the core group.

pub mod binding;
mod config_map;
mod endpoints;
mod event;
mod namespace;
mod node;
mod pod;
pub mod pod_spec;
mod pod_update;
mod secret;
mod service;
mod service_account;
mod service_rules;

pub(crate) use endpoints::check_address;
pub(crate) use service::check_protocol;
