//! ConfigMap: configuration as keys and values.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, age};

impl Kind for ConfigMap {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["cm"],
            columns: vec![
                Column::object_name(),
                Column::new("Data", "string", "Data contains the configuration data."),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("configmap")
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
