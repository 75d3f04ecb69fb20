//! Lease: who holds something, and when that was last renewed.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target, age};

/// The one strategy that Kubernetes names; others' are named by a domain.
const OLDEST: &str = "OldestEmulationVersion";

impl Kind for Lease {
    fn info() -> KindInfo {
        KindInfo {
            columns: vec![
                Column::object_name(),
                Column::of("Holder", "string", "coordination.v1.LeaseSpec", "holderIdentity"),
                Column::age(),
            ],
            create_on_update: true,
            unconditional_update: false,
            ..KindInfo::of::<Self>("lease")
        }
    }

    fn default(&mut self) {
        self.spec.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        drop_coordination(self, None);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        drop_coordination(self, Some(old));
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        let path = Path::new("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|&seconds| seconds <= 0) {
            errors.invalid(
                &path.child("leaseDurationSeconds"),
                seconds,
                "must be greater than 0",
            );
        }
        if let Some(transitions) = spec.lease_transitions.filter(|&transitions| transitions < 0) {
            errors.invalid(
                &path.child("leaseTransitions"),
                transitions,
                "must be greater than or equal to 0",
            );
        }
        if let Some(strategy) = &spec.strategy {
            // Upstream names the field twice.
            let at = path.child("strategy").child("strategy");
            if strategy.contains('/') {
                for message in crate::names::qualified_name(strategy) {
                    errors.invalid(&at, strategy, message);
                }
            } else if strategy != OLDEST {
                errors.not_supported(&at, strategy, &[OLDEST]);
            }
        }
        let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if given(&spec.preferred_holder) && !given(&spec.strategy) {
            errors.forbidden(
                &path.child("preferredHolder"),
                "may only be specified if `strategy` is defined",
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        vec![
            self.metadata.name.clone().into(),
            holder.unwrap_or_default().into(),
            age(&self.metadata, now),
        ]
    }
}

/// Coordinated leader election is off by default: what belongs to it is kept only where it was there before.
fn drop_coordination(lease: &mut Lease, old: Option<&Lease>) {
    let before = old.and_then(|old| old.spec.as_ref());
    let Some(spec) = &mut lease.spec else { return };
    if before.is_none_or(|before| before.strategy.is_none()) {
        spec.strategy = None;
    }
    if before.is_none_or(|before| before.preferred_holder.is_none()) {
        spec.preferred_holder = None;
    }
}
