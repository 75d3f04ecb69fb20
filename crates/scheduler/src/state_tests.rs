//! The scheduler's state against sequences of events, without an API.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSpec, NodeStatus, Pod, PodSchedulingGate, PodSpec, PodStatus, ResourceRequirements,
    Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::plugins::default_framework;
use crate::state::{Outcome, State};

fn node(name: &str, cpu: &str) -> Arc<Node> {
    let amounts = [("cpu", cpu), ("memory", "8Gi"), ("pods", "110")];
    Arc::new(Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            allocatable: Some(
                amounts
                    .map(|(name, text)| (name.to_string(), Quantity(text.into())))
                    .into(),
            ),
            ..NodeStatus::default()
        }),
    })
}

fn pod(name: &str, cpu: &str) -> Arc<Pod> {
    Arc::new(Pod {
        metadata: ObjectMeta {
            namespace: Some("default".into()),
            name: Some(name.into()),
            uid: Some(format!("uid-{name}")),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![Container {
                resources: Some(ResourceRequirements {
                    requests: Some([("cpu".to_string(), Quantity(cpu.into()))].into()),
                    ..ResourceRequirements::default()
                }),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    })
}

fn on(pod: &Arc<Pod>, node: &str) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.spec.as_mut().unwrap().node_name = Some(node.into());
    Arc::new(pod)
}

fn state() -> State {
    State::new("default-scheduler".into(), default_framework())
}

fn bound(outcome: Option<Outcome>) -> (Arc<Pod>, String) {
    match outcome {
        Some(Outcome::Bind(pod, node)) => (pod, node),
        other => panic!("not bound: {other:?}"),
    }
}

fn refused(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Refused(_, unfit)) => unfit.message,
        other => panic!("not refused: {other:?}"),
    }
}

const LATER: Duration = Duration::from_secs(20);

#[test]
fn an_assumed_pod_takes_its_room_before_the_api_confirms_it() {
    let now = Instant::now();
    let mut state = state();
    state.node_changed(None, Some(&node("n1", "1")), now);
    state.pod_changed(None, Some(&pod("a", "600m")), now);
    state.pod_changed(None, Some(&pod("b", "600m")), now);
    let (a, _) = bound(state.schedule_one(now));
    assert!(refused(state.schedule_one(now)).contains("1 Insufficient cpu"));
    // The binding fails: its room is free, and both are tried again.
    state.binding_failed(&a, true, now);
    assert!(state.schedule_one(now).is_none(), "both back off");
    let (first, _) = bound(state.schedule_one(now + LATER));
    assert_eq!(first.metadata.name.as_deref(), Some("a"));
}

#[test]
fn a_pod_that_leaves_makes_room_for_one_that_waits() {
    let now = Instant::now();
    let mut state = state();
    let first = on(&pod("a", "800m"), "n1");
    state.node_changed(None, Some(&node("n1", "1")), now);
    state.pod_changed(None, Some(&first), now);
    state.pod_changed(None, Some(&pod("b", "800m")), now);
    refused(state.schedule_one(now));
    assert!(state.schedule_one(now + LATER).is_none(), "nothing has changed");
    let mut ended = Pod::clone(&first);
    ended.status = Some(PodStatus {
        phase: Some("Succeeded".into()),
        ..PodStatus::default()
    });
    state.pod_changed(Some(&first), Some(&Arc::new(ended)), now + LATER);
    bound(state.schedule_one(now + LATER));
}

