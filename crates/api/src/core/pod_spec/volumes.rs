//! The pod's volumes: exactly one source each, and what each source needs.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, FCVolumeSource, HostPathVolumeSource, ISCSIVolumeSource, ImageVolumeSource,
    KeyToPath, ProjectedVolumeSource, QuobyteVolumeSource, Volume, VolumeProjection,
};

use super::{Owner, env, given, invalid_each, slice};
use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;
use crate::selector;

/// The valid volumes of a pod, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const BAD_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const BAD_PARTITION: &str = "must be between 0 and 255, inclusive";
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
            if count > 1 {
                errors.forbidden(&path.child(name), MORE_THAN_ONE);
            } else {
                check(&path.child(name), errors);
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
        needs!("cinder", cinder, volume_id "volumeID");
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
        needs!("azureDisk", azure_disk, disk_name "diskName", disk_uri "diskURI");
        needs!("storageos", storageos, volume_name "volumeName");
        source!("projected", projected, validate_projected);
        needs!("scaleIO", scale_io, gateway "gateway", system "system", volume_name "volumeName");
        source!(
            "csi",
            csi,
            |source: &'a k8s_openapi::api::core::v1::CSIVolumeSource, path: &Path, errors: &mut Errors| {
                check_driver(&source.driver, &path.child("driver"), errors);
                if let Some(secret) = &source.node_publish_secret_ref {
                    let path = path.child("nodePublishSecretRef").child("name");
                    if secret.name.is_empty() {
                        errors.required(&path, "");
                    } else {
                        invalid_each(
                            &path,
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
                    Some(template) => validate_claim(
                        &template.spec,
                        &path.child("volumeClaimTemplate").child("spec"),
                        errors,
                    ),
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

fn validate_claim(
    spec: &k8s_openapi::api::core::v1::PersistentVolumeClaimSpec,
    path: &Path,
    errors: &mut Errors,
) {
    let modes = slice(&spec.access_modes);
    let known = [
        "ReadWriteOnce",
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOncePod",
    ];
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    for mode in modes.iter().filter(|mode| !known.contains(&mode.as_str())) {
        errors.not_supported(&path.child("accessModes"), mode, &known);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.forbidden(
            &path.child("accessModes"),
            "may not use ReadWriteOncePod with other access modes",
        );
    }
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.required(&path.child("resources").key("storage"), ""),
        Some(amount) if Quantity::of(amount) <= Quantity::ZERO => errors.invalid(
            &path.child("resources").child("requests").key("storage"),
            &amount.0,
            "must be greater than zero",
        ),
        Some(_) => {}
    }
    if let Some(class) = given(&spec.storage_class_name) {
        let messages = names::dns_subdomain(class, false);
        invalid_each(&path.child("storageClassName"), class, messages, errors);
    }
    if let Some(mode) = &spec.volume_mode
        && !matches!(mode.as_str(), "Block" | "Filesystem")
    {
        errors.not_supported(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
}

fn check_driver(driver: &str, path: &Path, errors: &mut Errors) {
    if driver.is_empty() {
        errors.required(path, "");
    }
    if driver.len() > 63 {
        errors.too_long(path, 63);
    }
    let lower = driver.to_lowercase();
    invalid_each(path, driver, names::dns_subdomain(&lower, false), errors);
}

fn validate_disk(key: &str, name: &str, partition: Option<i32>, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child(key), "");
    }
    if let Some(partition) = partition.filter(|partition| !(0..=255).contains(partition)) {
        errors.invalid(&path.child("partition"), partition, BAD_PARTITION);
    }
}

fn validate_host_path(source: &HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if source.path.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    check_backsteps(&source.path, &path.child("path"), errors);
    if let Some(type_) = source.type_.as_deref()
        && !TYPES.contains(&type_)
    {
        errors.not_supported(&path.child("type"), type_, TYPES);
    }
}

fn check_iqn(name: &str, path: &Path, errors: &mut Errors) {
    if !["iqn", "eui", "naa"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    {
        errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
    } else if !is_iqn(name) {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage`, `eui.` and 16 hexadecimal digits, or `naa.` and 16 or 32.
fn is_iqn(name: &str) -> bool {
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = name.strip_prefix("eui.") {
        return digits.len() == 16 && hexadecimal(digits);
    }
    if let Some(digits) = name.strip_prefix("naa.") {
        return matches!(digits.len(), 16 | 32) && hexadecimal(digits);
    }
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let Some((date, authority)) = rest.split_once('.') else {
        return false;
    };
    let Some((year, month)) = date.split_once('-') else {
        return false;
    };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(year, 4) && digits(month, 2) && !authority.is_empty()
}

fn validate_iscsi(source: &ISCSIVolumeSource, path: &Path, errors: &mut Errors) {
    if source.target_portal.is_empty() {
        errors.required(&path.child("targetPortal"), "");
    }
    if source.iqn.is_empty() {
        errors.required(&path.child("iqn"), "");
    } else {
        check_iqn(&source.iqn, &path.child("iqn"), errors);
    }
    if !(0..=255).contains(&source.lun) {
        errors.invalid(&path.child("lun"), source.lun, names::range(0, 255));
    }
    let authenticated = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    if authenticated && source.secret_ref.is_none() {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(initiator) = &source.initiator_name {
        check_iqn(initiator, &path.child("initiatorname"), errors);
    }
}

fn validate_fc(source: &FCVolumeSource, path: &Path, errors: &mut Errors) {
    let (targets, wide) = (slice(&source.target_wwns), slice(&source.wwids));
    if targets.is_empty() && wide.is_empty() {
        errors.required(
            &path.child("targetWWNs"),
            "must specify either targetWWNs or wwids, but not both",
        );
    }
    if !targets.is_empty() && !wide.is_empty() {
        errors.invalid(
            &path.child("targetWWNs"),
            targets,
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if !targets.is_empty() {
        match source.lun {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&path.child("lun"), lun, names::range(0, 255))
            }
            Some(_) => {}
        }
    }
}

fn validate_quobyte(source: &QuobyteVolumeSource, path: &Path, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    if source.registry.is_empty() {
        errors.required(&path.child("registry"), PAIRS);
    } else if source.tenant.as_ref().is_some_and(|tenant| tenant.len() >= 65) {
        errors.required(
            &path.child("tenant"),
            "must be a UUID and may not exceed a length of 64 characters",
        );
    } else if source
        .registry
        .split(',')
        .any(|pair| pair.matches(':').count() != 1)
    {
        errors.invalid(&path.child("registry"), &source.registry, PAIRS);
    }
    if source.volume.is_empty() {
        errors.required(&path.child("volume"), "");
    }
}

fn check_mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, BAD_MODE);
    }
}

fn validate_items(items: &[KeyToPath], path: &Path, errors: &mut Errors) {
    for (index, item) in items.iter().enumerate() {
        validate_item(item, &path.index(index), errors);
    }
}

fn validate_item(item: &KeyToPath, path: &Path, errors: &mut Errors) {
    if item.key.is_empty() {
        errors.required(&path.child("key"), "");
    }
    if item.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    check_local_path(&item.path, &path.child("path"), errors);
    check_mode(item.mode, &path.child("mode"), errors);
}

fn validate_downward_file(file: &DownwardAPIVolumeFile, path: &Path, errors: &mut Errors) {
    if file.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    check_local_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            env::validate_field(field, env::FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                errors.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (None, Some(resource)) => {
            env::validate_resource(resource, true, &path.child("resourceFieldRef"), errors)
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    check_mode(file.mode, &path.child("mode"), errors);
}

fn validate_projected(source: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    check_mode(source.default_mode, &path.child("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for (index, projection) in slice(&source.sources).iter().enumerate() {
        validate_projection(
            projection,
            &mut paths,
            path,
            &path.child("sources").index(index),
            errors,
        );
    }
}

/// Files of all sources share one directory: no path may stand twice.
fn unique<'a>(paths: &mut BTreeSet<&'a str>, file: &'a str, value: &str, path: &Path, errors: &mut Errors) {
    if !file.is_empty() && !paths.insert(file) {
        errors.invalid(path, value, "conflicting duplicate paths");
    }
}

fn validate_projection<'a>(
    source: &'a VolumeProjection,
    paths: &mut BTreeSet<&'a str>,
    volume: &Path,
    path: &Path,
    errors: &mut Errors,
) {
    let mut count = 0;
    let secret = source
        .secret
        .as_ref()
        .map(|source| ("secret", &source.name, &source.items));
    let config_map = source
        .config_map
        .as_ref()
        .map(|source| ("configMap", &source.name, &source.items));
    for (field, name, items) in secret.into_iter().chain(config_map) {
        count += 1;
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        for (index, item) in slice(items).iter().enumerate() {
            validate_item(item, &path.child("items").index(index), errors);
            unique(paths, &item.path, name, volume, errors);
        }
    }
    if let Some(downward) = &source.downward_api {
        count += 1;
        for file in slice(&downward.items) {
            validate_downward_file(file, &path.child("downwardAPI"), errors);
            unique(paths, &file.path, &file.path, volume, errors);
        }
    }
    if let Some(token) = &source.service_account_token {
        count += 1;
        let at = path.child("serviceAccountToken").child("expirationSeconds");
        let seconds = token.expiration_seconds.unwrap_or(0);
        if seconds < 600 {
            errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            errors.invalid(
                &at,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
        if token.path.is_empty() {
            errors.required(&volume.child("path"), "");
        } else {
            check_local_path(&token.path, &volume.child("path"), errors);
        }
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        count += 1;
        let path = path.child("clusterTrustBundle");
        match (&bundle.name, &bundle.signer_name) {
            (Some(_), Some(_)) => {
                errors.invalid(&path, bundle, "only one of name and signerName may be used");
            }
            (Some(name), None) => {
                if name.is_empty() {
                    errors.required(&path.child("name"), "must be a valid object name");
                }
                if let Some(labels) = &bundle.label_selector {
                    errors.invalid(
                        &path.child("labelSelector"),
                        labels,
                        "labelSelector must be unset if name is specified",
                    );
                }
            }
            (None, Some(signer)) => {
                if signer.is_empty() {
                    errors.required(&path.child("signerName"), "must be a valid signer name");
                }
                if let Some(labels) = &bundle.label_selector {
                    selector::validate(labels, &path.child("labelSelector"), errors);
                }
            }
            (None, None) => errors.required(&path, "either name or signerName must be specified"),
        }
        if bundle.path.is_empty() {
            errors.required(&path.child("path"), "");
        }
        check_local_path(&bundle.path, &path.child("path"), errors);
        unique(paths, &bundle.path, &bundle.path, volume, errors);
    }
    if source.pod_certificate.is_some() {
        count += 1;
    }
    if count > 1 {
        errors.forbidden(path, "may not specify more than 1 volume type per source");
    }
}

fn check_backsteps(text: &str, path: &Path, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// A relative path that leads down.
pub(super) fn check_descending(text: &str, path: &Path, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    check_backsteps(text, path, errors);
}

/// A relative path that leads down, and whose name does not begin as the atomic writer's own files do.
pub(super) fn check_local_path(text: &str, path: &Path, errors: &mut Errors) {
    check_descending(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}
