//! ConfigMap: configuration as keys and values.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target, age};
use crate::names;

/// The most bytes that the values of a config map or a secret may have.
pub(super) const MAX_SIZE: usize = 1 << 20;

impl Kind for ConfigMap {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["cm"],
            columns: vec![
                Column::object_name(),
                Column::of("Data", "string", "core.v1.ConfigMap", "data"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("configmap")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let (data, binary) = (Path::new("data"), Path::new("binaryData"));
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            for message in names::config_map_key(key) {
                errors.invalid(&data.key(key), key, message);
            }
            if self
                .binary_data
                .as_ref()
                .is_some_and(|binary| binary.contains_key(key))
            {
                errors.invalid(&data.key(key), key, "duplicate of key present in binaryData");
            }
            size += value.len();
        }
        for (key, value) in self.binary_data.iter().flatten() {
            for message in names::config_map_key(key) {
                errors.invalid(&binary.key(key), key, message);
            }
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.too_long(&Path::default(), MAX_SIZE);
        }
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        if old.immutable != Some(true) {
            return;
        }
        let detail = "field is immutable when `immutable` is set";
        if self.immutable != Some(true) {
            errors.forbidden(&Path::new("immutable"), detail);
        }
        if self.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
            errors.forbidden(&Path::new("data"), detail);
        }
        if self.binary_data.clone().unwrap_or_default() != old.binary_data.clone().unwrap_or_default() {
            errors.forbidden(&Path::new("binaryData"), detail);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let count = self.data.as_ref().map_or(0, |data| data.len())
            + self.binary_data.as_ref().map_or(0, |data| data.len());
        vec![
            self.metadata().name.clone().into(),
            count.into(),
            age(self.metadata(), now),
        ]
    }
}
