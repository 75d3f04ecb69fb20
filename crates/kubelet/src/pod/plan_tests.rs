//! Tables of what is to be done next for a pod.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fixtures::{at, exited, pod, run, runtime, sandbox};
use super::*;

/// What a plan would do, in a word each.
fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Stop { id, .. } => format!("stop {id}"),
        Action::StopSandbox { id } => format!("stop sandbox {id}"),
        Action::CreateSandbox { attempt, changed } => {
            format!("sandbox {attempt}{}", if *changed { " changed" } else { "" })
        }
        Action::Start { name, restart_count } => format!("start {name} {restart_count}"),
        Action::BackOff { name, .. } => format!("back off {name}"),
    };
    plan.actions.iter().map(word).collect()
}

fn next(spec: Value, runtime: &RuntimePod, memory: &Memory) -> Vec<String> {
    words(&plan(&pod(spec), runtime, memory, at(1000)))
}

fn containers(names: &[&str]) -> Value {
    let list: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "containers": list })
}

fn with_policy(policy: &str) -> Value {
    json!({ "containers": [{ "name": "a" }], "restartPolicy": policy })
}

#[test]
fn a_pod_gets_a_sandbox_and_then_all_its_containers() {
    let none = RuntimePod::default();
    assert_eq!(
        next(containers(&["a", "b"]), &none, &Memory::default()),
        ["sandbox 0"]
    );
    let ready = runtime(Vec::new());
    assert_eq!(
        next(containers(&["a", "b"]), &ready, &Memory::default()),
        ["start a 0", "start b 0"]
    );
    let half = runtime(vec![run("a", State::Running)]);
    assert_eq!(
        next(containers(&["a", "b"]), &half, &Memory::default()),
        ["start b 0"]
    );
    let full = runtime(vec![run("a", State::Running), run("b", State::Running)]);
    assert!(next(containers(&["a", "b"]), &full, &Memory::default()).is_empty());
}

#[test]
fn an_adopted_pod_is_left_alone() {
    // Nothing is remembered, as after a restart of the kubelet.
    let running = runtime(vec![Run {
        hash: definition_hash(&Container {
            name: "a".into(),
            image: Some("x".into()),
            ..Container::default()
        }),
        ..run("a", State::Running)
    }]);
    let spec = json!({ "containers": [{ "name": "a", "image": "x" }] });
    assert_eq!(
        plan(&pod(spec), &running, &Memory::default(), at(1000)),
        Plan::default()
    );
}

#[test]
fn the_restart_policy_decides_what_an_exit_means() {
    let cases = [
        ("Always", 0, vec!["start a 1"]),
        ("Always", 1, vec!["start a 1"]),
        ("OnFailure", 1, vec!["start a 1"]),
        // The pod is over, and so is its sandbox.
        ("OnFailure", 0, vec!["stop sandbox s0"]),
        ("Never", 0, vec!["stop sandbox s0"]),
        ("Never", 1, vec!["stop sandbox s0"]),
    ];
    for (policy, code, expected) in cases {
        let ended = runtime(vec![exited("a", code)]);
        assert_eq!(
            next(with_policy(policy), &ended, &Memory::default()),
            expected,
            "{policy} {code}"
        );
    }
    let two = json!({ "containers": [{ "name": "a" }, { "name": "b" }], "restartPolicy": "Never" });
    let half = runtime(vec![exited("a", 1), run("b", State::Running)]);
    assert!(next(two, &half, &Memory::default()).is_empty());
}

