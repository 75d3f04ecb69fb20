//! Roles, bindings, nodes and the reviews that tell of them.

use base64::Engine;
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::harness::*;

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const SELF_ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

async fn user(server: &Server, name: &str, groups: &[&str]) -> Client {
    let pair = server.authority.client(name, groups);
    server.client(Credential::Certificate(&pair)).await
}

fn role(name: &str, verbs: &[&str], resources: &[&str]) -> Value {
    json!({ "metadata": { "name": name }, "rules": [{ "verbs": verbs, "apiGroups": [""], "resources": resources }] })
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "kind": "User", "name": user }],
    })
}

async fn made(client: &Client, path: &str, body: &Value) -> Value {
    let answer = post(client, path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text());
    answer.json()
}

/// Waits until a path answers with a code: rights change a moment after the objects that say so.
async fn answers(client: &Client, path: &str, code: u16) {
    let wait = async {
        while get(client, path).await.status != code {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, wait).await.is_ok(),
        "{path} never answers {code}"
    );
}

#[tokio::test]
async fn a_binding_gives_rights_and_takes_them_away() {
    let server = Server::start().await;
    let (admin, jane) = (server.admin().await, user(&server, "jane", &["dev"]).await);
    assert_eq!(get(&jane, PODS).await.status, 403);
    made(&admin, ROLES, &role("reader", &["get", "list"], &["pods"])).await;
    made(&admin, BINDINGS, &binding("b", "Role", "reader", "jane")).await;
    answers(&jane, PODS, 200).await;
    assert_eq!(
        get(&jane, "/api/v1/pods").await.status,
        403,
        "only in the namespace"
    );
    assert_eq!(get(&jane, "/api/v1/namespaces/default/secrets").await.status, 403);
    let refusal = get(&jane, &format!("{PODS}/a/log")).await.failure();
    assert_eq!(
        refusal,
        (403, r#"pods "a" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default""#.into())
    );
    delete(&admin, &format!("{ROLES}/reader")).await;
    answers(&jane, PODS, 403).await;
    let refusal = get(&jane, PODS).await.failure();
    assert_eq!(
        refusal,
        (403, r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default": RBAC: role.rbac.authorization.k8s.io "reader" not found"#.into())
    );
}

#[tokio::test]
async fn nobody_gives_what_they_have_not() {
    let server = Server::start().await;
    let (admin, jane) = (server.admin().await, user(&server, "jane", &[]).await);
    let rules = json!([
        { "verbs": ["create", "update"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"] },
        { "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] },
        { "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"] },
    ]);
    made(
        &admin,
        CLUSTER_ROLES,
        &json!({ "metadata": { "name": "giver" }, "rules": rules }),
    )
    .await;
    made(
        &admin,
        CLUSTER_BINDINGS,
        &binding("giver", "ClusterRole", "giver", "jane"),
    )
    .await;
    answers(&jane, &format!("{PODS}/none"), 404).await;

    made(&jane, ROLES, &role("fair", &["get"], &["pods"])).await;
    assert_eq!(
        post(&jane, ROLES, &role("greedy", &["list", "get"], &["pods", "secrets"])).await.failure(),
        (403, "roles.rbac.authorization.k8s.io \"greedy\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"list\" \"get\"]}".into())
    );
    made(&jane, BINDINGS, &binding("fair", "Role", "fair", "joe")).await;
    let refusal = post(
        &jane,
        BINDINGS,
        &binding("greedy", "ClusterRole", "cluster-admin", "joe"),
    )
    .await
    .failure();
    assert_eq!(refusal.0, 403);
    assert!(
        refusal
            .1
            .starts_with("rolebindings.rbac.authorization.k8s.io \"greedy\" is forbidden: user \"jane\""),
        "{}",
        refusal.1
    );
    assert!(
        refusal.1.contains(
            "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
        ),
        "{}",
        refusal.1
    );
    assert_eq!(
        post(&jane, BINDINGS, &binding("lost", "Role", "none", "joe"))
            .await
            .failure(),
        (404, "roles.rbac.authorization.k8s.io \"none\" not found".into())
    );

    // Who may bind a role need not have what it allows.
    let bind = json!([{ "verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"] }]);
    made(
        &admin,
        ROLES,
        &json!({ "metadata": { "name": "binder" }, "rules": bind }),
    )
    .await;
    made(&admin, BINDINGS, &binding("binder", "Role", "binder", "jane")).await;
    let review = json!({ "spec": { "resourceAttributes": {
        "namespace": "default", "verb": "bind", "group": "rbac.authorization.k8s.io", "resource": "clusterroles", "name": "view"
    } } });
    let wait = async {
        while made(&jane, SELF_ACCESS, &review).await["status"]["allowed"] != true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap();
    made(&jane, BINDINGS, &binding("viewers", "ClusterRole", "view", "joe")).await;
}

#[tokio::test]
async fn a_node_touches_what_is_its_own() {
    let server = Server::start().await.with_default_account().await;
    let admin = server.admin().await;
    let node = user(&server, "system:node:n", &["system:nodes"]).await;
    let create = |name: &str| json!({ "metadata": { "name": name } });
    made(&node, "/api/v1/nodes", &create("n")).await;
    assert_eq!(
        post(&node, "/api/v1/nodes", &create("m")).await.failure().1,
        r#"nodes "m" is forbidden: node "n" is not allowed to modify node "m""#
    );
    made(&admin, "/api/v1/nodes", &create("m")).await;
    let label = json!({ "metadata": { "labels": { "node-role.kubernetes.io/x": "" } } });
    assert_eq!(
        patch(&node, "/api/v1/nodes/n", "merge-patch", &label)
            .await
            .failure()
            .1,
        r#"nodes "n" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/x"#
    );
    assert_eq!(get(&node, "/api/v1/nodes/n").await.status, 200);
    assert_eq!(
        get(&node, "/api/v1/nodes").await.failure().1,
        r#"nodes is forbidden: User "system:node:n" cannot list resource "nodes" in API group "" at the cluster scope: node 'n' cannot read all nodes, only its own Node object"#
    );
    for name in ["used", "other"] {
        made(&admin, "/api/v1/namespaces/default/configmaps", &create(name)).await;
    }
    let on = |node: &str| {
        let mut pod = pod(&format!("on-{node}"));
        pod["spec"]["nodeName"] = node.into();
        pod["spec"]["containers"][0]["envFrom"] = json!([{ "configMapRef": { "name": "used" } }]);
        pod
    };
    let bound = made(&admin, PODS, &on("n")).await;
    made(&admin, PODS, &on("m")).await;
    assert_eq!(
        get(&node, "/api/v1/namespaces/default/configmaps/used")
            .await
            .status,
        200
    );
    assert_eq!(
        get(&node, "/api/v1/namespaces/default/configmaps/other")
            .await
            .failure()
            .1,
        r#"configmaps "other" is forbidden: User "system:node:n" cannot get resource "configmaps" in API group "" in the namespace "default": no relationship found between node 'n' and this object"#
    );
    let status = json!({ "status": { "phase": "Running" } });
    assert_eq!(
        patch(&node, &format!("{PODS}/on-n/status"), "merge-patch", &status)
            .await
            .status,
        200
    );
    assert_eq!(
        patch(&node, &format!("{PODS}/on-m/status"), "merge-patch", &status)
            .await
            .failure()
            .1,
        r#"pods "on-m" is forbidden: node "n" can only update pod status for pods with spec.nodeName set to itself"#
    );
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(
        post(&node, token, &json!({ "spec": {} })).await.failure().1,
        r#"serviceaccounts "default" is forbidden: node requested token not bound to a pod"#
    );
    let reference =
        json!({ "apiVersion": "v1", "kind": "Pod", "name": "on-n", "uid": bound["metadata"]["uid"] });
    made(&node, token, &json!({ "spec": { "boundObjectRef": reference } })).await;
    assert_eq!(
        get(&node, &format!("{PODS}?fieldSelector=spec.nodeName%3Dn"))
            .await
            .status,
        200
    );
    assert_eq!(get(&node, PODS).await.status, 403);
}

#[tokio::test]
async fn reviews_answer_who_and_whether() {
    let server = Server::start().await;
    let (admin, jane) = (server.admin().await, user(&server, "jane", &["dev"]).await);
    let review = made(
        &jane,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        &json!({}),
    )
    .await;
    assert_eq!(review["status"]["userInfo"]["username"], "jane");
    assert_eq!(
        review["status"]["userInfo"]["groups"],
        json!(["dev", "system:authenticated"])
    );

    made(
        &admin,
        CLUSTER_BINDINGS,
        &binding("b", "ClusterRole", "system:monitoring", "jane"),
    )
    .await;
    answers(&jane, "/metrics", 200).await;
    let access = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let ask =
        json!({ "spec": { "user": "jane", "nonResourceAttributes": { "verb": "get", "path": "/metrics" } } });
    assert_eq!(
        made(&admin, access, &ask).await["status"],
        json!({ "allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"system:monitoring\" to User \"jane\"" })
    );
    assert_eq!(post(&jane, access, &ask).await.status, 403);
    assert_eq!(
        post(&admin, access, &json!({ "spec": {} })).await.failure(),
        (422, "SubjectAccessReview.authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of user or group must be specified]".into())
    );
    let local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let ask = json!({ "spec": { "user": "jane", "resourceAttributes": { "namespace": "default", "verb": "get", "resource": "pods" } } });
    assert_eq!(
        made(&admin, local, &ask).await["status"],
        json!({ "allowed": false })
    );
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let review = made(&jane, rules, &json!({ "spec": { "namespace": "default" } })).await;
    let paths = review["status"]["nonResourceRules"].to_string();
    assert!(
        paths.contains("/metrics/slis") && paths.contains("/openapi/*"),
        "{paths}"
    );
    assert_eq!(review["status"]["incomplete"], false);

    let tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = made(&admin, tokens, &json!({ "spec": { "token": "nonsense" } })).await;
    assert_eq!(review["status"].get("authenticated"), None);
    assert_eq!(get(&admin, tokens).await.status, 405);
}

#[tokio::test]
async fn a_node_reaches_the_volumes_of_its_pods_and_no_others() {
    let server = Server::start().await.with_default_account().await;
    let admin = server.admin().await;
    let node = user(&server, "system:node:n", &["system:nodes"]).await;
    const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str| {
        json!({ "metadata": { "name": name }, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": format!("v-{name}"),
            "resources": { "requests": { "storage": "1Gi" } },
        } })
    };
    let volume = |claim: &str| {
        json!({ "metadata": { "name": format!("v-{claim}") }, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" },
            "claimRef": { "namespace": "default", "name": claim },
            "csi": { "driver": "d.example.com", "volumeHandle": claim,
                "nodePublishSecretRef": { "namespace": "kube-system", "name": format!("s-{claim}") } },
        } })
    };
    let driver = json!({ "metadata": { "name": "d.example.com" }, "spec": { "tokenRequests": [{ "audience": "vault" }] } });
    made(&admin, "/apis/storage.k8s.io/v1/csidrivers", &driver).await;
    for name in ["used", "other"] {
        made(&admin, CLAIMS, &claim(name)).await;
        made(&admin, "/api/v1/persistentvolumes", &volume(name)).await;
        let secret = json!({ "metadata": { "name": format!("s-{name}") } });
        made(&admin, "/api/v1/namespaces/kube-system/secrets", &secret).await;
    }
    let mut pod = pod("p");
    pod["spec"]["nodeName"] = "n".into();
    pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "used" } }]);
    let pod = made(&admin, PODS, &pod).await;

    for (path, code) in [
        ("/api/v1/persistentvolumes/v-used", 200),
        ("/api/v1/persistentvolumes/v-other", 403),
        ("/api/v1/namespaces/kube-system/secrets/s-used", 200),
        ("/api/v1/namespaces/kube-system/secrets/s-other", 403),
        ("/api/v1/namespaces/default/persistentvolumeclaims/used", 200),
        ("/api/v1/namespaces/default/persistentvolumeclaims/other", 403),
        ("/api/v1/namespaces/default/serviceaccounts/default", 200),
    ] {
        answers(&node, path, code).await;
    }

    // It says how large its volume has become, and nothing else about it.
    let status = |status: Value| json!({ "status": status });
    let grown = status(json!({ "capacity": { "storage": "2Gi" } }));
    let path = format!("{CLAIMS}/used/status");
    let answer = patch(&node, &path, "merge-patch", &grown).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        patch(&node, &path, "merge-patch", &status(json!({ "phase": "Lost" }))).await.failure(),
        (403, r#"persistentvolumeclaims "used" is forbidden: node "n" is not allowed to update fields other than status.capacity and status.conditions"#.into())
    );

    // Attachments name their node.
    let attachment = |node: &str| {
        json!({ "metadata": { "name": format!("at-{node}") }, "spec": {
            "attacher": "d.example.com", "nodeName": node, "source": { "persistentVolumeName": "v-used" },
        } })
    };
    const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
    made(&admin, ATTACHMENTS, &attachment("n")).await;
    made(&admin, ATTACHMENTS, &attachment("m")).await;
    answers(&node, &format!("{ATTACHMENTS}/at-n"), 200).await;
    answers(&node, &format!("{ATTACHMENTS}/at-m"), 403).await;
    let storage_node = |name: &str| json!({ "metadata": { "name": name }, "spec": { "drivers": [] } });
    made(&node, "/apis/storage.k8s.io/v1/csinodes", &storage_node("n")).await;
    assert_eq!(
        post(&node, "/apis/storage.k8s.io/v1/csinodes", &storage_node("m")).await.failure(),
        (403, r#"csinodes.storage.k8s.io "m" is forbidden: can only access CSINode with the same name as the requesting node"#.into())
    );

    // Tokens are for the audiences that the pod's volumes and their drivers ask for.
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let ask = |audience: &str| {
        let reference =
            json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"] });
        json!({ "spec": { "audiences": [audience], "boundObjectRef": reference } })
    };
    made(&node, token, &ask("vault")).await;
    assert_eq!(
        post(&node, token, &ask("elsewhere")).await.failure(),
        (403, r#"serviceaccounts "default" is forbidden: audience "elsewhere" not found in pod spec volume, system:node:n is not authorized to request tokens for this audience"#.into())
    );

    let owned = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "1" }] } });
    made(&node, "/api/v1/nodes", &json!({ "metadata": { "name": "n" } })).await;
    assert_eq!(
        patch(&node, "/api/v1/nodes/n", "merge-patch", &owned)
            .await
            .failure(),
        (
            403,
            r#"nodes "n" is forbidden: node "n" is not allowed to modify ownerReferences"#.into()
        )
    );
}

