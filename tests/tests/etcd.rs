//! A cluster whose state is in a real etcd.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skiff_tests::{Cluster, bound, eventually, free_port, run};

/// An etcd of one member; it ends with the value.
struct Etcd {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (url, peer) = (
            format!("http://127.0.0.1:{}", free_port()),
            format!("http://127.0.0.1:{}", free_port()),
        );
        let process = bound("etcd")
            .args([
                "--name",
                "a",
                "--log-level",
                "error",
                "--initial-cluster",
                &format!("a={peer}"),
            ])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts (Debian's package etcd-server)");
        Self {
            process,
            url,
            _data: data,
        }
    }

    fn keys(&self) -> String {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &self.url,
            "get",
            "--prefix",
            "--keys-only",
            "/",
        ]);
        run(&mut etcdctl).success()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_cluster_lives_in_etcd_under_upstreams_keys() {
    let etcd = Etcd::start();
    let cluster = Cluster::new();
    cluster
        .skiff_start_with(&["--store", "etcd", "--etcd-servers", &etcd.url])
        .success();
    cluster
        .kubectl(&["create", "deployment", "web", "--image=nginx", "--replicas=2"])
        .success();
    cluster.wait_for("condition=Available", "deployment/web");
    let keys = etcd.keys();
    for key in [
        "/registry/deployments/default/web",
        "/registry/pods/default/web-",
        "/registry/minions/node-1",
        "/registry/services/specs/default/kubernetes",
        "/registry/leases/kube-node-lease/node-1",
    ] {
        assert!(keys.contains(key), "{key} in {keys}");
    }
    assert!(!cluster.path("state/db").exists());
    // Other servers may be on the same etcd: one of them runs the controllers, one the scheduler.
    let holder = |lease: &str| {
        let lease = cluster.get(&["-n", "kube-system", "lease", lease]);
        lease["spec"]["holderIdentity"].as_str().unwrap().to_string()
    };
    let leases = ["kube-controller-manager", "kube-scheduler"];
    let first = leases.map(holder);
    assert!(
        first.iter().all(|holder| holder.starts_with("node-1_")),
        "{first:?}"
    );

    // The next start finds everything there, and need not wait until the leases have run out.
    cluster.skiff(&["stop"]).success();
    cluster.skiff(&["start"]).success();
    eventually(
        "the leases have their next holder",
        Duration::from_secs(10),
        || {
            let next = leases.map(holder);
            let changed = next.iter().zip(&first).all(|(next, first)| next != first);
            if changed { Ok(()) } else { Err(format!("{next:?}")) }
        },
    );
    let pods = cluster.get(&["pods"]);
    assert_eq!(pods["items"].as_array().unwrap().len(), 2);
    cluster.kubectl(&["delete", "deployment", "web"]).success();
    eventually("its pods are gone from etcd too", Duration::from_secs(60), || {
        let keys = etcd.keys();
        if keys.contains("/registry/pods/default/web-") {
            Err(keys)
        } else {
            Ok(())
        }
    });
}
