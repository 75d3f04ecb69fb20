//! One pod's worker: observes, plans, acts, and tells, until the pod is gone.

mod ending;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use skiff_informer::EventType;
use skiff_informer::events::reference_to_pod;
use tokio::sync::watch;

use super::admit::{Refusal, admit};
use super::backoff::{MAXIMUM, after_failed_sandbox};
use super::cleanup;
use super::identity::uid;
use super::plan::{Action, Failure, Memory, plan, plan_end, pod_text};
use super::publish::Publisher;
use super::runtime::{Run, RuntimePod, State};
use super::start::Starter;
use super::status::{self, Inputs};
use super::stop::Failed;
use super::termination;
use crate::probe::Probes;
use crate::resources::pod_requests;
use crate::shared::Shared;
use crate::volumes::Mounted;

/// The first wait after a failed step, doubling to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What the API wants of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Desired {
    /// The pod as it stands there.
    Pod(Arc<Pod>),
    /// It is no longer there: the last that was seen of it.
    Gone(Arc<Pod>),
}

impl Desired {
    pub(crate) fn pod(&self) -> &Arc<Pod> {
        match self {
            Self::Pod(pod) | Self::Gone(pod) => pod,
        }
    }

    /// Whether the pod is to end, and nobody may start anything for it.
    fn is_ending(&self) -> bool {
        match self {
            Self::Gone(_) => true,
            Self::Pod(pod) => pod.metadata.deletion_timestamp.is_some() || skiff_api::pod::is_terminal(pod),
        }
    }

