//! What a pod's manifest says, as the container finds it; and how workloads change and go away.

use std::time::{Duration, Instant};

use serde_json::Value;
use skiff_tests::{Cli, Cluster, eventually};

fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

#[test]
fn a_container_finds_its_environment_volumes_limits_and_identity() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=color=blue",
            "--from-literal=size=7",
        ])
        .success();
    cluster
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "keys",
            "--from-literal=password=s3cret",
        ])
        .success();
    let script = "set -e; echo color=$COLOR size=$size password=$PASSWORD pod=$POD_NAME args=\"$0 $1\"; \
                  echo file=$(cat /etc/settings/color) secret=$(cat /etc/keys/password) mode=$(stat -L -c %a /etc/keys/password); \
                  echo shared > /scratch/x; echo host=$(hostname); grep -c . /var/run/secrets/kubernetes.io/serviceaccount/token; \
                  cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
                  grep -q BEGIN /var/run/secrets/kubernetes.io/serviceaccount/ca.crt && echo ca; \
                  cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max; \
                  echo kube=$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; sleep 3600";
    let spec = format!(
        "  hostname: chosen\n  containers:\n  - name: main\n    image: busybox\n    command: [sh, -c, {script:?}]\n    args: [zero, \"$(POD_NAME)-one\"]\n\
         \x20   env:\n    - {{name: COLOR, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}\n\
         \x20   - {{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: keys, key: password}}}}}}\n\
         \x20   - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}\n\
         \x20   envFrom:\n    - configMapRef: {{name: settings}}\n\
         \x20   resources: {{limits: {{memory: 64Mi, cpu: 200m}}, requests: {{memory: 32Mi}}}}\n\
         \x20   volumeMounts:\n    - {{name: settings, mountPath: /etc/settings}}\n    - {{name: keys, mountPath: /etc/keys}}\n    - {{name: scratch, mountPath: /scratch}}\n\
         \x20 - name: other\n    image: busybox\n    command: [sh, -c, 'until [ -e /scratch/x ]; do sleep 0.1; done; cat /scratch/x; [ ! -e /etc/keys ] && hostname; sleep 3600']\n\
         \x20   volumeMounts:\n    - {{name: scratch, mountPath: /scratch}}\n\
         \x20 volumes:\n  - {{name: settings, configMap: {{name: settings}}}}\n  - {{name: keys, secret: {{secretName: keys, defaultMode: 0400}}}}\n  - {{name: scratch, emptyDir: {{}}}}\n"
    );
    let file = cluster.manifest("all.yaml", &pod("all", &spec));
    cluster.kubectl(&["apply", "-f", &file]).success();
    cluster.wait_for("condition=Ready", "pod/all");
    let log = cluster.until(
        Cli::Kubectl,
        &["logs", "all", "-c", "main"],
        "the script is through",
        |log| log.contains("kube="),
    );
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[0],
        "color=blue size=7 password=s3cret pod=all args=zero all-one"
    );
    assert_eq!(lines[1], "file=blue secret=s3cret mode=400");
    assert_eq!(&lines[2..6], ["host=chosen", "1", "default", "ca"]);
    assert_eq!(lines[6], (64 * 1024 * 1024).to_string());
    assert!(
        lines[7].starts_with("kube=10.") && lines[7].ends_with(":443"),
        "{log}"
    );
    let other = cluster.until(
        Cli::Kubectl,
        &["logs", "all", "-c", "other"],
        "the other is through",
        |log| log.lines().count() == 2,
    );
    assert_eq!(other, "shared\nchosen\n");

    let error = cluster.kubectl(&["logs", "all", "-c", "nobody"]).failure();
    assert!(
        error.contains("container nobody is not valid for pod all"),
        "{error}"
    );
    let described = cluster.get(&["pod", "all"]);
    assert_eq!(described["status"]["qosClass"], "Burstable");
    let node = cluster.get(&["node", "node-1"]);
    assert_eq!(
        described["status"]["hostIP"],
        node["status"]["addresses"][0]["address"]
    );
    let node = cluster.kubectl(&["describe", "node", "node-1"]).success();
    assert!(
        node.contains("Allocated resources") && node.contains("default                     all"),
        "{node}"
    );

    // A change of the ConfigMap reaches the mounted file.
    cluster
        .kubectl(&[
            "patch",
            "configmap",
            "settings",
            "-p",
            r#"{"data":{"color":"green"}}"#,
        ])
        .success();
    let uid = described["metadata"]["uid"].as_str().unwrap();
    let mounted = cluster.path(&format!(
        "state/kubelet/pods/{uid}/volumes/kubernetes.io~configmap/settings/color"
    ));
    eventually(
        "the file follows",
        Duration::from_secs(120),
        || match std::fs::read_to_string(&mounted) {
            Ok(text) if text == "green" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}

#[test]
fn a_pod_gets_its_grace_and_no_more() {
    let cluster = Cluster::start();
    let polite = "  terminationGracePeriodSeconds: 30\n  containers:\n  - {name: c, image: busybox, command: [sh, -c, \
                  'trap \"echo bye; exit 0\" TERM; echo up; while :; do sleep 0.1; done']}\n";
    let stubborn = "  terminationGracePeriodSeconds: 2\n  containers:\n  - {name: c, image: busybox, command: [sh, -c, \
                    'trap \"echo no\" TERM; echo up; while :; do sleep 0.1; done']}\n";
    for (name, spec) in [("polite", polite), ("stubborn", stubborn)] {
        let file = cluster.manifest("pod.yaml", &pod(name, spec));
        cluster.kubectl(&["apply", "-f", &file]).success();
        cluster.until(Cli::Kubectl, &["logs", name], "it traps the signal", |log| {
            log.contains("up")
        });
    }
    let mut follow = cluster.cli_command(Cli::Kubectl);
    let follow = follow
        .args(["logs", "-f", "polite"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    cluster.kubectl(&["delete", "pod", "polite"]).success();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "SIGTERM did not end it: {:?}",
        start.elapsed()
    );
    let log = follow.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&log.stdout), "up\nbye\n");

    let start = Instant::now();
    cluster.kubectl(&["delete", "pod", "stubborn"]).success();
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "SIGKILL came before the grace was over: {:?}",
        start.elapsed()
    );
    let events = cluster.kubectl(&["get", "events"]).success();
    assert!(events.contains("Stopping container c"), "{events}");
}

