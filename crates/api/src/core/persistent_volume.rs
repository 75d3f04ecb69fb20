//! PersistentVolume: storage that a claim can be bound to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

use super::persistent_volume_claim::{CLASS_ANNOTATION, check_access_modes, class_of, short_modes};
use super::persistent_volume_sources;
use super::pod_spec::{renamed, resources, validate_node_selector, warn_of_fraction, warn_of_term};
use crate::field::{Errors, Internal, Path};
use crate::internal::{self, difference};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::names;
use crate::quantity::{self, Quantity};
use crate::same::same;

/// The fields of a spec that say where the storage is.
pub(super) const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Sources that are no more.
const DEAD_SOURCES: [(&str, &str); 8] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

impl Kind for PersistentVolume {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["pv"],
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of("Capacity", "string", "core.v1.PersistentVolumeSpec", "capacity"),
                Column::of(
                    "Access Modes",
                    "string",
                    "core.v1.PersistentVolumeSpec",
                    "accessModes",
                ),
                Column::of(
                    "Reclaim Policy",
                    "string",
                    "core.v1.PersistentVolumeSpec",
                    "persistentVolumeReclaimPolicy",
                ),
                Column::of("Status", "string", "core.v1.PersistentVolumeStatus", "phase"),
                Column::of("Claim", "string", "core.v1.PersistentVolumeSpec", "claimRef"),
                Column::new("StorageClass", "string", "StorageClass of the pv"),
                Column::new(
                    "VolumeAttributesClass",
                    "string",
                    "VolumeAttributesClass of the pv",
                ),
                Column::of("Reason", "string", "core.v1.PersistentVolumeStatus", "reason"),
                Column::age(),
                Column::of(
                    "VolumeMode",
                    "string",
                    "core.v1.PersistentVolumeSpec",
                    "volumeMode",
                )
                .only_wide(),
            ],
            selectable_fields: &["name"],
            ..KindInfo::of::<Self>("persistentvolume")
        }
    }

    fn default(&mut self) {
        let status = self.status.get_or_insert_default();
        if status.phase.as_deref().unwrap_or_default().is_empty() {
            status.phase = Some("Pending".into());
        }
        let spec = self.spec.get_or_insert_default();
        if spec
            .persistent_volume_reclaim_policy
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        {
            spec.persistent_volume_reclaim_policy = Some("Retain".into());
        }
        spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
        if let Some(path) = &mut spec.host_path {
            path.type_.get_or_insert_default();
        }
        if let Some(claim) = &mut spec.claim_ref {
            claim.api_version.get_or_insert_with(|| "v1".into());
            claim.kind.get_or_insert_with(|| "PersistentVolumeClaim".into());
        }
        let amounts = spec.capacity.iter_mut().flatten();
        amounts
            .into_iter()
            .for_each(|(_, amount)| quantity::canonicalize(amount));
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(k8s_openapi::api::core::v1::PersistentVolumeStatus {
            phase: Some("Pending".into()),
            last_phase_transition_time: Some(Time(now())),
            ..Default::default()
        });
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Main {
            self.status.clone_from(&old.status);
            return;
        }
        self.spec.clone_from(&old.spec);
        let phase = |volume: &Self| {
            volume
                .status
                .as_ref()
                .and_then(|status| status.phase.clone())
                .unwrap_or_default()
        };
        let changed = phase(self) != phase(old);
        let before = old
            .status
            .as_ref()
            .and_then(|status| status.last_phase_transition_time.clone());
        if let Some(status) = &mut self.status {
            let told =
                status.last_phase_transition_time.is_some() && status.last_phase_transition_time != before;
            if changed && !told {
                status.last_phase_transition_time = Some(Time(now()));
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        validate_spec(&spec, Some(name), &Path::new("spec"), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            validate_change(self, old, errors);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (key, message) in [
            (
                CLASS_ANNOTATION,
                "deprecated since v1.8; use \"storageClassName\" attribute instead",
            ),
            (
                MOUNT_OPTIONS,
                "deprecated since v1.31; use \"mountOptions\" attribute instead",
            ),
        ] {
            let annotations = self.metadata.annotations.as_ref();
            if annotations.is_some_and(|all| all.contains_key(key)) {
                warnings.push(format!("metadata.annotations[{key}]: {message}"));
            }
        }
        let spec = self.spec.clone().unwrap_or_default();
        if spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
        }
        let required = spec
            .node_affinity
            .as_ref()
            .and_then(|affinity| affinity.required.as_ref());
        let terms = required.map(|required| required.node_selector_terms.as_slice());
        for (index, term) in terms.unwrap_or_default().iter().enumerate() {
            let at = Path::new("spec.nodeAffinity.required.nodeSelectorTerms").index(index);
            warn_of_term(term, false, &at, &mut warnings);
        }
        let given = sources(&spec);
        for (source, message) in DEAD_SOURCES {
            if given.contains_key(source) {
                warnings.push(format!("spec.{source}: {message}"));
            }
        }
        let size = spec.capacity.as_ref().and_then(|all| all.get("storage"));
        warn_of_fraction(size, &Path::new("spec.capacity[storage]"), &mut warnings);
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let claim = spec.claim_ref.as_ref().map(|claim| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{}", text(&claim.namespace), text(&claim.name))
        });
        let size = spec.capacity.as_ref().and_then(|all| all.get("storage"));
        let phase = match self.metadata.deletion_timestamp {
            Some(_) => "Terminating".into(),
            None => status.phase.unwrap_or_default(),
        };
        vec![
            self.metadata.name.clone().into(),
            size.map_or("0", |size| size.0.as_str()).into(),
            short_modes(spec.access_modes.as_deref().unwrap_or_default()).into(),
            spec.persistent_volume_reclaim_policy
                .clone()
                .unwrap_or_default()
                .into(),
            phase.into(),
            claim.unwrap_or_default().into(),
            class_of(
                self.metadata.annotations.as_ref(),
                spec.storage_class_name.as_deref(),
            )
            .into(),
            spec.volume_attributes_class_name
                .unwrap_or_else(|| "<unset>".into())
                .into(),
            status.reason.unwrap_or_default().into(),
            age(&self.metadata, now),
            spec.volume_mode.unwrap_or_else(|| "<unset>".into()).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "name" => self.metadata.name.clone().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// To the second, as times are stored.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The sources of a spec, by the name of their field.
fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(mut all)) => {
            all.retain(|field, _| SOURCES.contains(&field.as_str()));
            all
        }
        _ => Map::new(),
    }
}

