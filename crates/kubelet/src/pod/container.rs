//! A container as the runtime is asked for it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use k8s_cri::v1::{
    Capability, ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerSecurityContext, Mount, MountPropagation,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::expand::expand;
use super::identity::{name, namespace, pod_directory, uid};
use super::image::Present;
use super::plan::definition_hash;
use super::{labels, sandbox};
use crate::cgroups::container_resources;
use crate::volumes::sub_path;

/// Paths that an unprivileged container must not read.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Paths that an unprivileged container must not write.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Everything a container's configuration is made of.
pub(crate) struct Parts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a PodSpec,
    pub(crate) container: &'a Container,
    pub(crate) restart_count: u32,
    pub(crate) image: &'a Present,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) volumes: &'a BTreeMap<String, PathBuf>,
    pub(crate) root_dir: &'a Path,
    pub(crate) node_memory: i64,
}

/// The configuration of a container; makes the files that belong to it alone.
///
/// # Errors
/// The message of `CreateContainerConfigError`.
pub(crate) fn config(parts: &Parts) -> Result<ContainerConfig, String> {
    let (pod, container) = (parts.pod, parts.container);
    check_user(parts)?;
    let lookup = |name: &str| {
        parts
            .env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, lookup)).collect()
    };
    let mut mounts = volume_mounts(parts, lookup)?;
    let mounted_at = |path: &str| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|m| m.mount_path.trim_end_matches('/') == path)
    };
    if !mounted_at("/etc/hosts") {
        let hosts = pod_directory(parts.root_dir, uid(pod)).join("etc-hosts");
        mounts.push(mount("/etc/hosts", &hosts));
    }
    let termination_path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    if !termination_path.is_empty() {
        mounts.push(mount(termination_path, &termination_file(parts)?));
    }
    let (spec_annotations, spec_labels) = (annotations(parts, termination_path), container_labels(parts));
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: parts.restart_count,
        }),
        image: Some(ImageSpec {
            image: parts.image.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: parts
            .env
            .iter()
            .map(|(key, value)| KeyValue {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        mounts,
        labels: spec_labels,
        annotations: spec_annotations,
        log_path: format!("{}/{}.log", container.name, parts.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(container_resources(parts.spec, container, parts.node_memory)),
            security_context: Some(security_context(parts)),
        }),
        ..ContainerConfig::default()
    })
}

fn mount(container_path: &str, host_path: &Path) -> Mount {
    Mount {
        container_path: container_path.to_string(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}

/// A container that must not run as root is refused when its user is root or cannot be told.
fn check_user(parts: &Parts) -> Result<(), String> {
    let own = parts.container.security_context.as_ref();
    let of_pod = parts.spec.security_context.as_ref();
    let non_root = own
        .and_then(|c| c.run_as_non_root)
        .or_else(|| of_pod.and_then(|c| c.run_as_non_root))
        .unwrap_or(false);
    if !non_root {
        return Ok(());
    }
    let who = format!(
        "(pod: \"{}\", container: {})",
        super::plan::pod_text(parts.pod),
        parts.container.name
    );
    let user = own
        .and_then(|c| c.run_as_user)
        .or_else(|| of_pod.and_then(|c| c.run_as_user));
    match (user, parts.image.uid, parts.image.username.as_str()) {
        (Some(0), _, _) => Err(format!("container's runAsUser breaks non-root policy {who}")),
        (Some(_), _, _) => Ok(()),
        (None, Some(0), _) => Err(format!(
            "container has runAsNonRoot and image will run as root {who}"
        )),
        (None, Some(_), _) => Ok(()),
        (None, None, "") => Err(format!(
            "container has runAsNonRoot and image will run as root {who}"
        )),
        (None, None, user) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {who}"
        )),
    }
}

fn volume_mounts(parts: &Parts, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for (at, wanted) in parts.container.volume_mounts.iter().flatten().enumerate() {
        let volume = parts.volumes.get(&wanted.name).ok_or_else(|| {
            format!(
                "cannot find volume {:?} to mount into container {:?}",
                wanted.name, parts.container.name
            )
        })?;
        let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => path.clone(),
            (_, Some(expression)) if !expression.is_empty() => {
                let path = expand(expression, &lookup);
                if path.contains("$(") {
                    return Err(format!("missing value for {expression:?}"));
                }
                path
            }
            _ => String::new(),
        };
        if Path::new(&sub_path).is_absolute() {
            return Err(format!("error SubPath `{sub_path}` must not be an absolute path"));
        }
        let host_path = if sub_path.is_empty() {
            volume.clone()
        } else {
            let target = pod_directory(parts.root_dir, uid(parts.pod))
                .join("volume-subpaths")
                .join(&wanted.name)
                .join(&parts.container.name)
                .join(at.to_string());
            sub_path::set_up(volume, &sub_path, &target).map_err(|error| {
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                    wanted.name, parts.container.name
                )
            })?;
            target
        };
        let propagation = match wanted.mount_propagation.as_deref() {
            Some("Bidirectional") => MountPropagation::PropagationBidirectional,
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
            _ => MountPropagation::PropagationPrivate,
        };
        mounts.push(Mount {
            readonly: wanted.read_only.unwrap_or(false),
            propagation: propagation as i32,
            ..mount(&wanted.mount_path, &host_path)
        });
    }
    Ok(mounts)
}

