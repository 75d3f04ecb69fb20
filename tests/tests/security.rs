//! Certificates and rights, as an administrator gives them and a user meets them.

use std::process::Command;

use skiff_tests::{Cli, Cluster, run};

fn openssl(cluster: &Cluster, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    run(command.args(arguments).current_dir(cluster.path("."))).success();
}

/// Sends a request for a certificate as the user `kubectl` is configured for.
fn ask(cluster: &Cluster, name: &str, subject: &str, signer: &str, usages: &str) {
    let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
    openssl(
        cluster,
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &key,
        ],
    );
    openssl(
        cluster,
        &["req", "-new", "-key", &key, "-subj", subject, "-out", &request],
    );
    let mut base64 = Command::new("base64");
    let request = run(base64.arg("-w0").arg(cluster.path(&request))).success();
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec: {{request: {request}, signerName: {signer}, usages: {usages}, expirationSeconds: 3600}}
"
    );
    cluster
        .cli_with_input(Cli::Kubectl, &["apply", "-f", "-"], &manifest)
        .success();
}

/// Waits until a request is in a condition.
fn until(cluster: &Cluster, name: &str, wanted: &str) {
    let listing = ["get", "csr", name, "--no-headers"];
    cluster.until(Cli::Kubectl, &listing, wanted, |listed| {
        listed.trim().ends_with(wanted)
    });
}

fn condition(cluster: &Cluster, name: &str) -> String {
    let listed = cluster.kubectl(&["get", "csr", name, "--no-headers"]).success();
    listed.split_whitespace().last().unwrap_or_default().to_string()
}

#[test]
fn who_asks_for_a_certificate_gets_one_and_what_its_groups_may_do() {
    let cluster = Cluster::start();
    let client = "kubernetes.io/kube-apiserver-client";
    ask(&cluster, "jane", "/O=dev/O=ops/CN=jane", client, "[client auth]");
    assert_eq!(condition(&cluster, "jane"), "Pending");
    cluster.kubectl(&["certificate", "approve", "jane"]).success();
    until(&cluster, "jane", "Approved,Issued");
    let template = "go-template={{.status.certificate | base64decode}}";
    let certificate = cluster.kubectl(&["get", "csr", "jane", "-o", template]).success();
    std::fs::write(cluster.path("jane.crt"), certificate).unwrap();
    let (certificate, key) = (cluster.path("jane.crt"), cluster.path("jane.key"));
    let certificate = format!("--client-certificate={}", certificate.display());
    let key = format!("--client-key={}", key.display());
    cluster
        .kubectl(&["config", "set-credentials", "jane", &certificate, &key])
        .success();

    let cluster_of_context = cluster
        .kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].name}"])
        .success();
    let of = format!("--cluster={cluster_of_context}");
    cluster
        .kubectl(&["config", "set-context", "jane", &of, "--user=jane"])
        .success();

    let who = cluster.kubectl(&["--context=jane", "auth", "whoami"]).success();
    assert!(
        who.contains("jane") && who.contains("[dev ops system:authenticated]"),
        "{who}"
    );
    let refusal = cluster.kubectl(&["--context=jane", "get", "pods"]).failure();
    assert!(
        refusal.contains(
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
        ),
        "{refusal}"
    );
    cluster
        .kubectl(&[
            "create",
            "rolebinding",
            "ops",
            "--clusterrole=view",
            "--group=ops",
        ])
        .success();
    cluster.until(
        Cli::Kubectl,
        &["--context=jane", "get", "pods"],
        "the binding counts",
        |_| true,
    );
    let refusal = cluster
        .kubectl(&[
            "--context=jane",
            "create",
            "rolebinding",
            "more",
            "--clusterrole=admin",
            "--user=jane",
        ])
        .failure();
    assert!(
        refusal.contains(r#"cannot create resource "rolebindings""#),
        "{refusal}"
    );

    ask(&cluster, "king", "/O=ops/CN=king", client, "[server auth]");
    cluster.kubectl(&["certificate", "approve", "king"]).success();
    until(&cluster, "king", "Approved,Failed");
    ask(&cluster, "denied", "/O=ops/CN=denied", client, "[client auth]");
    cluster.kubectl(&["certificate", "deny", "denied"]).success();
    assert_eq!(condition(&cluster, "denied"), "Denied");
}

#[test]
fn a_machine_with_a_join_token_gets_the_certificate_of_a_node() {
    let cluster = Cluster::start();
    let secret = "apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true'}
";
    cluster
        .cli_with_input(Cli::Kubectl, &["apply", "-f", "-"], secret)
        .success();
    for (binding, role) in [
        ("bootstrap", "system:node-bootstrapper"),
        (
            "approve",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        ),
    ] {
        let role = format!("--clusterrole={role}");
        let group = "--group=system:bootstrappers";
        cluster
            .kubectl(&["create", "clusterrolebinding", binding, &role, group])
            .success();
    }
    let token = "--token=abcdef.0123456789abcdef";
    cluster
        .kubectl(&["config", "set-credentials", "joining", token])
        .success();
    cluster
        .kubectl(&["config", "set-context", "--current", "--user=joining"])
        .success();
    cluster.until(
        Cli::Kubectl,
        &["auth", "can-i", "create", "csr"],
        "the token counts",
        |_| true,
    );
    ask(
        &cluster,
        "node-2",
        "/O=system:nodes/CN=system:node:node-2",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "[digital signature, client auth]",
    );
    until(&cluster, "node-2", "Approved,Issued");
}