/// Checks a volume's spec; without a `name` it is inline, in an attachment.
pub(crate) fn validate_spec(
    spec: &PersistentVolumeSpec,
    name: Option<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    const NOT_INLINE: &str = "may not be specified in the context of inline volumes";
    let inline = name.is_none();
    if inline {
        if spec.claim_ref.is_some() {
            errors.forbidden(&path.child("claimRef"), NOT_INLINE);
        }
        if spec
            .capacity
            .as_ref()
            .is_some_and(|capacity| !capacity.is_empty())
        {
            errors.forbidden(&path.child("capacity"), NOT_INLINE);
        }
        if spec.csi.is_none() {
            errors.required(
                &path.child("csi"),
                "has to be specified in the context of inline volumes",
            );
        }
    }
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    check_access_modes(modes, &path.child("accessModes"), errors);
    if !inline {
        validate_capacity(
            &spec.capacity.clone().unwrap_or_default(),
            &path.child("capacity"),
            errors,
        );
    }
    let policy = spec
        .persistent_volume_reclaim_policy
        .as_deref()
        .unwrap_or_default();
    let at = path.child("persistentVolumeReclaimPolicy");
    match policy {
        "" | "Retain" => {}
        _ if inline => errors.forbidden(&at, "may only be Retain in the context of inline volumes"),
        "Delete" | "Recycle" => {}
        other => errors.not_supported(&at, other, &["Delete", "Recycle", "Retain"]),
    }
    if inline && spec.node_affinity.is_some() {
        errors.forbidden(&path.child("nodeAffinity"), NOT_INLINE);
    } else if let Some(affinity) = &spec.node_affinity {
        let at = path.child("nodeAffinity.required");
        match &affinity.required {
            Some(required) => validate_node_selector(required, &at, errors),
            None => errors.required(&at, "must specify required node constraints"),
        }
    }
    persistent_volume_sources::validate(spec, &sources(spec), name.unwrap_or_default(), path, errors);
    let cleaned = |text: &str| text.starts_with('/') && text.split('/').all(|part| matches!(part, "" | "."));
    if let Some(host) = &spec.host_path
        && cleaned(&host.path)
        && policy == "Recycle"
    {
        errors.forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    if let Some(class) = spec.storage_class_name.as_deref().filter(|name| !name.is_empty()) {
        let at = path.child("storageClassName");
        if inline {
            errors.forbidden(&at, NOT_INLINE);
        } else {
            errors.invalid_each(&at, class, names::dns_subdomain(class, false));
        }
    }
    let at = path.child("volumeMode");
    match spec.volume_mode.as_deref() {
        None | Some("Filesystem") => {}
        Some(_) if inline => errors.forbidden(
            &at,
            "may not specify volumeMode other than Filesystem in the context of inline volumes",
        ),
        Some("Block") => {}
        Some(other) => errors.not_supported(&at, other, &["Block", "Filesystem"]),
    }
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        let at = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&at, "an empty string is disallowed");
        } else {
            errors.invalid_each(&at, class, names::dns_subdomain(class, false));
        }
        if spec.csi.is_none() {
            errors.required(
                &path.child("csi"),
                "has to be specified when using volumeAttributesClassName",
            );
        }
    }
}

