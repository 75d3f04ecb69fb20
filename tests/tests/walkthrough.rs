//! The first steps of a user, typed as they would be: once with the real kubectl, once with Skiff's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use skiff_tests::{Cli, Cluster, eventually};

const WEBSERVER: &str = "apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: webserver
spec:
  replicas: 10
  selector:
    matchLabels:
      app: webfront
  template:
    metadata:
      labels:
        app: webfront
    spec:
      containers:
      - name: webfront
        image: nginx
        ports:
        - containerPort: 80
";

fn two_pods(environment: &str) -> String {
    let pod = |name: &str, app: &str, environment: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels:\n    app: {app}\n    env: {environment}\n\
             spec:\n  containers:\n  - name: main\n    image: busybox\n    command: [sleep, '3600']\n"
        )
    };
    format!(
        "{}---\n{}",
        pod("photo-view", "photo-view", environment),
        pod("photo-edit", "photo-edit", "prod")
    )
}

/// GET / over plain HTTP.
fn http_get(address: &str) -> Result<String, String> {
    let address = format!("{address}:80")
        .parse()
        .map_err(|error| format!("{address}: {error}"))?;
    let mut stream =
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(|error| error.to_string())?;
    stream
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

fn lines_with(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.contains(word)).count()
}

/// The words of each line below the header.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .skip(1)
        .map(|line| line.split_whitespace().map(str::to_string).collect())
        .collect()
}

