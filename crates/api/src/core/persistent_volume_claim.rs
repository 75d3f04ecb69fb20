//! PersistentVolumeClaim: a user's wish for storage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use super::pod_spec::resources;
use crate::field::{Errors, Path};
use crate::internal::difference;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::names;
use crate::quantity::{self, Quantity};
use crate::same::same;
use crate::selector;

pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const STORAGE: &str = "storage";
const CLASS: &str = "volumeAttributesClassName";

/// The class that a claim names, be it by the field or by the annotation from before the field; `None` when it names none
/// and so is to get the default one (`GetPersistentVolumeClaimClass`, `PersistentVolumeClaimHasClass`).
pub fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = claim
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(CLASS_ANNOTATION));
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_ref());
    annotated.or(named).map(String::as_str)
}

impl Kind for PersistentVolumeClaim {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["pvc"],
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of("Status", "string", "core.v1.PersistentVolumeClaimStatus", "phase"),
                Column::of(
                    "Volume",
                    "string",
                    "core.v1.PersistentVolumeClaimSpec",
                    "volumeName",
                ),
                Column::of(
                    "Capacity",
                    "string",
                    "core.v1.PersistentVolumeClaimStatus",
                    "capacity",
                ),
                Column::of(
                    "Access Modes",
                    "string",
                    "core.v1.PersistentVolumeClaimStatus",
                    "accessModes",
                ),
                Column::new("StorageClass", "string", "StorageClass of the pvc"),
                Column::new(
                    "VolumeAttributesClass",
                    "string",
                    "VolumeAttributesClass of the pvc",
                ),
                Column::age(),
                Column::of(
                    "VolumeMode",
                    "string",
                    "core.v1.PersistentVolumeClaimSpec",
                    "volumeMode",
                )
                .only_wide(),
            ],
            ..KindInfo::of::<Self>("persistentvolumeclaim")
        }
    }

    fn default(&mut self) {
        fill_in(self);
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        fill_in(self);
        if let Some(spec) = &mut self.spec {
            drop_other_namespaces(spec);
            // The older field takes only what it was made for.
            let group = |source: &TypedLocalObjectReference| source.api_group.clone().unwrap_or_default();
            spec.data_source = spec
                .data_source
                .take()
                .filter(|source| is_old_source(&group(source), &source.kind));
            agree_on_source(spec);
        }
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Subresource(Subresource::Status) {
            self.spec.clone_from(&old.spec);
            return;
        }
        self.status.clone_from(&old.status);
        if let (Some(spec), Some(before)) = (&mut self.spec, &old.spec) {
            drop_other_namespaces(spec);
            // An old client knows only the older field.
            if before.data_source_ref.is_some() {
                agree_on_source(spec);
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        validate_spec(&self.spec.clone().unwrap_or_default(), &Path::new("spec"), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return validate_change(self, old, errors);
        }
        validate_status(&self.status.clone().unwrap_or_default(), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        let annotations = self.metadata.annotations.as_ref();
        if annotations.is_some_and(|all| all.contains_key(CLASS_ANNOTATION)) {
            warnings.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        if let Some(spec) = &self.spec {
            warn(spec, &Path::new("spec"), &mut warnings);
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let phase = match self.metadata.deletion_timestamp {
            Some(_) => "Terminating".into(),
            None => status.phase.clone().unwrap_or_default(),
        };
        let bound = spec.volume_name.as_deref().is_some_and(|name| !name.is_empty());
        let (modes, capacity) = if bound {
            let capacity = status.capacity.as_ref().and_then(|all| all.get(STORAGE));
            (
                short_modes(status.access_modes.as_deref().unwrap_or_default()),
                capacity.map_or_else(|| "0".into(), |amount| amount.0.clone()),
            )
        } else {
            (String::new(), String::new())
        };
        vec![
            self.metadata.name.clone().into(),
            phase.into(),
            spec.volume_name.unwrap_or_default().into(),
            capacity.into(),
            modes.into(),
            class_of(
                self.metadata.annotations.as_ref(),
                spec.storage_class_name.as_deref(),
            )
            .into(),
            spec.volume_attributes_class_name
                .unwrap_or_else(|| "<unset>".into())
                .into(),
            age(&self.metadata, now),
            spec.volume_mode.unwrap_or_else(|| "<unset>".into()).into(),
        ]
    }
}

/// The storage class, which an old annotation may name instead of the field.
pub(crate) fn class_of(annotations: Option<&BTreeMap<String, String>>, field: Option<&str>) -> String {
    match annotations.and_then(|all| all.get(CLASS_ANNOTATION)) {
        Some(class) => class.clone(),
        None => field.unwrap_or_default().into(),
    }
}

/// `RWO,ROX`: each mode once, in upstream's order.
pub(crate) fn short_modes(modes: &[String]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let short: Vec<&str> = known
        .iter()
        .filter(|(mode, _)| modes.iter().any(|its| its == mode))
        .map(|(_, short)| *short)
        .collect();
    short.join(",")
}

/// Fills in a claim, also one in a template.
pub(crate) fn fill_in(claim: &mut PersistentVolumeClaim) {
    let status = claim.status.get_or_insert_default();
    if status.phase.as_deref().unwrap_or_default().is_empty() {
        status.phase = Some("Pending".into());
    }
    let spec = claim.spec.get_or_insert_default();
    spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
    let resources = spec.resources.get_or_insert_default();
    for amounts in [&mut resources.limits, &mut resources.requests] {
        amounts
            .iter_mut()
            .flatten()
            .for_each(|(_, amount)| quantity::canonicalize(amount));
    }
}

/// What a claim is filled from stands in two fields, an old and a new one, that say the same.
fn agree_on_source(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source))
            if source.namespace.as_deref().unwrap_or_default().is_empty()
                && is_old_source(source.api_group.as_deref().unwrap_or_default(), &source.kind) =>
        {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

fn is_old_source(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

/// Objects of other namespaces fill no claims: the feature is off.
pub(crate) fn drop_other_namespaces(spec: &mut PersistentVolumeClaimSpec) {
    let elsewhere = |source: &TypedObjectReference| {
        source
            .namespace
            .as_ref()
            .is_some_and(|namespace| !namespace.is_empty())
    };
    if spec.data_source_ref.as_ref().is_some_and(elsewhere) {
        spec.data_source_ref = None;
    }
}

/// The warnings about a claim's spec.
pub(crate) fn warn(spec: &PersistentVolumeClaimSpec, path: &Path, warnings: &mut Vec<String>) {
    let resources = spec.resources.as_ref();
    let path = path.child("resources");
    for (side, amounts) in [
        ("requests", resources.and_then(|all| all.requests.as_ref())),
        ("limits", resources.and_then(|all| all.limits.as_ref())),
    ] {
        let amount = amounts.and_then(|all| all.get(STORAGE));
        super::pod_spec::warn_of_fraction(amount, &path.child(side).key(STORAGE), warnings);
    }
}

/// Checks the modes in which a volume is used.
pub(crate) fn check_access_modes(modes: &[String], path: &Path, errors: &mut Errors) {
    let known = [
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    for mode in modes.iter().filter(|mode| !known.contains(&mode.as_str())) {
        errors.not_supported(path, mode, &known);
    }
    let one_pod = |mode: &String| mode == "ReadWriteOncePod";
    let other = |mode: &String| known.contains(&mode.as_str()) && !one_pod(mode);
    if modes.iter().any(one_pod) && modes.iter().any(other) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// Checks a claim's spec.
pub(crate) fn validate_spec(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    if let Some(selector) = &spec.selector {
        selector::validate(selector, &path.child("selector"), errors);
    }
    check_access_modes(modes, &path.child("accessModes"), errors);
    let requests = spec.resources.as_ref().and_then(|all| all.requests.as_ref());
    match requests.and_then(|requests| requests.get(STORAGE)) {
        None => errors.required(&path.child("resources").key(STORAGE), ""),
        Some(amount) => {
            if Quantity::of(amount) <= Quantity::ZERO {
                let at = path.child("resources").key(STORAGE);
                errors.invalid(&at, &amount.0, "must be greater than zero");
            }
        }
    }
    if let Some(class) = spec.storage_class_name.as_deref().filter(|name| !name.is_empty()) {
        errors.invalid_each(
            &path.child("storageClassName"),
            class,
            names::dns_subdomain(class, false),
        );
    }
    if let Some(mode) = spec.volume_mode.as_deref()
        && !matches!(mode, "Block" | "Filesystem")
    {
        errors.not_supported(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    validate_sources(spec, path, errors);
    if let Some(class) = spec
        .volume_attributes_class_name
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        errors.invalid_each(&path.child(CLASS), class, names::dns_subdomain(class, false));
    }
}

fn validate_sources(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    let check = |group: Option<&str>, kind: &str, name: &str, path: &Path, errors: &mut Errors| {
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if kind.is_empty() {
            errors.required(&path.child("kind"), "");
        }
        let group = group.unwrap_or_default();
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            errors.invalid(
                path,
                kind,
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
        if !group.is_empty() {
            errors.invalid_each(&path.child("apiGroup"), group, names::dns_subdomain(group, false));
        }
    };
    if let Some(source) = &spec.data_source {
        let at = path.child("dataSource");
        check(
            source.api_group.as_deref(),
            &source.kind,
            &source.name,
            &at,
            errors,
        );
    }
    if let Some(source) = &spec.data_source_ref {
        let at = path.child("dataSourceRef");
        check(
            source.api_group.as_deref(),
            &source.kind,
            &source.name,
            &at,
            errors,
        );
    }
    let (Some(old), Some(new)) = (&spec.data_source, &spec.data_source_ref) else {
        return;
    };
    if (&old.api_group, &old.kind, &old.name) != (&new.api_group, &new.kind, &new.name) {
        let at = path.child("dataSource");
        errors.invalid_as_a_whole(path, &format!("{at}: must match dataSourceRef"));
    }
}

/// How far a claim's growth has come.
const GROWTH: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

fn validate_status(status: &PersistentVolumeClaimStatus, errors: &mut Errors) {
    let path = Path::new("status");
    for (name, amount) in status.capacity.iter().flatten() {
        resources::check_basic(amount, &path.child("capacity").key(name), errors);
    }
    let at = path.child("allocatedResourceStatus");
    for (name, state) in status.allocated_resource_statuses.iter().flatten() {
        check_resource(name, &at, errors);
        if !GROWTH.contains(&state.as_str()) {
            let mut known = GROWTH;
            known.sort_unstable();
            errors.not_supported(&at, name, &known);
        }
    }
    let at = path.child("allocatedResources");
    for (name, amount) in status.allocated_resources.iter().flatten() {
        let found = errors.iter().len();
        check_resource(name, &at, errors);
        if errors.iter().len() == found {
            resources::check_basic(amount, &at.key(name), errors);
        }
        if errors.iter().len() == found {
            resources::check_amount(STORAGE, amount, &at.key(name), errors);
        }
    }
}

/// Of Kubernetes' own resources a claim has but one.
fn check_resource(name: &str, path: &Path, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    if wrong.is_empty() && resources::is_native(name) && name != STORAGE {
        errors.not_supported(path, name, &[STORAGE]);
    }
    errors.invalid_each(path, name, wrong);
}

fn storage(resources: Option<&VolumeResourceRequirements>) -> Option<&Text> {
    resources?.requests.as_ref()?.get(STORAGE)
}

/// What a claim asks for is fixed, but for its size and its class of attributes, and for the volume while there is none.
fn validate_change(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
    let path = Path::new("spec");
    let (spec, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    let (mut wanted, mut kept) = (spec.clone(), before.clone());
    let given = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    // A claim may be bound from outside, and once only.
    if !given(&kept.volume_name) {
        kept.volume_name.clone_from(&wanted.volume_name);
    }
    let annotated = |claim: &'_ PersistentVolumeClaim| {
        let annotations = claim.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(CLASS_ANNOTATION)).cloned()
    };
    let (class, was_class) = (annotated(new), annotated(old));
    let is_given_now = kept.storage_class_name.is_none() && wanted.storage_class_name.is_some();
    // The class may move from the annotation to the field, and one that had none may be given the default one.
    let moves = was_class.is_some()
        && is_given_now
        && wanted.storage_class_name == was_class
        && (class.is_none() || class == was_class);
    if moves {
        wanted.storage_class_name = None;
    } else {
        let (class, was) = (class.unwrap_or_default(), was_class.clone().unwrap_or_default());
        let at = Path::new("metadata.annotations").child(CLASS_ANNOTATION);
        crate::meta::immutable(&class, &was, &at, errors);
        if is_given_now && (was_class.is_none() || wanted.storage_class_name == was_class) {
            wanted.storage_class_name = None;
        }
    }
    let phase = new.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Bound") {
        let requests = wanted.resources.as_mut().and_then(|all| all.requests.as_mut());
        if let (Some(requests), Some(size)) = (requests, storage(before.resources.as_ref())) {
            requests.insert(STORAGE.into(), size.clone());
        }
        if wanted.volume_attributes_class_name.is_some() {
            wanted
                .volume_attributes_class_name
                .clone_from(&kept.volume_attributes_class_name);
        }
    }
    if !same(&wanted, &kept) {
        errors.forbidden(
            &path,
            &format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
                difference("PersistentVolumeClaimSpec", &kept, &wanted)
            ),
        );
    }
    if let (Some(size), Some(was)) = (
        storage(spec.resources.as_ref()),
        storage(before.resources.as_ref()),
    ) && Quantity::of(size) < Quantity::of(was)
    {
        let status = old.status.clone().unwrap_or_default();
        let capacity = status.capacity.as_ref().and_then(|all| all.get(STORAGE));
        let at = path.child("resources.requests.storage");
        // A growth that failed may be taken back, though not below what the volume has.
        if capacity.is_some_and(|capacity| Quantity::of(size) <= Quantity::of(capacity)) {
            errors.forbidden(&at, "field can not be less than status.capacity");
        }
    }
    // Upstream's path lacks the spec.
    let mode = Path::new("volumeMode");
    crate::meta::immutable(&spec.volume_mode, &before.volume_mode, &mode, errors);
    let at = path.child(CLASS);
    if before.volume_attributes_class_name.is_some() {
        match spec.volume_attributes_class_name.as_deref() {
            None => errors.forbidden(&at, "update from non-nil value to nil is forbidden"),
            Some("") if before.volume_attributes_class_name.as_deref() != Some("") => {
                errors.forbidden(&at, "update from non-nil value to an empty string is forbidden");
            }
            Some(_) => {}
        }
    }
}
