//! RoleBinding: gives a role, or a cluster role, to subjects in one namespace.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::Value;

use super::binding;
use crate::field::Errors;
use crate::kind::{Kind, KindInfo, Target};
use crate::names;

impl Kind for RoleBinding {
    fn info() -> KindInfo {
        KindInfo {
            create_on_update: true,
            columns: binding::columns(
                "roleBinding",
                "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
            ),
            ..KindInfo::of::<Self>("rolebinding")
        }
    }

    fn default(&mut self) {
        binding::default(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, errors: &mut Errors) {
        let kinds = ["Role", "ClusterRole"];
        binding::validate(&self.role_ref, &kinds, self.subjects.as_ref(), true, errors);
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
