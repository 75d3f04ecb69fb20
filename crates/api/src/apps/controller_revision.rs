//! ControllerRevision: a version of a stateful or daemon set, to go back to.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target, age};
use crate::meta;

impl Kind for ControllerRevision {
    fn info() -> KindInfo {
        KindInfo {
            columns: vec![
                Column::object_name(),
                Column::new("Controller", "string", "Controller of the object"),
                Column::of("Revision", "string", "apps.v1.ControllerRevision", "revision"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("controllerrevision")
        }
    }

    fn default(&mut self) {
        self.revision.get_or_insert_default();
    }

    fn validate(&self, errors: &mut Errors) {
        if self.data.0.is_null() {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        errors.non_negative(&Path::new("revision"), self.revision);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        meta::immutable(&self.data.0, &old.data.0, &Path::new("data"), errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            cell::controller(&self.metadata).into(),
            self.revision.unwrap_or(0).into(),
            age(&self.metadata, now),
        ]
    }
}
