//! Scale: how many replicas a workload wants and has. It is shown of the workload, and not kept.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, age};

impl Kind for Scale {
    fn info() -> KindInfo {
        let mut name = Column::object_name();
        name.format = "";
        KindInfo {
            columns: vec![
                name,
                Column::of("Desired", "integer", "autoscaling.v1.ScaleSpec", "replicas"),
                Column::of("Available", "integer", "autoscaling.v1.ScaleStatus", "replicas"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("scale")
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let desired = self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let available = self.status.as_ref().map_or(0, |status| status.replicas);
        vec![
            self.metadata.name.clone().into(),
            desired.into(),
            available.into(),
            age(&self.metadata, now),
        ]
    }
}
