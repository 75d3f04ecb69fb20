//! Two servers on one etcd serve one cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::{Value, json};
use skiff_informer::election::{Candidate, Timing};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::etcd_server::{Member, alone, connect};
use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn two(etcd: &Member) -> (Server, Server) {
    let start = async |address: &str| {
        let store = Arc::new(connect(&[etcd]).await);
        let directory = tempfile::tempdir().unwrap();
        Server::on(store, directory, |config| {
            config.advertise_address = address.parse().unwrap();
        })
        .await
    };
    (start("192.0.2.1").await, start("192.0.2.2").await)
}

fn map(name: &str, value: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "value": value } })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_the_other_reads_and_watches() {
    let etcd = alone();
    let (one, other) = two(&etcd).await;
    let (here, there) = (one.local(), other.local());
    let watched: Api<ConfigMap> = Api::namespaced(there.clone(), "default");
    let begin = get(&there, MAPS).await.json()["metadata"]["resourceVersion"].clone();
    let mut events = watched
        .watch(&WatchParams::default().timeout(60), begin.as_str().unwrap())
        .await
        .unwrap()
        .boxed();
    const COUNT: usize = 40;
    for index in 0..COUNT {
        // Written by turns, and read at once by the one that did not write: no list is older than the last write.
        let (writer, reader) = if index % 2 == 0 {
            (&here, &there)
        } else {
            (&there, &here)
        };
        let name = format!("m{index}");
        let made = post(writer, MAPS, &map(&name, "1")).await.json();
        let version = &made["metadata"]["resourceVersion"];
        let read = get(reader, &format!("{MAPS}/{name}")).await;
        assert_eq!(
            (read.status.as_u16(), &read.json()["metadata"]["resourceVersion"]),
            (200, version)
        );
        let list = get(reader, MAPS).await.json();
        assert!(
            list["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|item| item["metadata"]["name"] == name)
        );
        // The same bytes from both: each answer tells the version of its own write, and the second has none to make.
        let same = json!({ "data": { "value": "2" } });
        let path = format!("{MAPS}/{name}?fieldManager=x");
        let (a, b) = tokio::join!(
            patch(&here, &path, "merge-patch", &same),
            patch(&there, &path, "merge-patch", &same)
        );
        let versions = [a, b].map(|answer| answer.json()["metadata"]["resourceVersion"].clone());
        let now = get(reader, &format!("{MAPS}/{name}")).await.json()["metadata"]["resourceVersion"].clone();
        assert!(versions.contains(&now), "{versions:?} {now}");
        // A stale version is refused, whoever wrote since.
        let mut stale = map(&name, "3");
        stale["metadata"]["resourceVersion"] = version.clone();
        let refused = put(writer, &format!("{MAPS}/{name}"), &stale).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
    }
    let mut seen = Vec::new();
    let mut last = 0;
    while seen.len() < COUNT {
        let event = tokio::time::timeout(DEADLINE, events.try_next()).await;
        match event.unwrap().unwrap().unwrap() {
            WatchEvent::Added(map) => {
                let version: i64 = map.metadata.resource_version.unwrap().parse().unwrap();
                assert!(version > last);
                last = version;
                seen.push(map.metadata.name.unwrap());
            }
            WatchEvent::Modified(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<String> = (0..COUNT).map(|index| format!("m{index}")).collect();
    assert_eq!(seen, expected, "no gap, nothing twice");
    // An object that does not stay hangs on a lease, whichever server granted it.
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": {}, "reason": "r" });
    let made = post(&here, "/api/v1/namespaces/default/events", &event).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = "/api/v1/namespaces/default/events/e";
    let counted = patch(&there, path, "merge-patch", &json!({ "count": 2 })).await;
    assert_eq!(counted.status, 200, "{}", counted.text());
    assert_eq!(get(&here, path).await.json()["count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_and_no_port_is_given_twice() {
    let etcd = alone();
    let (one, other) = two(&etcd).await;
    let clients = [one.local(), other.local()];
    // Each number is asked for from both at once; one gets it.
    for index in 0..8 {
        let (ip, port) = (format!("10.96.0.{}", 50 + index), 30_000 + index);
        let service = |name: String| {
            json!({ "metadata": { "name": name }, "spec": {
                "type": "NodePort", "clusterIP": ip, "ports": [{ "port": 80, "nodePort": port }],
            } })
        };
        let (first, second) = (service(format!("a{index}")), service(format!("b{index}")));
        let (a, b) = tokio::join!(
            post(&clients[0], SERVICES, &first),
            post(&clients[1], SERVICES, &second)
        );
        let codes = BTreeSet::from([a.status.as_u16(), b.status.as_u16()]);
        assert_eq!(codes, BTreeSet::from([201, 422]), "{} {}", a.text(), b.text());
        let refused = if a.status == 422 { a } else { b };
        assert!(
            refused.text().contains("provided IP is already allocated"),
            "{}",
            refused.text()
        );
    }
    let made: Vec<Value> = futures::stream::iter(0..60)
        .map(|index| {
            let client = &clients[index % 2];
            let service = json!({ "metadata": { "name": format!("s{index}") }, "spec": {
                "type": "NodePort", "ports": [{ "port": 80 }],
            } });
            async move {
                let made = post(client, SERVICES, &service).await;
                assert_eq!(made.status, 201, "{}", made.text());
                made.json()
            }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let ips: BTreeSet<String> = made
        .iter()
        .map(|made| made["spec"]["clusterIP"].to_string())
        .collect();
    let ports: BTreeSet<i64> = made
        .iter()
        .map(|made| made["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (made.len(), made.len()));
    // What is given back by one can be had of the other.
    let gone = send(
        &clients[0],
        request(Method::DELETE, &format!("{SERVICES}/s0"), &[], ""),
    )
    .await;
    assert_eq!(gone.status, 200);
    let again = json!({ "metadata": { "name": "again" }, "spec": {
        "clusterIP": made.iter().find(|made| made["metadata"]["name"] == "s0").unwrap()["spec"]["clusterIP"],
        "ports": [{ "port": 80 }],
    } });
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let made = post(&clients[1], SERVICES, &again).await;
        if made.status == 201 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", made.text());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_the_api_leads_to_every_server() {
    let etcd = alone();
    let (one, other) = two(&etcd).await;
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    let told = async |client: &kube::Client| {
        let subsets = get(client, path).await.json()["subsets"].clone();
        let subsets = subsets.as_array().unwrap().clone();
        subsets
            .iter()
            .flat_map(|subset| subset["addresses"].as_array().unwrap().clone())
            .map(|address| address["ip"].as_str().unwrap().to_string())
            .collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from(["192.0.2.1".to_string(), "192.0.2.2".to_string()]);
    assert_eq!(told(&one.local()).await, both);
    // One that goes is no longer led to.
    drop(one);
    let client = other.local();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while told(&client).await.len() > 1 {
        assert!(tokio::time::Instant::now() < deadline);
        // Nothing in the test causes the change: the other server's clock does.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(told(&client).await, BTreeSet::from(["192.0.2.2".to_string()]));
}

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/loops";

/// Candidates for one lease, of which at most one may work.
struct Contest {
    working: Arc<AtomicUsize>,
    began: mpsc::UnboundedSender<&'static str>,
}

impl Contest {
    /// Stands for election through a server, until the token is cancelled or the task aborted.
    fn enter(
        &self,
        client: kube::Client,
        identity: &'static str,
    ) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        /// Counts as working while it lives.
        struct Working(Arc<AtomicUsize>);
        impl Drop for Working {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let candidate = Candidate {
            namespace: "kube-system",
            lease: "loops",
            identity: identity.into(),
            component: "tester",
            timing: Timing {
                lease: Duration::from_secs(6),
                renew: Duration::from_secs(5),
                retry: Duration::from_millis(100),
            },
        };
        let (working, began) = (self.working.clone(), self.began.clone());
        let end = CancellationToken::new();
        let standing = candidate.lead(client, end.clone(), move |term| {
            let (working, began) = (working.clone(), began.clone());
            async move {
                let others = working.fetch_add(1, Ordering::SeqCst);
                let _working = Working(working);
                assert_eq!(others, 0, "two do the work");
                began.send(identity).unwrap();
                term.cancelled().await;
                Ok::<(), std::convert::Infallible>(())
            }
        });
        let task = tokio::spawn(async move { standing.await.unwrap() });
        (end, task)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_leads_and_another_takes_over() {
    let etcd = alone();
    let (one, other) = two(&etcd).await;
    let (began, mut turns) = mpsc::unbounded_channel();
    let contest = Contest {
        working: Arc::default(),
        began,
    };
    let mut next = async || {
        tokio::time::timeout(DEADLINE, turns.recv())
            .await
            .expect("somebody leads in time")
            .unwrap()
    };
    let (end, first) = contest.enter(one.local(), "a");
    assert_eq!(next().await, "a");
    let (_stays, second) = contest.enter(other.local(), "b");
    // Who ends gives the lease back.
    end.cancel();
    first.await.unwrap();
    assert_eq!(next().await, "b");
    let lease = get(&one.local(), LEASE).await.json();
    assert_eq!(lease["spec"]["holderIdentity"], "b");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 6);
    // Who dies does not, and its lease must run out.
    let (_stays, third) = contest.enter(one.local(), "c");
    second.abort();
    assert_eq!(next().await, "c");
    // Who finds another's name in the lease stops.
    let stolen = json!({ "spec": { "holderIdentity": "d", "leaseDurationSeconds": 1 } });
    let answer = patch(&other.local(), LEASE, "merge-patch", &stolen).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(next().await, "c", "again, when the thief's lease has run out");
    let lease = get(&other.local(), LEASE).await.json();
    assert_eq!(lease["spec"]["leaseTransitions"], 3);
    let events = "/api/v1/namespaces/kube-system/events";
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let told = get(&one.local(), events).await.text();
        if told.contains("c stopped leading") && told.contains("b became leader") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{told}");
        tokio::task::yield_now().await;
    }
    third.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_has_a_lease_and_clears_away_those_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn skiff_store::Store> = open(directory.path());
    let first = Server::on(store.clone(), tempfile::tempdir().unwrap(), |_| {}).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let servers = async |client: &kube::Client| -> Vec<String> {
        let selected = format!("{leases}?labelSelector=apiserver.kubernetes.io/identity%3Dkube-apiserver");
        let found = get(client, &selected).await.json();
        let items = found["items"].as_array().unwrap().iter();
        items
            .map(|lease| {
                lease["metadata"]["labels"]["kubernetes.io/hostname"]
                    .as_str()
                    .unwrap()
                    .to_string()
            })
            .collect()
    };
    let client = first.local();
    assert_eq!(servers(&client).await, ["server-1"]);
    let gone = json!({ "metadata": { "name": "apiserver-x", "labels": {
        "apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": "server-0" } },
        "spec": { "holderIdentity": "x", "leaseDurationSeconds": 3600, "renewTime": "2020-01-01T00:00:00.000000Z" } });
    assert_eq!(post(&client, leases, &gone).await.status, 201);
    assert_eq!(servers(&client).await.len(), 2);
    drop(first);
    let second = Server::on(store, tempfile::tempdir().unwrap(), |_| {}).await;
    let client = second.local();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while servers(&client).await != ["server-1"] {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}
