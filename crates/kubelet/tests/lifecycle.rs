//! The kubelet between an API server and a runtime, both doubles: what it asks of the one, and tells the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, in its doubles as well"
)]

#[path = "support/api.rs"]
mod api;
#[path = "support/runtime.rs"]
mod runtime;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::Api;
use runtime::Runtime;
use serde_json::{Value, json};
use skiff_kubelet::{Config, ServerConfig};
use tokio_util::sync::CancellationToken;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A client CA, the server's certificate and key, and those of an administrator and of somebody else.
struct Certificates {
    ca: String,
    server: (String, String),
    admin: (String, String),
    other: (String, String),
}

impl Certificates {
    fn client(&self, group: &str) -> &(String, String) {
        if group == "system:masters" {
            &self.admin
        } else {
            &self.other
        }
    }
}

fn certificates() -> Certificates {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let signed = |names: Vec<String>, group: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "somebody");
        params.distinguished_name.push(DnType::OrganizationName, group);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    Certificates {
        server: signed(vec!["127.0.0.1".into()], ""),
        admin: signed(vec!["client".into()], "system:masters"),
        other: signed(vec!["client".into()], "others"),
        ca,
    }
}

/// A kubelet in a directory and a cgroup of its own.
struct Node {
    api: Api,
    runtime: Runtime,
    dir: tempfile::TempDir,
    cgroup: String,
    port: u16,
    certificates: Certificates,
    running: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.dir.path().canonicalize().unwrap();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if std::path::Path::new(point).starts_with(&root) {
                let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        for controller in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            remove_cgroup(&controller.path().join(self.cgroup.trim_matches('/')));
        }
        remove_cgroup(&PathBuf::from("/sys/fs/cgroup").join(self.cgroup.trim_matches('/')));
    }
}

fn remove_cgroup(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::serve(&dir.path().join("cri.sock"));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut node = Self {
            api: Api::new(),
            runtime,
            cgroup: format!("/skiff-kubelet-test-{}-{number}", std::process::id()),
            dir,
            port: 0,
            certificates: certificates(),
            running: None,
        };
        node.boot().await;
        node
    }

    /// Starts the kubelet and waits until its node is ready.
    async fn boot(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.port = listener.local_addr().unwrap().port();
        let dir = self.dir.path();
        let config = Config {
            node_name: "n1".into(),
            node_ip: "127.0.0.1".parse().unwrap(),
            root_dir: dir.join("kubelet"),
            log_dir: dir.join("pods"),
            container_log_dir: dir.join("containers"),
            cri_endpoint: dir.join("cri.sock"),
            server: ServerConfig {
                listener,
                certificate_pem: self.certificates.server.0.clone(),
                key_pem: self.certificates.server.1.clone(),
                client_ca_pem: self.certificates.ca.clone(),
            },
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            cgroup_root: self.cgroup.clone(),
            labels: [("tier".to_string(), "test".to_string())].into(),
            taints: Vec::new(),
            max_pods: 110,
            // However full the disk of the machine that runs the tests is.
            eviction_hard: "memory.available<1Mi".parse().unwrap(),
            version: "v1.37.0".into(),
            resolv_conf: dir.join("resolv.conf"),
        };
        let shutdown = CancellationToken::new();
        let run = skiff_kubelet::run(config, self.api.client(), shutdown.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        self.running = Some((shutdown, task));
        self.api
            .wait("a ready node", |api| {
                let node = api.get("nodes", "", "n1")?;
                (condition(&node, "Ready")? == "True").then_some(())
            })
            .await;
    }

    async fn shut_down(&mut self) {
        let (shutdown, task) = self.running.take().unwrap();
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), task)
            .await
            .unwrap()
            .unwrap();
    }

    fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = "n1".into();
        self.api.create(
            "pods",
            json!({ "apiVersion": "v1", "kind": "Pod",
                "metadata": { "namespace": "default", "name": name, "labels": { "app": name } },
                "spec": spec, "status": { "phase": "Pending" } }),
        );
    }

    async fn pod<T>(&self, name: &str, what: &str, mut check: impl FnMut(&Value) -> Option<T>) -> T {
        self.api
            .wait(what, |api| check(&api.get("pods", "default", name)?))
            .await
    }

    async fn ready(&self, name: &str) {
        self.pod(name, "a ready pod", |pod| {
            (condition(pod, "Ready")? == "True").then_some(())
        })
        .await;
    }

    fn delete(&self, name: &str, grace: i64) {
        let patch = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace } });
        self.api.patch("pods", "default", name, &patch);
    }

    async fn gone(&self, name: &str) {
        self.api
            .wait("the pod's end", |api| {
                api.get("pods", "default", name).is_none().then_some(())
            })
            .await;
    }

    async fn event(&self, reason: &str, message: &str) {
        self.api
            .wait(&format!("event {reason} {message:?}"), |api| {
                let events = api.list("events");
                let found = events
                    .iter()
                    .any(|e| e["reason"] == reason && e["message"].as_str().unwrap().starts_with(message));
                found.then_some(())
            })
            .await;
    }

    /// GETs a path of the kubelet's server, with or without a client certificate.
    async fn get(&self, path: &str, with_certificate: bool) -> (u16, String) {
        self.get_as(path, with_certificate.then_some("system:masters"), "")
            .await
    }

    /// GETs a path with a certificate of this group, or with a token.
    async fn get_as(&self, path: &str, group: Option<&str>, token: &str) -> (u16, String) {
        use http_body_util::BodyExt;
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.certificates.ca.as_bytes()).unwrap())
            .unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if let Some(group) = group {
            let (certificate, key) = self.certificates.client(group);
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path)
            .header("host", "127.0.0.1")
            .header("authorization", format!("Bearer {token}"))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn condition(object: &Value, kind: &str) -> Option<String> {
    let list = object["status"]["conditions"].as_array()?;
    let condition = list.iter().find(|condition| condition["type"] == kind)?;
    Some(condition["status"].as_str()?.to_string())
}

