//! The kinds of the apiregistration.k8s.io group.

mod api_service;

pub use api_service::{is_locally_available, locally_available};
