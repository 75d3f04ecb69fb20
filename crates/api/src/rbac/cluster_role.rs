//! ClusterRole: what may be done in the cluster, or in the namespace of a binding that names it.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::Value;

use super::rules;
use crate::field::{Errors, Path};
use crate::kind::{Kind, KindInfo, Scope};
use crate::names;
use crate::selector::{self, LabelSelector};

impl Kind for ClusterRole {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            create_on_update: true,
            columns: rules::columns(),
            ..KindInfo::of::<Self>("clusterrole")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        rules::validate(self.rules.as_ref(), false, errors);
        let Some(aggregation) = &self.aggregation_rule else {
            return;
        };
        let path = Path::new("aggregationRule.clusterRoleSelectors");
        let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
        if selectors.is_empty() {
            errors.required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            let path = path.index(index);
            selector::validate(selector, &path, errors);
            if LabelSelector::of(Some(selector)).is_err() {
                // What is shown is the selector that came of it: none.
                errors.invalid(&path, Value::Null, "invalid label selector.");
            }
        }
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        rules::cells(&self.metadata)
    }
}
