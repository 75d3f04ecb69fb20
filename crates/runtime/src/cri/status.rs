//! What is known, in CRI's words.

use std::collections::HashMap;

use k8s_cri::v1;

use crate::container::ContainerEntry;
use crate::sandbox::{Phase, SandboxEntry, SandboxRecord};

fn metadata(record: &SandboxRecord) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: record.name.clone(),
        uid: record.uid.clone(),
        namespace: record.namespace.clone(),
        attempt: record.attempt,
    }
}

fn sandbox_state(phase: Phase) -> v1::PodSandboxState {
    match phase {
        Phase::Ready => v1::PodSandboxState::SandboxReady,
        Phase::Creating | Phase::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

/// A sandbox in a list.
pub(crate) fn listed_sandbox(entry: &SandboxEntry) -> v1::PodSandbox {
    let record = entry.record.lock();
    v1::PodSandbox {
        id: record.id.clone(),
        metadata: Some(metadata(&record)),
        state: sandbox_state(record.phase) as i32,
        created_at: record.created_at,
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
    }
}

/// A sandbox by itself.
pub(crate) fn sandbox(entry: &SandboxEntry) -> v1::PodSandboxStatus {
    let record = entry.record.lock();
    // A stopped sandbox has given its addresses back.
    let ips: Vec<String> = match record.phase {
        Phase::Ready => record.ips.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let additional = ips.iter().skip(1).map(|ip| v1::PodIp { ip: ip.clone() });
    v1::PodSandboxStatus {
        id: record.id.clone(),
        metadata: Some(metadata(&record)),
        state: sandbox_state(record.phase) as i32,
        created_at: record.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.first().cloned().unwrap_or_default(),
            additional_ips: additional.collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(v1::NamespaceOption {
                    network: record.network_mode,
                    pid: record.pid_mode,
                    ipc: record.ipc_mode,
                    target_id: String::new(),
                    userns_options: None,
                }),
            }),
        }),
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
    }
}

/// A container in a list.
pub(crate) fn listed_container(entry: &ContainerEntry) -> v1::Container {
    let state = entry.state();
    let record = entry.record.lock();
    v1::Container {
        id: record.id.clone(),
        pod_sandbox_id: record.sandbox.clone(),
        metadata: Some(v1::ContainerMetadata {
            name: record.name.clone(),
            attempt: record.attempt,
        }),
        image: Some(v1::ImageSpec {
            image: record.image.clone(),
            user_specified_image: record.user_specified_image.clone(),
            ..v1::ImageSpec::default()
        }),
        image_ref: record.image_ref.clone(),
        state: state as i32,
        created_at: record.created_at,
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        image_id: record.image_id.clone(),
    }
}

/// A container by itself.
pub(crate) fn container(entry: &ContainerEntry) -> v1::ContainerStatus {
    let state = entry.state();
    let run = entry.run.borrow().clone();
    let record = entry.record.lock();
    let reason = if !run.exited() {
        ""
    } else if run.oom_killed {
        "OOMKilled"
    } else if !run.reason.is_empty() {
        &run.reason
    } else if run.exit_code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let mounts = record.mounts.iter().map(|m| v1::Mount {
        container_path: m.container_path.clone(),
        host_path: m.host_path.clone(),
        readonly: m.readonly,
        propagation: m.propagation,
        recursive_read_only: m.recursive_read_only,
        ..v1::Mount::default()
    });
    v1::ContainerStatus {
        id: record.id.clone(),
        metadata: Some(v1::ContainerMetadata {
            name: record.name.clone(),
            attempt: record.attempt,
        }),
        state: state as i32,
        created_at: record.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        exit_code: run.exit_code,
        image: Some(v1::ImageSpec {
            // As containerd tells it: what the name stands for, where a list has what was asked for.
            image: if record.image_tag.is_empty() {
                record.image.clone()
            } else {
                record.image_tag.clone()
            },
            user_specified_image: record.user_specified_image.clone(),
            ..v1::ImageSpec::default()
        }),
        image_ref: record.image_ref.clone(),
        reason: reason.to_owned(),
        message: run.message,
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        mounts: mounts.collect(),
        log_path: record
            .log_path
            .as_ref()
            .map(|p| p.display().to_string())
            .unwrap_or_default(),
        resources: Some(v1::ContainerResources {
            linux: Some(record.resources.to_cri()),
            windows: None,
        }),
        image_id: record.image_id.clone(),
        user: Some(v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: record.uid.into(),
                gid: record.gid.into(),
                supplemental_groups: record.groups.iter().map(|g| i64::from(*g)).collect(),
            }),
        }),
    }
}

/// Whether all that a selector wants is there.
pub(crate) fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_wants_every_label() {
        let labels = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        for (selector, wanted) in [
            (&[][..], true),
            (&[("app", "web")], true),
            (&[("app", "web"), ("tier", "front")], true),
            (&[("app", "db")], false),
            (&[("app", "web"), ("zone", "a")], false),
        ] {
            assert_eq!(selects(&labels(selector), &pod), wanted, "{selector:?}");
        }
    }
}
