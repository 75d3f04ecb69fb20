//! Pod: containers that run together on one node.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::pod_spec::{self, Owner, annotations};
use super::pod_update;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::names;
use crate::pod;

impl Kind for Pod {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["po"],
            categories: &["all"],
            subresources: &[
                Subresource::Status,
                Subresource::Binding,
                Subresource::Eviction,
                Subresource::EphemeralContainers,
                Subresource::Resize,
                Subresource::Log,
                Subresource::Exec,
                Subresource::Attach,
                Subresource::PortForward,
                Subresource::Proxy,
            ],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Ready",
                    "string",
                    "The aggregate readiness state of this pod for accepting traffic.",
                ),
                Column::new(
                    "Status",
                    "string",
                    "The aggregate status of the containers in this pod.",
                ),
                Column::new(
                    "Restarts",
                    "string",
                    "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
                ),
                Column::age(),
                Column::of("IP", "string", "core.v1.PodStatus", "podIP").only_wide(),
                Column::of("Node", "string", "core.v1.PodSpec", "nodeName").only_wide(),
                Column::of(
                    "Nominated Node",
                    "string",
                    "core.v1.PodStatus",
                    "nominatedNodeName",
                )
                .only_wide(),
                Column::of("Readiness Gates", "string", "core.v1.PodSpec", "readinessGates").only_wide(),
            ],
            selectable_fields: &[
                "spec.nodeName",
                "spec.host",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.podIPs",
                "status.nominatedNodeName",
            ],
            indexed_fields: &["spec.nodeName"],
            graceful: true,
            ..KindInfo::of::<Self>("pod")
        }
    }

    fn default(&mut self) {
        pod_spec::default_pod(self.spec.get_or_insert_default());
        let status = self.status.get_or_insert_default();
        agree_on_address(status);
        let containers = status
            .container_statuses
            .iter_mut()
            .chain(&mut status.init_container_statuses)
            .chain(&mut status.ephemeral_container_statuses);
        for container in containers.flatten() {
            container.state.get_or_insert_default();
            container.last_state.get_or_insert_default();
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        let spec = self.spec.get_or_insert_default();
        pod_spec::select_by_label_keys(spec, self.metadata.labels.as_ref());
        pod_spec::spread_by_label_keys(spec, self.metadata.labels.as_ref());
        annotations::app_armor_into_fields(&self.metadata, spec);
        let gated = spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty());
        let gate = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("SchedulingGated".into()),
            message: Some("Scheduling is blocked due to non-empty scheduling gates".into()),
            ..Default::default()
        };
        self.status = Some(PodStatus {
            phase: Some("Pending".into()),
            qos_class: Some(pod::qos_class(spec).name().into()),
            conditions: gated.then(|| vec![gate]),
            ..Default::default()
        });
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        pod_update::prepare(self, old, target);
    }

    fn grace_period(&self, requested: Option<i64>) -> i64 {
        let spec = self.spec.as_ref();
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_scheduled =
            spec.is_some_and(|spec| spec.node_name.as_ref().is_some_and(|name| !name.is_empty()));
        // Nothing runs, so nothing has to be waited for.
        if !is_scheduled || matches!(phase, Some("Succeeded" | "Failed")) {
            return 0;
        }
        let period = requested.or(spec.and_then(|spec| spec.termination_grace_period_seconds));
        match period.unwrap_or(0) {
            period if period < 0 => 1,
            period => period,
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let empty = PodSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let path = Path::new("spec");
        annotations::validate(&self.metadata, spec, &Path::new("metadata.annotations"), errors);
        let owner = Owner {
            pod: Some(&self.metadata),
        };
        pod_spec::validate(spec, owner, &path, errors);
        pod_spec::validate_only_for_pods(spec, &path, errors);
    }

    fn validate_create(&self, errors: &mut Errors) {
        let empty = PodSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let path = Path::new("spec");
        if spec
            .ephemeral_containers
            .as_ref()
            .is_some_and(|all| !all.is_empty())
        {
            errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
        }
        let gated = spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty());
        if gated && spec.node_name.as_ref().is_some_and(|name| !name.is_empty()) {
            errors.forbidden(
                &path.child("nodeName"),
                "cannot be set until all schedulingGates have been cleared",
            );
        }
        annotations::validate_with_fields(&self.metadata, spec, &path, errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        pod_update::validate(self, old, target, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        // People rarely update pods, and kubelets often do.
        if old.is_some() {
            return warnings;
        }
        let wrong = names::dns_label(self.metadata.name.as_deref().unwrap_or_default(), false);
        if !wrong.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS \
                 label is recommended: [{}]",
                wrong.join(" ")
            ));
        }
        if let Some(spec) = &self.spec {
            pod_spec::warn(&self.metadata, spec, &mut warnings);
        }
        warnings
    }

    fn warnings_as_sent(&self) -> Vec<String> {
        self.spec
            .as_ref()
            .map(|spec| annotations::app_armor_warnings(&self.metadata, spec))
            .unwrap_or_default()
    }

    fn subresource_warnings(&self, subresource: Subresource) -> Vec<String> {
        if subresource == Subresource::Status {
            pod_update::status_warnings(self)
        } else {
            Vec::new()
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let summary = Summary::of(self);
        let restarts = match summary.last_restart {
            Some(time) if summary.restarts != 0 => {
                format!("{} ({} ago)", summary.restarts, cell::since(Some(&time), now))
            }
            _ => summary.restarts.to_string(),
        };
        let status = self.status.as_ref();
        let ip = status
            .and_then(|status| status.pod_ips.as_ref())
            .and_then(|ips| ips.first())
            .map(|ip| ip.ip.as_str());
        let nominated = status.and_then(|status| status.nominated_node_name.as_deref());
        vec![
            self.metadata.name.clone().into(),
            format!("{}/{}", summary.ready, summary.total).into(),
            summary.reason.into(),
            restarts.into(),
            age(&self.metadata, now),
            cell::or(ip, cell::NONE).into(),
            cell::or(Some(pod::node_name(self)), cell::NONE).into(),
            cell::or(nominated, cell::NONE).into(),
            readiness_gates(self).into(),
        ]
    }

    fn row_conditions(&self) -> Vec<Value> {
        let (reason, message) = match pod::phase(self) {
            "Succeeded" => ("Succeeded", "The pod has completed successfully."),
            "Failed" => ("Failed", "The pod failed."),
            _ => return Vec::new(),
        };
        let shown = json!({"type": "Completed", "status": "True", "reason": reason, "message": message});
        vec![shown]
    }

    fn field(&self, name: &str) -> String {
        let spec = self.spec.as_ref();
        let status = self.status.as_ref();
        match name {
            "spec.nodeName" | "spec.host" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.restartPolicy" => spec.and_then(|spec| spec.restart_policy.clone()),
            "spec.schedulerName" => spec.and_then(|spec| spec.scheduler_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "spec.hostNetwork" => {
                let shared = spec.and_then(|spec| spec.host_network).unwrap_or(false);
                Some(shared.to_string())
            }
            "status.phase" => status.and_then(|status| status.phase.clone()),
            "status.podIP" => status
                .and_then(|status| status.pod_ips.as_ref())
                .and_then(|ips| ips.first())
                .map(|ip| ip.ip.clone()),
            "status.nominatedNodeName" => status.and_then(|status| status.nominated_node_name.clone()),
            _ => None,
        }
        .unwrap_or_default()
    }
}

/// The address is the first of the addresses; who knows only the one field means both.
fn agree_on_address(status: &mut PodStatus) {
    let first = status.pod_ips.as_ref().and_then(|ips| ips.first());
    match status.pod_ip.as_deref().unwrap_or_default() {
        "" => status.pod_ip = first.map(|first| first.ip.clone()).filter(|ip| !ip.is_empty()),
        one if first.is_none_or(|first| first.ip != one) => {
            status.pod_ips = Some(vec![PodIP { ip: one.into() }]);
        }
        _ => {}
    }
}

fn readiness_gates(object: &Pod) -> String {
    let gates = object
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_deref());
    match gates.unwrap_or_default() {
        [] => cell::NONE.into(),
        gates => {
            let open = gates
                .iter()
                .filter(|gate| pod::has_condition(object, &gate.condition_type))
                .count();
            format!("{open}/{}", gates.len())
        }
    }
}

