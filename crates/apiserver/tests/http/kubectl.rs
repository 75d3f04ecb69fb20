//! The real kubectl, as a user types it. Where there is none, nothing is tested here.

use crate::harness::*;

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: { app: web }
  template:
    metadata:
      labels: { app: web }
    spec:
      containers:
      - name: web
        image: nginx
        ports:
        - containerPort: 80
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: kubia
  labels: { app: kubia }
spec:
  containers:
  - name: main
    image: luksa/kubia
";

/// Runs kubectl and expects it to succeed; what it printed. `None`: there is no kubectl.
async fn ok(server: &Server, arguments: &[&str], input: &str) -> Option<String> {
    let output = server.kubectl(arguments, input).await?;
    assert!(output.success, "{arguments:?}: {}{}", output.out, output.err);
    Some(output.out)
}

/// Runs kubectl and expects it to fail; what it printed as its error.
async fn fails(server: &Server, arguments: &[&str], input: &str) -> Option<String> {
    let output = server.kubectl(arguments, input).await?;
    assert!(!output.success, "{arguments:?} succeeded: {}", output.out);
    Some(output.err)
}

/// Ends the test where there is no kubectl.
macro_rules! need {
    ($output:expr) => {
        match $output.await {
            Some(output) => output,
            None => return,
        }
    };
}

#[tokio::test]
async fn it_finds_the_resources() {
    let server = Server::start().await;
    let out = need!(ok(&server, &["api-resources"], ""));
    for line in ["pods", "deployments", "endpointslices", "namespaces"] {
        assert!(
            out.lines().any(|its| its.split_whitespace().next() == Some(line)),
            "{line} is not in\n{out}"
        );
    }
    let out = need!(ok(&server, &["api-versions"], ""));
    assert!(
        out.lines().any(|line| line == "apps/v1") && out.lines().any(|line| line == "v1"),
        "{out}"
    );
    let out = need!(ok(&server, &["version"], ""));
    assert!(out.contains("Server Version: v1.37.0"), "{out}");
    let out = need!(ok(&server, &["cluster-info"], ""));
    assert!(out.contains("is running at"), "{out}");
}

#[tokio::test]
async fn it_creates_shows_applies_and_deletes() {
    let server = Server::start().await.with_default_account().await;
    let out = need!(ok(&server, &["apply", "-f", "-"], DEPLOYMENT));
    assert_eq!(out, "deployment.apps/web created\n");
    let out = need!(ok(&server, &["apply", "-f", "-"], DEPLOYMENT));
    assert_eq!(out, "deployment.apps/web unchanged\n");
    let changed = DEPLOYMENT
        .replace("replicas: 2", "replicas: 3")
        .replace("image: nginx", "image: nginx:1.27");
    let out = need!(ok(&server, &["apply", "-f", "-"], &changed));
    assert_eq!(out, "deployment.apps/web configured\n");
    let out = need!(ok(&server, &["get", "deploy", "web", "-o", "wide"], ""));
    assert!(
        out.starts_with("NAME") && out.contains("CONTAINERS") && out.contains("0/3"),
        "{out}"
    );
    let out = need!(ok(
        &server,
        &[
            "get",
            "deploy",
            "web",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}"
        ],
        ""
    ));
    assert_eq!(out, "nginx:1.27");
    let out = need!(ok(&server, &["get", "deploy", "web", "-o", "yaml"], ""));
    assert!(out.contains("terminationGracePeriodSeconds: 30"), "{out}");
    let out = need!(ok(&server, &["scale", "deploy", "web", "--replicas=5"], ""));
    assert_eq!(out, "deployment.apps/web scaled\n");
    let out = need!(ok(
        &server,
        &["diff", "-f", "-"],
        &changed.replace("replicas: 3", "replicas: 5")
    ));
    assert_eq!(out, "");

    let out = need!(ok(&server, &["create", "-f", "-"], POD));
    assert_eq!(out, "pod/kubia created\n");
    let error = need!(fails(&server, &["create", "-f", "-"], POD));
    assert!(
        error.contains(
            "Error from server (AlreadyExists): error when creating \"STDIN\": pods \"kubia\" already exists"
        ),
        "{error}"
    );
    let out = need!(ok(
        &server,
        &["get", "po", "-l", "app=kubia", "--show-labels"],
        ""
    ));
    assert!(
        out.contains("kubia") && out.contains("Pending") && out.contains("app=kubia"),
        "{out}"
    );
    let out = need!(ok(&server, &["get", "po", "-l", "app notin (kubia)"], ""));
    assert_eq!(out, "");
    need!(ok(&server, &["label", "po", "kubia", "env=test"], ""));
    let error = need!(fails(&server, &["label", "po", "kubia", "env=prod"], ""));
    assert!(
        error.contains("'env' already has a value (test), and --overwrite is false"),
        "{error}"
    );
    need!(ok(&server, &["annotate", "pod", "kubia", "a.com/b=c d"], ""));
    let out = need!(ok(&server, &["describe", "pod", "kubia"], ""));
    assert!(
        out.contains("a.com/b: c d") && out.contains("Service Account:  default"),
        "{out}"
    );
    let out = need!(ok(&server, &["get", "all"], ""));
    assert!(
        out.contains("service/kubernetes") && out.contains("deployment.apps/web"),
        "{out}"
    );
    let out = need!(ok(&server, &["delete", "deploy/web"], ""));
    assert!(out.starts_with("deployment.apps \"web\" deleted"), "{out}");
    let out = need!(ok(
        &server,
        &["delete", "po", "--all", "--now", "--wait=false"],
        ""
    ));
    assert!(out.contains("pod \"kubia\" "), "{out}");
    let out = need!(ok(&server, &["get", "svc", "kubernetes"], ""));
    assert!(out.contains("10.96.0.1") && out.contains("443/TCP"), "{out}");
    let error = need!(fails(&server, &["get", "po", "none"], ""));
    assert_eq!(error, "Error from server (NotFound): pods \"none\" not found\n");
}

