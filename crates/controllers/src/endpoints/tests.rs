//! Services, pods, and what their slices and endpoints are to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodCondition, PodSpec, PodStatus, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::desired::{Desired, desired};
use super::{legacy, slices};

fn service() -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("svc".into()),
            labels: Some([("app".to_string(), "web".to_string())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.96.0.7".into()),
            ip_families: Some(vec!["IPv4".into()]),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: 80,
                target_port: Some(IntOrString::String("web".into())),
                ..ServicePort::default()
            }]),
            selector: Some([("app".to_string(), "web".to_string())].into()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn pod(n: u32, port: i32, ready: bool) -> Arc<Pod> {
    let name = format!("p{n:03}");
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("default".into()),
            uid: Some(name),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some("n1".into()),
            containers: vec![Container {
                ports: Some(vec![ContainerPort {
                    name: Some("web".into()),
                    container_port: port,
                    ..ContainerPort::default()
                }]),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some(format!("10.244.{}.{}", n / 250, n % 250 + 1)),
            conditions: Some(vec![PodCondition {
                type_: "Ready".into(),
                status: if ready { "True" } else { "False" }.into(),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        }),
    })
}

fn changed(pod: &Arc<Pod>, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    change(&mut pod);
    Arc::new(pod)
}

fn endpoints_of(service: &Service, pods: &[Arc<Pod>]) -> Desired {
    desired(service, pods, |_| Some("z1".into()))
}

/// The API's part: names, and what is there afterwards.
fn apply(plan: slices::Plan, present: &[Arc<EndpointSlice>], names: &mut u32) -> Vec<Arc<EndpointSlice>> {
    let mut all: BTreeMap<String, Arc<EndpointSlice>> = present
        .iter()
        .map(|slice| (slice.metadata.name.clone().unwrap(), slice.clone()))
        .collect();
    for slice in plan.delete {
        all.remove(slice.metadata.name.as_ref().unwrap());
    }
    for slice in plan.update {
        all.insert(slice.metadata.name.clone().unwrap(), Arc::new(slice));
    }
    for mut slice in plan.create {
        *names += 1;
        let name = format!("{}{names}", slice.metadata.generate_name.as_ref().unwrap());
        slice.metadata.name = Some(name.clone());
        all.insert(name, Arc::new(slice));
    }
    all.into_values().collect()
}

#[test]
fn an_endpoint_tells_whether_its_pod_serves() {
    let gone = |pod: &mut Pod| pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    let ended = |pod: &mut Pod| pod.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let homeless = |pod: &mut Pod| pod.status.as_mut().unwrap().pod_ip = None;
    let base = pod(1, 8080, true);
    let cases = [
        (base.clone(), false, Some((true, true, false))),
        (pod(1, 8080, false), false, Some((false, false, false))),
        (changed(&base, gone), false, Some((false, true, true))),
        (pod(1, 8080, false), true, Some((true, false, false))),
        (changed(&base, ended), false, None),
        (changed(&base, homeless), false, None),
    ];
    for (pod, publish, expected) in cases {
        let mut service = service();
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(publish);
        let desired = endpoints_of(&service, std::slice::from_ref(&pod));
        let conditions = desired.values().flatten().next().map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap();
            (
                conditions.ready.unwrap(),
                conditions.serving.unwrap(),
                conditions.terminating.unwrap(),
            )
        });
        assert_eq!(conditions, expected, "{pod:?}");
    }
}

#[test]
fn a_slice_has_upstreams_form() {
    let plan = slices::plan(&service(), endpoints_of(&service(), &[pod(1, 8080, true)]), &[]);
    let slice = &plan.create[0];
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(labels["app"], "web");
    assert_eq!(slice.address_type, "IPv4");
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.port, port.protocol.as_deref()),
        (Some("http"), Some(8080), Some("TCP"))
    );
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!(endpoint.addresses, ["10.244.0.2"]);
    assert_eq!(
        (endpoint.node_name.as_deref(), endpoint.zone.as_deref()),
        (Some("n1"), Some("z1"))
    );
    assert_eq!(
        endpoint.target_ref.as_ref().unwrap().name.as_deref(),
        Some("p001")
    );
    assert_eq!(
        slice.metadata.owner_references.as_ref().unwrap()[0].kind,
        "Service"
    );
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let mut names = 0;
    let plan = slices::plan(&service(), Desired::new(), &[]);
    assert_eq!(
        (
            plan.create.len(),
            plan.create[0].endpoints.as_ref().unwrap().len()
        ),
        (1, 0)
    );
    let present = apply(plan, &[], &mut names);
    assert_eq!(
        slices::plan(&service(), Desired::new(), &present),
        slices::Plan::default()
    );
}

#[test]
fn pods_with_other_ports_have_a_slice_of_their_own() {
    let desired = endpoints_of(&service(), &[pod(1, 8080, true), pod(2, 9090, true)]);
    let plan = slices::plan(&service(), desired.clone(), &[]);
    let ports: Vec<_> = plan
        .create
        .iter()
        .map(|slice| slice.ports.as_ref().unwrap()[0].port)
        .collect();
    assert_eq!(ports, [Some(8080), Some(9090)]);
    let endpoints = legacy::plan(&service(), &desired, None).unwrap();
    assert_eq!(endpoints.subsets.unwrap().len(), 2);
}

#[test]
fn the_older_object_separates_ready_from_not_ready() {
    let leaving = changed(&pod(3, 8080, true), |pod| {
        pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    });
    let desired = endpoints_of(&service(), &[pod(2, 8080, true), pod(1, 8080, false), leaving]);
    let endpoints = legacy::plan(&service(), &desired, None).unwrap();
    let subset = &endpoints.subsets.as_ref().unwrap()[0];
    let ips = |addresses: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| -> Vec<String> {
        addresses
            .iter()
            .flatten()
            .map(|address| address.ip.clone())
            .collect()
    };
    assert_eq!(ips(&subset.addresses), ["10.244.0.3"]);
    assert_eq!(ips(&subset.not_ready_addresses), ["10.244.0.2"]);
    assert_eq!(subset.ports.as_ref().unwrap()[0].port, 8080);
    assert_eq!(legacy::plan(&service(), &desired, Some(&endpoints)), None);
}

proptest! {
    /// However the pods come and go: all of them are in exactly one slice, none is too large, and what is right is
    /// left alone.
    #[test]
    fn slices_follow_the_pods(
        rounds in prop::collection::vec(prop::collection::btree_map(0u32..260, any::<bool>(), 0..260), 1..6)
    ) {
        let service = service();
        let mut present = Vec::new();
        let mut names = 0;
        for round in rounds {
            let pods: Vec<_> = round.iter().map(|(n, ready)| pod(*n, 8080, *ready)).collect();
            let plan = slices::plan(&service, endpoints_of(&service, &pods), &present);
            present = apply(plan, &present, &mut names);
            let mut found: Vec<String> = Vec::new();
            for slice in &present {
                let endpoints = slice.endpoints.as_ref().unwrap();
                prop_assert!(endpoints.len() <= 100);
                prop_assert!(!endpoints.is_empty() || present.len() == 1);
                found.extend(endpoints.iter().map(|e| e.target_ref.as_ref().unwrap().uid.clone().unwrap()));
            }
            found.sort();
            let wanted: Vec<String> = pods.iter().map(|pod| pod.metadata.uid.clone().unwrap()).collect();
            prop_assert_eq!(found, wanted);
            let again = slices::plan(&service, endpoints_of(&service, &pods), &present);
            prop_assert_eq!(again, slices::Plan::default());
        }
    }
}