    fn is_leaving(&self) -> bool {
        match self {
            Self::Gone(_) => true,
            Self::Pod(pod) => pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

enum Next {
    /// Look again at once.
    Again,
    /// Wait for a change, at most so long.
    Wait(Option<Duration>),
    /// Nothing is left of the pod.
    Done,
}

/// What of a pod can change under its volumes: labels and annotations.
type Shown = (Option<BTreeMap<String, String>>, Option<BTreeMap<String, String>>);

fn shown(pod: &Pod) -> Shown {
    (pod.metadata.labels.clone(), pod.metadata.annotations.clone())
}

/// The worker of one pod.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    desired: watch::Receiver<Desired>,
    failed_stops: Failed,
    publisher: Publisher,
    memory: Memory,
    probes: Probes,
    /// The status as it was last computed; at first, as the API has it.
    told: PodStatus,
    messages: BTreeMap<String, String>,
    mounted: Option<Mounted>,
    /// The labels and annotations that the volumes were last made with.
    shown: Shown,
    refusal: Option<Refusal>,
    admitted: bool,
    cleaned: bool,
    /// Failures in a row, by what failed.
    tries: BTreeMap<String, u32>,
    /// The grace period of the stops under way.
    grace: Option<Duration>,
    ending_since: Option<Timestamp>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, desired: watch::Receiver<Desired>, failed_stops: Failed) -> Self {
        let publisher = Publisher::start(shared.client.clone());
        let told = desired.borrow().pod().status.clone().unwrap_or_default();
        Self {
            probes: Probes::new(shared.clone(), failed_stops.wake.clone()),
            publisher,
            shared,
            desired,
            failed_stops,
            memory: Memory::default(),
            told,
            messages: BTreeMap::new(),
            mounted: None,
            shown: Shown::default(),
            refusal: None,
            admitted: false,
            cleaned: false,
            tries: BTreeMap::new(),
            grace: None,
            ending_since: None,
        }
    }

    /// Works until nothing is left of the pod, or until shutdown. True in the first case.
    pub(crate) async fn run(mut self) -> bool {
        let shutdown = self.shared.shutdown.clone();
        let wake = self.failed_stops.wake.clone();
        loop {
            let next = tokio::select! {
                next = self.sync() => next,
                () = shutdown.cancelled() => return false,
            };
            let limit = match next {
                Next::Done => return true,
                Next::Again => continue,
                Next::Wait(limit) => limit.unwrap_or(MAXIMUM),
            };
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { return false },
                () = wake.notified() => {}
                () = tokio::time::sleep(limit) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    fn retry(&mut self, what: &str) -> Duration {
        let tries = self.tries.entry(what.into()).or_insert(0);
        let wait = RETRY.saturating_mul(1 << (*tries).min(8)).min(RETRY_MAX);
        *tries += 1;
        wait
    }

    fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        type_: EventType,
        reason: &'static str,
        message: String,
    ) {
        self.shared
            .recorder
            .record(reference_to_pod(pod, container), type_, reason, message);
    }

    async fn sync(&mut self) -> Next {
        let desired = self.desired.borrow_and_update().clone();
        let pod = desired.pod().clone();
        self.publisher.saw(&pod);
        let runtime = match RuntimePod::observe(&self.shared.cri, uid(&pod)).await {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::warn!(pod = pod_text(&pod), %error, "runtime does not answer");
                return Next::Wait(Some(self.retry("observe")));
            }
        };
        self.tries.remove("observe");
        self.remember(&pod, &runtime);
        let now = Timestamp::now();
        if !desired.is_ending() {
            self.admit(&pod, &runtime);
        }
        let deadline = self.deadline(&pod, now);
        let ending = desired.is_ending() || self.refusal.is_some();
        if ending && self.ending_since.is_none() {
            self.ending_since = Some(now);
        }
        self.tell(&desired, &runtime, ending, now);
        if ending && runtime.is_stopped() {
            return self.finish(&desired, &runtime).await;
        }
        let mut plan = if ending {
            plan_end(pod.spec.as_ref(), &runtime, &self.memory)
        } else {
            plan(&pod, &runtime, &self.memory, now)
        };
        if desired.is_leaving() {
            self.shorten(&pod, &runtime);
        }
        let refreshed = if ending {
            None
        } else {
            self.refresh(&pod, &runtime, now).await
        };
        let over = !ending && runtime.is_stopped() && is_over(&self.told);
        if over && plan.actions.is_empty() {
            return self.finish(&desired, &runtime).await;
        }
        for wait in [refreshed, deadline].into_iter().flatten() {
            plan.wake_after = Some(plan.wake_after.map_or(wait, |known| known.min(wait)));
        }
        let mut receiver = self.desired.clone();
        let interrupted = async move {
            // An end must not wait for an image to arrive.
            while !ending && receiver.changed().await.is_ok() {
                if receiver.borrow_and_update().is_ending() {
                    return;
                }
            }
            std::future::pending().await
        };
        let acted = tokio::select! {
            () = interrupted => true,
            acted = self.act(&pod, &runtime, plan.actions) => acted,
        };
        if acted {
            Next::Again
        } else {
            Next::Wait(plan.wake_after)
        }
    }

    /// Brings the memory in line with what there is.
    fn remember(&mut self, pod: &Pod, runtime: &RuntimePod) {
        for id in self.failed_stops.ids.lock().drain(..) {
            self.memory.stopping.remove(&id);
        }
        let alive = |id: &String| runtime.alive().any(|run| run.id == *id);
        self.memory.stopping.retain(alive);
        self.probes.reconcile(pod, runtime, &mut self.memory);
        for run in &runtime.runs {
            if run.state == State::Exited && !self.messages.contains_key(&run.id) {
                let mut message = termination::message(run);
                if message.is_empty() {
                    message = self.told_message(run).unwrap_or_default();
                }
                self.messages.insert(run.id.clone(), message);
            }
        }
        self.messages
            .retain(|id, _| runtime.runs.iter().any(|run| run.id == *id));
    }

    /// The message that was told of this run before its file was removed.
    fn told_message(&self, run: &Run) -> Option<String> {
        let lists = [&self.told.init_container_statuses, &self.told.container_statuses];
        let statuses = lists.into_iter().flatten().flatten();
        let states = statuses.flat_map(|status| [status.state.as_ref(), status.last_state.as_ref()]);
        let ends = states.flatten().filter_map(|state| state.terminated.as_ref());
        ends.into_iter()
            .find(|end| end.container_id.as_ref().is_some_and(|id| id.ends_with(&run.id)))
            .and_then(|end| end.message.clone())
    }

    fn admit(&mut self, pod: &Pod, runtime: &RuntimePod) {
        if self.admitted || self.refusal.is_some() {
            return;
        }
        let requests = pod.spec.as_ref().map(pod_requests).unwrap_or_default();
        let mut others = self.shared.admitted.lock();
        others.remove(uid(pod));
        // What runs already was taken by the kubelet before this one.
        if runtime.is_empty()
            && let Some(node) = self.shared.node_object()
            && let Err(refusal) = admit(
                pod,
                &node,
                &self.shared.allocatable,
                self.shared.max_pods,
                &others,
            )
        {
            drop(others);
            self.shared.recorder.record(
                reference_to_pod(pod, None),
                EventType::Warning,
                "FailedAdmission",
                refusal.message.clone(),
            );
            self.refusal = Some(refusal);
            return;
        }
        others.insert(uid(pod).into(), requests);
        self.admitted = true;
    }

    /// Ends a pod that has been active for too long; else says how long it still may be.
    fn deadline(&mut self, pod: &Pod, now: Timestamp) -> Option<Duration> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.told.start_time.as_ref()?.0;
        let end = start.saturating_add(SignedDuration::from_secs(seconds)).ok()?;
        let left = Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO);
        if !left.is_zero() {
            return Some(left);
        }
        if self.refusal.is_none() && !is_over(&self.told) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.event(pod, None, EventType::Normal, "DeadlineExceeded", message.into());
            self.refusal = Some(Refusal {
                reason: "DeadlineExceeded".into(),
                message: message.into(),
            });
        }
        None
    }

    fn tell(&mut self, desired: &Desired, runtime: &RuntimePod, ending: bool, now: Timestamp) {
        let Desired::Pod(pod) = desired else { return };
        if self.cleaned {
            return;
        }
        self.told = status::compute(&Inputs {
            pod,
            runtime,
            memory: &self.memory,
            told: &self.told,
            messages: &self.messages,
            runtime_name: &self.shared.runtime_name,
            host_ip: &self.shared.node_ip.to_string(),
            ending,
            failed: self
                .refusal
                .as_ref()
                .map(|r| (r.reason.as_str(), r.message.as_str())),
            now,
        });
        self.publisher.publish(pod, &self.told);
    }

    /// Looks after the volumes of a running pod when it is time; says when it is time again.
    async fn refresh(&mut self, pod: &Pod, runtime: &RuntimePod, now: Timestamp) -> Option<Duration> {
        runtime.alive().next()?;
        // An adopted pod has volumes that this kubelet has not seen yet.
        if let Some(mounted) = &self.mounted {
            let at = mounted.refresh_at?;
            let left = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
            if !left.is_zero() && self.shown == shown(pod) {
                return Some(left);
            }
        }
        match self.mount(pod, runtime).await {
            Ok(()) => {
                let at = self.mounted.as_ref()?.refresh_at?;
                Duration::try_from(at.duration_since(Timestamp::now())).ok()
            }
            Err(wait) => Some(wait),
        }
    }

    async fn mount(&mut self, pod: &Pod, runtime: &RuntimePod) -> Result<(), Duration> {
        let ips = runtime
            .sandboxes
            .first()
            .map(|s| s.ips.clone())
            .unwrap_or_default();
        match self.shared.volumes.set_up(pod, &self.shared.facts(ips)).await {
            Ok(mounted) => {
                self.mounted = Some(mounted);
                self.shown = shown(pod);
                self.tries.remove("volumes");
                Ok(())
            }
            Err(error) => {
                let message = format!(
                    "MountVolume.SetUp failed for volume {:?} : {}",
                    error.volume, error.message
                );
                self.event(pod, None, EventType::Warning, "FailedMount", message);
                Err(self.retry("volumes"))
            }
        }
    }

    /// Does what was planned; true when something may have changed by it.
    async fn act(&mut self, pod: &Arc<Pod>, runtime: &RuntimePod, actions: Vec<Action>) -> bool {
        let mut acted = false;
        for action in actions {
            acted |= match action {
                Action::Stop { id, name, message } => {
                    self.stop(pod, runtime, id, name, message);
                    false
                }
                Action::StopSandbox { id } => match self.shared.cri.stop_sandbox(&id).await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(pod = pod_text(pod), %error, "sandbox not stopped, trying again");
                        let message = format!("error killing pod: {error}");
                        self.event(pod, None, EventType::Warning, "FailedKillPod", message);
                        self.wake_after(Duration::from_secs(1));
                        false
                    }
                },
                Action::CreateSandbox { attempt, changed } => {
                    self.create_sandbox(pod, runtime, attempt, changed).await
                }
                Action::Start { name, restart_count } => self.start(pod, runtime, &name, restart_count).await,
                Action::BackOff { name, message } => self.back_off(pod, name, message),
            };
        }
        acted
    }

    fn wake_after(&self, wait: Duration) {
        let wake = self.failed_stops.wake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            wake.notify_one();
        });
    }

    fn back_off(&mut self, pod: &Pod, name: String, message: String) -> bool {
        let known = self.memory.failures.get(&name);
        if known.is_some_and(|failure| failure.message == message) {
            return false;
        }
        let text = format!(
            "Back-off restarting failed container {name} in pod {}",
            pod_text(pod)
        );
        self.event(pod, Some(&name), EventType::Warning, "BackOff", text);
        let failure = Failure {
            reason: "CrashLoopBackOff".into(),
            message,
            retry_at: Timestamp::now(),
        };
        self.memory.failures.insert(name, failure);
        true
    }

    /// Makes the cgroup and the volumes; true when they are there.
    async fn prepare(&mut self, pod: &Pod, runtime: &RuntimePod) -> bool {
        if self.mounted.is_some() {
            return true;
        }
        let Some(spec) = &pod.spec else { return false };
        let dir = super::identity::pod_directory(&self.shared.root_dir, uid(pod));
        let made = std::fs::create_dir_all(&dir).and_then(|()| self.shared.cgroups.make_pod(spec, uid(pod)));
        let wait = if let Err(error) = made {
            let message = format!("error making pod data directories or cgroups: {error}");
            self.event(pod, None, EventType::Warning, "FailedCreatePodContainer", message);
            self.retry("volumes")
        } else {
            match self.mount(pod, runtime).await {
                Ok(()) => return true,
                Err(wait) => wait,
            }
        };
        let now = Timestamp::now();
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_secs(10));
        self.memory.retry_sandbox_at = now.saturating_add(wait).ok();
        false
    }

    /// Whether pods can be connected now. A runtime that does not answer says nothing against it.
    async fn is_network_ready(&self) -> bool {
        let Ok(answer) = self.shared.cri.status().await else {
            return true;
        };
        let mut conditions = answer.status.iter().flat_map(|status| &status.conditions);
        !conditions.any(|condition| condition.r#type == "NetworkReady" && !condition.status)
    }

    async fn create_sandbox(&mut self, pod: &Pod, runtime: &RuntimePod, attempt: u32, changed: bool) -> bool {
        let Some(spec) = &pod.spec else { return false };
        if changed && !runtime.runs.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.event(pod, None, EventType::Normal, "SandboxChanged", message.into());
        }
        if !self.prepare(pod, runtime).await {
            return true;
        }
        let Some(mounted) = &self.mounted else {
            return false;
        };
        let starter = Starter {
            shared: &self.shared,
            pod,
            spec,
            mounted,
        };
        match starter.sandbox(attempt).await {
            Ok(()) => {
                self.memory.retry_sandbox_at = None;
                self.memory.sandbox_made_at = Some(Timestamp::now());
            }
            Err(message) => {
                let wait = after_failed_sandbox(self.is_network_ready().await, chance());
                self.event(pod, None, EventType::Warning, "FailedCreatePodSandBox", message);
                let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_secs(10));
                self.memory.retry_sandbox_at = Timestamp::now().saturating_add(wait).ok();
            }
        }
        true
    }

    async fn start(&mut self, pod: &Pod, runtime: &RuntimePod, name: &str, restart_count: u32) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let Some(container) = containers.into_iter().find(|c| c.name == name) else {
            return false;
        };
        let Some(sandbox) = runtime.sandboxes.first() else {
            return false;
        };
        if !self.prepare(pod, runtime).await {
            return true;
        }
        self.memory.retry_sandbox_at = None;
        if let Some(finished) = runtime
            .latest(name)
            .filter(|run| run.state == State::Exited)
            .and_then(|run| run.finished_at)
        {
            self.memory.restarts.next(name, finished, Timestamp::now());
        }
        let what = format!("start {name}");
        let retry = self.retry(&what);
        let Some(mounted) = &self.mounted else {
            return false;
        };
        let starter = Starter {
            shared: &self.shared,
            pod,
            spec,
            mounted,
        };
        let before = self.memory.failures.get(name);
        let pulls = &mut self.memory.pulls;
        match starter
            .container(container, restart_count, sandbox, pulls, before, retry)
            .await
        {
            Ok(()) => {
                self.tries.remove(&what);
                self.memory.failures.remove(name);
                cleanup::collect(&self.shared, runtime, name).await;
            }
            Err(failure) => {
                self.memory.failures.insert(name.into(), failure);
            }
        }
        true
    }
}

/// A number from 0 to 1 that spreads what would else come back at once: the standard library keys each of these by
/// chance.
fn chance() -> f64 {
    let drawn = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(drawn).unwrap_or(0)) / f64::from(u32::MAX)
}

fn is_over(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}
