//! The pod's volumes: exactly one source each, and what each source needs.

mod files;
mod storage;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, ImageVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::files::{check_mode, validate_downward_file, validate_items, validate_projected};
pub(crate) use self::storage::{check_driver, check_storage_os, is_iqn};
use self::storage::{
    validate_azure_disk, validate_cinder, validate_disk, validate_fc, validate_iscsi, validate_quobyte,
    validate_storage_os,
};
use super::{Owner, given, invalid_each, slice};
use crate::field::{Errors, Path};
use crate::meta;
use crate::names;
use crate::quantity::Quantity;

pub(super) use files::{check_backsteps, check_descending};

/// The valid volumes of a pod, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";

/// Checks all volumes, and gives the valid ones: a mount of an invalid one is not found.
pub(super) fn validate<'v>(
    volumes: &'v [Volume],
    owner: Owner<'_>,
    path: &Path,
    errors: &mut Errors,
) -> Volumes<'v> {
    let mut valid = Volumes::new();
    let pod_name = owner.pod.and_then(|meta| given(&meta.name));
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let before = errors.iter().len();
        Source { volume, pod_name }.validate(&path, errors);
        let name = volume.name.as_str();
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            invalid_each(&path.child("name"), name, names::dns_label(name, false), errors);
        }
        if valid.contains_key(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if errors.iter().len() == before {
            valid.insert(name, volume);
        }
        let created = |claim: &str| {
            let ephemeral = volumes.iter().filter(|volume| volume.ephemeral.is_some());
            pod_name.is_some_and(|pod| {
                ephemeral.into_iter().any(|volume| {
                    claim.strip_prefix(pod).and_then(|rest| rest.strip_prefix('-')) == Some(&volume.name)
                })
            })
        };
        if let Some(claim) = &volume.persistent_volume_claim
            && created(&claim.claim_name)
        {
            errors.invalid(
                &path.child("persistentVolumeClaim").child("claimName"),
                &claim.claim_name,
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
    valid
}

/// The path under which a source's own fields are reported: upstream has two spellings of some.
fn checked_name(source: &'static str) -> &'static str {
    if source == "gcePersistentDisk" {
        "persistentDisk"
    } else {
        source
    }
}

/// Checks a source that persistent volumes have as well, in the same form.
pub(crate) fn validate_shared_source(volume: &Volume, path: &Path, errors: &mut Errors) {
    let source = Source {
        volume,
        pod_name: None,
    };
    for (name, check) in source.sources() {
        check(&path.child(checked_name(name)), errors);
    }
}

struct Source<'a> {
    volume: &'a Volume,
    pod_name: Option<&'a str>,
}

type Check<'a> = Box<dyn FnOnce(&Path, &mut Errors) + 'a>;

impl<'a> Source<'a> {
    fn validate(&self, path: &Path, errors: &mut Errors) {
        let mut count = 0;
        for (name, check) in self.sources() {
            count += 1;
            let one_too_many = match name {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                name => name,
            };
            if count > 1 {
                errors.forbidden(&path.child(one_too_many), MORE_THAN_ONE);
            } else {
                check(&path.child(checked_name(name)), errors);
            }
        }
        if count == 0 {
            errors.required(path, "must specify a volume type");
        }
        if let Some(iscsi) = &self.volume.iscsi
            && iscsi.initiator_name.is_some()
            && self.volume.name.len() + 1 + iscsi.target_portal.len() > 64
        {
            errors.invalid(
                &path.child("name"),
                &self.volume.name,
                "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                 iscsi.initiatorName is specified.",
            );
        }
    }

    /// The sources that are given, in upstream's order, each with its check.
    fn sources(&self) -> Vec<(&'static str, Check<'a>)> {
        let (volume, pod_name) = (self.volume, self.pod_name);
        let mut all: Vec<(&'static str, Check<'a>)> = Vec::new();
        macro_rules! source {
            ($name:literal, $field:ident, $check:expr) => {
                if let Some(source) = &volume.$field {
                    all.push((
                        $name,
                        Box::new(move |path, errors| $check(source, path, errors)),
                    ));
                }
            };
        }
        macro_rules! needs {
            ($name:literal, $field:ident, $($text:ident $key:literal),+) => {
                if let Some(source) = &volume.$field {
                    all.push((
                        $name,
                        Box::new(move |path, errors| {
                            $(if Text::is_absent(&source.$text) {
                                errors.required(&path.child($key), "");
                            })+
                        }),
                    ));
                }
            };
        }
        source!(
            "emptyDir",
            empty_dir,
            |source: &'a k8s_openapi::api::core::v1::EmptyDirVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                if source
                    .size_limit
                    .as_ref()
                    .is_some_and(|limit| Quantity::of(limit).is_negative())
                {
                    errors.forbidden(
                        &path.child("sizeLimit"),
                        "SizeLimit field must be a valid resource quantity",
                    );
                }
            }
        );
        source!("hostPath", host_path, validate_host_path);
        source!(
            "gitRepo",
            git_repo,
            |source: &'a k8s_openapi::api::core::v1::GitRepoVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                if source.repository.is_empty() {
                    errors.required(&path.child("repository"), "");
                }
                check_descending(
                    source.directory.as_deref().unwrap_or_default(),
                    &path.child("directory"),
                    errors,
                );
            }
        );
        source!(
            "gcePersistentDisk",
            gce_persistent_disk,
            |source: &'a k8s_openapi::api::core::v1::GCEPersistentDiskVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                validate_disk("pdName", &source.pd_name, source.partition, path, errors);
            }
        );
        source!(
            "awsElasticBlockStore",
            aws_elastic_block_store,
            |source: &'a k8s_openapi::api::core::v1::AWSElasticBlockStoreVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                validate_disk("volumeID", &source.volume_id, source.partition, path, errors);
            }
        );
        source!(
            "secret",
            secret,
            |source: &'a k8s_openapi::api::core::v1::SecretVolumeSource, path: &Path, errors: &mut Errors| {
                if given(&source.secret_name).is_none() {
                    errors.required(&path.child("secretName"), "");
                }
                check_mode(source.default_mode, &path.child("defaultMode"), errors);
                validate_items(slice(&source.items), &path.child("items"), errors);
            }
        );
        source!(
            "nfs",
            nfs,
            |source: &'a k8s_openapi::api::core::v1::NFSVolumeSource, path: &Path, errors: &mut Errors| {
                if source.server.is_empty() {
                    errors.required(&path.child("server"), "");
                }
                if source.path.is_empty() {
                    errors.required(&path.child("path"), "");
                }
                if !source.path.starts_with('/') {
                    errors.invalid(&path.child("path"), &source.path, "must be an absolute path");
                }
            }
        );
        source!("iscsi", iscsi, validate_iscsi);
        needs!("glusterfs", glusterfs, endpoints "endpoints", path "path");
        source!(
            "flocker",
            flocker,
            |source: &'a k8s_openapi::api::core::v1::FlockerVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                match (given(&source.dataset_name), given(&source.dataset_uuid)) {
                    (None, None) => errors.required(path, "one of datasetName and datasetUUID is required"),
                    (Some(_), Some(_)) => errors.invalid(
                        path,
                        "resource",
                        "datasetName and datasetUUID can not be specified simultaneously",
                    ),
                    _ => {}
                }
                if let Some(name) = given(&source.dataset_name)
                    && name.contains('/')
                {
                    errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
                }
            }
        );
        needs!("persistentVolumeClaim", persistent_volume_claim, claim_name "claimName");
        needs!("rbd", rbd, monitors "monitors", image "image");
        source!("cinder", cinder, validate_cinder);
        needs!("cephfs", cephfs, monitors "monitors");
        source!("quobyte", quobyte, validate_quobyte);
        source!(
            "downwardAPI",
            downward_api,
            |source: &'a k8s_openapi::api::core::v1::DownwardAPIVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                check_mode(source.default_mode, &path.child("defaultMode"), errors);
                for file in slice(&source.items) {
                    validate_downward_file(file, path, errors);
                }
            }
        );
        source!("fc", fc, validate_fc);
        source!(
            "flexVolume",
            flex_volume,
            |source: &'a k8s_openapi::api::core::v1::FlexVolumeSource, path: &Path, errors: &mut Errors| {
                if source.driver.is_empty() {
                    errors.required(&path.child("driver"), "");
                }
                for key in source.options.iter().flatten().map(|(key, _)| key) {
                    let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
                    if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
                        errors.invalid(
                            &path.child("options").key(key),
                            key,
                            "kubernetes.io and k8s.io namespaces are reserved",
                        );
                    }
                }
            }
        );
        source!(
            "configMap",
            config_map,
            |source: &'a k8s_openapi::api::core::v1::ConfigMapVolumeSource,
             path: &Path,
             errors: &mut Errors| {
                if source.name.is_empty() {
                    errors.required(&path.child("name"), "");
                }
                check_mode(source.default_mode, &path.child("defaultMode"), errors);
                validate_items(slice(&source.items), &path.child("items"), errors);
            }
        );
        needs!("azureFile", azure_file, secret_name "secretName", share_name "shareName");
        needs!("vsphereVolume", vsphere_volume, volume_path "volumePath");
        needs!("photonPersistentDisk", photon_persistent_disk, pd_id "pdID");
        needs!("portworxVolume", portworx_volume, volume_id "volumeID");
        source!("azureDisk", azure_disk, validate_azure_disk);
        source!("storageos", storageos, validate_storage_os);
        source!("projected", projected, validate_projected);
        needs!("scaleIO", scale_io, gateway "gateway", system "system", volume_name "volumeName");
        source!(
            "csi",
            csi,
            |source: &'a k8s_openapi::api::core::v1::CSIVolumeSource, path: &Path, errors: &mut Errors| {
                check_driver(&source.driver, &path.child("driver"), errors);
                if let Some(secret) = &source.node_publish_secret_ref {
                    if secret.name.is_empty() {
                        errors.required(&path.child("nodePublishSecretRef.name"), "");
                    } else {
                        invalid_each(
                            &path.child("name"),
                            &secret.name,
                            names::dns_subdomain(&secret.name, false),
                            errors,
                        );
                    }
                }
            }
        );
        source!(
            "ephemeral",
            ephemeral,
            move |source: &'a k8s_openapi::api::core::v1::EphemeralVolumeSource,
                  path: &Path,
                  errors: &mut Errors| {
                match &source.volume_claim_template {
                    None => errors.required(&path.child("volumeClaimTemplate"), ""),
                    Some(template) => {
                        let path = path.child("volumeClaimTemplate");
                        if let Some(metadata) = &template.metadata {
                            validate_template_metadata(metadata, &path.child("metadata"), errors);
                        }
                        crate::core::persistent_volume_claim::validate_spec(
                            &template.spec,
                            &path.child("spec"),
                            errors,
                        );
                    }
                }
                if let Some(pod) = pod_name.filter(|_| !volume.name.is_empty()) {
                    let claim = format!("{pod}-{}", volume.name);
                    for message in names::dns_subdomain(&claim, false) {
                        errors.invalid(
                            &path.child("name"),
                            &volume.name,
                            format!("PVC name {claim:?}: {message}"),
                        );
                    }
                }
            }
        );
        source!(
            "image",
            image,
            |source: &'a ImageVolumeSource, path: &Path, errors: &mut Errors| {
                if given(&source.reference).is_none() {
                    errors.required(&path.child("reference"), "");
                }
                super::one_of(
                    &source.pull_policy,
                    &["Always", "IfNotPresent", "Never"],
                    &path.child("pullPolicy"),
                    errors,
                );
            }
        );
        all
    }
}

