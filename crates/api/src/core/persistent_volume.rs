//! PersistentVolume: storage that a claim can be bound to.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

use super::persistent_volume_claim::{CLASS_ANNOTATION, check_access_modes, class_of, short_modes};
use super::pod_spec::{resources, validate_node_selector};
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::names;
use crate::quantity::{self, Quantity};
use crate::same::{difference, same};

/// The fields of a spec that say where the storage is.
const SOURCES: [&str; 22] = [
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

impl Kind for PersistentVolume {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["pv"],
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Capacity",
                    "string",
                    "capacity is the description of the persistent volume's resources and capacity. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
                ),
                Column::new(
                    "Access Modes",
                    "string",
                    "accessModes contains all ways the volume can be mounted. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
                ),
                Column::new(
                    "Reclaim Policy",
                    "string",
                    "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim. Valid options are Retain (default for manually created PersistentVolumes), Delete (default for dynamically provisioned PersistentVolumes), and Recycle (deprecated). Recycle must be supported by the volume plugin underlying this PersistentVolume. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#reclaiming",
                ),
                Column::new(
                    "Status",
                    "string",
                    "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
                ),
                Column::new(
                    "Claim",
                    "string",
                    "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim. Expected to be non-nil when bound. claim.VolumeName is the authoritative bind between PV and PVC. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#binding",
                ),
                Column::new("StorageClass", "string", "StorageClass of the pv"),
                Column::new(
                    "VolumeAttributesClass",
                    "string",
                    "Name of VolumeAttributesClass to which this persistent volume belongs. Empty value is not allowed. When this field is not set, it indicates that this volume does not belong to any VolumeAttributesClass. This field is mutable and can be changed by the CSI driver after a volume has been updated successfully to a new class. For an unbound PersistentVolume, the volumeAttributesClassName will be matched with unbound PersistentVolumeClaims during the binding process.",
                ),
                Column::new(
                    "Reason",
                    "string",
                    "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
                ),
                Column::age(),
                Column::wide(
                    "VolumeMode",
                    "string",
                    "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state. Value of Filesystem is implied when not included in spec.",
                ),
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
        validate_spec(&spec, &Path::new("spec"), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            validate_change(self, old, errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        let annotations = self.metadata.annotations.as_ref();
        if annotations.is_some_and(|all| all.contains_key(CLASS_ANNOTATION)) {
            warnings.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        let spec = self.spec.clone().unwrap_or_default();
        if spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
        }
        let size = spec.capacity.as_ref().and_then(|all| all.get("storage"));
        if let Some(size) = size
            && old.is_none()
            && Quantity::of(size).milli_value() % 1000 != 0
        {
            warnings.push(format!(
                "spec.capacity[storage]: fractional byte value {:?} is invalid, must be an integer",
                size.0
            ));
        }
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
            cell::or(spec.volume_attributes_class_name.as_deref(), "<unset>").into(),
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

/// Checks a volume's spec.
pub(crate) fn validate_spec(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    check_access_modes(modes, &path.child("accessModes"), errors);
    let capacity = spec.capacity.clone().unwrap_or_default();
    let at = path.child("capacity");
    if capacity.is_empty() {
        errors.required(&at, "");
    }
    if capacity.len() > 1 || (!capacity.is_empty() && !capacity.contains_key("storage")) {
        errors.not_supported(&at, &capacity, &["storage"]);
    }
    for (name, amount) in &capacity {
        let at = at.key(name);
        resources::check_amount(name, amount, &at, errors);
        if Quantity::of(amount) <= Quantity::ZERO {
            errors.invalid(&at, &amount.0, "must be greater than zero");
        }
    }
    let policy = spec
        .persistent_volume_reclaim_policy
        .as_deref()
        .unwrap_or_default();
    if !matches!(policy, "" | "Delete" | "Recycle" | "Retain") {
        let at = path.child("persistentVolumeReclaimPolicy");
        errors.not_supported(&at, policy, &["Delete", "Recycle", "Retain"]);
    }
    if let Some(affinity) = &spec.node_affinity {
        let at = path.child("nodeAffinity.required");
        match &affinity.required {
            Some(required) => validate_node_selector(required, &at, errors),
            None => errors.required(&at, "must specify required node constraints"),
        }
    }
    validate_sources(spec, path, errors);
    if let Some(host) = &spec.host_path
        && host.path == "/"
        && policy == "Recycle"
    {
        errors.forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    for (field, class) in [
        ("storageClassName", &spec.storage_class_name),
        ("volumeAttributesClassName", &spec.volume_attributes_class_name),
    ] {
        if let Some(class) = class.as_deref().filter(|name| !name.is_empty()) {
            errors.invalid_each(&path.child(field), class, names::dns_subdomain(class, false));
        }
    }
    if spec.volume_attributes_class_name.as_deref() == Some("") {
        errors.required(
            &path.child("volumeAttributesClassName"),
            "an empty string is disallowed",
        );
    }
    let mode = spec.volume_mode.as_deref();
    if let Some(mode) = mode.filter(|mode| !matches!(*mode, "Block" | "Filesystem")) {
        errors.not_supported(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
}

fn validate_sources(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let given = sources(spec);
    let mut found = SOURCES.into_iter().filter(|source| given.contains_key(*source));
    if found.next().is_none() {
        errors.required(path, "must specify a volume type");
    }
    for extra in found {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
    let backsteps = |text: &str| text.split('/').any(|part| part == "..");
    if let Some(host) = &spec.host_path {
        let at = path.child("hostPath.path");
        if host.path.is_empty() {
            errors.required(&at, "");
        } else if backsteps(&host.path) {
            errors.invalid(&at, &host.path, "must not contain '..'");
        }
    }
    if let Some(nfs) = &spec.nfs {
        if nfs.server.is_empty() {
            errors.required(&path.child("nfs.server"), "");
        }
        if nfs.path.is_empty() {
            errors.required(&path.child("nfs.path"), "");
        } else if !nfs.path.starts_with('/') {
            errors.invalid(&path.child("nfs.path"), &nfs.path, "must be an absolute path");
        }
    }
    if let Some(local) = &spec.local {
        let at = path.child("local.path");
        if local.path.is_empty() {
            errors.required(&at, "");
        } else if backsteps(&local.path) {
            errors.invalid(&at, &local.path, "must not contain '..'");
        }
        if spec.node_affinity.is_none() {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
    if let Some(csi) = &spec.csi {
        super::pod_spec::check_driver(&csi.driver, &path.child("csi.driver"), errors);
        if csi.volume_handle.is_empty() {
            errors.required(&path.child("csi.volumeHandle"), "");
        }
    }
}

fn validate_change(new: &PersistentVolume, old: &PersistentVolume, errors: &mut Errors) {
    let path = Path::new("spec");
    let (spec, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    // How a driver is told to grow a volume may be added; where the volume is may not change.
    let located = |spec: &PersistentVolumeSpec| {
        let mut located = PersistentVolumeSpec::default();
        if let (Ok(Value::Object(mut all)), given) = (serde_json::to_value(&located), sources(spec)) {
            all.extend(given);
            located = serde_json::from_value(Value::Object(all)).unwrap_or_default();
        }
        if let Some(csi) = &mut located.csi {
            csi.controller_expand_secret_ref = None;
            csi.node_expand_secret_ref = None;
        }
        located
    };
    let (now, was) = (located(&spec), located(&before));
    if !same(&now, &was) {
        errors.forbidden(
            &path.child("persistentvolumesource"),
            &format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                difference("PersistentVolumeSource", &was, &now)
            ),
        );
    }
    if spec.volume_mode != before.volume_mode {
        errors.invalid(
            &path.child("volumeMode"),
            &spec.volume_mode,
            crate::meta::IMMUTABLE,
        );
    }
    if before.node_affinity.is_some() && !same(&spec.node_affinity, &before.node_affinity) {
        errors.invalid(
            &path.child("nodeAffinity"),
            &spec.node_affinity,
            crate::meta::IMMUTABLE,
        );
    }
}
