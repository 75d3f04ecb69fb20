//! The cluster's own life: stop and start with containers that keep running, deletion that leaves nothing, and starts
//! that cannot succeed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use skiff_tests::{Cli, Cluster, eventually, run, skiff_binary};

/// Each container of a pod: its id, its restart count, and its state's name.
fn containers(pod: &Value) -> Vec<(String, u64, String)> {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .expect("container statuses");
    let state = |status: &Value| {
        status["state"]
            .as_object()
            .and_then(|state| state.keys().next().cloned())
    };
    statuses
        .iter()
        .map(|status| {
            let id = status["containerID"].as_str().unwrap_or_default().to_string();
            (
                id,
                status["restartCount"].as_u64().unwrap_or_default(),
                state(status).unwrap_or_default(),
            )
        })
        .collect()
}

/// The processes whose command line contains a text.
fn processes(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(text) && pid != std::process::id() {
            found.push(pid);
        }
    }
    found
}

/// A Deployment of two pods, available.
fn serve_web(cluster: &Cluster) {
    cluster
        .kubectl(&["create", "deployment", "web", "--image=nginx", "--replicas=2"])
        .success();
    cluster.wait_for("condition=Available", "deployment/web");
}

#[test]
fn containers_keep_running_while_the_cluster_is_stopped_and_are_adopted_by_the_next_start() {
    let cluster = Cluster::start();
    serve_web(&cluster);
    let marker = format!("{}", 100_000 + std::process::id());
    cluster
        .kubectl(&["run", "sleeper", "--image=busybox", "--", "sleep", &marker])
        .success();
    cluster.wait_for("condition=Ready", "pod/sleeper");
    // One ends while nobody looks.
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: ends}\nspec:\n  restartPolicy: Never\n  containers:\n\
                    \x20 - {name: c, image: busybox, command: [sh, -c, 'until [ -e /gate/open ]; do sleep 0.1; done; exit 7'],\n\
                    \x20    volumeMounts: [{name: gate, mountPath: /gate}]}\n  volumes:\n  - {name: gate, hostPath: {path: GATE}}\n";
    let gate = cluster.path("gate");
    fs::create_dir(&gate).unwrap();
    let file = cluster.manifest(
        "ends.yaml",
        &manifest.replace("GATE", &gate.display().to_string()),
    );
    cluster.kubectl(&["apply", "-f", &file]).success();
    cluster.wait_for("condition=Ready", "pod/ends");

    let before: Vec<Value> = cluster.get(&["pods"])["items"].as_array().unwrap().clone();
    let sleepers = processes(&format!("sleep {marker}"));
    assert_eq!(sleepers.len(), 1);
    assert!(cluster.skiff(&["status"]).success().contains("host: Running"));

    let stopped = cluster.skiff(&["stop"]).success();
    assert!(stopped.contains("stopped"), "{stopped}");
    let status = cluster.skiff(&["status"]);
    assert_eq!(status.code, Some(7));
    assert!(
        status
            .stdout
            .contains("host: Stopped\nkubelet: Stopped\napiserver: Stopped"),
        "{}",
        status.stdout
    );
    assert_eq!(processes(&format!("sleep {marker}")), sleepers);
    fs::write(gate.join("open"), "").unwrap();
    eventually(
        "the container that may end has ended",
        Duration::from_secs(20),
        || {
            if processes("until [ -e /gate/open ]").is_empty() {
                Ok(())
            } else {
                Err("it runs".into())
            }
        },
    );

    // Without flags: the cluster is started as it was.
    let started = cluster.skiff(&["start"]).success();
    assert!(started.contains("Done!"), "{started}");
    cluster.until(
        Cli::Kubectl,
        &["get", "pod", "ends"],
        "the exit is known",
        |text| text.contains("Error"),
    );
    let ended = cluster.get(&["pod", "ends"]);
    assert_eq!(
        ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        7
    );
    assert_eq!(ended["status"]["phase"], "Failed");
    assert_eq!(
        processes(&format!("sleep {marker}")),
        sleepers,
        "the container was restarted"
    );
    for pod in before {
        let name = pod["metadata"]["name"].as_str().unwrap();
        if name != "ends" {
            let now = cluster.get(&["pod", name]);
            assert_eq!(containers(&now), containers(&pod), "{name}");
            assert_eq!(now["status"]["podIP"], pod["status"]["podIP"], "{name}");
        }
    }
    // The adopted containers are under control: a deletion reaches them.
    cluster
        .kubectl(&["delete", "pod", "sleeper", "--grace-period=1"])
        .success();
    assert_eq!(processes(&format!("sleep {marker}")), Vec::<u32>::new());
}

