//! Tables of what a pod's status says.

use serde_json::{Value, json};

use super::super::fixtures::{at, exited, pod, run, runtime, sandbox};
use super::super::plan::Failure;
use super::*;

struct Case {
    spec: Value,
    runtime: RuntimePod,
    memory: Memory,
    told: PodStatus,
    ending: bool,
    failed: Option<(&'static str, &'static str)>,
}

impl Case {
    fn new(spec: Value, runtime: RuntimePod) -> Self {
        let running: std::collections::BTreeSet<String> = runtime.alive().map(|run| run.id.clone()).collect();
        Self {
            spec,
            memory: Memory {
                started: running.clone(),
                ready: running,
                ..Memory::default()
            },
            runtime,
            told: PodStatus::default(),
            ending: false,
            failed: None,
        }
    }

    fn failing(mut self, name: &str, reason: &str, message: &str) -> Self {
        let failure = Failure {
            reason: reason.into(),
            message: message.into(),
            retry_at: at(0),
        };
        self.memory.failures.insert(name.into(), failure);
        self
    }

    fn status(&self) -> PodStatus {
        compute(&Inputs {
            pod: &pod(self.spec.clone()),
            runtime: &self.runtime,
            memory: &self.memory,
            told: &self.told,
            messages: &[("a-0".to_string(), "last words".to_string())].into(),
            runtime_name: "skiff",
            host_ip: "192.168.0.1",
            ending: self.ending,
            failed: self.failed,
            now: at(1000),
        })
    }
}

fn one(policy: &str) -> Value {
    json!({ "containers": [{ "name": "a", "image": "x" }], "restartPolicy": policy })
}

fn condition(status: &PodStatus, kind: &str) -> (String, String, String) {
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
        .unwrap()
        .clone();
    (
        condition.status,
        condition.reason.unwrap_or_default(),
        condition.message.unwrap_or_default(),
    )
}

fn is(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.into(), reason.into(), message.into())
}

fn state(status: &PodStatus) -> String {
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let state = container.state.clone().unwrap();
    if state.running.is_some() {
        "running".into()
    } else if let Some(end) = state.terminated {
        format!("terminated {} {}", end.reason.unwrap(), end.exit_code)
    } else {
        format!("waiting {}", state.waiting.unwrap().reason.unwrap_or_default())
    }
}

#[test]
fn the_phase_follows_the_containers() {
    let two =
        |policy: &str| json!({ "containers": [{ "name": "a" }, { "name": "b" }], "restartPolicy": policy });
    let init = |policy: &str| json!({ "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }], "restartPolicy": policy });
    let sidecar = json!({ "initContainers": [{ "name": "s", "restartPolicy": "Always" }],
        "containers": [{ "name": "a" }], "restartPolicy": "Never" });
    let running = State::Running;
    let cases: Vec<(&str, Value, Vec<Run>, &str)> = vec![
        ("nothing yet", one("Always"), vec![], "Pending"),
        ("running", one("Always"), vec![run("a", running)], "Running"),
        ("one of two", two("Always"), vec![run("a", running)], "Pending"),
        (
            "one ended",
            two("Never"),
            vec![run("a", running), exited("b", 0)],
            "Running",
        ),
        (
            "ended, to be restarted",
            one("Always"),
            vec![exited("a", 0)],
            "Running",
        ),
        (
            "failed, to be restarted",
            one("OnFailure"),
            vec![exited("a", 1)],
            "Running",
        ),
        ("succeeded", one("OnFailure"), vec![exited("a", 0)], "Succeeded"),
        (
            "succeeded for good",
            one("Never"),
            vec![exited("a", 0)],
            "Succeeded",
        ),
        ("failed for good", one("Never"), vec![exited("a", 1)], "Failed"),
        (
            "one of both failed",
            two("Never"),
            vec![exited("a", 0), exited("b", 2)],
            "Failed",
        ),
        ("init runs", init("Always"), vec![run("i", running)], "Pending"),
        ("init failed", init("Always"), vec![exited("i", 1)], "Pending"),
        (
            "init failed for good",
            init("Never"),
            vec![exited("i", 1)],
            "Failed",
        ),
        (
            "after init",
            init("Always"),
            vec![exited("i", 0), run("a", running)],
            "Running",
        ),
        (
            "the sidecar still runs",
            sidecar.clone(),
            vec![run("s", running), exited("a", 0)],
            "Running",
        ),
        (
            "with its sidecar",
            sidecar,
            vec![exited("s", 143), exited("a", 0)],
            "Succeeded",
        ),
    ];
    for (what, spec, runs, phase) in cases {
        let status = Case::new(spec, runtime(runs)).status();
        assert_eq!(status.phase.as_deref(), Some(phase), "{what}");
    }
}

#[test]
fn a_running_pod_says_all_there_is_to_say() {
    let status = Case::new(one("Always"), runtime(vec![run("a", State::Running)])).status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.start_time, Some(Time(at(1000))));
    assert_eq!(status.observed_generation, Some(3));
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&status, kind), is("True", "", ""), "{kind}");
    }
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("skiff://a-0"));
    assert_eq!(container.image, "docker.io/library/x:1");
    assert_eq!(container.image_id, "docker.io/library/x@sha256:1");
    assert_eq!(
        (container.ready, container.started, container.restart_count),
        (true, Some(true), 0)
    );
}

