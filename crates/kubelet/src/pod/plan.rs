//! What to do next for a pod: a pure function of its spec, what the runtime has, what failed before, and the clock.
//!
//! A plan is one stage: when it is done, the pod is observed and planned again. So a missed or repeated event does no
//! harm, and a restarted kubelet goes on where the last one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::Backoffs;
use super::runtime::{Run, RuntimePod, Sandbox, State};
use crate::duration::go_text;
use crate::resources::is_sidecar;

/// A sandbox that is lost at once, or comes without an address, is not made anew sooner than upstream's kubelet would
/// see it: it lists sandboxes once a second.
const BETWEEN_SANDBOXES: SignedDuration = SignedDuration::from_secs(1);

/// Why a container is not running though it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Such as `ErrImagePull`.
    pub(crate) reason: String,
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry_at: Timestamp,
}

/// What the pod's worker remembers between two plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Restarts of containers, by name.
    pub(crate) restarts: Backoffs,
    /// Pulls, by image.
    pub(crate) pulls: Backoffs,
    /// The last failed start of each container, by name.
    pub(crate) failures: BTreeMap<String, Failure>,
    /// When a sandbox or the volumes may be tried again.
    pub(crate) retry_sandbox_at: Option<Timestamp>,
    /// When this worker last made a sandbox.
    pub(crate) sandbox_made_at: Option<Timestamp>,
    /// Containers that are being stopped, by id.
    pub(crate) stopping: BTreeSet<String>,
    /// Running containers that a probe gave up, by id, and which one: `liveness` or `startup`.
    pub(crate) condemned: BTreeMap<String, &'static str>,
    /// Running containers whose startup probe, if any, has succeeded, by id.
    pub(crate) started: BTreeSet<String>,
    /// Running containers whose readiness probe, if any, succeeds, by id.
    pub(crate) ready: BTreeSet<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Stop a container, with its `preStop` hook and the pod's grace period.
    Stop {
        id: String,
        name: String,
        message: String,
    },
    /// Stop a sandbox whose containers have ended.
    StopSandbox { id: String },
    /// Make a sandbox. `changed` when there was one before.
    CreateSandbox { attempt: u32, changed: bool },
    /// Make and start a container.
    Start { name: String, restart_count: u32 },
    /// Show that a container waits before its next start.
    BackOff { name: String, message: String },
}

/// What to do now, and when to look again even if nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_after: Option<Duration>,
}

impl Plan {
    fn only(action: Action) -> Self {
        Self {
            actions: vec![action],
            wake_after: None,
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.wake_after = Some(self.wake_after.map_or(duration, |known| known.min(duration)));
    }
}

/// A pod's `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

pub(crate) fn restart_policy(spec: &PodSpec) -> RestartPolicy {
    match spec.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// The policy of one container: its own, else the pod's.
fn policy_of(container: &Container, spec: &PodSpec) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        _ => restart_policy(spec),
    }
}

/// Whether a container with this newest run is to be started.
pub(crate) fn should_start(container: &Container, spec: &PodSpec, run: Option<&Run>) -> bool {
    let Some(run) = run else { return true };
    match run.state {
        State::Running => false,
        State::Created | State::Unknown => true,
        State::Exited => {
            if let Some(rule) = container.restart_policy_rules.iter().flatten().find(|rule| {
                let Some(codes) = &rule.exit_codes else {
                    return false;
                };
                let listed = codes.values.iter().flatten().any(|code| *code == run.exit_code);
                listed == (codes.operator == "In")
            }) {
                return rule.action == "Restart";
            }
            match policy_of(container, spec) {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => run.exit_code != 0,
                RestartPolicy::Never => false,
            }
        }
    }
}

/// A hash of the parts of a container that cannot change under it: its name and image. (FNV-1a)
pub(crate) fn definition_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:x}")
}

/// The name by which messages call a pod: `name_namespace(uid)`.
pub(crate) fn pod_text(pod: &Pod) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!(
        "{}_{}({})",
        text(&meta.name),
        text(&meta.namespace),
        text(&meta.uid)
    )
}