fn cluster_and_node(cluster: &Cluster, cli: Cli) {
    let info = cluster.cli(cli, &["cluster-info"]).success();
    assert!(info.contains("Kubernetes control plane"), "{info}");
    assert!(
        info.contains(&format!("https://127.0.0.1:{}", cluster.port())),
        "{info}"
    );

    let nodes = cluster.cli(cli, &["get", "nodes"]).success();
    assert_eq!(
        nodes
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    );
    let row = &rows(&nodes)[0];
    assert_eq!(
        (row[0].as_str(), row[1].as_str(), row[2].as_str()),
        ("node-1", "Ready", "control-plane"),
        "{nodes}"
    );
    assert_eq!(row[4], "v1.37.0");

    let wide = cluster.cli(cli, &["get", "node", "-o", "wide"]).success();
    for column in [
        "INTERNAL-IP",
        "EXTERNAL-IP",
        "OS-IMAGE",
        "KERNEL-VERSION",
        "CONTAINER-RUNTIME",
    ] {
        assert!(wide.contains(column), "{wide}");
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(
        wide.contains(kernel.trim()) && wide.contains("skiff://"),
        "{wide}"
    );
}

fn hello_world(cluster: &Cluster, cli: Cli) {
    let created = cluster
        .cli(
            cli,
            &["run", "hello-world", "--image=hello-world", "--restart=Never"],
        )
        .success();
    assert_eq!(created, "pod/hello-world created\n");
    cluster.until(
        cli,
        &["get", "pod", "hello-world"],
        "hello-world is Completed",
        |text| text.contains("Completed"),
    );
    let logs = cluster.cli(cli, &["logs", "hello-world"]).success();
    assert!(logs.contains("Hello from"), "{logs}");
    let described = cluster.cli(cli, &["describe", "pod", "hello-world"]).success();
    for word in [
        "Successfully assigned default/hello-world to node-1",
        "Pulled",
        "Created",
        "Started",
        "Exit Code:    0",
    ] {
        assert!(described.contains(word), "{word} in {described}");
    }
    let deleted = cluster.cli(cli, &["delete", "pod", "hello-world"]).success();
    assert!(deleted.starts_with("pod \"hello-world\" deleted"), "{deleted}");
    let error = cluster.cli(cli, &["get", "pod", "hello-world"]).failure();
    assert_eq!(
        error,
        "Error from server (NotFound): pods \"hello-world\" not found\n"
    );
}

fn deployment(cluster: &Cluster, cli: Cli) {
    let created = cluster
        .cli(
            cli,
            &[
                "create",
                "deployment",
                "webserver",
                "--image=nginx",
                "--replicas=5",
            ],
        )
        .success();
    assert_eq!(created, "deployment.apps/webserver created\n");
    cluster.until(
        cli,
        &["get", "deployment", "webserver"],
        "five replicas are ready",
        |text| text.contains("5/5"),
    );
    let all = cluster.cli(cli, &["get", "all"]).success();
    assert_eq!(lines_with(&all, "pod/webserver-"), 5, "{all}");
    for word in [
        "deployment.apps/webserver",
        "replicaset.apps/webserver-",
        "service/kubernetes",
    ] {
        assert_eq!(lines_with(&all, word), 1, "{word} in {all}");
    }

    // The pods' addresses are on the pod network; they answer the host…
    let wide = cluster
        .cli(cli, &["get", "pods", "-l", "app=webserver", "-o", "wide"])
        .success();
    let addresses: Vec<String> = rows(&wide).into_iter().map(|row| row[5].clone()).collect();
    assert_eq!(addresses.len(), 5);
    for address in &addresses {
        assert!(address.starts_with(&cluster.pod_prefix()), "{wide}");
        assert!(http_get(address).unwrap().contains("Welcome to nginx!"));
    }
    // …and each other.
    let url = format!("http://{}/", addresses[0]);
    let arguments = [
        "run",
        "client",
        "--image=curlimages/curl",
        "--restart=Never",
        "--command",
        "--",
        "curl",
        "-sf",
    ];
    cluster.cli(cli, &[&arguments[..], &[&url]].concat()).success();
    cluster.until(cli, &["get", "pod", "client"], "the client is done", |text| {
        text.contains("Completed")
    });
    assert!(
        cluster
            .cli(cli, &["logs", "client"])
            .success()
            .contains("Welcome to nginx!")
    );
    cluster.cli(cli, &["delete", "pod", "client"]).success();

    // A deleted pod is replaced.
    let victim = rows(&wide)[0][0].clone();
    cluster.cli(cli, &["delete", "pod", &victim]).success();
    cluster.until(
        cli,
        &["get", "deployment", "webserver"],
        "five are ready again",
        |text| text.contains("5/5"),
    );
    let pods = cluster
        .cli(cli, &["get", "pods", "-l", "app=webserver"])
        .success();
    assert!(!pods.contains(&victim) && rows(&pods).len() == 5, "{pods}");

    // `-w` tells of what happens while it looks on.
    let mut watch = cluster.cli_command(cli);
    let mut watch = watch
        .args(["get", "pods", "-w", "-l", "app=webserver"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..6 {
        lines.next().unwrap().unwrap();
    }
    let scaled = cluster
        .cli(cli, &["scale", "deployment", "webserver", "--replicas=6"])
        .success();
    assert_eq!(scaled, "deployment.apps/webserver scaled\n");
    let seen = lines
        .map(Result::unwrap)
        .find(|line| line.contains("1/1") && line.contains("Running"));
    assert!(seen.is_some());
    watch.kill().unwrap();
    watch.wait().unwrap();

    cluster
        .cli(cli, &["scale", "deploy/webserver", "--replicas=2"])
        .success();
    cluster.until(
        cli,
        &["get", "pods", "-l", "app=webserver"],
        "two pods stay",
        |text| rows(text).len() == 2,
    );
    let described = cluster
        .cli(cli, &["describe", "deployment", "webserver"])
        .success();
    assert!(
        described.contains("Scaled down replica set webserver-"),
        "{described}"
    );
    cluster.cli(cli, &["delete", "deployment", "webserver"]).success();
    cluster.until(cli, &["get", "all"], "its replica set and pods go too", |text| {
        !text.contains("webserver")
    });
}

fn manifests(cluster: &Cluster, cli: Cli) {
    let file = cluster.manifest("webserver.yaml", WEBSERVER);
    assert_eq!(
        cluster.cli(cli, &["apply", "-f", &file]).success(),
        "replicaset.apps/webserver created\n"
    );
    cluster.until(
        cli,
        &["get", "rs", "webserver"],
        "ten replicas are ready",
        |text| rows(text)[0][3] == "10",
    );
    assert_eq!(
        cluster.cli(cli, &["delete", "-f", &file]).success(),
        "replicaset.apps \"webserver\" deleted\n"
    );
    cluster.until(cli, &["get", "pods"], "its pods go too", |text| {
        !text.contains("webserver")
    });

    let file = cluster.manifest("pods.yaml", &two_pods("test"));
    let created = cluster.cli(cli, &["apply", "-f", &file]).success();
    assert_eq!(created, "pod/photo-view created\npod/photo-edit created\n");
    let file = cluster.manifest("pods.yaml", &two_pods("dev"));
    let changed = cluster.cli(cli, &["apply", "-f", &file]).success();
    assert_eq!(changed, "pod/photo-view configured\npod/photo-edit unchanged\n");
    let labels = cluster.cli(cli, &["get", "pods", "--show-labels"]).success();
    assert!(labels.contains("app=photo-view,env=dev"), "{labels}");
    for (selector, expected) in [
        ("app=photo-view,env=dev", vec!["photo-view"]),
        ("env=prod", vec!["photo-edit"]),
        ("env!=prod", vec!["photo-view"]),
        ("env in (dev,prod)", vec!["photo-edit", "photo-view"]),
        ("env notin (prod)", vec!["photo-view"]),
        ("env", vec!["photo-edit", "photo-view"]),
        ("!env", vec![]),
    ] {
        let found = cluster.cli(cli, &["get", "pods", "-l", selector]).success();
        let names: Vec<String> = rows(&found).into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(names, expected, "{selector}");
    }
    for format in ["yaml", "json"] {
        let text = cluster
            .cli(cli, &["get", "pod", "photo-view", "-o", format])
            .success();
        for word in [
            "terminationGracePeriodSeconds",
            "kube-api-access-",
            "dnsPolicy",
            "qosClass",
            "uid",
        ] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    let deleted = cluster
        .cli(cli, &["delete", "-f", &file, "--grace-period=1"])
        .success();
    assert_eq!(lines_with(&deleted, "deleted"), 2, "{deleted}");
}

fn crash_loop(cluster: &Cluster, cli: Cli) {
    cluster
        .cli(
            cli,
            &["create", "deployment", "hello-world", "--image=hello-world"],
        )
        .success();
    let text = cluster.until(
        cli,
        &["get", "pods"],
        "the container is restarted with back-off",
        |text| {
            text.contains("CrashLoopBackOff")
                && rows(text)
                    .iter()
                    .any(|row| row[3].parse::<u32>().is_ok_and(|n| n >= 1))
        },
    );
    assert!(rows(&text).iter().all(|row| row[1] == "0/1"), "{text}");
    let deployments = cluster.cli(cli, &["get", "deployment"]).success();
    let row = &rows(&deployments)[0];
    assert_eq!(
        (row[1].as_str(), row[2].as_str(), row[3].as_str()),
        ("0/1", "1", "0"),
        "{deployments}"
    );
    cluster
        .cli(cli, &["delete", "deployment", "hello-world"])
        .success();
}

fn bad_input(cluster: &Cluster, cli: Cli) {
    let deployment = |spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: bad\nspec:\n  {spec}\n  selector:\n    matchLabels: {{a: b}}\n\
             \x20 template:\n    metadata:\n      labels: {{a: b}}\n    spec:\n      containers:\n      - name: c\n        image: nginx\n"
        )
    };
    for (manifest, expected) in [
        (
            deployment("replica: 3"),
            "Error from server (BadRequest): error when creating \"STDIN\": Deployment in version \"v1\" cannot be \
             handled as a Deployment: strict decoding error: unknown field \"spec.replica\"",
        ),
        (
            deployment("replicas: three"),
            "Error from server (BadRequest): error when creating \"STDIN\": Deployment in version \"v1\" cannot be \
             handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas \
             of type int32",
        ),
        (
            deployment("replicas: 1").replace("name: bad", "name: Bad_Name"),
            "The Deployment \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 \
             subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            "apiVersion: v1\nkind: Pot\nmetadata:\n  name: bad\n".to_string(),
            "no matches for kind \"Pot\" in version \"v1\"",
        ),
    ] {
        let error = cluster
            .cli_with_input(cli, &["create", "-f", "-"], &manifest)
            .failure();
        assert!(error.contains(expected), "{expected}\nin {error}");
    }
    let none = cluster.cli(cli, &["get", "deployments,pods"]).success();
    assert!(!none.contains("bad"), "{none}");

    cluster
        .cli(cli, &["run", "missing", "--image=no-such-image"])
        .success();
    cluster.until(
        cli,
        &["get", "pod", "missing"],
        "the pull fails and backs off",
        |text| text.contains("ImagePullBackOff"),
    );
    let described = cluster.cli(cli, &["describe", "pod", "missing"]).success();
    assert!(
        described.contains("Failed to pull image \"no-such-image\"") && described.contains("not found"),
        "{described}"
    );
    cluster
        .cli(cli, &["delete", "pod", "missing", "--grace-period=0", "--force"])
        .success();
}

fn walk(cli: Cli) {
    let mut cluster = Cluster::start();
    cluster_and_node(&cluster, cli);
    hello_world(&cluster, cli);
    deployment(&cluster, cli);
    manifests(&cluster, cli);
    crash_loop(&cluster, cli);
    bad_input(&cluster, cli);
    eventually("no pod is left", Duration::from_secs(60), || {
        let pods = cluster.cli(cli, &["get", "pods"]);
        if pods.stderr.contains("No resources found in default namespace.") {
            Ok(())
        } else {
            Err(pods.stdout)
        }
    });
    cluster.delete();
}

#[test]
fn a_user_walks_through_with_the_real_kubectl() {
    walk(Cli::Kubectl);
}

#[test]
fn a_user_walks_through_with_skiffs_own_kubectl() {
    walk(Cli::Skiff);
}
