//! The kinds of the apiextensions.k8s.io group.

mod approval;
mod conversion;
mod custom_resource_definition;
mod defaults;
mod expressions;
mod formats;
mod json_path;
mod schema;
mod shown;
mod structure;
mod versions;