#[test]
fn a_deployment_rolls_to_a_new_version_and_back() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&["create", "deployment", "web", "--image=nginx", "--replicas=3"])
        .success();
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])
        .success();
    let writers = |object: &Value| -> Vec<(String, String)> {
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_string();
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let mut writers: Vec<_> = entries
            .map(|entry| (text(entry, "manager"), text(entry, "subresource")))
            .collect();
        writers.sort();
        writers
    };
    let owner = |manager: &str, subresource: &str| (manager.to_string(), subresource.to_string());
    let web = cluster.get(&["deployment", "web", "--show-managed-fields"]);
    // The controller's own notes are no new wish.
    assert_eq!(
        (
            &web["metadata"]["generation"],
            &web["status"]["observedGeneration"]
        ),
        (&1.into(), &1.into())
    );
    assert_eq!(
        writers(&web),
        [
            owner("kube-controller-manager", "status"),
            owner("kubectl-create", "")
        ]
    );
    let pods = cluster.get(&["pods", "-l", "app=web", "--show-managed-fields"]);
    assert_eq!(
        writers(&pods["items"][0]),
        [owner("kube-controller-manager", ""), owner("kubelet", "status")]
    );
    cluster
        .kubectl(&["set", "image", "deployment/web", "nginx=nginx:1.22"])
        .success();
    let status = cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])
        .success();
    assert!(status.contains("successfully rolled out"), "{status}");
    let images = |cluster: &Cluster| -> Vec<String> {
        let pods = cluster.get(&["pods", "-l", "app=web"]);
        let live = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        live.map(|pod| {
            pod["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap()
                .to_string()
        })
        .collect()
    };
    assert_eq!(images(&cluster), ["nginx:1.22", "nginx:1.22", "nginx:1.22"]);
    let history = cluster
        .kubectl(&["rollout", "history", "deployment/web"])
        .success();
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/web"]).success();
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])
        .success();
    assert_eq!(images(&cluster), ["nginx", "nginx", "nginx"]);
    // A version that cannot run stops the rollout: the old pods stay.
    cluster
        .kubectl(&["set", "image", "deployment/web", "nginx=nginx:nonexistent"])
        .success();
    cluster.until(Cli::Kubectl, &["get", "pods"], "the new version fails", |text| {
        text.contains("ImagePullBackOff") || text.contains("ErrImagePull")
    });
    let deployment = cluster.get(&["deployment", "web"]);
    assert!(
        deployment["status"]["availableReplicas"].as_u64().unwrap() >= 2,
        "{}",
        deployment["status"]
    );
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", "custom"]).success();
    cluster.until(
        Cli::Kubectl,
        &["get", "sa,cm", "-n", "custom"],
        "its account and authority are there",
        |text| text.contains("serviceaccount/default") && text.contains("configmap/kube-root-ca.crt"),
    );
    cluster
        .kubectl(&["create", "deployment", "web", "--image=nginx", "-n", "custom"])
        .success();
    cluster
        .kubectl(&[
            "wait",
            "-n",
            "custom",
            "--for=condition=Available",
            "deployment/web",
            "--timeout=90s",
        ])
        .success();
    cluster.kubectl(&["delete", "namespace", "custom"]).success();
    let error = cluster.kubectl(&["get", "namespace", "custom"]).failure();
    assert_eq!(
        error,
        "Error from server (NotFound): namespaces \"custom\" not found\n"
    );
    let pods = cluster.get(&["pods", "-A"]);
    assert_eq!(pods["items"].as_array().unwrap().len(), 0);
    let error = cluster.kubectl(&["delete", "namespace", "kube-system"]).failure();
    assert!(error.contains("this namespace may not be deleted"), "{error}");
}

