//! ServiceAccount: who a pod's processes are to the API server.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Of a reference to a secret only the name is kept.
fn clean(account: &mut ServiceAccount) {
    for secret in account.secrets.iter_mut().flatten() {
        *secret = ObjectReference {
            name: secret.name.take(),
            ..Default::default()
        };
    }
}

impl Kind for ServiceAccount {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["sa"],
            subresources: &[Subresource::Token],
            columns: vec![Column::object_name(), Column::age()],
            ..KindInfo::of::<Self>("serviceaccount")
        }
    }

    fn prepare_for_create(&mut self) {
        clean(self);
    }

    fn prepare_for_update(&mut self, _old: &Self, _target: Target) {
        clean(self);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let says = |account: &Self| {
            let annotations = account.metadata.annotations.as_ref();
            annotations.is_some_and(|all| all.contains_key(ENFORCE))
        };
        if !says(self) || old.is_some_and(says) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        )]
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![self.metadata.name.clone().into(), age(&self.metadata, now)]
    }
}
