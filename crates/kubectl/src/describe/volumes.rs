//! Volumes as pods and pod templates describe them, by type.

use serde_json::Value;

use super::page::{NONE, Page};
use crate::fields::{flag, list, map, scalar, text};

/// A field of a volume's source: its label, and where it stands.
type Shown = (&'static str, &'static str);

/// A type of volume whose description is a line and some fields.
struct Source {
    field: &'static str,
    what: &'static str,
    shown: &'static [Shown],
}

/// The types of volumes that are told by their fields.
const SOURCES: [Source; 8] = [
    Source {
        field: "hostPath",
        what: "HostPath (bare host directory volume)",
        shown: &[("Path", "/path"), ("HostPathType", "/type")],
    },
    Source {
        field: "secret",
        what: "Secret (a volume populated by a Secret)",
        shown: &[("SecretName", "/secretName"), ("Optional", "?/optional")],
    },
    Source {
        field: "configMap",
        what: "ConfigMap (a volume populated by a ConfigMap)",
        shown: &[("Name", "/name"), ("Optional", "?/optional")],
    },
    Source {
        field: "persistentVolumeClaim",
        what: "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        shown: &[("ClaimName", "/claimName"), ("ReadOnly", "?/readOnly")],
    },
    Source {
        field: "nfs",
        what: "NFS (an NFS mount that lasts the lifetime of a pod)",
        shown: &[
            ("Server", "/server"),
            ("Path", "/path"),
            ("ReadOnly", "?/readOnly"),
        ],
    },
    Source {
        field: "image",
        what: "Image (a container image or OCI artifact)",
        shown: &[("Reference", "/reference"), ("PullPolicy", "/pullPolicy")],
    },
    Source {
        field: "csi",
        what: "CSI (a Container Storage Interface (CSI) volume source)",
        shown: &[
            ("Driver", "/driver"),
            ("FSType", "/fsType"),
            ("ReadOnly", "?/readOnly"),
        ],
    },
    Source {
        field: "gitRepo",
        what: "GitRepo (a volume that is pulled from git when the pod is created)",
        shown: &[("Repository", "/repository"), ("Revision", "/revision")],
    },
];

/// The section of the volumes. `inside` a template everything stands a little further to the right.
pub(super) fn volumes(page: &mut Page, volumes: &[Value], inside: bool) {
    let (indent, more) = if inside { ("  ", " ") } else { ("", "") };
    if volumes.is_empty() {
        return page.line(0, format!("{indent}Volumes:\t{NONE}"));
    }
    page.line(0, format!("{indent}Volumes:"));
    for volume in volumes {
        page.line(1, format!("{more}{}:", text(volume, "/name")));
        one(page, volume);
    }
}

fn one(page: &mut Page, volume: &Value) {
    let source = |field: &str| volume.get(field).filter(|source| source.is_object());
    for known in &SOURCES {
        let Some(source) = source(known.field) else {
            continue;
        };
        page.field(2, "Type", known.what);
        for (label, pointer) in known.shown {
            page.field(2, label, value(source, pointer));
        }
        if known.field == "csi" {
            let attributes = super::lines(map(source, "/volumeAttributes"));
            page.field_of_lines(2, "VolumeAttributes", &shifted(attributes));
        }
        return;
    }
    if let Some(directory) = source("emptyDir") {
        page.field(
            2,
            "Type",
            "EmptyDir (a temporary directory that shares a pod's lifetime)",
        );
        page.field(2, "Medium", text(directory, "/medium"));
        let limit = match scalar(directory, "/sizeLimit") {
            limit if limit.is_empty() || limit == "0" => "<unset>".into(),
            limit => limit,
        };
        page.field(2, "SizeLimit", limit);
    } else if let Some(projected) = source("projected") {
        page.field(
            2,
            "Type",
            "Projected (a volume that contains injected data from multiple sources)",
        );
        list(projected, "/sources")
            .iter()
            .for_each(|source| projection(page, source));
    } else if let Some(downward) = source("downwardAPI") {
        page.field(
            2,
            "Type",
            "DownwardAPI (a volume populated by information about the pod)",
        );
        page.line(2, "Items:");
        for item in list(downward, "/items") {
            let from = match text(item, "/fieldRef/fieldPath") {
                "" => text(item, "/resourceFieldRef/resource"),
                path => path,
            };
            page.line(3, format!("{from} -> {}", text(item, "/path")));
        }
    } else if let Some(claim) = source("ephemeral") {
        page.field(
            2,
            "Type",
            "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        );
        let template = claim.get("volumeClaimTemplate").unwrap_or(&Value::Null);
        page.field(2, "StorageClass", text(template, "/spec/storageClassName"));
        page.field(2, "Volume", text(template, "/spec/volumeName"));
        let labels = super::lines(map(template, "/metadata/labels"));
        page.field_of_lines(2, "Labels", &shifted(labels));
        let annotations = super::page::annotation_lines(map(template, "/metadata/annotations"));
        page.field_of_lines(2, "Annotations", &shifted(annotations));
        // A template has got nothing yet: these are what a claim was given.
        page.line(2, "Capacity:\t");
        page.line(2, "Access Modes:\t");
        page.field_if_any(2, "VolumeMode", text(template, "/spec/volumeMode"));
    } else {
        page.line(2, "<unknown>");
    }
}

/// Lines four places further to the right, `<none>` too.
fn shifted(lines: Vec<String>) -> Vec<String> {
    let lines = if lines.is_empty() {
        vec![NONE.to_string()]
    } else {
        lines
    };
    lines.iter().map(|line| format!("    {line}")).collect()
}

/// A field; a question mark stands before a flag, which is false when it is absent.
fn value(source: &Value, pointer: &str) -> String {
    match pointer.strip_prefix('?') {
        Some(pointer) => flag(source, pointer).to_string(),
        None => scalar(source, pointer),
    }
}

fn projection(page: &mut Page, source: &Value) {
    if let Some(secret) = source.get("secret") {
        page.field(2, "SecretName", text(secret, "/name"));
        page.field(2, "Optional", flag(secret, "/optional").to_string());
    } else if source.get("downwardAPI").is_some() {
        page.field(2, "DownwardAPI", "true");
    } else if let Some(map) = source.get("configMap") {
        page.field(2, "ConfigMapName", text(map, "/name"));
        page.field(2, "Optional", flag(map, "/optional").to_string());
    } else if let Some(token) = source.get("serviceAccountToken") {
        page.field(2, "TokenExpirationSeconds", scalar(token, "/expirationSeconds"));
    }
}
