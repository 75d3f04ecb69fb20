//! What a pod's status says: phase, conditions and the state of each container, computed from what the runtime has.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodSpec, PodStatus,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Memory, RestartPolicy, next_sandbox, restart_policy, should_start};
use super::runtime::{Run, RuntimePod, State};
use crate::resources::{is_sidecar, qos_class};

/// Everything a status is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) runtime: &'a RuntimePod,
    pub(crate) memory: &'a Memory,
    /// The status as it was last told.
    pub(crate) told: &'a PodStatus,
    /// Termination messages by container id.
    pub(crate) messages: &'a BTreeMap<String, String>,
    /// `skiff`, `containerd`, …: the scheme of container ids.
    pub(crate) runtime_name: &'a str,
    pub(crate) host_ip: &'a str,
    /// The pod is being ended, or is over: nothing will be started any more.
    pub(crate) ending: bool,
    /// The pod failed for a reason of its own (admission, deadline): reason and message.
    pub(crate) failed: Option<(&'a str, &'a str)>,
    pub(crate) now: Timestamp,
}

/// Conditions that only others set are not in it; they stay as they are.
pub(crate) fn compute(inputs: &Inputs) -> PodStatus {
    let Some(spec) = &inputs.pod.spec else {
        return PodStatus::default();
    };
    let initialized = spec
        .containers
        .iter()
        .any(|c| inputs.runtime.latest(&c.name).is_some());
    let has_init = spec.init_containers.as_ref().is_some_and(|init| !init.is_empty());
    let init_statuses: Vec<ContainerStatus> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| container_status(inputs, spec, c, "PodInitializing", true))
        .collect();
    let waiting = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let statuses: Vec<ContainerStatus> = spec
        .containers
        .iter()
        .map(|c| container_status(inputs, spec, c, waiting, false))
        .collect();
    let told = inputs.told;
    let mut phase = phase(spec, &init_statuses, &statuses, initialized, inputs.ending);
    if inputs.failed.is_some() {
        phase = "Failed";
    } else if let Some(over @ ("Succeeded" | "Failed")) = told.phase.as_deref() {
        // A pod that is over stays over.
        phase = if over == "Failed" { "Failed" } else { "Succeeded" };
    }
    let mut ips: Vec<String> = match inputs.runtime.sandboxes.first() {
        _ if spec.host_network.unwrap_or(false) => vec![inputs.host_ip.to_string()],
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        _ => told.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    if inputs.runtime.is_empty()
        && spec.host_network.unwrap_or(false)
        && told.pod_ip.is_none()
        && inputs.failed.is_some()
    {
        ips.clear();
    }
    let generation = inputs.pod.metadata.generation;
    let admitted = inputs.failed.is_none() || !inputs.runtime.is_empty();
    PodStatus {
        phase: Some(phase.into()),
        conditions: Some(conditions(inputs, spec, phase, &init_statuses, &statuses)),
        reason: inputs
            .failed
            .map(|(reason, _)| reason.into())
            .or_else(|| told.reason.clone()),
        message: inputs
            .failed
            .map(|(_, message)| message.into())
            .or_else(|| told.message.clone()),
        host_ip: Some(inputs.host_ip.into()),
        host_ips: Some(vec![HostIP {
            ip: inputs.host_ip.into(),
        }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: told.start_time.clone().or(Some(Time(inputs.now))),
        qos_class: told
            .qos_class
            .clone()
            .or_else(|| Some(qos_class(spec).name().into())),
        init_container_statuses: (has_init && admitted).then_some(init_statuses),
        container_statuses: admitted.then_some(statuses),
        observed_generation: generation,
        ..PodStatus::default()
    }
}

/// The last status of a pod that has ended: whatever did not end by itself counts as failed.
pub(crate) fn terminate(status: &mut PodStatus) {
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        let has_ended = container
            .state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some());
        if !has_ended && container.container_id.is_some() {
            container.state = Some(lost(container.container_id.clone()));
        }
        container.ready = container.ready && has_ended;
        container.started = Some(false);
    }
    if !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        status.phase = Some("Failed".into());
    }
}

fn lost(container_id: Option<String>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id,
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn terminated(run: &Run, inputs: &Inputs) -> ContainerState {
    let message = inputs
        .messages
        .get(&run.id)
        .filter(|m| !m.is_empty())
        .cloned()
        .or_else(|| (!run.message.is_empty()).then(|| run.message.clone()));
    let reason = match run.reason.as_str() {
        "" if run.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{}://{}", inputs.runtime_name, run.id)),
            exit_code: run.exit_code,
            finished_at: run.finished_at.map(Time),
            message,
            reason: Some(reason.into()),
            signal: None,
            // A container that never started has no time of start.
            started_at: run.started_at.or(run.finished_at).map(Time),
        }),
        ..ContainerState::default()
    }
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.into()).filter(|_| !reason.is_empty()),
            message: message.map(Into::into),
        }),
        ..ContainerState::default()
    }
}