/// What the table says of a pod (`printPod`).
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i32,
    last_restart: Option<Time>,
}

/// Restarts, and when the last of them was.
#[derive(Default)]
struct Restarts {
    count: i32,
    last: Option<Time>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count = self.count.saturating_add(status.restart_count);
        let finished = status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .and_then(|terminated| terminated.finished_at.clone());
        self.last = self.last.take().max(finished);
    }
}

fn nonempty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    nonempty(&status.state.as_ref()?.waiting.as_ref()?.reason)
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Why it ended: the reason, or else the signal or the code.
fn end_reason(status: &ContainerStatus) -> Option<String> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    Some(match (nonempty(&ended.reason), ended.signal.unwrap_or(0)) {
        (Some(reason), _) => reason.to_string(),
        (None, 0) => format!("ExitCode:{}", ended.exit_code),
        (None, signal) => format!("Signal:{signal}"),
    })
}

impl Summary {
    fn of(object: &Pod) -> Self {
        let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let sidecars: BTreeMap<&str, bool> = init
            .iter()
            .map(|container| (container.name.as_str(), pod::is_sidecar(container)))
            .collect();
        let mut summary = Self {
            ready: 0,
            total: spec.containers.len() + sidecars.values().filter(|sidecar| **sidecar).count(),
            reason: nonempty(&status.reason).unwrap_or(pod::phase(object)).to_string(),
            restarts: 0,
            last_restart: None,
        };
        let gated = |condition: &PodCondition| {
            condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
        };
        if status.conditions.iter().flatten().any(gated) {
            summary.reason = "SchedulingGated".into();
        }

        let (mut all, mut of_sidecars) = (Restarts::default(), Restarts::default());
        let mut initializing = false;
        for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
            all.add(container);
            let sidecar = sidecars.get(container.name.as_str()).copied().unwrap_or(false);
            if sidecar {
                of_sidecars.add(container);
            }
            let ended = container
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref());
            if ended.is_some_and(|ended| ended.exit_code == 0) {
                continue;
            }
            if sidecar && container.started == Some(true) {
                summary.ready += usize::from(container.ready);
                continue;
            }
            initializing = true;
            summary.reason = match (end_reason(container), waiting_reason(container)) {
                (Some(reason), _) => format!("Init:{reason}"),
                // What older kubelets say where newer ones say the other.
                (None, Some("PodInitializing")) => "Init:ContainerCreating".into(),
                (None, Some(reason)) => format!("Init:{reason}"),
                _ => format!("Init:{index}/{}", init.len()),
            };
            break;
        }

        if !initializing || pod::has_condition(object, "Initialized") {
            all = of_sidecars;
            let mut running = false;
            let mut failure = None;
            for container in status.container_statuses.iter().flatten().rev() {
                all.add(container);
                if let Some(reason) = waiting_reason(container) {
                    summary.reason = reason.to_string();
                } else if let Some(reason) = end_reason(container) {
                    if exit_code(container) != Some(0) {
                        failure = Some(reason.clone());
                    }
                    summary.reason = reason;
                } else if container.ready
                    && container
                        .state
                        .as_ref()
                        .is_some_and(|state| state.running.is_some())
                {
                    running = true;
                    summary.ready += 1;
                }
            }
            // One that has ended well speaks neither for those that still run nor for one that failed.
            if summary.reason == "Completed" {
                if running && pod::is_ready(object) {
                    summary.reason = "Running".into();
                } else if let Some(failure) = failure {
                    summary.reason = failure;
                } else if running {
                    summary.reason = "NotReady".into();
                }
            }
        }

        if object.metadata.deletion_timestamp.is_some() {
            if status.reason.as_deref() == Some("NodeLost") {
                summary.reason = "Unknown".into();
            } else if !pod::is_terminal(object) {
                summary.reason = "Terminating".into();
            }
        }
        summary.restarts = all.count;
        summary.last_restart = all.last;
        summary
    }
}
