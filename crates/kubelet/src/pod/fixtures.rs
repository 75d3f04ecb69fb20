//! Pods and runtime states for the tests of planning and status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::runtime::{Run, RuntimePod, Sandbox, State};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A pod `p` in `ns` with this spec.
pub(crate) fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u", "generation": 3 }, "spec": spec }))
    .unwrap()
}

/// A run of a container with the id `<name>-0` in sandbox `s0`, which started at 100 and, if exited, ended at 200.
pub(crate) fn run(name: &str, state: State) -> Run {
    Run {
        id: format!("{name}-0"),
        sandbox_id: "s0".into(),
        name: name.into(),
        restart_count: 0,
        state,
        created_at: 100,
        started_at: Some(at(100)),
        finished_at: (state == State::Exited).then(|| at(200)),
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: "docker.io/library/x:1".into(),
        image_ref: "docker.io/library/x@sha256:1".into(),
        hash: String::new(),
        log_path: String::new(),
        termination_file: None,
        termination_policy: "File".into(),
        user: None,
    }
}

pub(crate) fn exited(name: &str, exit_code: i32) -> Run {
    Run {
        exit_code,
        ..run(name, State::Exited)
    }
}

/// A pod with a ready sandbox `s0` and these runs.
pub(crate) fn runtime(runs: Vec<Run>) -> RuntimePod {
    RuntimePod {
        sandboxes: vec![sandbox("s0", 0, true)],
        runs,
    }
}

pub(crate) fn sandbox(id: &str, attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: id.into(),
        attempt,
        ready,
        created_at: i64::from(attempt),
        ips: if ready {
            vec!["10.0.0.1".into()]
        } else {
            Vec::new()
        },
    }
}