fn container_status(
    inputs: &Inputs,
    spec: &PodSpec,
    container: &Container,
    default_reason: &str,
    init: bool,
) -> ContainerStatus {
    let name = &container.name;
    let run = inputs.runtime.latest(name);
    let told = inputs
        .told
        .init_container_statuses
        .iter()
        .chain(inputs.told.container_statuses.iter())
        .flatten()
        .find(|status| status.name == *name);
    let mut status = ContainerStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..ContainerStatus::default()
    };
    match run {
        None => match told.filter(|told| has_run(told)) {
            // The runtime has forgotten it: all that is known is what was told before.
            Some(told) => status = forgotten(told, inputs.ending),
            None => status.state = Some(waiting(default_reason, None)),
        },
        Some(run) => {
            fill(&mut status, run, inputs);
            status.resources = Some(container.resources.clone().unwrap_or_default());
            status.allocated_resources = container
                .resources
                .as_ref()
                .and_then(|r| r.requests.clone())
                .filter(|requests| !requests.is_empty());
            status.volume_mounts = mount_statuses(container);
            let previous = inputs
                .runtime
                .previous(name)
                .filter(|run| run.state == State::Exited);
            status.last_state = match previous {
                Some(previous) => Some(terminated(previous, inputs)),
                None => told
                    .and_then(|told| told.last_state.clone())
                    .filter(|_| run.restart_count > 0),
            };
        }
    }
    if !inputs.ending
        && should_start(container, spec, run)
        && let Some(failure) = inputs.memory.failures.get(name)
    {
        if let Some(state) = status.state.take().filter(|state| state.terminated.is_some()) {
            status.last_state = Some(state);
        }
        status.state = Some(waiting(&failure.reason, Some(&failure.message)));
    }
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    if let Some(run) = run.filter(|_| running) {
        let started = inputs.memory.started.contains(&run.id);
        status.started = Some(started);
        status.ready = started && inputs.memory.ready.contains(&run.id) && (!init || is_sidecar(container));
    }
    if init && !is_sidecar(container) {
        let exit = status.state.as_ref().and_then(|s| s.terminated.as_ref());
        status.ready = exit.is_some_and(|exit| exit.exit_code == 0);
    }
    status.last_state = Some(status.last_state.unwrap_or_default());
    status
}

fn has_run(told: &ContainerStatus) -> bool {
    told.container_id.is_some()
        && told
            .state
            .as_ref()
            .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
}

fn forgotten(told: &ContainerStatus, ending: bool) -> ContainerStatus {
    let mut status = told.clone();
    let is_running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    if !is_running {
        return status;
    }
    let lost = lost(status.container_id.clone());
    if ending {
        status.state = Some(lost);
    } else {
        status.last_state = Some(lost);
        status.state = Some(waiting("ContainerCreating", None));
        status.restart_count += 1;
    }
    status.ready = false;
    status.started = Some(false);
    status
}

fn fill(status: &mut ContainerStatus, run: &Run, inputs: &Inputs) {
    if !run.image.is_empty() && !run.image.starts_with("sha256:") {
        status.image.clone_from(&run.image);
    }
    status.image_id.clone_from(&run.image_ref);
    status.container_id = Some(format!("{}://{}", inputs.runtime_name, run.id));
    status.restart_count = i32::try_from(run.restart_count).unwrap_or(i32::MAX);
    status.user = run.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: *uid,
            gid: *gid,
            supplemental_groups: (!groups.is_empty()).then(|| groups.clone()),
        }),
    });
    status.state = Some(match run.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: run.started_at.map(Time),
            }),
            ..ContainerState::default()
        },
        State::Exited => terminated(run, inputs),
        State::Created | State::Unknown => waiting("ContainerCreating", None),
    });
}

fn mount_statuses(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        mount_path: mount.mount_path.clone(),
        name: mount.name.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount
            .read_only
            .filter(|read_only| *read_only)
            .map(|_| "Disabled".into()),
        volume_status: None,
    };
    Some(mounts.iter().map(status).collect())
}