#[tokio::test]
async fn it_watches() {
    let server = Server::start().await.with_default_account().await;
    let watching = server.kubectl(
        &["get", "po", "-w", "--request-timeout=8s", "--output-watch-events"],
        "",
    );
    let client = server.local();
    let making = async {
        // The watch may begin before or after: it shows the pod in either case.
        post(&client, PODS, &pod("seen")).await;
        delete(&client, &format!("{PODS}/seen?gracePeriodSeconds=0")).await;
        post(&client, PODS, &pod("stays")).await;
    };
    let (watched, ()) = tokio::join!(watching, making);
    let Some(watched) = watched else { return };
    assert!(
        watched.out.contains("EVENT") && watched.out.contains("stays"),
        "{watched:?}"
    );
}

#[tokio::test]
async fn it_explains() {
    let server = Server::start().await;
    let out = need!(ok(&server, &["explain", "pods"], ""));
    assert!(
        out.contains("KIND:       Pod") && out.contains("VERSION:    v1") && out.contains("spec\t<PodSpec>"),
        "{out}"
    );
    let out = need!(ok(&server, &["explain", "deployments.spec.replicas"], ""));
    assert!(out.contains("FIELD: replicas <integer>"), "{out}");
    let out = need!(ok(&server, &["explain", "pods.metadata", "--recursive"], ""));
    assert!(out.contains("ownerReferences\t<[]OwnerReference>"), "{out}");
}

#[tokio::test]
async fn it_says_what_is_wrong_with_a_manifest() {
    let server = Server::start().await.with_default_account().await;
    let cases = [
        (
            POD.replace("  containers:", "  containerz: []\n  containers:"),
            "Error from server (BadRequest): error when creating \"STDIN\": Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containerz\"",
        ),
        (
            DEPLOYMENT.replace("replicas: 2", "replicas: two"),
            "Error from server (BadRequest): error when creating \"STDIN\": Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            POD.replace("name: kubia\n", "name: Kubia_1\n"),
            "The Pod \"Kubia_1\" is invalid: metadata.name: Invalid value: \"Kubia_1\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'",
        ),
        (
            POD.replace("kind: Pod", "kind: Pot"),
            "no matches for kind \"Pot\" in version \"v1\"",
        ),
    ];
    for (manifest, expected) in cases {
        let error = need!(fails(&server, &["create", "-f", "-"], &manifest));
        assert!(error.contains(expected), "expected {expected}\ngot {error}");
    }
    let error = need!(fails(
        &server,
        &["apply", "-f", "-"],
        &POD.replace("    image: luksa/kubia\n", "")
    ));
    assert!(
        error.contains("spec.containers[0].image: Required value"),
        "{error}"
    );
    let out = need!(ok(&server, &["get", "po"], ""));
    assert_eq!(out, "", "nothing was created");
}