/// A request for a certificate, as a client sends it.
fn wish(name: &str, group: &str, signer: &str) -> Value {
    use base64::Engine;
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, group);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    json!({
        "metadata": { "name": name },
        "spec": { "request": request, "signerName": signer, "usages": ["client auth"] },
    })
}

#[tokio::test]
async fn a_certificate_is_approved_and_signed_by_whom_its_signer_lets() {
    const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let client = "kubernetes.io/kube-apiserver-client";
    let server = Server::start().await;
    let (admin, jane) = (server.admin().await, user(&server, "jane", &[]).await);
    assert_eq!(
        post(&admin, REQUESTS, &wish("a", "system:masters", client)).await.failure(),
        (403, r#"certificatesigningrequests.certificates.k8s.io "a" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"#.into())
    );
    let rules = json!([
        { "verbs": ["update", "get"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"] },
        { "verbs": ["approve", "sign"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"] },
    ]);
    made(
        &admin,
        CLUSTER_ROLES,
        &json!({ "metadata": { "name": "approver" }, "rules": rules }),
    )
    .await;
    made(
        &admin,
        CLUSTER_BINDINGS,
        &binding("approver", "ClusterRole", "approver", "jane"),
    )
    .await;
    let mut theirs = made(&admin, REQUESTS, &wish("a", "dev", client)).await;
    answers(&jane, &format!("{REQUESTS}/a/approval"), 200).await;
    let approved =
        json!({ "conditions": [{ "type": "Approved", "status": "True", "reason": "r", "message": "m" }] });
    theirs["status"] = approved.clone();
    assert_eq!(
        put(&jane, &format!("{REQUESTS}/a/approval"), &theirs).await.failure(),
        (403, r#"certificatesigningrequests.certificates.k8s.io "a" is forbidden: user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client""#.into())
    );
    // What is no certificate is said before it is asked who says so.
    theirs["status"] =
        json!({ "certificate": base64::engine::general_purpose::STANDARD.encode(&server.authority.pem) });
    assert_eq!(
        put(&jane, &format!("{REQUESTS}/a/status"), &theirs).await.failure(),
        (403, r#"certificatesigningrequests.certificates.k8s.io "a" is forbidden: user not permitted to sign requests with signerName "kubernetes.io/kube-apiserver-client""#.into())
    );
    let mut own = made(&admin, REQUESTS, &wish("b", "dev", "example.com/signer")).await;
    own["status"] = approved;
    let answer = put(&jane, &format!("{REQUESTS}/b/approval"), &own).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let metrics = get(&admin, "/metrics").await.text();
    for (plugin, operation, rejected) in [
        ("CertificateApproval", "UPDATE", true),
        ("CertificateApproval", "UPDATE", false),
        ("CertificateSigning", "UPDATE", true),
        ("CertificateSubjectRestriction", "CREATE", true),
        ("CertificateSubjectRestriction", "CREATE", false),
        ("ClusterTrustBundleAttest", "CREATE", false),
    ] {
        let line = format!(
            r#"apiserver_admission_controller_admission_duration_seconds_count{{name="{plugin}",operation="{operation}",rejected="{rejected}",type="validate"}} "#
        );
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn a_bundle_is_vouched_for_by_whom_its_signer_lets() {
    const BUNDLES: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";
    let server = Server::start().await;
    let (admin, jane) = (server.admin().await, user(&server, "jane", &[]).await);
    let rules = json!([
        { "verbs": ["*"], "apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"] },
        { "verbs": ["attest"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/mine"] },
    ]);
    let role = json!({ "metadata": { "name": "attester" }, "rules": rules });
    made(&admin, CLUSTER_ROLES, &role).await;
    made(
        &admin,
        CLUSTER_BINDINGS,
        &binding("attester", "ClusterRole", "attester", "jane"),
    )
    .await;
    answers(&jane, BUNDLES, 200).await;
    let bundle = |name: &str, signer: &str| json!({ "metadata": { "name": name }, "spec": { "signerName": signer, "trustBundle": server.authority.pem } });
    assert_eq!(
        post(&jane, BUNDLES, &bundle("example.com:other:a", "example.com/other")).await.failure(),
        (403, r#"clustertrustbundles.certificates.k8s.io "example.com:other:a" is forbidden: user not permitted to attest for signerName "example.com/other""#.into())
    );
    made(&jane, BUNDLES, &bundle("example.com:mine:a", "example.com/mine")).await;
    made(&jane, BUNDLES, &bundle("nobodys", "")).await;
    // Who only keeps house need not vouch.
    made(
        &admin,
        BUNDLES,
        &bundle("example.com:other:a", "example.com/other"),
    )
    .await;
    let path = format!("{BUNDLES}/example.com:other:a");
    let owned = json!({ "metadata": { "finalizers": ["example.com/kept"] } });
    assert_eq!(patch(&jane, &path, "merge-patch", &owned).await.status, 200);
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(patch(&jane, &path, "merge-patch", &labelled).await.status, 403);
}

#[tokio::test]
async fn a_bootstrap_token_is_a_credential() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let secret = json!({
        "metadata": { "name": "bootstrap-token-abcdef" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
        },
    });
    made(&admin, "/api/v1/namespaces/kube-system/secrets", &secret).await;
    let client = server.client(Credential::Token("abcdef.0123456789abcdef")).await;
    let me = made(
        &client,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        &json!({}),
    )
    .await;
    assert_eq!(me["status"]["userInfo"]["username"], "system:bootstrap:abcdef");
    let wrong = server.client(Credential::Token("abcdef.0123456789abcdee")).await;
    assert_eq!(get(&wrong, "/version").await.status, 401);
}

#[tokio::test]
async fn the_roles_of_every_cluster_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let store = open(directory.path());
    let count = |client: Client| async move {
        let roles = get(&client, CLUSTER_ROLES).await.json();
        roles["items"].as_array().unwrap().len()
    };
    let start = |stop: tokio_util::sync::CancellationToken| {
        let (config, store) = (config(&authority, 1), store.clone());
        async move {
            let api = skiff_apiserver::ApiServer::start(config, store, stop)
                .await
                .unwrap();
            Client::new(api.local(skiff_apiserver::UserInfo::master("test")), "default")
        }
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let client = start(stop.clone()).await;
    let all = count(client.clone()).await;
    assert!(all > 60, "{all}");
    delete(&client, &format!("{CLUSTER_ROLES}/system:discovery")).await;
    let emptied = json!({ "rules": [] });
    patch(
        &client,
        &format!("{CLUSTER_ROLES}/system:monitoring"),
        "merge-patch",
        &emptied,
    )
    .await;
    let protected = json!({ "metadata": { "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "false" } }, "rules": [] });
    patch(
        &client,
        &format!("{CLUSTER_ROLES}/system:heapster"),
        "merge-patch",
        &protected,
    )
    .await;
    stop.cancel();
    drop(client);
    let client = start(tokio_util::sync::CancellationToken::new()).await;
    assert_eq!(count(client.clone()).await, all);
    let rules = |name: &str| {
        let (client, path) = (client.clone(), format!("{CLUSTER_ROLES}/{name}"));
        async move {
            get(&client, &path).await.json()["rules"]
                .as_array()
                .map_or(0, Vec::len)
        }
    };
    assert_ne!(rules("system:monitoring").await, 0);
    assert_eq!(rules("system:heapster").await, 0);
}

#[tokio::test]
async fn kubectl_asks_about_rights() {
    let server = Server::start().await;
    for (arguments, expected) in [
        (&["auth", "can-i", "create", "pods"][..], "yes\n"),
        (&["auth", "can-i", "list", "nodes", "--as", "jane"], "no\n"),
        (&["auth", "can-i", "get", "/healthz", "--as", "jane"], "yes\n"),
    ] {
        let Some(output) = server.kubectl(arguments, "").await else {
            return;
        };
        assert!(output.out.ends_with(expected), "{arguments:?}: {output:?}");
    }
    let Some(output) = server.kubectl(&["auth", "can-i", "--list"], "").await else {
        return;
    };
    assert!(output.out.contains("*.*"), "{output:?}");
    let Some(output) = server.kubectl(&["auth", "whoami"], "").await else {
        return;
    };
    // Older ones do not know the command.
    if output.success {
        assert!(
            output.out.contains("admin") && output.out.contains("system:masters"),
            "{output:?}"
        );
    }
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let bindings = send(
        &server.local(),
        request(Method::GET, CLUSTER_BINDINGS, &headers, ""),
    )
    .await
    .json();
    assert_eq!(bindings["columnDefinitions"][1]["name"], "Role");
}

#[tokio::test]
async fn kubectl_makes_roles_and_bindings() {
    let server = Server::start().await.with_default_account().await;
    let admin = server.local();
    for arguments in [
        &[
            "create",
            "role",
            "reader",
            "--verb=get,list",
            "--resource=pods,pods/log",
            "--resource-name=a",
        ][..],
        &[
            "create",
            "rolebinding",
            "readers",
            "--role=reader",
            "--user=jane",
            "--group=dev",
            "--serviceaccount=default:default",
        ],
        &[
            "create",
            "clusterrole",
            "scaler",
            "--verb=get,update",
            "--resource=deployments.apps/scale",
        ],
        &[
            "create",
            "clusterrole",
            "paths",
            "--verb=get",
            "--non-resource-url=/logs/*",
        ],
        &[
            "create",
            "clusterrole",
            "gathered",
            "--aggregation-rule=rbac.example.com/gather=true",
        ],
        &[
            "create",
            "clusterrolebinding",
            "scalers",
            "--clusterrole=scaler",
            "--group=dev",
        ],
    ] {
        let Some(output) = server.kubectl(arguments, "").await else {
            return;
        };
        assert!(output.success, "{arguments:?}: {output:?}");
    }
    let role = get(&admin, &format!("{ROLES}/reader")).await.json();
    assert_eq!(
        role["rules"],
        json!([{ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"], "resourceNames": ["a"] }])
    );
    let gathered = get(&admin, &format!("{CLUSTER_ROLES}/gathered")).await.json();
    assert_eq!(
        gathered["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"]["rbac.example.com/gather"],
        "true"
    );
    let wait = async {
        let listing = ["auth", "can-i", "--list", "--as=joe", "--as-group=dev"];
        loop {
            let output = server.kubectl(&listing, "").await.unwrap();
            assert!(output.success, "{output:?}");
            if output.out.contains("deployments.apps/scale") {
                return output.out;
            }
        }
    };
    let listed = tokio::time::timeout(DEADLINE, wait).await.unwrap();
    for line in [
        "pods/log",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "/openapi/*",
    ] {
        assert!(listed.contains(line), "{line}: {listed}");
    }

    // What a manifest adds is added, what it leaves out stays, and a binding to another role is made anew on demand.
    let manifest = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: joe}
"#;
    let output = server
        .kubectl(&["auth", "reconcile", "-f", "-"], manifest)
        .await
        .unwrap();
    assert!(output.success, "{output:?}");
    let role = get(&admin, &format!("{ROLES}/reader")).await.json();
    assert_eq!(role["rules"].as_array().unwrap().len(), 2);
    let binding = get(&admin, &format!("{BINDINGS}/readers")).await.json();
    assert_eq!(binding["subjects"].as_array().unwrap().len(), 4);

    let output = server
        .kubectl(
            &["create", "token", "default", "--duration=20m", "--audience=vault"],
            "",
        )
        .await
        .unwrap();
    assert!(output.success, "{output:?}");
    let review = |audiences: Value| json!({ "spec": { "token": output.out.trim(), "audiences": audiences } });
    const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
    let status = made(&admin, TOKENS, &review(json!(["vault", "other"]))).await["status"].clone();
    assert_eq!(status["audiences"], json!(["vault"]));
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:default"
    );
    let status = made(&admin, TOKENS, &review(Value::Null)).await["status"].clone();
    assert_eq!(
        status["error"],
        r#"[invalid bearer token, token audiences ["vault"] is invalid for the target audiences ["https://kubernetes.default.svc.cluster.local"]]"#
    );
    let status = made(&admin, TOKENS, &json!({ "spec": { "token": "nonsense" } })).await["status"].clone();
    assert_eq!(status, json!({ "user": {}, "error": "invalid bearer token" }));
    delete(&admin, "/api/v1/namespaces/default/serviceaccounts/default").await;
    let status = made(&admin, TOKENS, &review(json!(["vault"]))).await["status"].clone();
    assert_eq!(
        status["error"],
        r#"[invalid bearer token, serviceaccounts "default" not found]"#
    );
}

#[tokio::test]
async fn a_review_asks_about_a_selection_as_a_request_would() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ask = |selector: Value| {
        json!({ "spec": { "user": "system:node:n", "groups": ["system:nodes"], "resourceAttributes": {
            "verb": "list", "resource": "pods", "fieldSelector": selector,
        } } })
    };
    let access = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (selector, allowed) in [
        (Value::Null, false),
        (json!({ "rawSelector": "spec.nodeName=n" }), true),
        (json!({ "rawSelector": "spec.nodeName=m" }), false),
        (
            json!({ "requirements": [{ "key": "spec.nodeName", "operator": "In", "values": ["n"] }] }),
            true,
        ),
        (
            json!({ "requirements": [{ "key": "spec.nodeName", "operator": "In", "values": ["n", "m"] }] }),
            false,
        ),
        (
            json!({ "requirements": [{ "key": "spec.nodeName", "operator": "NotIn", "values": ["n"] }] }),
            false,
        ),
    ] {
        let status = made(&admin, access, &ask(selector.clone())).await["status"].clone();
        assert_eq!(status["allowed"], allowed, "{selector}");
    }
}