#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// The rules of upstream's `getPhase`.
fn phase(
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    initialized: bool,
    ending: bool,
) -> &'static str {
    let policy = restart_policy(spec);
    let (mut pending_init, mut failed_init, mut sidecars_running) = (0, 0, 0);
    for (container, status) in spec.init_containers.iter().flatten().zip(init) {
        let state = status.state.as_ref();
        let running = state.is_some_and(|s| s.running.is_some());
        let exit = state.and_then(|s| s.terminated.as_ref());
        let waits = state.is_some_and(|s| s.waiting.is_some());
        let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        if is_sidecar(container) {
            sidecars_running += usize::from(running);
            pending_init +=
                usize::from(!initialized && (!running || status.started != Some(true)) && exit.is_none());
        } else if let Some(exit) = exit {
            failed_init += usize::from(exit.exit_code != 0);
        } else if waits && last.is_some_and(|last| last.exit_code != 0) {
            failed_init += 1;
        } else {
            pending_init += 1;
        }
    }
    let mut count = Count::default();
    for status in regular {
        let Some(state) = &status.state else {
            count.unknown += 1;
            continue;
        };
        if state.running.is_some() {
            count.running += 1;
        } else if let Some(exit) = &state.terminated {
            count.stopped += 1;
            count.succeeded += usize::from(exit.exit_code == 0);
        } else if state.waiting.is_some() {
            let ran = status
                .last_state
                .as_ref()
                .is_some_and(|last| last.terminated.is_some());
            if ran {
                count.stopped += 1
            } else {
                count.waiting += 1
            }
        } else {
            count.unknown += 1;
        }
    }
    if failed_init > 0 && policy == RestartPolicy::Never {
        return "Failed";
    }
    if !initialized && (pending_init > 0 || failed_init > 0) {
        return "Pending";
    }
    if count.waiting > 0 && !ending {
        return "Pending";
    }
    if count.running > 0 && count.unknown == 0 {
        return "Running";
    }
    if count.stopped > 0 && count.unknown == 0 {
        let all_succeeded = count.stopped == count.succeeded && count.waiting == 0;
        if sidecars_running > 0 {
            return "Running";
        }
        if ending {
            return if all_succeeded { "Succeeded" } else { "Failed" };
        }
        return match policy {
            RestartPolicy::Always => "Running",
            _ if all_succeeded => "Succeeded",
            RestartPolicy::Never => "Failed",
            RestartPolicy::OnFailure => "Running",
        };
    }
    "Pending"
}

/// A condition's status, reason and message.
type Verdict = (bool, Option<&'static str>, Option<String>);

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn containers_ready(
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Verdict {
    match phase {
        "Succeeded" => return (false, Some("PodCompleted"), None),
        "Failed" => return (false, Some("PodFailed"), None),
        _ => {}
    }
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .zip(init)
        .filter(|(c, _)| is_sidecar(c));
    let all = sidecars.chain(spec.containers.iter().zip(regular));
    let unready: Vec<&str> = all
        .filter(|(_, status)| !status.ready)
        .map(|(container, _)| container.name.as_str())
        .collect();
    if unready.is_empty() {
        return (true, None, None);
    }
    let message = format!("containers with unready status: {}", list(&unready));
    (false, Some("ContainersNotReady"), Some(message))
}

fn pod_ready(inputs: &Inputs, spec: &PodSpec, containers: Verdict) -> Verdict {
    if !containers.0 {
        return containers;
    }
    let told = inputs.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let unmet: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match told.into_iter().flatten().find(|c| c.type_ == *kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {kind:?} does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if unmet.is_empty() {
        (true, None, None)
    } else {
        (false, Some("ReadinessGatesNotReady"), Some(unmet.join(", ")))
    }
}

fn pod_initialized(
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Verdict {
    if phase == "Succeeded" {
        return (true, Some("PodCompleted"), None);
    }
    let begun = regular.iter().any(|status| {
        let ran = |s: &Option<ContainerState>| {
            s.as_ref()
                .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        };
        ran(&status.state) || ran(&status.last_state)
    });
    let incomplete: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .zip(init)
        .filter(|(c, status)| {
            if is_sidecar(c) {
                status.started != Some(true)
            } else {
                !status.ready
            }
        })
        .map(|(c, _)| c.name.as_str())
        .collect();
    if begun || incomplete.is_empty() {
        return (true, None, None);
    }
    let message = format!("containers with incomplete status: {}", list(&incomplete));
    (false, Some("ContainersNotInitialized"), Some(message))
}

fn conditions(
    inputs: &Inputs,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Vec<PodCondition> {
    let containers = containers_ready(spec, phase, init, regular);
    let sandbox = next_sandbox(spec, inputs.runtime).is_none();
    let verdicts = [
        ("PodReadyToStartContainers", (sandbox, None, None)),
        ("Initialized", pod_initialized(spec, phase, init, regular)),
        ("Ready", pod_ready(inputs, spec, containers.clone())),
        ("ContainersReady", containers),
        ("PodScheduled", (true, None, None)),
    ];
    let told = inputs.told.conditions.as_deref().unwrap_or_default();
    verdicts
        .into_iter()
        .map(|(kind, (is, reason, message))| {
            let status = if is { "True" } else { "False" };
            let before = told.iter().find(|c| c.type_ == kind && c.status == status);
            PodCondition {
                type_: kind.into(),
                status: status.into(),
                reason: reason.map(Into::into),
                message,
                last_probe_time: None,
                last_transition_time: before
                    .and_then(|c| c.last_transition_time.clone())
                    .or(Some(Time(inputs.now))),
                observed_generation: inputs.pod.metadata.generation,
            }
        })
        .collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