#[test]
fn a_containers_own_rules_come_before_the_policy() {
    let rule = json!({ "containers": [{ "name": "a", "restartPolicyRules": [
        { "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } }] }], "restartPolicy": "Never" });
    let next = |code| {
        next(
            rule.clone(),
            &runtime(vec![exited("a", code)]),
            &Memory::default(),
        )
    };
    assert_eq!(next(42), ["start a 1"]);
    assert_eq!(next(1), ["stop sandbox s0"]);
}

#[test]
fn a_crashing_container_waits_longer_each_time() {
    let subject = pod(with_policy("Always"));
    let ended = runtime(vec![exited("a", 1)]);
    let mut memory = Memory::default();
    // It ended at 200. The first restart is immediate.
    assert_eq!(words(&plan(&subject, &ended, &memory, at(200))), ["start a 1"]);
    memory.restarts.next("a", at(200), at(200));
    let waiting = plan(&subject, &ended, &memory, at(203));
    assert_eq!(
        waiting.actions,
        [Action::BackOff {
            name: "a".into(),
            message: "back-off 10s restarting failed container=a pod=p_ns(u)".into(),
        }]
    );
    assert_eq!(waiting.wake_after, Some(Duration::from_secs(7)));
    assert_eq!(words(&plan(&subject, &ended, &memory, at(210))), ["start a 1"]);
    memory.restarts.next("a", at(200), at(210));
    let message = match &plan(&subject, &ended, &memory, at(211)).actions[..] {
        [Action::BackOff { message, .. }] => message.clone(),
        other => panic!("{other:?}"),
    };
    assert!(message.starts_with("back-off 20s "), "{message}");
}

#[test]
fn a_failed_start_waits_for_its_time() {
    let mut memory = Memory::default();
    let failure = Failure {
        reason: "ErrImagePull".into(),
        message: String::new(),
        retry_at: at(1005),
    };
    memory.failures.insert("a".into(), failure);
    let ready = runtime(Vec::new());
    let waiting = plan(&pod(containers(&["a", "b"])), &ready, &memory, at(1000));
    assert_eq!(words(&waiting), ["start b 0"]);
    assert_eq!(waiting.wake_after, Some(Duration::from_secs(5)));
    assert_eq!(
        words(&plan(&pod(containers(&["a"])), &ready, &memory, at(1005))),
        ["start a 0"]
    );
}

#[test]
fn a_dead_sandbox_is_cleared_and_made_anew() {
    let dead = |runs: Vec<Run>| RuntimePod {
        sandboxes: vec![sandbox("s0", 3, false)],
        runs,
    };
    let cases = [
        ("Always", dead(vec![run("a", State::Running)]), vec!["stop a-0"]),
        ("Always", dead(vec![exited("a", 137)]), vec!["sandbox 4 changed"]),
        ("OnFailure", dead(vec![exited("a", 0)]), vec![]),
        ("OnFailure", dead(vec![exited("a", 1)]), vec!["sandbox 4 changed"]),
        ("Never", dead(vec![exited("a", 1)]), vec![]),
        // Nothing has run in it yet.
        ("Never", dead(Vec::new()), vec!["sandbox 4 changed"]),
    ];
    for (policy, runtime, expected) in cases {
        assert_eq!(
            next(with_policy(policy), &runtime, &Memory::default()),
            expected,
            "{policy} {runtime:?}"
        );
    }
    let no_address = RuntimePod {
        sandboxes: vec![Sandbox {
            ips: Vec::new(),
            ..sandbox("s0", 0, true)
        }],
        runs: Vec::new(),
    };
    assert_eq!(
        next(containers(&["a"]), &no_address, &Memory::default()),
        ["stop sandbox s0"]
    );
    let host = json!({ "containers": [{ "name": "a" }], "hostNetwork": true });
    assert_eq!(next(host, &no_address, &Memory::default()), ["start a 0"]);
}

#[test]
fn a_sandbox_that_failed_waits_for_its_time() {
    let memory = Memory {
        retry_sandbox_at: Some(at(1004)),
        ..Memory::default()
    };
    let waiting = plan(
        &pod(containers(&["a"])),
        &RuntimePod::default(),
        &memory,
        at(1000),
    );
    assert!(waiting.actions.is_empty());
    assert_eq!(waiting.wake_after, Some(Duration::from_secs(4)));
}

fn with_init() -> Value {
    json!({
        "initContainers": [{ "name": "i1" }, { "name": "side", "restartPolicy": "Always" }, { "name": "i2" }],
        "containers": [{ "name": "a" }],
    })
}

#[test]
fn init_containers_run_one_after_the_other_beside_their_sidecars() {
    let started = Memory {
        started: ["side-0".to_string()].into(),
        ..Memory::default()
    };
    let no_probe_yet = Memory::default();
    let cases: Vec<(Vec<Run>, &Memory, Vec<&str>)> = vec![
        (vec![], &started, vec!["start i1 0"]),
        (vec![run("i1", State::Running)], &started, vec![]),
        (vec![exited("i1", 1)], &started, vec!["start i1 1"]),
        (vec![exited("i1", 0)], &started, vec!["start side 0"]),
        (
            vec![exited("i1", 0), run("side", State::Running)],
            &no_probe_yet,
            vec![],
        ),
        (
            vec![exited("i1", 0), run("side", State::Running)],
            &started,
            vec!["start i2 0"],
        ),
        // A sidecar that ends is started again, whatever its exit code, beside the init container that runs.
        (
            vec![exited("i1", 0), exited("side", 0), run("i2", State::Running)],
            &started,
            vec!["start side 1"],
        ),
        (
            vec![exited("i1", 0), run("side", State::Running), exited("i2", 0)],
            &started,
            vec!["start a 0"],
        ),
        // What came before a later init container is done, even if the runtime has forgotten it.
        (
            vec![run("side", State::Running), exited("i2", 0)],
            &started,
            vec!["start a 0"],
        ),
        (
            vec![
                exited("i1", 0),
                exited("side", 1),
                exited("i2", 0),
                run("a", State::Running),
            ],
            &started,
            vec!["start side 1"],
        ),
    ];
    for (runs, memory, expected) in cases {
        let names: Vec<_> = runs
            .iter()
            .map(|run| (run.name.clone(), run.state, run.exit_code))
            .collect();
        assert_eq!(next(with_init(), &runtime(runs), memory), expected, "{names:?}");
    }
}

#[test]
fn a_failed_init_container_ends_a_pod_that_is_never_restarted() {
    let mut spec = with_init();
    spec["restartPolicy"] = "Never".into();
    let runs = vec![exited("i1", 0), run("side", State::Running), exited("i2", 1)];
    let started = Memory {
        started: ["side-0".to_string()].into(),
        ..Memory::default()
    };
    assert_eq!(next(spec, &runtime(runs), &started), ["stop side-0"]);
}

#[test]
fn a_sandbox_that_is_lost_at_once_is_not_made_anew_at_once() {
    let mut lost = runtime(Vec::new());
    lost.sandboxes[0].ips.clear();
    lost.sandboxes[0].ready = false;
    let mut memory = Memory {
        sandbox_made_at: Some(at(1000)),
        ..Memory::default()
    };
    let spec = containers(&["a"]);
    let hurried = plan(&pod(spec.clone()), &lost, &memory, at(1000));
    assert_eq!(
        (hurried.actions, hurried.wake_after),
        (Vec::new(), Some(Duration::from_secs(1)))
    );
    memory.sandbox_made_at = Some(at(999));
    assert_eq!(next(spec, &lost, &memory), ["sandbox 1 changed"]);
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let mut fresh = runtime(vec![exited("i1", 0), exited("i2", 0), exited("a", 1)]);
    fresh.sandboxes = vec![sandbox("s1", 1, true), sandbox("s0", 0, false)];
    assert_eq!(next(with_init(), &fresh, &Memory::default()), ["start i1 0"]);
}

#[test]
fn sidecars_end_when_the_containers_have() {
    let mut spec = with_init();
    spec["restartPolicy"] = "Never".into();
    let mut runs = vec![
        run("side", State::Running),
        exited("i1", 0),
        exited("i2", 0),
        exited("a", 0),
    ];
    assert_eq!(
        next(spec.clone(), &runtime(runs.clone()), &Memory::default()),
        ["stop side-0"]
    );
    runs[0] = exited("side", 0);
    assert_eq!(
        next(spec, &runtime(runs), &Memory::default()),
        ["stop sandbox s0"]
    );
}

#[test]
fn a_running_container_is_stopped_for_a_reason() {
    let spec = json!({ "containers": [{ "name": "a", "image": "new" }] });
    let mut memory = Memory::default();
    let changed = runtime(vec![Run {
        hash: "old".into(),
        ..run("a", State::Running)
    }]);
    let message = |plan: Plan| match plan.actions.into_iter().next() {
        Some(Action::Stop { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let subject = pod(spec.clone());
    assert_eq!(
        message(plan(&subject, &changed, &memory, at(0))),
        "Container a definition changed, will be restarted"
    );
    memory.stopping.insert("a-0".into());
    assert!(plan(&subject, &changed, &memory, at(0)).actions.is_empty());
    memory.stopping.clear();
    memory.condemned.insert("a-0".into(), "liveness");
    let sick = runtime(vec![run("a", State::Running)]);
    assert_eq!(
        message(plan(&subject, &sick, &memory, at(0))),
        "Container a failed liveness probe, will be restarted"
    );
    let unknown = runtime(vec![run("a", State::Unknown)]);
    assert_eq!(next(spec, &unknown, &Memory::default()), ["stop a-0"]);
}

#[test]
fn an_ending_pod_stops_containers_then_sidecars_then_the_sandbox() {
    let spec: PodSpec = serde_json::from_value(json!({
        "initContainers": [{ "name": "s1", "restartPolicy": "Always" }, { "name": "s2", "restartPolicy": "Always" }],
        "containers": [{ "name": "a" }, { "name": "b" }] }))
    .unwrap();
    let mut all = runtime(
        ["s1", "s2", "a", "b"]
            .map(|name| run(name, State::Running))
            .to_vec(),
    );
    let mut memory = Memory::default();
    let step = |all: &RuntimePod, memory: &Memory| words(&plan_end(Some(&spec), all, memory));
    assert_eq!(step(&all, &memory), ["stop a-0", "stop b-0"]);
    memory.stopping = ["a-0".to_string(), "b-0".to_string()].into();
    assert!(step(&all, &memory).is_empty());
    all.runs[2] = exited("a", 0);
    assert!(step(&all, &memory).is_empty());
    all.runs[3] = exited("b", 0);
    assert_eq!(step(&all, &memory), ["stop s2-0"]);
    all.runs[1] = exited("s2", 0);
    assert_eq!(step(&all, &memory), ["stop s1-0"]);
    all.runs[0] = exited("s1", 0);
    assert_eq!(step(&all, &memory), ["stop sandbox s0"]);
    all.sandboxes[0].ready = false;
    assert!(step(&all, &memory).is_empty() && all.is_stopped());
}

/// A runtime that does at once what a plan says; containers exit with the codes of a script.
fn carry_out(runtime: &mut RuntimePod, memory: &mut Memory, action: &Action, code: i32, clock: i64) {
    match action {
        Action::CreateSandbox { attempt, .. } => {
            runtime
                .sandboxes
                .insert(0, sandbox(&format!("s{attempt}"), *attempt, true));
        }
        Action::StopSandbox { id } => runtime
            .sandboxes
            .iter_mut()
            .filter(|s| s.id == *id)
            .for_each(|s| s.ready = false),
        Action::Start { name, restart_count } => {
            let id = format!("{name}-{restart_count}-{clock}");
            memory.started.insert(id.clone());
            runtime.runs.insert(
                0,
                Run {
                    id,
                    sandbox_id: runtime.sandboxes[0].id.clone(),
                    restart_count: *restart_count,
                    created_at: clock,
                    finished_at: Some(at(clock)),
                    exit_code: code,
                    ..run(name, State::Running)
                },
            );
        }
        Action::Stop { id, .. } => runtime
            .runs
            .iter_mut()
            .filter(|r| r.id == *id)
            .for_each(|r| r.state = State::Exited),
        Action::BackOff { .. } => {}
    }
}

proptest! {
    #[test]
    fn a_pod_that_is_never_restarted_comes_to_its_end(codes in proptest::collection::vec(0..2i32, 1..20)) {
        let mut spec = with_init();
        spec["restartPolicy"] = "Never".into();
        let subject = pod(spec);
        let (mut runtime, mut memory) = (RuntimePod::default(), Memory::default());
        let mut codes = codes.into_iter().cycle();
        for clock in 0..60 {
            let step = plan(&subject, &runtime, &memory, at(clock));
            for action in &step.actions {
                // A regular container never starts twice, and none without its sandbox.
                if let Action::Start { name, .. } = action {
                    prop_assert!(runtime.sandboxes[0].ready);
                    let ran = runtime.runs.iter().any(|run| run.name == *name);
                    prop_assert!(name == "side" || !ran, "{name} twice");
                }
                carry_out(&mut runtime, &mut memory, action, codes.next().unwrap(), clock);
            }
            for run in runtime.runs.iter_mut().filter(|run| run.name != "side") {
                run.state = State::Exited;
            }
        }
        prop_assert!(runtime.is_stopped());
        prop_assert!(plan(&subject, &runtime, &memory, at(99)).actions.is_empty());
    }
}