fn waiting(pod: &Value) -> Option<&str> {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_itself_and_keeps_its_lease() {
    let node = Node::start().await;
    let object = node.api.get("nodes", "", "n1").unwrap();
    let labels = &object["metadata"]["labels"];
    assert_eq!(
        (labels["kubernetes.io/hostname"].as_str(), labels["tier"].as_str()),
        (Some("n1"), Some("test"))
    );
    assert_eq!(
        object["status"]["nodeInfo"]["containerRuntimeVersion"],
        "double://1"
    );
    assert_eq!(
        object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"],
        node.port
    );
    assert_eq!(object["status"]["capacity"]["pods"], "110");
    node.event("NodeReady", "Node n1 status is now: NodeReady").await;
    let events = node.api.list("events");
    let ready = events
        .iter()
        .find(|event| event["reason"] == "NodeReady")
        .unwrap();
    assert_eq!(
        ready["involvedObject"],
        json!({ "kind": "Node", "name": "n1", "uid": "n1" })
    );
    assert_eq!(ready["source"], json!({ "component": "kubelet", "host": "n1" }));
    let lease = node
        .api
        .wait("a lease", |api| api.get("leases", "kube-node-lease", "n1"))
        .await;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    node.api.patch(
        "nodes",
        "",
        "n1",
        &json!({ "spec": { "podCIDR": "10.244.0.0/24" } }),
    );
    node.runtime.asked("pod cidr 10.244.0.0/24").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_comes_and_goes_in_the_right_order() {
    let node = Node::start().await;
    node.create(
        "web",
        json!({
            "initContainers": [{ "name": "init", "image": "x:1" }],
            "containers": [{ "name": "main", "image": "x:1",
                "lifecycle": { "preStop": { "exec": { "command": ["true"] } } } }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30 }),
    );
    node.pod("web", "the init container", |pod| {
        pod["status"]["initContainerStatuses"][0]["state"]["running"]
            .is_object()
            .then_some(())
    })
    .await;
    node.runtime.exit("init", 0);
    node.ready("web").await;
    let pod = node.api.get("pods", "default", "web").unwrap();
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "127.0.0.1");
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    assert!(id.starts_with("double://main-0-"), "{id}");
    node.event("Pulling", "Pulling image \"x:1\"").await;
    node.event("Pulled", "Successfully pulled image \"x:1\" in ")
        .await;
    node.event("Pulled", "Container image \"x:1\" already present on machine")
        .await;
    node.event("Started", "Container started").await;

    let dir = node
        .dir
        .path()
        .join("kubelet/pods")
        .join(pod["metadata"]["uid"].as_str().unwrap());
    let hosts = std::fs::read_to_string(dir.join("etc-hosts")).unwrap();
    assert!(hosts.contains("127.0.0.1\tweb\n"), "{hosts}");
    assert_eq!(
        std::fs::read_dir(node.dir.path().join("containers"))
            .unwrap()
            .count(),
        2
    );

    node.delete("web", 30);
    node.gone("web").await;
    node.event("Killing", "Stopping container main").await;
    assert_eq!(
        node.runtime.calls(),
        [
            "sandbox web 0",
            "pull x:1",
            "create init 0",
            "start init",
            "create main 0",
            "start main",
            "exec true",
            "stop main within 30",
            "stop sandbox-web-0",
            "remove main 0",
            "remove init 0",
            "remove sandbox-web-0",
        ]
    );
    assert!(!dir.exists());
    assert_eq!(
        std::fs::read_dir(node.dir.path().join("containers"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(node.dir.path().join("pods")).unwrap().count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashing_container_is_restarted_at_once_and_then_with_back_off() {
    let node = Node::start().await;
    node.create(
        "crash",
        json!({ "containers": [{ "name": "c", "image": "x:1" }] }),
    );
    node.ready("crash").await;
    node.runtime.exit("c", 3);
    node.pod("crash", "the first restart", |pod| {
        let container = &pod["status"]["containerStatuses"][0];
        (container["restartCount"] == 1 && container["state"]["running"].is_object()).then_some(())
    })
    .await;
    node.runtime.exit("c", 4);
    let pod = node
        .pod("crash", "the back-off", |pod| {
            (waiting(pod) == Some("CrashLoopBackOff")).then(|| pod.clone())
        })
        .await;
    let container = &pod["status"]["containerStatuses"][0];
    let message = container["state"]["waiting"]["message"].as_str().unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        message,
        format!("back-off 10s restarting failed container=c pod=crash_default({uid})")
    );
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 4);
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(condition(&pod, "Ready").as_deref(), Some("False"));
    node.event(
        "BackOff",
        "Back-off restarting failed container c in pod crash_default(",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_succeeds_frees_its_sandbox_and_keeps_its_log() {
    let node = Node::start().await;
    node.create(
        "job",
        json!({ "containers": [{ "name": "c", "image": "x:1" }], "restartPolicy": "Never" }),
    );
    node.ready("job").await;
    node.runtime.exit("c", 0);
    node.pod("job", "success", |pod| {
        let stopped = condition(pod, "PodReadyToStartContainers")? == "False";
        (pod["status"]["phase"] == "Succeeded" && stopped).then_some(())
    })
    .await;
    assert!(node.runtime.calls().contains(&"stop sandbox-job-0".into()));
    assert_eq!(
        node.get("/containerLogs/default/job/c", true).await,
        (200, "hello\n".into())
    );
    node.delete("job", 0);
    node.gone("job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_fails_is_tried_again_but_not_hurried() {
    let node = Node::start().await;
    node.runtime.set_disconnected(true);
    let created = Instant::now();
    node.create("p", json!({ "containers": [{ "name": "c", "image": "x:1" }] }));
    let message = "Failed to create pod sandbox: rpc error: code = Unknown desc = no network";
    node.event("FailedCreatePodSandBox", message).await;
    node.runtime.set_disconnected(false);
    node.ready("p").await;
    assert!(created.elapsed() >= Duration::from_secs(1));
    let calls = node.runtime.calls();
    let made = calls.iter().filter(|call| *call == "sandbox p 0").count();
    assert_eq!(made, 2, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_is_told_and_pulled_when_it_comes() {
    let node = Node::start().await;
    node.runtime.lose_image("nope:latest");
    node.create("p", json!({ "containers": [{ "name": "c", "image": "nope" }] }));
    node.pod("p", "the failed pull", |pod| {
        (waiting(pod) == Some("ErrImagePull")).then_some(())
    })
    .await;
    let pod = node
        .pod("p", "the back-off", |pod| {
            (waiting(pod) == Some("ImagePullBackOff")).then(|| pod.clone())
        })
        .await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(
        *message,
        "Back-off pulling image \"nope\": ErrImagePull: rpc error: code = NotFound desc = nope:latest: not found"
    );
    node.event(
        "Failed",
        "Failed to pull image \"nope\": rpc error: code = NotFound",
    )
    .await;
    node.event("BackOff", "Back-off pulling image \"nope\"").await;
    node.event("Failed", "Error: ErrImagePull").await;
    node.event("Failed", "Error: ImagePullBackOff").await;
    let events = node.api.list("events");
    let back_off = events.iter().find(|event| event["reason"] == "BackOff").unwrap();
    assert_eq!(back_off["involvedObject"]["fieldPath"], "spec.containers{c}");
    assert_eq!(
        (&back_off["type"], &back_off["source"]["host"]),
        (&json!("Normal"), &json!("n1"))
    );
    node.runtime.find_image("nope:latest");
    node.ready("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_config_map_is_told_and_mounted_when_it_comes() {
    let node = Node::start().await;
    node.create(
        "p",
        json!({ "containers": [{ "name": "c", "image": "x:1",
                "env": [{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "cfg", "key": "a" } } }],
                "volumeMounts": [{ "name": "v", "mountPath": "/v" }, { "name": "t", "mountPath": "/t" }] }],
            "volumes": [{ "name": "v", "configMap": { "name": "cfg" } },
                { "name": "t", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "token" } },
                    { "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } }] } }] }),
    );
    node.event(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"v\" : configmap \"cfg\" not found",
    )
    .await;
    node.api.create(
        "configmaps",
        json!({ "metadata": { "namespace": "default", "name": "cfg" }, "data": { "a": "1" } }),
    );
    node.ready("p").await;
    let (_, config) = node.runtime.container("c").unwrap();
    assert!(config.envs.iter().any(|env| env.key == "A" && env.value == "1"));
    let host = |path: &str| {
        let mount = config.mounts.iter().find(|m| m.container_path == path).unwrap();
        PathBuf::from(&mount.host_path)
    };
    assert_eq!(std::fs::read_to_string(host("/v").join("a")).unwrap(), "1");
    assert!(host("/v").ends_with("volumes/kubernetes.io~configmap/v"));
    assert_eq!(
        std::fs::read_to_string(host("/t").join("token")).unwrap(),
        "a token"
    );
    assert_eq!(
        std::fs::read_to_string(host("/t").join("labels")).unwrap(),
        "app=\"p\""
    );
    let patch = json!({ "metadata": { "labels": { "color": "red" } } });
    node.api.patch("pods", "default", "p", &patch);
    let labels = host("/t").join("labels");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while std::fs::read_to_string(&labels).unwrap() != "app=\"p\"\ncolor=\"red\"" {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the volume does not follow the labels"
        );
        tokio::task::yield_now().await;
    }
    let memory = nix::sys::statfs::statfs(&host("/t")).unwrap().filesystem_type();
    assert_eq!(memory, nix::sys::statfs::TMPFS_MAGIC);
    node.delete("p", 1);
    node.gone("p").await;
    assert!(!host("/t").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_kubelet_adopts_what_runs_and_ends_what_was_deleted_meanwhile() {
    let mut node = Node::start().await;
    for name in ["kept", "removed"] {
        node.create(name, json!({ "containers": [{ "name": name, "image": "x:1" }] }));
        node.ready(name).await;
    }
    node.shut_down().await;
    node.api.delete("pods", "default", "removed");
    let before = node.runtime.calls().len();
    node.boot().await;
    node.runtime.asked("remove sandbox-removed-0").await;
    let pod = node.api.get("pods", "default", "kept").unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(condition(&pod, "Ready").as_deref(), Some("True"));
    let since = node.runtime.calls().split_off(before);
    assert!(since.iter().all(|call| call.contains("removed")), "{since:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sandbox_is_replaced() {
    let node = Node::start().await;
    node.create("p", json!({ "containers": [{ "name": "c", "image": "x:1" }] }));
    node.ready("p").await;
    node.runtime.lose_sandbox("p");
    node.pod("p", "the second run", |pod| {
        let container = &pod["status"]["containerStatuses"][0];
        (container["restartCount"] == 1 && container["state"]["running"].is_object()).then_some(())
    })
    .await;
    assert!(node.runtime.calls().contains(&"sandbox p 1".into()));
    node.event(
        "SandboxChanged",
        "Pod sandbox changed, it will be killed and re-created.",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_make_a_container_ready_and_restart_a_sick_one() {
    let node = Node::start().await;
    let probe = |command: &str| json!({ "exec": { "command": [command] }, "periodSeconds": 1, "failureThreshold": 1 });
    node.create(
        "sick",
        json!({ "containers": [{ "name": "c", "image": "x:1",
            "readinessProbe": probe("true"), "livenessProbe": probe("false") }] }),
    );
    node.event("Unhealthy", "Liveness probe failed: ").await;
    node.event("Killing", "Container c failed liveness probe, will be restarted")
        .await;
    node.pod("sick", "the restart", |pod| {
        (pod["status"]["containerStatuses"][0]["restartCount"].as_i64()? >= 1).then_some(())
    })
    .await;
    node.create(
        "unready",
        json!({ "containers": [{ "name": "d", "image": "x:1", "readinessProbe": probe("false") }] }),
    );
    node.event("Unhealthy", "Readiness probe failed: ").await;
    let pod = node.api.get("pods", "default", "unready").unwrap();
    assert_eq!(condition(&pod, "Ready").as_deref(), Some("False"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_is_refused() {
    let node = Node::start().await;
    node.create(
        "big",
        json!({ "containers": [{ "name": "c", "image": "x:1", "resources": { "requests": { "cpu": "1000" } } }] }),
    );
    node.pod("big", "the refusal", |pod| {
        (pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "OutOfcpu").then_some(())
    })
    .await;
    assert!(node.runtime.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_only_who_may_ask() {
    let node = Node::start().await;
    for path in ["/healthz", "/pods", "/exec/default/p/c", "/metrics"] {
        assert_eq!(
            node.get(path, false).await,
            (401, "Unauthorized".into()),
            "{path}"
        );
        assert_eq!(node.get_as(path, None, "bad").await.0, 401, "{path}");
    }
    // Whom the API server lets do a part.
    for (group, token) in [(Some("others"), ""), (None, "good")] {
        let user = if token.is_empty() { "somebody" } else { "scraper" };
        assert_eq!(node.get_as("/metrics/resource", group, token).await.0, 200);
        let refused =
            |parts| format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[{parts}])\n");
        let pods = node.get_as("/pods", group, token).await;
        assert_eq!(pods, (403, refused("pods proxy")));
        let exec = node
            .get_as("/exec/default/p/c?command=id&output=1", group, token)
            .await;
        assert_eq!(exec, (403, refused("proxy")));
    }
    assert_eq!(node.get("/nothing/of/the/kind", true).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_what_upstreams_tells() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz", true).await, (200, "ok".into()));
    assert_eq!(node.get("/healthz/syncloop", true).await, (200, "ok".into()));
    assert_eq!(node.get("/healthz/none", true).await.0, 404);
    assert_eq!(
        node.get("/healthz?verbose", true).await.1,
        "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
    );
    for path in ["/pods", "/runningpods/"] {
        let (code, body) = node.get(path, true).await;
        assert_eq!(code, 200);
        assert!(body.contains("\"kind\":\"PodList\""), "{body}");
    }
    let configuration: Value = serde_json::from_str(&node.get("/configz", true).await.1).unwrap();
    let configuration = &configuration["kubeletconfig"];
    assert_eq!(
        (&configuration["maxPods"], &configuration["clusterDNS"]),
        (&json!(110), &json!(["10.96.0.10"]))
    );
    assert!(
        node.get("/metrics/cadvisor", true)
            .await
            .1
            .contains("machine_cpu_cores ")
    );
    assert_eq!(
        node.get("/containerLogs/default/none/c", true).await,
        (404, "pod \"none\" does not exist".into())
    );
}