fn validate_capacity(capacity: &BTreeMap<String, Text>, path: &Path, errors: &mut Errors) {
    if capacity.is_empty() {
        errors.required(path, "");
    }
    if capacity.len() > 1 || !capacity.contains_key("storage") {
        errors.not_supported(path, capacity, &["storage"]);
    }
    for (name, amount) in capacity {
        let path = path.key(name);
        resources::check_basic(amount, &path, errors);
        if Quantity::of(amount) <= Quantity::ZERO {
            errors.invalid(&path, &amount.0, "must be greater than zero");
        }
    }
}

fn validate_change(new: &PersistentVolume, old: &PersistentVolume, errors: &mut Errors) {
    let path = Path::new("spec");
    let (mut spec, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    // How a driver is told to grow a volume may be added; where the volume is may not change.
    if let (Some(csi), Some(known)) = (&mut spec.csi, &before.csi)
        && known.controller_expand_secret_ref.is_none()
    {
        csi.controller_expand_secret_ref = None;
    }
    let (now, was) = (sources(&spec), sources(&before));
    if !same(&now, &was) {
        errors.forbidden(
            &path.child("persistentvolumesource"),
            &format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                difference("PersistentVolumeSource", &was, &now)
            ),
        );
    }
    // Upstream's paths lack the spec.
    if spec.volume_mode != before.volume_mode {
        let at = Path::new("volumeMode");
        errors.invalid(&at, &spec.volume_mode, crate::meta::IMMUTABLE);
    }
    if before.node_affinity.is_some() && !is_same_place(&spec, &before) {
        errors.invalid(
            &Path::new("nodeAffinity"),
            Internal::optional(
                spec.node_affinity
                    .as_ref()
                    .map(|affinity| internal::of("VolumeNodeAffinity", affinity)),
            ),
            "field is immutable, except for updating from beta label to GA",
        );
    }
    if before.volume_attributes_class_name.is_some() && spec.volume_attributes_class_name.is_none() {
        errors.forbidden(
            &path.child("volumeAttributesClassName"),
            "update from non-nil value to nil is forbidden",
        );
    }
}

/// Whether the volume is where it was; a label of nodes may be given the name that it has now.
fn is_same_place(new: &PersistentVolumeSpec, old: &PersistentVolumeSpec) -> bool {
    let mut old = old.node_affinity.clone();
    let terms = |affinity: Option<&VolumeNodeAffinity>| {
        let required = affinity.and_then(|affinity| affinity.required.as_ref());
        required
            .map(|required| required.node_selector_terms.clone())
            .unwrap_or_default()
    };
    let wanted = terms(new.node_affinity.as_ref());
    let known = old.as_mut().and_then(|affinity| affinity.required.as_mut());
    let known = known.map(|required| required.node_selector_terms.iter_mut());
    for (old, new) in known.into_iter().flatten().zip(&wanted) {
        let lists = [
            (&mut old.match_expressions, &new.match_expressions),
            (&mut old.match_fields, &new.match_fields),
        ];
        for (old, new) in lists {
            for (old, new) in old.iter_mut().flatten().zip(new.iter().flatten()) {
                if renamed(&old.key).is_some_and(|renamed| renamed.to == new.key) {
                    old.key.clone_from(&new.key);
                }
            }
        }
    }
    same(&new.node_affinity, &old)
}