#[test]
fn only_a_node_that_would_take_it_wakes_a_pod() {
    let now = Instant::now();
    let mut state = state();
    state.pod_changed(None, Some(&pod("a", "2")), now);
    assert_eq!(
        refused(state.schedule_one(now)),
        "no nodes available to schedule pods"
    );
    let mut tainted = Node::clone(&node("n1", "4"));
    let taint = Taint {
        key: "k".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tainted.spec.as_mut().unwrap().taints = Some(vec![taint]);
    let tainted = Arc::new(tainted);
    state.node_changed(None, Some(&tainted), now + LATER);
    refused(state.schedule_one(now + LATER));
    let small = node("n2", "1");
    state.node_changed(None, Some(&small), now + 2 * LATER);
    let mut heartbeat = Node::clone(&tainted);
    heartbeat.status.as_mut().unwrap().phase = Some("Running".into());
    state.node_changed(Some(&tainted), Some(&Arc::new(heartbeat)), now + 2 * LATER);
    state.node_changed(Some(&tainted), Some(&node("n1", "4")), now + 3 * LATER);
    assert_eq!(bound(state.schedule_one(now + 3 * LATER)).1, "n1");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let now = Instant::now();
    let mut state = state();
    state.node_changed(None, Some(&node("n1", "4")), now);
    let change = |change: &dyn Fn(&mut PodSpec)| {
        let mut pod = Pod::clone(&pod("a", "1"));
        change(pod.spec.as_mut().unwrap());
        Arc::new(pod)
    };
    let others = change(&|spec| spec.scheduler_name = Some("other".into()));
    let gated = change(&|spec| spec.scheduling_gates = Some(vec![PodSchedulingGate { name: "g".into() }]));
    for pod in [&others, &gated] {
        state.pod_changed(None, Some(pod), now);
        assert!(state.schedule_one(now).is_none());
    }
    // The gate opens.
    state.pod_changed(Some(&gated), Some(&pod("a", "1")), now);
    bound(state.schedule_one(now));
}

#[test]
fn an_old_event_about_an_assumed_pod_does_not_schedule_it_twice() {
    let now = Instant::now();
    let mut state = state();
    state.node_changed(None, Some(&node("n1", "4")), now);
    let waiting = pod("a", "1");
    state.pod_changed(None, Some(&waiting), now);
    bound(state.schedule_one(now));
    let mut touched = Pod::clone(&waiting);
    touched.metadata.labels = Some([("k".to_string(), "v".to_string())].into());
    state.pod_changed(Some(&waiting), Some(&Arc::new(touched)), now);
    assert!(state.schedule_one(now + LATER).is_none());
    state.pod_changed(Some(&waiting), Some(&on(&waiting, "n1")), now);
    assert!(state.schedule_one(now + LATER).is_none());
}

proptest! {
    /// Whatever comes and goes, no node is ever given more than it has, and what can be placed is placed.
    #[test]
    fn nodes_are_never_overcommitted(
        nodes in prop::collection::vec(1i64..5, 1..4),
        pods in prop::collection::vec((100i64..2500, any::<bool>(), any::<bool>()), 0..25),
    ) {
        let mut now = Instant::now();
        let mut state = state();
        for (n, cpus) in nodes.iter().enumerate() {
            state.node_changed(None, Some(&node(&format!("n{n}"), &cpus.to_string())), now);
        }
        let mut used = vec![0i64; nodes.len()];
        for (n, (milli, fails, leaves)) in pods.iter().enumerate() {
            now += Duration::from_millis(10);
            let pod = pod(&format!("p{n}"), &format!("{milli}m"));
            state.pod_changed(None, Some(&pod), now);
            while let Some(outcome) = state.schedule_one(now) {
                let Outcome::Bind(pod, node) = outcome else { continue };
                if *fails {
                    state.binding_failed(&pod, false, now);
                    state.pod_changed(Some(&pod), None, now);
                    continue;
                }
                let requests = pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap();
                let text = &requests.requests.as_ref().unwrap()["cpu"].0;
                let milli: i64 = text.trim_end_matches('m').parse().unwrap();
                let placed = on(&pod, &node);
                state.bound(&pod);
                state.pod_changed(Some(&pod), Some(&placed), now);
                if *leaves {
                    state.pod_changed(Some(&placed), None, now);
                    continue;
                }
                let index: usize = node.trim_start_matches('n').parse().unwrap();
                used[index] += milli;
                prop_assert!(used[index] <= nodes[index] * 1000);
            }
        }
    }
}
