//! Tables: one node, one pod, and what the plugins say of them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerImage, ContainerPort, Node, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, NodeSpec, NodeStatus, Pod, PodSpec, PreferredSchedulingTerm,
    ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::default_framework;
use crate::framework::Unfit;
use crate::snapshot::{PodInfo, Snapshot};

fn quantities(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, text)| (name.to_string(), Quantity(text.to_string())))
        .collect()
}

fn node(name: &str) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some([("kubernetes.io/hostname".to_string(), name.to_string())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            allocatable: Some(quantities(&[
                ("cpu", "2"),
                ("memory", "4Gi"),
                ("pods", "3"),
                ("example.com/gpu", "1"),
            ])),
            ..NodeStatus::default()
        }),
    }
}

fn pod(name: &str, requests: &[(&str, &str)]) -> Pod {
    Pod {
        metadata: ObjectMeta {
            namespace: Some("default".into()),
            name: Some(name.into()),
            uid: Some(name.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![Container {
                resources: Some(ResourceRequirements {
                    requests: Some(quantities(requests)),
                    ..ResourceRequirements::default()
                }),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn on(mut pod: Pod, node: &str) -> Pod {
    pod.spec.as_mut().unwrap().node_name = Some(node.into());
    pod
}

fn with(mut pod: Pod, change: impl FnOnce(&mut PodSpec)) -> Pod {
    change(pod.spec.as_mut().unwrap());
    pod
}

fn taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint {
        key: key.into(),
        value: Some(value.into()),
        effect: effect.into(),
        ..Taint::default()
    }
}

fn tainted(name: &str, taints: Vec<Taint>) -> Node {
    let mut node = node(name);
    node.spec.as_mut().unwrap().taints = Some(taints);
    node
}

fn choose(nodes: &[Node], placed: &[Pod], pod: &Pod) -> Result<String, String> {
    choose_unfit(nodes, placed, pod).map_err(|unfit| unfit.message)
}

fn choose_unfit(nodes: &[Node], placed: &[Pod], pod: &Pod) -> Result<String, Unfit> {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(Arc::new(node.clone()));
    }
    for pod in placed {
        snapshot.set_pod(Arc::new(pod.clone()));
    }
    let info = PodInfo::new(Arc::new(pod.clone()), &mut snapshot.names);
    default_framework().choose(&info, &snapshot, 0)
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values: Some(values.iter().map(|value| value.to_string()).collect()),
    }
}

fn required(terms: Vec<NodeSelectorTerm>) -> Affinity {
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: terms,
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn expression(key: &str, operator: &str, values: &[&str]) -> NodeSelectorTerm {
    NodeSelectorTerm {
        match_expressions: Some(vec![requirement(key, operator, values)]),
        match_fields: None,
    }
}

#[test]
fn without_nodes_it_says_so() {
    assert_eq!(
        choose(&[], &[], &pod("a", &[])),
        Err("no nodes available to schedule pods".into())
    );
}

#[test]
fn a_refusal_names_its_reason() {
    let mut cordoned = node("n1");
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    let port = |spec: &mut PodSpec| {
        spec.containers[0].ports = Some(vec![ContainerPort {
            container_port: 80,
            host_port: Some(80),
            ..ContainerPort::default()
        }]);
    };
    let full: Vec<Pod> = (0..3).map(|n| on(pod(&format!("p{n}"), &[]), "n1")).collect();
    let not_helpful = "1 Preemption is not helpful for scheduling.";
    let no_victims = "1 No preemption victims found for incoming pod.";
    let cases = [
        (
            cordoned,
            vec![],
            pod("a", &[]),
            "1 node(s) were unschedulable.",
            not_helpful,
        ),
        (
            node("n1"),
            vec![],
            on(pod("a", &[]), "other"),
            "1 node(s) didn't match the requested node name.",
            not_helpful,
        ),
        (
            tainted("n1", vec![taint("k", "v", "NoExecute")]),
            vec![],
            pod("a", &[]),
            "1 node(s) had untolerated taint(s).",
            not_helpful,
        ),
        (
            node("n1"),
            vec![],
            with(pod("a", &[]), |spec| {
                spec.node_selector = Some([("disk".to_string(), "ssd".to_string())].into())
            }),
            "1 node(s) didn't match Pod's node affinity/selector.",
            not_helpful,
        ),
        (
            node("n1"),
            vec![on(with(pod("b", &[]), port), "n1")],
            with(pod("a", &[]), port),
            "1 node(s) didn't have free ports for the requested pod ports.",
            no_victims,
        ),
        (
            node("n1"),
            full.clone(),
            pod("a", &[]),
            "1 Too many pods.",
            no_victims,
        ),
        (
            node("n1"),
            vec![on(pod("b", &[("cpu", "1500m")]), "n1")],
            pod("a", &[("cpu", "501m")]),
            "1 Insufficient cpu.",
            no_victims,
        ),
        (
            node("n1"),
            vec![],
            pod("a", &[("cpu", "3")]),
            "1 Insufficient cpu.",
            not_helpful,
        ),
        (
            node("n1"),
            vec![on(pod("b", &[("cpu", "1"), ("memory", "3Gi")]), "n1")],
            pod("a", &[("cpu", "1100m"), ("memory", "1200Mi")]),
            "1 Insufficient cpu, 1 Insufficient memory.",
            no_victims,
        ),
        (
            node("n1"),
            vec![],
            pod("a", &[("example.com/gpu", "2")]),
            "1 Insufficient example.com/gpu.",
            not_helpful,
        ),
        (
            node("n1"),
            vec![],
            pod("a", &[("ephemeral-storage", "1Gi")]),
            "1 Insufficient ephemeral-storage.",
            not_helpful,
        ),
    ];
    for (node, placed, pod, reason, preemption) in cases {
        let expected =
            format!("0/1 nodes are available: {reason} preemption: 0/1 nodes are available: {preemption}");
        assert_eq!(choose(&[node], &placed, &pod), Err(expected));
    }
}

#[test]
fn nodes_are_counted_by_reason() {
    let nodes = [
        tainted("n1", vec![taint("a", "", "NoSchedule")]),
        node("n2"),
        node("n3"),
    ];
    let placed = [
        on(pod("x", &[("cpu", "2")]), "n2"),
        on(pod("y", &[("cpu", "2")]), "n3"),
    ];
    assert_eq!(
        choose(&nodes, &placed, &pod("a", &[("cpu", "1")])),
        Err(
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, \
             2 No preemption victims found for incoming pod."
                .into()
        )
    );
    let never = with(pod("a", &[("cpu", "9")]), |spec| {
        spec.preemption_policy = Some("Never".into())
    });
    assert_eq!(
        choose(&[node("n1")], &[], &never),
        Err("0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
            .into())
    );
}

#[test]
fn tolerations_open_tainted_and_cordoned_nodes() {
    let mut cordoned = node("n1");
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    let everything = Toleration {
        operator: Some("Exists".into()),
        ..Toleration::default()
    };
    let tolerant = with(pod("a", &[]), |spec| spec.tolerations = Some(vec![everything]));
    assert_eq!(choose(&[cordoned], &[], &tolerant), Ok("n1".into()));
    let nodes = [tainted("n1", vec![taint("k", "v", "NoSchedule")])];
    assert_eq!(choose(&nodes, &[], &tolerant), Ok("n1".into()));
}

#[test]
fn required_node_affinity_is_an_or_of_ands() {
    let mut labelled = node("n1");
    labelled.metadata.labels = Some(
        [
            ("zone".to_string(), "a".to_string()),
            ("cores".to_string(), "8".to_string()),
        ]
        .into(),
    );
    let by_name = |operator: &str, name: &str| NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![requirement("metadata.name", operator, &[name])]),
    };
    let cases = [
        (vec![expression("zone", "In", &["a", "b"])], true),
        (vec![expression("zone", "In", &["b"])], false),
        (vec![expression("zone", "NotIn", &["b"])], true),
        (vec![expression("rack", "NotIn", &["b"])], true),
        (vec![expression("rack", "Exists", &[])], false),
        (vec![expression("rack", "DoesNotExist", &[])], true),
        (vec![expression("cores", "Gt", &["4"])], true),
        (vec![expression("cores", "Lt", &["4"])], false),
        (
            vec![expression("zone", "In", &["b"]), expression("zone", "In", &["a"])],
            true,
        ),
        (vec![NodeSelectorTerm::default()], false),
        (vec![], false),
        (vec![by_name("In", "n1")], true),
        (vec![by_name("NotIn", "n1")], false),
    ];
    for (terms, expected) in cases {
        let case = format!("{terms:?}");
        let pod = with(pod("a", &[]), |spec| spec.affinity = Some(required(terms)));
        assert_eq!(choose(&[labelled.clone()], &[], &pod).is_ok(), expected, "{case}");
    }
}

#[test]
fn host_ports_conflict_on_the_same_address_and_protocol() {
    let port = |address: Option<&str>, protocol: &str| {
        let port = ContainerPort {
            container_port: 80,
            host_port: Some(8080),
            host_ip: address.map(str::to_string),
            protocol: Some(protocol.into()),
            ..ContainerPort::default()
        };
        move |spec: &mut PodSpec| spec.containers[0].ports = Some(vec![port])
    };
    let placed = [on(with(pod("b", &[]), port(Some("10.0.0.1"), "TCP")), "n1")];
    let cases = [
        (None, "TCP", false),
        (Some("0.0.0.0"), "TCP", false),
        (Some("10.0.0.1"), "TCP", false),
        (Some("10.0.0.2"), "TCP", true),
        (Some("10.0.0.1"), "UDP", true),
    ];
    for (address, protocol, fits) in cases {
        let pod = with(pod("a", &[]), port(address, protocol));
        assert_eq!(
            choose(&[node("n1")], &placed, &pod).is_ok(),
            fits,
            "{address:?} {protocol}"
        );
    }
}

#[test]
fn the_emptier_node_is_better_and_equal_ones_go_by_name() {
    let nodes = [node("n2"), node("n1")];
    assert_eq!(choose(&nodes, &[], &pod("a", &[])), Ok("n1".into()));
    let placed = [on(pod("b", &[]), "n1")];
    assert_eq!(
        choose(&nodes, &placed, &pod("a", &[])),
        Ok("n2".into()),
        "a pod without requests counts, too"
    );
}

#[test]
fn preferences_move_a_pod() {
    let nodes = [
        tainted("n1", vec![taint("k", "v", "PreferNoSchedule")]),
        node("n2"),
    ];
    assert_eq!(choose(&nodes, &[], &pod("a", &[])), Ok("n2".into()));
    let nodes = [node("n1"), node("n2")];
    let pod_ = with(pod("a", &[]), |spec| {
        spec.affinity = Some(Affinity {
            node_affinity: Some(NodeAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
                    weight: 1,
                    preference: expression("kubernetes.io/hostname", "In", &["n2"]),
                }]),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        });
    });
    assert_eq!(choose(&nodes, &[], &pod_), Ok("n2".into()));
}

#[test]
fn a_node_that_has_a_large_image_is_better() {
    let mut having = node("n2");
    having.status.as_mut().unwrap().images = Some(vec![ContainerImage {
        names: Some(vec!["example.com:5000/app:latest".into()]),
        size_bytes: Some(900 * 1024 * 1024),
    }]);
    let pod = with(pod("a", &[]), |spec| {
        spec.containers[0].image = Some("example.com:5000/app".into())
    });
    assert_eq!(choose(&[node("n1"), having], &[], &pod), Ok("n2".into()));
}

#[test]
fn uneven_use_of_processor_and_memory_is_worse() {
    // Both are used by the same share on the mean.
    let nodes = [node("n1"), node("n2")];
    let placed = [
        on(pod("x", &[("cpu", "1600m"), ("memory", "410Mi")]), "n1"),
        on(pod("y", &[("cpu", "900m"), ("memory", "1843Mi")]), "n2"),
    ];
    assert_eq!(
        choose(
            &nodes,
            &placed,
            &pod("a", &[("cpu", "100m"), ("memory", "200Mi")])
        ),
        Ok("n2".into())
    );
}