/// An empty file that any user of the container may write.
fn termination_file(parts: &Parts) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt;
    let dir = pod_directory(parts.root_dir, uid(parts.pod))
        .join("containers")
        .join(&parts.container.name);
    let id = uuid::Uuid::new_v4().simple().to_string();
    let file = dir.join(id.get(..8).unwrap_or(&id));
    let fail = |error: std::io::Error| format!("{}: {error}", file.display());
    fs::create_dir_all(&dir).map_err(fail)?;
    fs::write(&file, "").map_err(fail)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).map_err(fail)?;
    Ok(file)
}

fn container_labels(parts: &Parts) -> HashMap<String, String> {
    [
        (labels::CONTAINER_NAME, parts.container.name.as_str()),
        (labels::POD_NAME, name(parts.pod)),
        (labels::POD_NAMESPACE, namespace(parts.pod)),
        (labels::POD_UID, uid(parts.pod)),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value.into()))
    .collect()
}

fn annotations(parts: &Parts, termination_path: &str) -> HashMap<String, String> {
    let policy = parts
        .container
        .termination_message_policy
        .as_deref()
        .unwrap_or("File");
    let grace = parts.spec.termination_grace_period_seconds.unwrap_or(30);
    [
        (labels::HASH, definition_hash(parts.container)),
        (labels::RESTART_COUNT, parts.restart_count.to_string()),
        (labels::TERMINATION_PATH, termination_path.to_string()),
        (labels::TERMINATION_POLICY, policy.to_string()),
        (labels::GRACE_PERIOD, grace.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}

fn security_context(parts: &Parts) -> LinuxContainerSecurityContext {
    let own = parts.container.security_context.clone().unwrap_or_default();
    let of_pod = parts.spec.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    // Without a user of its own the container gets the image's.
    let (image_uid, image_name) = match user {
        Some(_) => (None, String::new()),
        None => (parts.image.uid, parts.image.username.clone()),
    };
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let list = |paths: &[&str]| -> Vec<String> {
        if unmasked {
            Vec::new()
        } else {
            paths.iter().map(|path| (*path).to_string()).collect()
        }
    };
    let capabilities = own.capabilities.unwrap_or_default();
    let no_new_privileges = own.allow_privilege_escalation == Some(false);
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(sandbox::namespace_options(parts.spec)),
        selinux_options: sandbox::selinux(own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref())),
        run_as_user: user.or(image_uid).map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        run_as_username: if user.or(image_uid).is_none() {
            image_name
        } else {
            String::new()
        },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: sandbox::groups(parts.spec),
        supplemental_groups_policy: sandbox::groups_policy(parts.spec),
        no_new_privs: no_new_privileges,
        masked_paths: list(&MASKED),
        readonly_paths: list(&READ_ONLY),
        seccomp: Some(sandbox::seccomp(
            own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()),
        )),
        ..LinuxContainerSecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn built(container: serde_json::Value, image: &Present) -> Result<ContainerConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
            "spec": { "containers": [container], "securityContext": { "runAsUser": 7, "fsGroup": 9 } } }))
        .unwrap();
        let spec = pod.spec.as_ref().unwrap();
        config(&Parts {
            pod: &pod,
            spec,
            container: &spec.containers[0],
            restart_count: 2,
            image,
            env: vec![("A".into(), "1".into())],
            volumes: &[("v".to_string(), PathBuf::from("/vol"))].into(),
            root_dir: dir.path(),
            node_memory: 1 << 30,
        })
    }

    #[test]
    fn the_container_is_found_again_by_its_labels() {
        let config = built(
            json!({ "name": "c", "image": "x", "command": ["sh", "$(A)$(B)"],
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "readOnly": true }] }),
            &Present::default(),
        )
        .unwrap();
        assert_eq!(config.command, ["sh", "1$(B)"]);
        assert_eq!(config.log_path, "c/2.log");
        assert_eq!(config.labels[labels::POD_UID], "u");
        assert_eq!(config.annotations[labels::RESTART_COUNT], "2");
        let paths: Vec<_> = config
            .mounts
            .iter()
            .map(|m| (m.container_path.as_str(), m.readonly))
            .collect();
        assert_eq!(
            paths,
            [
                ("/v", true),
                ("/etc/hosts", false),
                ("/dev/termination-log", false)
            ]
        );
        let context = config.linux.unwrap().security_context.unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 7);
        assert_eq!(context.supplemental_groups, [9]);
    }

    #[test]
    fn what_cannot_be_configured_is_said() {
        let image = Present::default();
        let cases = [
            (
                json!({ "name": "c", "volumeMounts": [{ "name": "w", "mountPath": "/w" }] }),
                "cannot find volume \"w\" to mount into container \"c\"",
            ),
            (
                json!({ "name": "c", "securityContext": { "runAsNonRoot": true, "runAsUser": 0 } }),
                "container's runAsUser breaks non-root policy (pod: \"p_ns(u)\", container: c)",
            ),
        ];
        for (container, message) in cases {
            assert_eq!(built(container, &image).err().as_deref(), Some(message));
        }
    }
}
