//! Role: what may be done in a namespace.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::Value;

use super::rules;
use crate::field::Errors;
use crate::kind::{Kind, KindInfo};
use crate::names;

impl Kind for Role {
    fn info() -> KindInfo {
        KindInfo {
            create_on_update: true,
            columns: rules::columns(),
            ..KindInfo::of::<Self>("role")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        rules::validate(self.rules.as_ref(), true, errors);
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        rules::cells(&self.metadata)
    }
}
