//! VolumeAttributesClass: what a driver may change of a volume that is in use.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::Value;

use super::storage_class::{validate_parameters, validate_provisioner};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, age};

impl Kind for VolumeAttributesClass {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["vac"],
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::of(
                    "DriverName",
                    "string",
                    "storage.v1.VolumeAttributesClass",
                    "driverName",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("volumeattributesclass")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        validate_provisioner(&self.driver_name, &Path::new("driverName"), errors);
        validate_parameters(self.parameters.as_ref(), false, &Path::new("parameters"), errors);
    }

    fn validate_changed(&self, old: &Self, errors: &mut Errors) {
        if self.driver_name != old.driver_name {
            errors.forbidden(&Path::new("driverName"), "updates to driverName are forbidden.");
        }
        if self.parameters != old.parameters {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        self.validate(errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.driver_name.clone().into(),
            age(&self.metadata, now),
        ]
    }
}
