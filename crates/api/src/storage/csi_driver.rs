//! CSIDriver: what a storage driver can do, and what it needs to know.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::Value;

use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta;
use crate::same::same;

const POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
/// Seconds that a token of a service account is valid.
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=(1 << 32);
const MIN_PERIOD: i64 = 10;

impl Kind for CSIDriver {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::of(
                    "AttachRequired",
                    "boolean",
                    "storage.v1.CSIDriverSpec",
                    "attachRequired",
                ),
                Column::of(
                    "PodInfoOnMount",
                    "boolean",
                    "storage.v1.CSIDriverSpec",
                    "podInfoOnMount",
                ),
                Column::of(
                    "StorageCapacity",
                    "boolean",
                    "storage.v1.CSIDriverSpec",
                    "storageCapacity",
                ),
                Column::of(
                    "TokenRequests",
                    "string",
                    "storage.v1.CSIDriverSpec",
                    "tokenRequests",
                ),
                Column::of(
                    "RequiresRepublish",
                    "boolean",
                    "storage.v1.CSIDriverSpec",
                    "requiresRepublish",
                ),
                Column::of(
                    "Modes",
                    "string",
                    "storage.v1.CSIDriverSpec",
                    "volumeLifecycleModes",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("csidriver")
        }
    }

    fn default(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy
            .get_or_insert_with(|| "ReadWriteOnceWithFSType".into());
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".into()]);
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = meta::generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        for (field, flag) in [
            ("attachedRequired", spec.attach_required),
            ("podInfoOnMount", spec.pod_info_on_mount),
            ("storageCapacity", spec.storage_capacity),
        ] {
            if flag.is_none() {
                errors.required(&path.child(field), "");
            }
        }
        if let Some(policy) = spec.fs_group_policy.as_deref()
            && !POLICIES.contains(&policy)
        {
            errors.not_supported(&path.child("fsGroupPolicy"), policy, &POLICIES);
        }
        let mut audiences = BTreeSet::new();
        for (index, request) in spec.token_requests.iter().flatten().enumerate() {
            let at = path.child("tokenRequests").index(index);
            if !audiences.insert(&request.audience) {
                errors.duplicate(&at.child("audience"), &request.audience);
                continue;
            }
            let seconds = request.expiration_seconds;
            if let Some(seconds) = seconds.filter(|&seconds| seconds < *TOKEN_SECONDS.start()) {
                errors.invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            if let Some(seconds) = seconds.filter(|seconds| seconds > TOKEN_SECONDS.end()) {
                errors.invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                );
            }
        }
        if let Some(in_secrets) = spec.service_account_token_in_secrets
            && spec.token_requests.as_ref().is_none_or(Vec::is_empty)
        {
            errors.invalid(
                &path.child("serviceAccountTokenInSecrets"),
                in_secrets,
                "serviceAccountTokenInSecrets is set but no tokenRequests are specified",
            );
        }
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            if !MODES.contains(&mode.as_str()) {
                errors.not_supported(&path.child("volumeLifecycleModes"), mode, &MODES);
            }
        }
        if let Some(seconds) = spec
            .node_allocatable_update_period_seconds
            .filter(|&seconds| seconds < MIN_PERIOD)
        {
            errors.invalid(
                &path.child("nodeAllocatableUpdatePeriodSeconds"),
                seconds,
                "must be greater than or equal to 10 seconds",
            );
        }
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        let path = Path::new("spec");
        meta::immutable(
            &self.spec.attach_required,
            &old.spec.attach_required,
            &path.child("attachedRequired"),
            errors,
        );
        meta::immutable(
            &self.spec.volume_lifecycle_modes,
            &old.spec.volume_lifecycle_modes,
            &path.child("volumeLifecycleModes"),
            errors,
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let audiences: Vec<&str> = spec
            .token_requests
            .iter()
            .flatten()
            .map(|request| request.audience.as_str())
            .collect();
        let tokens = if audiences.is_empty() {
            "<unset>".into()
        } else {
            audiences.join(",")
        };
        let modes = spec.volume_lifecycle_modes.clone().unwrap_or_default();
        vec![
            self.metadata.name.clone().into(),
            spec.attach_required.unwrap_or(true).into(),
            spec.pod_info_on_mount.unwrap_or(false).into(),
            spec.storage_capacity.unwrap_or(false).into(),
            tokens.into(),
            spec.requires_republish.unwrap_or(false).into(),
            if modes.is_empty() {
                cell::NONE.into()
            } else {
                modes.join(",").into()
            },
            age(&self.metadata, now),
        ]
    }
}