#[test]
fn a_container_that_is_not_ready_is_named() {
    let mut case = Case::new(one("Always"), runtime(vec![run("a", State::Running)]));
    case.memory.ready.clear();
    let status = case.status();
    let unready = is(
        "False",
        "ContainersNotReady",
        "containers with unready status: [a]",
    );
    assert_eq!(condition(&status, "Ready"), unready);
    assert_eq!(condition(&status, "ContainersReady"), unready);

    let gated = json!({ "containers": [{ "name": "a" }], "readinessGates": [{ "conditionType": "x/y" }] });
    let status = Case::new(gated, runtime(vec![run("a", State::Running)])).status();
    let message = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
    assert_eq!(
        condition(&status, "Ready"),
        is("False", "ReadinessGatesNotReady", message)
    );
    assert_eq!(condition(&status, "ContainersReady"), is("True", "", ""));
}

#[test]
fn what_has_ended_says_how() {
    let done = Case::new(one("Never"), runtime(vec![exited("a", 0)])).status();
    assert_eq!(state(&done), "terminated Completed 0");
    assert_eq!(condition(&done, "Ready"), is("False", "PodCompleted", ""));
    assert_eq!(condition(&done, "Initialized"), is("True", "PodCompleted", ""));
    let end = done.container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(end.message.as_deref(), Some("last words"));
    assert_eq!(
        (end.started_at, end.finished_at),
        (Some(Time(at(100))), Some(Time(at(200))))
    );
    let failed = Case::new(one("Never"), runtime(vec![exited("a", 3)])).status();
    assert_eq!(state(&failed), "terminated Error 3");
    assert_eq!(condition(&failed, "Ready"), is("False", "PodFailed", ""));
}

#[test]
fn a_waiting_container_says_why() {
    let fresh = Case::new(one("Always"), RuntimePod::default()).status();
    assert_eq!(state(&fresh), "waiting ContainerCreating");
    assert_eq!(
        condition(&fresh, "PodReadyToStartContainers"),
        is("False", "", "")
    );
    let init = json!({ "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }] });
    let status = Case::new(init, runtime(vec![run("i", State::Running)])).status();
    assert_eq!(state(&status), "waiting PodInitializing");
    let incomplete = is(
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [i]",
    );
    assert_eq!(condition(&status, "Initialized"), incomplete);

    let pulling = Case::new(one("Always"), runtime(vec![])).failing("a", "ErrImagePull", "no such image");
    assert_eq!(state(&pulling.status()), "waiting ErrImagePull");

    let crashed = Case::new(one("Always"), runtime(vec![exited("a", 1)]));
    assert_eq!(state(&crashed.status()), "terminated Error 1");
    let looping = crashed.failing("a", "CrashLoopBackOff", "back-off 10s").status();
    assert_eq!(state(&looping), "waiting CrashLoopBackOff");
    let container = &looping.container_statuses.as_ref().unwrap()[0];
    assert_eq!(
        container
            .last_state
            .clone()
            .unwrap()
            .terminated
            .unwrap()
            .exit_code,
        1
    );
    assert_eq!(looping.phase.as_deref(), Some("Running"));
}

#[test]
fn the_last_state_is_the_run_before() {
    let again = Run {
        id: "a-1".into(),
        restart_count: 1,
        created_at: 300,
        ..run("a", State::Running)
    };
    let status = Case::new(one("Always"), runtime(vec![again, exited("a", 7)])).status();
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.restart_count, 1);
    assert_eq!(
        container
            .last_state
            .clone()
            .unwrap()
            .terminated
            .unwrap()
            .exit_code,
        7
    );
}

#[test]
fn conditions_remember_since_when_they_say_the_same() {
    let mut case = Case::new(one("Always"), runtime(vec![run("a", State::Running)]));
    case.told.conditions = Some(
        serde_json::from_value(json!([
            { "type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:05Z" },
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:05Z" },
        ]))
        .unwrap(),
    );
    case.told.start_time = Some(Time(at(5)));
    let status = case.status();
    let since = |kind: &str| {
        let condition = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind)
            .unwrap();
        condition.last_transition_time.clone().unwrap()
    };
    assert_eq!(
        (since("Ready"), since("PodScheduled")),
        (Time(at(1000)), Time(at(5)))
    );
    assert_eq!(status.start_time, Some(Time(at(5))));
}

#[test]
fn a_pod_that_is_over_stays_over() {
    let mut case = Case::new(one("Always"), runtime(vec![run("a", State::Running)]));
    case.told.phase = Some("Failed".into());
    case.told.reason = Some("Evicted".into());
    let status = case.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("Evicted"))
    );
}

#[test]
fn a_refused_pod_failed_for_its_reason() {
    let mut case = Case::new(one("Always"), RuntimePod::default());
    case.failed = Some(("OutOfcpu", "no room"));
    let status = case.status();
    assert_eq!(
        (
            status.phase.as_deref(),
            status.reason.as_deref(),
            status.message.as_deref()
        ),
        (Some("Failed"), Some("OutOfcpu"), Some("no room"))
    );
    assert_eq!(status.container_statuses, None);
}

#[test]
fn the_last_status_leaves_nothing_running() {
    let mut case = Case::new(one("Always"), runtime(vec![exited("a", 0)]));
    case.ending = true;
    let mut clean = case.status();
    terminate(&mut clean);
    assert_eq!(
        (clean.phase.as_deref(), state(&clean).as_str()),
        (Some("Succeeded"), "terminated Completed 0")
    );

    let told = Case::new(one("Always"), runtime(vec![run("a", State::Running)])).status();
    let mut lost = Case::new(
        one("Always"),
        RuntimePod {
            sandboxes: vec![sandbox("s0", 0, false)],
            runs: Vec::new(),
        },
    );
    lost.told = told;
    lost.ending = true;
    let mut status = lost.status();
    terminate(&mut status);
    assert_eq!(state(&status), "terminated ContainerStatusUnknown 137");
    assert_eq!(status.phase.as_deref(), Some("Failed"));

    let mut never = Case::new(one("Always"), RuntimePod::default()).status();
    terminate(&mut never);
    assert_eq!(never.phase.as_deref(), Some("Failed"));
}
