//! What a namespace may use, and how many pods of a set may be away at once.

use skiff_tests::{Cli, Cluster};

fn eviction(cluster: &Cluster, pod: &str) -> (String, String) {
    let body = format!(
        r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"default"}}}}"#
    );
    let file = cluster.manifest("eviction.json", &body);
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    (path, file)
}

fn pods(cluster: &Cluster) -> Vec<String> {
    let list = cluster.get(&["pods", "-l", "app=web", "--field-selector=status.phase=Running"]);
    let items = list["items"].as_array().unwrap().iter();
    items
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_string())
        .collect()
}

#[test]
fn quotas_and_budgets_hold_and_follow_what_is_given_back() {
    let cluster = Cluster::start();
    let used = |wanted: &str| {
        cluster.until(
            Cli::Kubectl,
            &["get", "quota", "small", "-o", "jsonpath={.status.used}"],
            wanted,
            |text| text == wanted,
        );
    };
    cluster
        .kubectl(&[
            "create",
            "quota",
            "small",
            "--hard=pods=2,count/configmaps=3,count/deployments.apps=1",
        ])
        .success();
    used(r#"{"count/configmaps":"1","count/deployments.apps":"0","pods":"0"}"#);
    cluster
        .kubectl(&[
            "create",
            "deployment",
            "web",
            "--image=busybox",
            "--replicas=3",
            "--",
            "sleep",
            "3600",
        ])
        .success();
    used(r#"{"count/configmaps":"1","count/deployments.apps":"1","pods":"2"}"#);
    cluster.until(
        Cli::Kubectl,
        &[
            "get",
            "deployment",
            "web",
            "-o",
            "jsonpath={.status.conditions[?(@.type==\"ReplicaFailure\")].message}",
        ],
        "the deployment says why it is short of a pod",
        |text| {
            text.contains(
                "is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2",
            )
        },
    );
    let refused = cluster
        .kubectl(&["create", "deployment", "more", "--image=busybox"])
        .failure();
    assert!(refused.contains("exceeded quota: small"), "{refused}");

    // What is deleted can be made again.
    for name in ["a", "b"] {
        cluster.kubectl(&["create", "configmap", name]).success();
    }
    cluster.kubectl(&["create", "configmap", "c"]).failure();
    cluster.kubectl(&["delete", "configmap", "a"]).success();
    used(r#"{"count/configmaps":"2","count/deployments.apps":"1","pods":"2"}"#);
    cluster.kubectl(&["create", "configmap", "c"]).success();

    let allowed = |wanted: &str| {
        cluster.until(
            Cli::Kubectl,
            &[
                "get",
                "pdb",
                "web",
                "-o",
                "jsonpath={.status.currentHealthy}/{.status.expectedPods}: {.status.disruptionsAllowed}",
            ],
            wanted,
            |text| text == wanted,
        );
    };
    cluster
        .kubectl(&["create", "pdb", "web", "--selector=app=web", "--min-available=1"])
        .success();
    allowed("2/2: 1");
    let name = pods(&cluster).remove(0);
    let (path, file) = eviction(&cluster, &name);
    cluster
        .kubectl(&["create", "--raw", &path, "-f", &file])
        .success();
    cluster
        .kubectl(&["scale", "deployment", "web", "--replicas=1"])
        .success();
    allowed("1/1: 0");
    let (path, file) = eviction(&cluster, &pods(&cluster).remove(0));
    let refused = cluster
        .kubectl(&["create", "--raw", &path, "-f", &file])
        .failure();
    assert!(
        refused.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{refused}"
    );

    // Nothing uses this claim, so nothing keeps it.
    let claim = cluster.manifest(
        "claim.yaml",
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n",
    );
    cluster.kubectl(&["apply", "-f", &claim]).success();
    assert_eq!(
        cluster.get(&["pvc", "c"])["metadata"]["finalizers"][0],
        "kubernetes.io/pvc-protection"
    );
    cluster
        .kubectl(&["delete", "pvc", "c", "--timeout=30s"])
        .success();
}
