//! ServiceAccount: who a pod's processes are to the API server.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, Subresource, age};

impl Kind for ServiceAccount {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["sa"],
            subresources: &[Subresource::Token],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Secrets",
                    "string",
                    "Secrets is a list of the secrets in the same namespace that pods running using this \
                     ServiceAccount are allowed to use.",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("serviceaccount")
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.secrets.as_ref().map_or(0, Vec::len).into(),
            age(&self.metadata, now),
        ]
    }
}
