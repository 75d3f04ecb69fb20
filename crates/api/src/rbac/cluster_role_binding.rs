//! ClusterRoleBinding: gives a cluster role to subjects in all namespaces and outside of them.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use serde_json::Value;

use super::binding;
use crate::field::Errors;
use crate::kind::{Kind, KindInfo, Scope, Target};
use crate::names;

impl Kind for ClusterRoleBinding {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            create_on_update: true,
            columns: binding::columns(
                "clusterRoleBinding",
                "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
            ),
            ..KindInfo::of::<Self>("clusterrolebinding")
        }
    }

    fn default(&mut self) {
        binding::default(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, errors: &mut Errors) {
        let subjects = self.subjects.as_ref();
        binding::validate(&self.role_ref, &["ClusterRole"], subjects, false, errors);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        binding::validate_update(&self.role_ref, &old.role_ref, errors);
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        binding::cells(&self.metadata, &self.role_ref, self.subjects.as_ref(), now)
    }
}