/// A text or a list that must not be absent or empty.
trait Text {
    fn is_absent(&self) -> bool;
}

impl Text for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Text for Option<String> {
    fn is_absent(&self) -> bool {
        given(self).is_none()
    }
}

impl Text for Vec<String> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Of a template's metadata only labels and annotations mean anything.
fn validate_template_metadata(metadata: &ObjectMeta, path: &Path, errors: &mut Errors) {
    meta::validate_annotations(metadata.annotations.as_ref(), &path.child("annotations"), errors);
    meta::validate_labels(metadata.labels.as_ref(), &path.child("labels"), errors);
    let others = [
        ("name", metadata.name.is_some()),
        ("generateName", metadata.generate_name.is_some()),
        ("namespace", metadata.namespace.is_some()),
        ("selfLink", metadata.self_link.is_some()),
        ("uID", metadata.uid.is_some()),
        ("resourceVersion", metadata.resource_version.is_some()),
        ("generation", metadata.generation.is_some()),
        ("creationTimestamp", metadata.creation_timestamp.is_some()),
        ("deletionTimestamp", metadata.deletion_timestamp.is_some()),
        (
            "deletionGracePeriodSeconds",
            metadata.deletion_grace_period_seconds.is_some(),
        ),
        ("ownerReferences", metadata.owner_references.is_some()),
        ("finalizers", metadata.finalizers.is_some()),
        ("managedFields", metadata.managed_fields.is_some()),
    ];
    for (field, _) in others.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(field), "cannot be set");
    }
}

/// What a path of the host may have to be.
pub const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

fn validate_host_path(source: &HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    if source.path.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    check_backsteps(&source.path, &path.child("path"), errors);
    if let Some(type_) = source.type_.as_deref()
        && !HOST_PATH_TYPES.contains(&type_)
    {
        errors.not_supported(&path.child("type"), type_, HOST_PATH_TYPES);
    }
}