/// Why the newest sandbox cannot be used and which attempt comes next; `None` when it can.
pub(crate) fn next_sandbox(spec: &PodSpec, runtime: &RuntimePod) -> Option<u32> {
    let Some(newest) = runtime.sandboxes.first() else {
        return Some(0);
    };
    let host_network = spec.host_network.unwrap_or(false);
    if !newest.ready || (!host_network && newest.ips.is_empty()) {
        return Some(newest.attempt + 1);
    }
    None
}

/// The next stage of a pod that is to run.
pub(crate) fn plan(pod: &Pod, runtime: &RuntimePod, memory: &Memory, now: Timestamp) -> Plan {
    let Some(spec) = &pod.spec else {
        return Plan::default();
    };
    match next_sandbox(spec, runtime) {
        Some(attempt) => plan_sandbox(spec, runtime, memory, now, attempt),
        None => match runtime.sandboxes.first() {
            Some(sandbox) => Planner {
                pod,
                spec,
                runtime,
                memory,
                now,
                sandbox,
                plan: Plan::default(),
            }
            .run(),
            None => Plan::default(),
        },
    }
}

/// The next stage of a pod that is to end: its containers, then its sidecars from the last to the first, then its
/// sandbox. Without a spec all containers at once.
pub(crate) fn plan_end(spec: Option<&PodSpec>, runtime: &RuntimePod, memory: &Memory) -> Plan {
    let sidecars: Vec<&str> = spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| is_sidecar(container))
        .map(|container| container.name.as_str())
        .collect();
    let rank = |run: &Run| {
        sidecars
            .iter()
            .position(|name| *name == run.name)
            .map_or(usize::MAX, |at| at)
    };
    let Some(first) = runtime.alive().map(rank).max() else {
        let ready = runtime.sandboxes.iter().filter(|s| s.ready);
        return Plan {
            actions: ready.map(|s| Action::StopSandbox { id: s.id.clone() }).collect(),
            wake_after: None,
        };
    };
    let actions = runtime
        .alive()
        .filter(|run| rank(run) == first && !memory.stopping.contains(&run.id))
        .map(|run| Action::Stop {
            id: run.id.clone(),
            name: run.name.clone(),
            message: format!("Stopping container {}", run.name),
        });
    Plan {
        actions: actions.collect(),
        wake_after: None,
    }
}

fn plan_sandbox(spec: &PodSpec, runtime: &RuntimePod, memory: &Memory, now: Timestamp, attempt: u32) -> Plan {
    // Nothing may be left of the old sandbox.
    let old = plan_end(Some(spec), runtime, memory);
    if !old.actions.is_empty() || runtime.alive().next().is_some() {
        return old;
    }
    let has_run = !runtime.runs.is_empty();
    if attempt != 0 && has_run && restart_policy(spec) == RestartPolicy::Never {
        return Plan::default();
    }
    let wanted = spec
        .containers
        .iter()
        .any(|c| should_start(c, spec, runtime.latest(&c.name)));
    if !wanted {
        return Plan::default();
    }
    let after_last = memory
        .sandbox_made_at
        .and_then(|made| made.saturating_add(BETWEEN_SANDBOXES).ok());
    let earliest = memory.retry_sandbox_at.max(after_last);
    if let Some(left) = earliest.and_then(|at| until(at, now)) {
        return Plan {
            actions: Vec::new(),
            wake_after: Some(left),
        };
    }
    Plan::only(Action::CreateSandbox {
        attempt,
        changed: attempt > 0,
    })
}

fn until(at: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(at.duration_since(now)).ok()?;
    (!left.is_zero()).then_some(left)
}

struct Planner<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    runtime: &'a RuntimePod,
    memory: &'a Memory,
    now: Timestamp,
    sandbox: &'a Sandbox,
    plan: Plan,
}

