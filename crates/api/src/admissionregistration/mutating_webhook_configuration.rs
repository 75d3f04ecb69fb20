//! MutatingWebhookConfiguration: who is asked what a write should be, over HTTPS.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::Value;

use super::REINVOCATION_POLICIES;
use super::webhooks::{self, Fill};
use crate::field::Errors;
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta::generation_after;
use crate::same::same;

impl Kind for MutatingWebhookConfiguration {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            categories: &["api-extensions"],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Webhooks",
                    "integer",
                    "Webhooks indicates the number of webhooks registered in this configuration",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("mutatingwebhookconfiguration")
        }
    }

    fn default(&mut self) {
        for hook in self.webhooks.iter_mut().flatten() {
            hook.fill_in();
            hook.reinvocation_policy.get_or_insert_with(|| "Never".into());
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        let changed = !same(&self.webhooks, &old.webhooks);
        self.metadata.generation = generation_after(&old.metadata, changed);
    }

    fn validate(&self, errors: &mut Errors) {
        webhooks::validate(self.webhooks.as_ref(), errors, |hook, path, errors| {
            let policy = hook.reinvocation_policy.as_deref();
            if let Some(policy) = policy.filter(|policy| !REINVOCATION_POLICIES.contains(policy)) {
                let at = path.child("reinvocationPolicy");
                errors.not_supported(&at, policy, &REINVOCATION_POLICIES);
            }
        });
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.webhooks.as_ref().map_or(0, Vec::len).into(),
            age(&self.metadata, now),
        ]
    }
}
