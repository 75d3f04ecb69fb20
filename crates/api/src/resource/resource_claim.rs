//! ResourceClaim: devices that pods want, and those that they got.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::Value;

use super::{allocation, claim_spec, disabled};
use crate::field::{Errors, Path};
use crate::halves;
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::meta::IMMUTABLE;
use crate::same::same;

impl Kind for ResourceClaim {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "State",
                    "string",
                    "A summary of the current state (allocated, pending, reserved, etc.).",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("resourceclaim")
        }
    }

    fn default(&mut self) {
        claim_spec::default(self.spec.get_or_insert_default());
        let status = self.status.get_or_insert_default();
        if let Some(allocation) = &mut status.allocation {
            allocation.devices.get_or_insert_default();
        }
    }

    fn prepare_for_create(&mut self) {
        disabled::drop_from_claim(self.spec.as_mut());
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over_with_metadata(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate_create(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        claim_spec::validate(&spec, &Path::new("spec"), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            if !same(&self.spec, &old.spec) {
                let shown = internal::of("resource.v1.ResourceClaimSpec", &self.spec);
                errors.invalid(&Path::new("spec"), shown, IMMUTABLE);
            }
            return;
        }
        let (status, before) = (
            self.status.clone().unwrap_or_default(),
            old.status.clone().unwrap_or_default(),
        );
        let requests = claim_spec::requests(self.spec.as_ref());
        let is_deleted = self.metadata.deletion_timestamp.is_some();
        allocation::validate_update(&status, &before, is_deleted, &requests, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let is_deleted = self.metadata.deletion_timestamp.is_some();
        let is_reserved = status.reserved_for.as_ref().is_some_and(|list| !list.is_empty());
        let state: &[&str] = match (is_deleted, status.allocation.is_some(), is_reserved) {
            (false, false, _) => &["pending"],
            (true, false, _) => &["deleted"],
            (false, true, false) => &["allocated"],
            (false, true, true) => &["allocated", "reserved"],
            (true, true, false) => &["deleted", "allocated"],
            (true, true, true) => &["deleted", "allocated", "reserved"],
        };
        vec![
            self.metadata.name.clone().into(),
            state.join(",").into(),
            age(&self.metadata, now),
        ]
    }
}