impl Planner<'_> {
    fn run(mut self) -> Plan {
        if let Some(left) = self.memory.retry_sandbox_at.and_then(|at| until(at, self.now)) {
            self.plan.wait(left);
            return self.plan;
        }
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        let initialized = self
            .spec
            .containers
            .iter()
            .any(|c| self.runtime.latest_in(&self.sandbox.id, &c.name).is_some());
        if !initialized && !self.initialize(init) {
            return self.plan;
        }
        let mut wanted = 0;
        for container in &self.spec.containers {
            wanted += usize::from(self.regular(container));
        }
        if wanted == 0 {
            // All have ended for good; sidecars end with them.
            return plan_end(Some(self.spec), self.runtime, self.memory);
        }
        if initialized {
            for sidecar in init.iter().filter(|c| is_sidecar(c)) {
                self.regular(sidecar);
            }
        }
        self.plan
    }

    /// Runs the init containers, in order; true when they are all done.
    fn initialize(&mut self, init: &[Container]) -> bool {
        let run_of = |c: &Container| self.runtime.latest_in(&self.sandbox.id, &c.name);
        // An init container was only started because those before it were done, though their runs may be collected.
        let reached = init.iter().rposition(|c| run_of(c).is_some()).unwrap_or(0);
        for (at, container) in init.iter().enumerate() {
            let run = self.runtime.latest_in(&self.sandbox.id, &container.name);
            if is_sidecar(container) {
                self.regular(container);
                let started =
                    run.is_some_and(|r| r.state == State::Running && self.memory.started.contains(&r.id));
                if !started && at >= reached {
                    return false;
                }
                continue;
            }
            match run {
                None if at < reached => {}
                None => {
                    self.start(container, None);
                    return false;
                }
                Some(run) => match run.state {
                    State::Running => return false,
                    State::Exited if run.exit_code == 0 => {}
                    State::Exited if !should_start(container, self.spec, Some(run)) => {
                        // The pod has failed; sidecars must not outlive it.
                        self.plan = plan_end(Some(self.spec), self.runtime, self.memory);
                        return false;
                    }
                    _ => {
                        self.start(container, Some(run));
                        return false;
                    }
                },
            }
        }
        true
    }

    /// Starts, keeps or stops a container that is meant to run along; whether it runs or will.
    fn regular(&mut self, container: &Container) -> bool {
        let run = self.runtime.latest(&container.name);
        match run {
            Some(run) if run.state == State::Running => {
                if self.memory.stopping.contains(&run.id) {
                    return true;
                }
                if let Some(message) = self.why_stop(container, run) {
                    self.plan.actions.push(Action::Stop {
                        id: run.id.clone(),
                        name: run.name.clone(),
                        message,
                    });
                }
                true
            }
            run if should_start(container, self.spec, run) => {
                self.start(container, run);
                true
            }
            _ => false,
        }
    }

    fn why_stop(&self, container: &Container, run: &Run) -> Option<String> {
        let name = &container.name;
        if !run.hash.is_empty() && run.hash != definition_hash(container) {
            return Some(format!("Container {name} definition changed, will be restarted"));
        }
        let probe = self.memory.condemned.get(&run.id)?;
        let restarted = match policy_of(container, self.spec) {
            RestartPolicy::Never => "",
            RestartPolicy::Always | RestartPolicy::OnFailure => ", will be restarted",
        };
        Some(format!("Container {name} failed {probe} probe{restarted}"))
    }

    fn start(&mut self, container: &Container, run: Option<&Run>) {
        let name = &container.name;
        if let Some(run) = run.filter(|run| run.state == State::Unknown) {
            if !self.memory.stopping.contains(&run.id) {
                self.plan.actions.push(Action::Stop {
                    id: run.id.clone(),
                    name: name.clone(),
                    message: format!("Container {name} is in unknown state, try killing it before restart"),
                });
            }
            return;
        }
        if let Some(finished) = run
            .filter(|run| run.state == State::Exited)
            .and_then(|run| run.finished_at)
            && let Some(left) = self.memory.restarts.remaining(name, finished, self.now)
        {
            let delay = go_text(self.memory.restarts.delay(name));
            self.plan.wait(left);
            self.plan.actions.push(Action::BackOff {
                name: name.clone(),
                message: format!(
                    "back-off {delay} restarting failed container={name} pod={}",
                    pod_text(self.pod)
                ),
            });
            return;
        }
        if let Some(left) = self
            .memory
            .failures
            .get(name)
            .and_then(|failure| until(failure.retry_at, self.now))
        {
            self.plan.wait(left);
            return;
        }
        let restart_count = run.map_or(0, |run| run.restart_count + 1);
        self.plan.actions.push(Action::Start {
            name: name.clone(),
            restart_count,
        });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
