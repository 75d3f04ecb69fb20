//! The kinds of the rbac.authorization.k8s.io group.

mod binding;
mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;
mod rules;

/// The group's name.
const GROUP: &str = "rbac.authorization.k8s.io";
