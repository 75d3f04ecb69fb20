//! Lease: who holds something, and when that was last renewed.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, age};

impl Kind for Lease {
    fn info() -> KindInfo {
        KindInfo {
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Holder",
                    "string",
                    "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
                ),
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
        match (spec.strategy.as_deref(), &spec.preferred_holder) {
            (Some("OldestEmulationVersion") | None, None) | (Some("OldestEmulationVersion"), Some(_)) => {}
            (None, Some(_)) => errors.forbidden(
                &path.child("preferredHolder"),
                "may only be specified when `strategy` is defined",
            ),
            (Some(""), _) => errors.required(&path.child("strategy"), ""),
            (Some(other), _) => {
                // Others' strategies are named by a domain.
                for message in crate::names::qualified_name(other) {
                    errors.invalid(&path.child("strategy"), other, message);
                }
            }
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