#[tokio::test]
async fn it_works_with_namespaces() {
    let server = Server::start().await.with_default_account().await;
    let out = need!(ok(&server, &["create", "namespace", "custom"], ""));
    assert_eq!(out, "namespace/custom created\n");
    need!(ok(
        &server,
        &["create", "configmap", "m", "--from-literal=a=b", "-n", "custom"],
        ""
    ));
    let out = need!(ok(&server, &["get", "cm", "-A"], ""));
    assert!(out.starts_with("NAMESPACE"), "{out}");
    let out = need!(ok(&server, &["create", "token", "default"], ""));
    assert_eq!(out.trim().split('.').count(), 3);
    let out = need!(ok(
        &server,
        &[
            "create",
            "deployment",
            "hello",
            "--image=hello-world",
            "--replicas=5"
        ],
        ""
    ));
    assert_eq!(out, "deployment.apps/hello created\n");
    let out = need!(ok(&server, &["expose", "deployment", "hello", "--port=80"], ""));
    assert_eq!(out, "service/hello exposed\n");
    let out = need!(ok(
        &server,
        &["run", "one", "--image=nginx", "--restart=Never"],
        ""
    ));
    assert_eq!(out, "pod/one created\n");
    let error = need!(fails(&server, &["delete", "ns", "default"], ""));
    assert!(
        error.contains("namespaces \"default\" is forbidden: this namespace may not be deleted"),
        "{error}"
    );
}

#[tokio::test]
async fn it_applies_on_the_server() {
    let server = Server::start().await.with_default_account().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    let out = need!(ok(&server, &apply, DEPLOYMENT));
    assert_eq!(out, "deployment.apps/web serverside-applied\n");
    need!(ok(&server, &apply, DEPLOYMENT));
    let shown = ["get", "deployment", "web", "-o", "json", "--show-managed-fields"];
    let managers = async || -> Option<Vec<String>> {
        let text = ok(&server, &shown, "").await?;
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let entries = object["metadata"]["managedFields"].as_array().unwrap().clone();
        let shown = |entry: &serde_json::Value| {
            format!("{} {}", entry["manager"], entry["operation"]).replace('"', "")
        };
        Some(entries.iter().map(shown).collect())
    };
    assert_eq!(need!(managers()), ["kubectl Apply"]);
    need!(ok(&server, &["scale", "deployment/web", "--replicas=5"], ""));
    let error = need!(fails(&server, &apply, DEPLOYMENT));
    assert!(error.contains("Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"), "{error}");
    let other = DEPLOYMENT.replace("image: nginx", "image: httpd");
    let as_other = ["apply", "--server-side", "--field-manager", "other", "-f", "-"];
    let error = need!(fails(&server, &as_other, &other));
    assert!(
        error.contains("Apply failed with 2 conflicts: conflicts with \"kubectl\""),
        "{error}"
    );
    need!(ok(
        &server,
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        DEPLOYMENT
    ));
    let replicas = need!(ok(
        &server,
        &["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"],
        ""
    ));
    assert_eq!(replicas, "2");
}

#[tokio::test]
async fn it_goes_from_its_own_apply_to_the_servers_and_back() {
    let server = Server::start().await.with_default_account().await;
    need!(ok(&server, &["apply", "-f", "-"], DEPLOYMENT));
    let three = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    need!(ok(&server, &["apply", "--server-side", "-f", "-"], &three));
    let shown = ["get", "deployment", "web", "-o", "yaml", "--show-managed-fields"];
    let yaml = need!(ok(&server, &shown, ""));
    assert!(!yaml.contains("kubectl-client-side-apply"), "{yaml}");
    assert!(yaml.contains("operation: Apply"), "{yaml}");
    let four = DEPLOYMENT.replace("replicas: 2", "replicas: 4");
    let out = need!(ok(&server, &["apply", "-f", "-"], &four));
    assert_eq!(out, "deployment.apps/web configured\n");
    let plain = need!(ok(&server, &["get", "deployment", "web", "-o", "yaml"], ""));
    assert!(
        plain.contains("replicas: 4") && !plain.contains("managedFields"),
        "{plain}"
    );
}