#[test]
fn the_scheduler_says_why_a_pod_stays_pending_and_places_it_when_a_node_fits() {
    let cluster = Cluster::start();
    let specs = [
        (
            "huge",
            "  containers:\n  - {name: c, image: busybox, resources: {requests: {cpu: '1000'}}}\n",
        ),
        (
            "picky",
            "  nodeSelector: {gpu: 'true'}\n  containers:\n  - {name: c, image: busybox, command: [sleep, '3600']}\n",
        ),
    ];
    for (name, spec) in specs {
        let file = cluster.manifest("pod.yaml", &pod(name, spec));
        cluster.kubectl(&["apply", "-f", &file]).success();
    }
    let expected = [
        ("huge", "0/1 nodes are available: 1 Insufficient cpu."),
        (
            "picky",
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
    ];
    for (name, text) in expected {
        let described = cluster.until(
            Cli::Kubectl,
            &["describe", "pod", name],
            "it says why",
            |described| described.contains("FailedScheduling"),
        );
        assert!(described.contains(text), "{described}");
        assert!(
            described.contains("Status:           Pending") || described.contains("Pending"),
            "{described}"
        );
    }
    cluster
        .kubectl(&["label", "node", "node-1", "gpu=true"])
        .success();
    cluster.wait_for("condition=Ready", "pod/picky");
    let found = cluster.kubectl(&["get", "nodes", "-l", "gpu=true"]).success();
    assert!(found.contains("node-1"), "{found}");
    let huge: Value = cluster.get(&["pod", "huge"]);
    assert_eq!(huge["status"]["phase"], "Pending");
}
