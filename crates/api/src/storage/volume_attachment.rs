//! VolumeAttachment: the wish that a volume be attached to a node, and whether it is.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentStatus};
use serde_json::Value;

use crate::core::{persistent_volume, pod_spec};
use crate::field::{Errors, Path};
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::same::same;
use crate::{meta, names};

/// The most bytes of what an attacher tells of a volume.
const MAX_METADATA: usize = 256 << 10;
/// The longest message of an error, in bytes.
const MAX_MESSAGE: usize = 1024;

impl Kind for VolumeAttachment {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                {
                    let mut attacher = Column::of(
                        "Attacher",
                        "string",
                        "storage.v1.VolumeAttachmentSpec",
                        "attacher",
                    );
                    attacher.format = "name";
                    attacher
                },
                Column::of(
                    "PV",
                    "string",
                    "storage.v1.VolumeAttachmentSource",
                    "persistentVolumeName",
                ),
                Column::of("Node", "string", "storage.v1.VolumeAttachmentSpec", "nodeName"),
                Column::of(
                    "Attached",
                    "boolean",
                    "storage.v1.VolumeAttachmentStatus",
                    "attached",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("volumeattachment")
        }
    }

    fn default(&mut self) {
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Main {
            self.status.clone_from(&old.status);
        } else {
            self.spec.clone_from(&old.spec);
            meta::reset_for_status(&mut self.metadata, &old.metadata);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        if spec.attacher.is_empty() {
            errors.required(&path.child("attacher"), "");
        }
        let source = path.child("source");
        let name = spec.source.persistent_volume_name.as_deref();
        match (name.unwrap_or_default(), &spec.source.inline_volume_spec) {
            ("", None) if name.is_none() => errors.required(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (_, Some(_)) if name.is_some() => errors.forbidden(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            ("", None) => errors.required(
                &source.child("persistentVolumeName"),
                "must specify non empty persistentVolumeName",
            ),
            (_, None) => {}
            (_, Some(inline)) => {
                persistent_volume::validate_spec(inline, None, &source.child("inlineVolumeSpec"), errors);
            }
        }
        let node = &spec.node_name;
        errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node, false));
        validate_status(&self.status.clone().unwrap_or_default(), errors);
    }

    fn validate_create(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        pod_spec::check_driver(&spec.attacher, &path.child("attacher"), errors);
        if let Some(name) = &spec.source.persistent_volume_name {
            let at = path.child("source.persistentVolumeName");
            errors.invalid_each(&at, name, names::dns_subdomain(name, false));
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            self.validate(errors);
        }
        if !same(&self.spec, &old.spec) {
            let shown = internal::of("storage.v1.VolumeAttachmentSpec", &self.spec);
            errors.invalid(&Path::new("spec"), shown, "field is immutable");
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        vec![
            self.metadata.name.clone().into(),
            spec.attacher.clone().into(),
            spec.source
                .persistent_volume_name
                .clone()
                .unwrap_or_default()
                .into(),
            spec.node_name.clone().into(),
            self.status.as_ref().is_some_and(|status| status.attached).into(),
            age(&self.metadata, now),
        ]
    }
}

fn validate_status(status: &VolumeAttachmentStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let metadata = status.attachment_metadata.iter().flatten();
    let size: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_METADATA {
        errors.too_long(&path.child("attachmentMetadata"), MAX_METADATA);
    }
    for (field, error) in [
        ("attachError", &status.attach_error),
        ("detachError", &status.detach_error),
    ] {
        let Some(error) = error else { continue };
        let path = path.child(field);
        if error.message.as_deref().unwrap_or_default().len() > MAX_MESSAGE {
            // Upstream names the other limit here.
            errors.too_long(&path.child("message"), MAX_METADATA);
        }
        if let Some(code) = error.error_code.filter(|&code| code < 0) {
            let detail = names::range(0, i32::MAX.into());
            errors.invalid(&path.child("errorCode"), code, detail);
        }
    }
}
