//! The kinds of the apiextensions.k8s.io group.

mod custom_resource_definition;
mod structure;
mod versions;