#[test]
fn a_killed_server_loses_nothing_and_its_containers_are_adopted() {
    let cluster = Cluster::start();
    serve_web(&cluster);
    let before = cluster.get(&["pods"]);
    cluster
        .kubectl(&["create", "configmap", "last-words", "--from-literal=a=b"])
        .success();
    let pid = fs::read_to_string(cluster.path("run/skiff.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the server is gone", Duration::from_secs(20), || {
        let output = cluster.skiff(&["status"]).stdout;
        if output.contains("host: Stopped") {
            Ok(())
        } else {
            Err(output)
        }
    });
    cluster.skiff(&["start"]).success();
    assert_eq!(cluster.get(&["configmap", "last-words"])["data"]["a"], "b");
    let after = cluster.get(&["pods"]);
    for (old, new) in before["items"]
        .as_array()
        .unwrap()
        .iter()
        .zip(after["items"].as_array().unwrap())
    {
        assert_eq!(containers(old), containers(new));
    }
}

#[test]
fn a_deleted_cluster_leaves_nothing_on_the_machine() {
    let mut cluster = Cluster::start();
    serve_web(&cluster);
    assert!(
        cluster
            .skiff(&["image", "ls"])
            .success()
            .contains("docker.io/library/nginx:latest")
    );
    let deleted = cluster.delete();
    assert!(deleted.contains("is deleted"), "{deleted}");

    let root = cluster.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    assert_eq!(processes(root), Vec::<u32>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root), "{mounts}");
    assert!(!Path::new("/sys/class/net").join(cluster.bridge()).exists());
    let tables = run(Command::new("nft").args(["list", "tables"])).success();
    assert!(!tables.contains(&cluster.bridge()), "{tables}");
    for hierarchy in ["", "memory", "cpu", "pids", "systemd", "unified"] {
        let cgroup = Path::new("/sys/fs/cgroup")
            .join(hierarchy)
            .join(cluster.cgroup_root().trim_start_matches('/'));
        assert!(!cgroup.exists(), "{}", cgroup.display());
    }
    for path in ["state", "run", "config/admin.kubeconfig"] {
        assert!(!cluster.path(path).exists(), "{path}");
    }
    for directory in ["log/pods", "log/containers"] {
        let left: Vec<_> = fs::read_dir(cluster.path(directory))
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let kubeconfig = fs::read_to_string(cluster.path("kubeconfig")).unwrap();
    assert!(!kubeconfig.contains("name: skiff"), "{kubeconfig}");
    assert_eq!(cluster.skiff(&["status"]).code, Some(85));
}

/// A network interface that goes with the test.
struct Interface(&'static str);

impl Interface {
    fn with_address(name: &'static str, address: &str) -> Self {
        run(Command::new("ip").args(["link", "add", name, "type", "bridge"])).success();
        let interface = Self(name);
        run(Command::new("ip").args(["address", "add", address, "dev", name])).success();
        run(Command::new("ip").args(["link", "set", name, "up"])).success();
        interface
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        run(Command::new("ip").args(["link", "delete", self.0]));
    }
}

#[test]
fn a_start_that_cannot_succeed_says_what_is_missing() {
    let cluster = Cluster::new();
    let taken = TcpListener::bind(("127.0.0.1", cluster.port())).unwrap();
    let error = cluster.skiff_start().failure();
    let expected = format!(
        "API server: port {} is in use by another program (choose another with --port)",
        cluster.port()
    );
    assert!(error.contains(&expected), "{error}");
    drop(taken);

    // The pods' addresses on another interface, as another cluster's bridge would have them.
    let other = Interface::with_address("skt-other", &format!("{}7.1/24", cluster.pod_prefix()));
    let error = cluster.skiff_start().failure();
    assert!(
        error.contains("7.0/24 is in use by the interface skt-other (choose others with --cluster-cidr)"),
        "{error}"
    );
    drop(other);

    let copy = cluster.path("skiff");
    fs::copy(skiff_binary(), &copy).unwrap();
    run(Command::new("chmod")
        .args(["755"])
        .arg(cluster.path(""))
        .arg(&copy))
    .success();
    let error = run(Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .arg("start"));
    assert!(
        error.clone().failure().contains("Skiff must run as root"),
        "{error:?}"
    );

    let error = run(Command::new(&copy).arg("start").env("PATH", "/nonexistent")).failure();
    assert!(
        error.contains("nft cannot be run") && error.contains("install the package `nftables`"),
        "{error}"
    );
}

#[test]
fn a_machine_without_a_network_has_a_cluster() {
    let cluster = Cluster::without_network();
    cluster.skiff_start().success();
    let node = cluster.get(&["node", "node-1"]);
    let address = node["status"]["addresses"][0]["address"].as_str().unwrap();
    // The pods' bridge's: no other address is there.
    let bridge = format!("{}0.1", cluster.pod_prefix());
    assert_eq!(address, bridge, "{node}");
    let archive = skiff_tests::image_cache().join("busybox.tar");
    cluster
        .skiff(&["image", "load", archive.to_str().unwrap()])
        .success();
    cluster
        .kubectl(&[
            "run",
            "web",
            "--image=busybox",
            "--image-pull-policy=Never",
            "--",
            "sleep",
            "3600",
        ])
        .success();
    cluster.wait_for("condition=Ready", "pod/web");
    let before = containers(&cluster.get(&["pod", "web"]));
    // Started again it is known by the same address, though now the bridge is there before it.
    cluster.skiff(&["stop"]).success();
    cluster.skiff_start().success();
    let node = cluster.get(&["node", "node-1"]);
    assert_eq!(node["status"]["addresses"][0]["address"], bridge, "{node}");
    cluster.wait_for("condition=Ready", "pod/web");
    assert_eq!(containers(&cluster.get(&["pod", "web"])), before);
    // The API server reaches the kubelet there, and the pod the API server.
    let said = cluster.kubectl(&["exec", "web", "--", "echo", "here"]).success();
    assert_eq!(said, "here\n");
}
