//! Where a persistent volume's storage is: exactly one source, and what each needs.

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ISCSIPersistentVolumeSource, PersistentVolumeSpec, SecretReference, Volume,
};
use serde_json::{Map, Value};

use super::persistent_volume::SOURCES;
use super::pod_spec::{check_driver, check_storage_os, is_iqn, validate_shared_source};
use crate::field::{Errors, Path};
use crate::names;

/// Checks the sources; `given` are those that are there, by the name of their field.
pub(super) fn validate(
    spec: &PersistentVolumeSpec,
    given: &Map<String, Value>,
    volume_name: &str,
    path: &Path,
    errors: &mut Errors,
) {
    let mut count = 0;
    for source in SOURCES.into_iter().filter(|source| given.contains_key(*source)) {
        count += 1;
        // Upstream lets this one stand beside another.
        if count == 1 || source == "flexVolume" {
            validate_source(source, spec, volume_name, path, errors);
        } else {
            let spelled = if source == "cephfs" { "cephFS" } else { source };
            errors.forbidden(&path.child(spelled), "may not specify more than 1 volume type");
        }
    }
    if count == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn empty(text: &Option<String>) -> bool {
    text.as_deref().unwrap_or_default().is_empty()
}

/// Requires what is absent.
fn require(fields: &[(&str, bool)], path: &Path, errors: &mut Errors) {
    for (field, _) in fields.iter().filter(|(_, absent)| *absent) {
        errors.required(&path.child(field), "");
    }
}

fn validate_source(
    name: &str,
    spec: &PersistentVolumeSpec,
    volume_name: &str,
    all: &Path,
    errors: &mut Errors,
) {
    let path = all.child(name);
    // Some have a form of their own here.
    if let Some(glusterfs) = &spec.glusterfs
        && name == "glusterfs"
    {
        let absent = [
            ("endpoints", glusterfs.endpoints.is_empty()),
            ("path", glusterfs.path.is_empty()),
        ];
        require(&absent, &path, errors);
        if let Some(namespace) = &glusterfs.endpoints_namespace {
            let at = path.child("endpointsNamespace");
            if namespace.is_empty() {
                errors.invalid(
                    &at,
                    namespace,
                    "if the endpointnamespace is set, it must be a valid namespace name",
                );
            } else {
                errors.invalid_each(&at, namespace, names::dns_label(namespace, false));
            }
        }
    } else if let Some(rbd) = &spec.rbd
        && name == "rbd"
    {
        let absent = [
            ("monitors", rbd.monitors.is_empty()),
            ("image", rbd.image.is_empty()),
        ];
        require(&absent, &path, errors);
    } else if let Some(cephfs) = &spec.cephfs
        && name == "cephfs"
    {
        require(&[("monitors", cephfs.monitors.is_empty())], &path, errors);
    } else if let Some(iscsi) = &spec.iscsi
        && name == "iscsi"
    {
        validate_iscsi(iscsi, volume_name, &path, errors);
    } else if let Some(cinder) = &spec.cinder
        && name == "cinder"
    {
        require(&[("volumeID", cinder.volume_id.is_empty())], &path, errors);
        require_secret(cinder.secret_ref.as_ref(), &path, errors);
    } else if let Some(flex) = &spec.flex_volume
        && name == "flexVolume"
    {
        // The reference to a secret is all that differs.
        let volume = Volume {
            flex_volume: Some(k8s_openapi::api::core::v1::FlexVolumeSource {
                driver: flex.driver.clone(),
                options: flex.options.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        validate_shared_source(&volume, all, errors);
    } else if let Some(azure) = &spec.azure_file
        && name == "azureFile"
    {
        let absent = [
            ("secretName", azure.secret_name.is_empty()),
            ("shareName", azure.share_name.is_empty()),
            ("secretNamespace", azure.secret_namespace.as_deref() == Some("")),
        ];
        require(&absent, &path, errors);
    } else if let Some(scale_io) = &spec.scale_io
        && name == "scaleIO"
    {
        let absent = [
            ("gateway", scale_io.gateway.is_empty()),
            ("system", scale_io.system.is_empty()),
            ("volumeName", empty(&scale_io.volume_name)),
        ];
        require(&absent, &path, errors);
    } else if let Some(local) = &spec.local
        && name == "local"
    {
        let at = path.child("path");
        if local.path.is_empty() {
            errors.required(&at, "");
        } else if local.path.split('/').any(|part| part == "..") {
            errors.invalid(&at, &local.path, "must not contain '..'");
        }
        if spec.node_affinity.is_none() {
            errors.required(&all.child("nodeAffinity"), "Local volume requires node affinity");
        }
    } else if let Some(storage) = &spec.storageos
        && name == "storageos"
    {
        check_storage_os(
            storage.volume_name.as_deref(),
            storage.volume_namespace.as_deref(),
            &path,
            errors,
        );
        if let Some(secret) = &storage.secret_ref {
            let absent = [
                ("name", empty(&secret.name)),
                ("namespace", empty(&secret.namespace)),
            ];
            require(&absent, &path.child("secretRef"), errors);
        }
    } else if let Some(csi) = &spec.csi
        && name == "csi"
    {
        validate_csi(csi, &path, errors);
    } else {
        let volume = Volume {
            host_path: spec.host_path.clone().filter(|_| name == "hostPath"),
            gce_persistent_disk: spec
                .gce_persistent_disk
                .clone()
                .filter(|_| name == "gcePersistentDisk"),
            aws_elastic_block_store: spec
                .aws_elastic_block_store
                .clone()
                .filter(|_| name == "awsElasticBlockStore"),
            flocker: spec.flocker.clone().filter(|_| name == "flocker"),
            nfs: spec.nfs.clone().filter(|_| name == "nfs"),
            quobyte: spec.quobyte.clone().filter(|_| name == "quobyte"),
            fc: spec.fc.clone().filter(|_| name == "fc"),
            vsphere_volume: spec.vsphere_volume.clone().filter(|_| name == "vsphereVolume"),
            photon_persistent_disk: spec
                .photon_persistent_disk
                .clone()
                .filter(|_| name == "photonPersistentDisk"),
            portworx_volume: spec.portworx_volume.clone().filter(|_| name == "portworxVolume"),
            azure_disk: spec.azure_disk.clone().filter(|_| name == "azureDisk"),
            ..Default::default()
        };
        validate_shared_source(&volume, all, errors);
    }
}

fn require_secret(secret: Option<&SecretReference>, path: &Path, errors: &mut Errors) {
    if let Some(secret) = secret {
        let absent = [
            ("name", empty(&secret.name)),
            ("namespace", empty(&secret.namespace)),
        ];
        require(&absent, &path.child("secretRef"), errors);
    }
}

fn validate_iscsi(source: &ISCSIPersistentVolumeSource, volume: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "must be valid format";
    if source.target_portal.is_empty() {
        errors.required(&path.child("targetPortal"), "");
    }
    if source.initiator_name.is_some() && volume.len() + 1 + source.target_portal.len() > 64 {
        errors.invalid(
            &path.child("targetportal"),
            &source.target_portal,
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
             iscsi.initiatorName is specified.",
        );
    }
    if source.iqn.is_empty() {
        errors.required(&path.child("iqn"), "");
    } else if !is_iqn(&source.iqn) {
        errors.invalid(&path.child("iqn"), &source.iqn, FORM);
    }
    if !(0..=255).contains(&source.lun) {
        errors.invalid(&path.child("lun"), source.lun, names::range(0, 255));
    }
    let authenticated = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    match &source.secret_ref {
        None if authenticated => errors.required(&path.child("secretRef"), ""),
        Some(secret) if empty(&secret.name) => errors.required(&path.child("secretRef.name"), ""),
        _ => {}
    }
    if let Some(initiator) = source.initiator_name.as_deref().filter(|name| !is_iqn(name)) {
        errors.invalid(&path.child("initiatorname"), initiator, FORM);
    }
}

fn validate_csi(source: &CSIPersistentVolumeSource, path: &Path, errors: &mut Errors) {
    check_driver(&source.driver, &path.child("driver"), errors);
    if source.volume_handle.is_empty() {
        errors.required(&path.child("volumeHandle"), "");
    }
    let secrets = [
        (
            "controllerPublishSecretRef",
            &source.controller_publish_secret_ref,
        ),
        ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ];
    for (field, secret) in secrets {
        let Some(secret) = secret else { continue };
        let path = path.child(field);
        match secret.name.as_deref().unwrap_or_default() {
            "" => errors.required(&path.child("name"), ""),
            name => errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name, false)),
        }
        match secret.namespace.as_deref().unwrap_or_default() {
            "" => errors.required(&path.child("namespace"), ""),
            name => errors.invalid_each(&path.child("namespace"), name, names::dns_label(name, false)),
        }
    }
}
