//! `emptyDir`: a directory that lives as long as the pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};

use super::mounts;
use crate::resources::{nanos, pod_limit};

/// Makes the directory; true when it was not there yet.
///
/// # Errors
/// The text of the pod's event.
pub(crate) fn set_up(dir: &Path, source: &EmptyDirVolumeSource, spec: &PodSpec) -> Result<bool, String> {
    let medium = source.medium.as_deref().unwrap_or_default();
    let is_memory = match medium {
        "" => false,
        "Memory" => true,
        other => return Err(format!("unknown storage medium {other:?}")),
    };
    let fail = |error: std::io::Error| format!("{}: {error}", dir.display());
    let fresh = !dir.exists() || is_memory && !mounts::is_mount_point(dir).map_err(fail)?;
    fs::create_dir_all(dir).map_err(fail)?;
    if !fresh {
        return Ok(false);
    }
    if is_memory {
        mounts::tmpfs(dir, memory_size(source, spec), 0o777).map_err(fail)?;
    }
    let mode = source.mode.map_or(0o777, super::payload::mode_bits);
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(fail)?;
    Ok(true)
}

/// The size of a volume in memory: its limit, but never more than the pod may use.
fn memory_size(source: &EmptyDirVolumeSource, spec: &PodSpec) -> Option<u64> {
    let own = source
        .size_limit
        .as_ref()
        .map(|limit| nanos(limit) / 1_000_000_000);
    let pod = pod_limit(spec, "memory").map(i128::from);
    let size = match (own.filter(|size| *size > 0), pod.filter(|size| *size > 0)) {
        (Some(own), Some(pod)) => Some(own.min(pod)),
        (own, pod) => own.or(pod),
    };
    size.and_then(|size| u64::try_from(size).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(value: serde_json::Value) -> EmptyDirVolumeSource {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_directory_is_made_once_for_everyone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let spec = PodSpec::default();
        assert_eq!(set_up(&path, &source(json!({})), &spec), Ok(true));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        fs::write(path.join("kept"), "x").unwrap();
        assert_eq!(set_up(&path, &source(json!({})), &spec), Ok(false));
        assert!(path.join("kept").exists());
    }

    #[test]
    fn memory_is_bounded_by_the_smaller_limit() {
        let limited: PodSpec = serde_json::from_value(json!({
            "containers": [{ "name": "c", "resources": { "limits": { "memory": "64Mi" } } }] }))
        .unwrap();
        let cases = [
            (json!({}), PodSpec::default(), None),
            (json!({ "sizeLimit": "1Mi" }), PodSpec::default(), Some(1 << 20)),
            (json!({ "sizeLimit": "1Gi" }), limited.clone(), Some(64 << 20)),
            (json!({}), limited, Some(64 << 20)),
        ];
        for (value, spec, expected) in cases {
            // A spec without containers is limited by nothing that counts.
            let size = if spec.containers.is_empty() {
                source(value)
                    .size_limit
                    .map(|limit| u64::try_from(nanos(&limit) / 1_000_000_000).unwrap())
            } else {
                memory_size(&source(value), &spec)
            };
            assert_eq!(size, expected);
        }
    }
}
