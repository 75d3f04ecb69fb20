//! What the cluster adds to objects and refuses, and what it keeps.

use kube::Client;
use serde_json::{Value, json};

use crate::harness::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// Reads until what is read is as wanted.
async fn until(client: &Client, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let wait = async {
        loop {
            let answer = get(client, path).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .unwrap_or_else(|_| panic!("{path} did not become as wanted"))
}

#[tokio::test]
async fn every_cluster_has_its_namespaces_and_its_own_service() {
    let server = Server::start().await;
    let client = server.local();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = get(&client, &format!("/api/v1/namespaces/{name}")).await.json();
        assert_eq!(namespace["status"]["phase"], "Active", "{name}");
    }
    let own = get(&client, &format!("{SERVICES}/kubernetes")).await.json();
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(own["spec"]["ports"][0]["port"], 443);
    assert_eq!(own["spec"]["ipFamilyPolicy"], "SingleStack");
    let endpoints = get(&client, "/api/v1/namespaces/default/endpoints/kubernetes")
        .await
        .json();
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.1");
    let slice = get(
        &client,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    )
    .await
    .json();
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.1");
    let authentication = get(
        &client,
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
    )
    .await
    .json();
    assert!(
        authentication["data"]["client-ca-file"]
            .as_str()
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
}

#[tokio::test]
async fn the_servers_own_service_comes_back() {
    let server = Server::start().await;
    let client = server.local();
    let paths = [
        format!("{SERVICES}/kubernetes"),
        "/api/v1/namespaces/default/endpoints/kubernetes".to_string(),
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes".to_string(),
    ];
    for path in &paths {
        let before = get(&client, path).await.json();
        assert_eq!(delete(&client, path).await.status, 200);
        let after = until(&client, path, |answer| answer.status == 200).await.json();
        assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
        if path == &paths[0] {
            assert_eq!(after["spec"]["clusterIP"], "10.96.0.1");
        }
    }
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_not_there_or_is_going() {
    let server = Server::start().await;
    let client = server.local();
    let map = json!({ "metadata": { "name": "m" } });
    let answer = post(&client, "/api/v1/namespaces/none/configmaps", &map).await;
    assert_eq!(answer.failure(), (404, "namespaces \"none\" not found".into()));
    post(
        &client,
        "/api/v1/namespaces",
        &json!({ "metadata": { "name": "going" } }),
    )
    .await;
    assert_eq!(
        post(&client, "/api/v1/namespaces/going/configmaps", &map)
            .await
            .status,
        201
    );
    assert_eq!(
        delete(&client, "/api/v1/namespaces/going").await.json()["status"]["phase"],
        "Terminating"
    );
    let answer = post(
        &client,
        "/api/v1/namespaces/going/configmaps",
        &json!({ "metadata": { "name": "n" } }),
    )
    .await;
    assert_eq!(
        answer.failure(),
        (403, "configmaps \"n\" is forbidden: unable to create new content in namespace going because it is being terminated".into())
    );
    assert_eq!(
        answer.json()["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let answer = delete(&client, "/api/v1/namespaces/default").await;
    assert_eq!(
        answer.failure(),
        (
            403,
            "namespaces \"default\" is forbidden: this namespace may not be deleted".into()
        )
    );

    // The namespace controller takes its finalizer away when the namespace is empty.
    let mut namespace = get(&client, "/api/v1/namespaces/going").await.json();
    namespace["spec"]["finalizers"] = json!([]);
    let answer = put(&client, "/api/v1/namespaces/going/finalize", &namespace).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(get(&client, "/api/v1/namespaces/going").await.status, 404);
}

#[tokio::test]
async fn a_pod_gets_an_account_a_token_tolerations_and_a_priority() {
    let server = Server::start().await;
    let client = server.local();
    let answer = post(&client, PODS, &pod("early")).await;
    assert_eq!(
        answer.failure(),
        (403, "pods \"early\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found".into())
    );
    let server = server.with_default_account().await;
    let made = post(&client, PODS, &pod("p")).await.json();
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(
        spec["containers"][0]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );

    let mut critical = pod("critical");
    critical["spec"]["priorityClassName"] = "system-node-critical".into();
    assert_eq!(
        post(&client, PODS, &critical).await.json()["spec"]["priority"],
        2_000_001_000
    );
    let mut wrong = pod("wrong");
    wrong["spec"]["priorityClassName"] = "none".into();
    assert_eq!(
        post(&client, PODS, &wrong).await.failure(),
        (
            403,
            "pods \"wrong\" is forbidden: no PriorityClass with name none was found".into()
        )
    );
    let node = post(&client, "/api/v1/nodes", &json!({ "metadata": { "name": "n" } }))
        .await
        .json();
    assert_eq!(
        node["spec"]["taints"],
        json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }])
    );
    drop(server);
}

#[tokio::test]
async fn a_pod_waits_for_the_account_of_its_new_namespace() {
    let server = Server::start().await;
    let client = server.local();
    let body = pod("p");
    let (made, account) = tokio::join!(post(&client, PODS, &body), async {
        // Whichever comes first, the pod is made.
        post(
            &client,
            "/api/v1/namespaces/default/serviceaccounts",
            &json!({ "metadata": { "name": "default" } }),
        )
        .await
    });
    assert_eq!(
        (made.status.as_u16(), account.status.as_u16()),
        (201, 201),
        "{}",
        made.text()
    );
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let server = Server::start().await;
    let client = server.local();
    let ports = json!([{ "port": 80 }]);
    let a = post(
        &client,
        SERVICES,
        &service("a", json!({ "type": "NodePort", "ports": ports })),
    )
    .await
    .json();
    let ip = a["spec"]["clusterIP"].as_str().unwrap().to_string();
    let port = a["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!(ip.starts_with("10.") && (30000..=32767).contains(&port));
    assert_eq!(a["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(a["spec"]["internalTrafficPolicy"], "Cluster");

    let taken = post(
        &client,
        SERVICES,
        &service("b", json!({ "clusterIP": ip, "ports": ports })),
    )
    .await;
    let (code, message) = taken.failure();
    assert_eq!(code, 422);
    assert!(
        message.starts_with("Service \"b\" is invalid: spec.clusterIPs: Invalid value: "),
        "{message}"
    );
    assert!(
        message.ends_with(&format!(
            "failed to allocate IP {ip}: provided IP is already allocated"
        )),
        "{message}"
    );
    let same_port = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] });
    let (_, message) = post(&client, SERVICES, &service("c", same_port)).await.failure();
    assert_eq!(
        message,
        format!(
            "Service \"c\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
        )
    );

    // What a deleted or changed service had is free at once.
    let to_cluster_ip = patch(
        &client,
        &format!("{SERVICES}/a"),
        "merge-patch",
        &json!({ "spec": { "type": "ClusterIP" } }),
    )
    .await
    .json();
    assert_eq!(
        to_cluster_ip["spec"]["clusterIP"],
        ip.as_str(),
        "it keeps its address"
    );
    let replaced = json!({ "metadata": { "name": "a" }, "spec": { "ports": [{ "port": 81 }] } });
    let replaced = put(&client, &format!("{SERVICES}/a"), &replaced).await.json();
    assert_eq!(
        replaced["spec"]["clusterIP"],
        ip.as_str(),
        "it keeps its address: {replaced}"
    );
    delete(&client, &format!("{SERVICES}/a")).await;
    let again = post(
        &client,
        SERVICES,
        &service("d", json!({ "clusterIP": ip, "ports": ports })),
    )
    .await;
    assert_eq!(again.status, 201, "{}", again.text());

    // One that could not be made gives back what it was given.
    let bad = json!({ "clusterIP": "10.96.0.99", "ports": [{ "port": 0 }] });
    assert_eq!(post(&client, SERVICES, &service("bad", bad)).await.status, 422);
    let good = json!({ "clusterIP": "10.96.0.99", "ports": ports });
    assert_eq!(post(&client, SERVICES, &service("good", good)).await.status, 201);
}

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

/// Whether an answer is the address of this service.
fn is_of(answer: &Answer, name: &str) -> bool {
    answer.status == 200 && answer.json()["spec"]["parentRef"]["name"] == name
}

#[tokio::test]
async fn the_addresses_of_services_are_objects() {
    let server = Server::start().await;
    let client = server.local();
    let own = get(&client, &format!("{ADDRESSES}/10.96.0.1")).await.json();
    assert_eq!(
        own["metadata"]["labels"],
        json!({ "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" })
    );
    assert_eq!(
        own["spec"],
        json!({ "parentRef": { "resource": "services", "namespace": "default", "name": "kubernetes" } })
    );
    let ports = json!([{ "port": 80 }]);
    let wanted = |name: &str| service(name, json!({ "clusterIP": "10.96.0.77", "ports": ports }));
    post(&client, SERVICES, &wanted("a")).await;
    let path = format!("{ADDRESSES}/10.96.0.77");
    until(&client, &path, |answer| is_of(answer, "a")).await;
    // Another service may have the address next, and an object that is taken away comes back.
    delete(&client, &format!("{SERVICES}/a")).await;
    let next = post(&client, SERVICES, &wanted("b")).await;
    assert_eq!(next.status, 201, "{}", next.text());
    let first = until(&client, &path, |answer| is_of(answer, "b")).await.json();
    delete(&client, &path).await;
    until(&client, &path, |answer| {
        is_of(answer, "b") && answer.json()["metadata"]["uid"] != first["metadata"]["uid"]
    })
    .await;
    let external = json!({ "spec": { "type": "ExternalName", "externalName": "a.b", "clusterIP": null, "clusterIPs": null } });
    let changed = patch(&client, &format!("{SERVICES}/b"), "merge-patch", &external).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    until(&client, &path, |answer| answer.status == 404).await;
}

#[tokio::test]
async fn an_address_that_does_not_go_holds_up_no_other() {
    let server = Server::start().await;
    let client = server.local();
    let wanted = |name: &str, ip: &str| service(name, json!({ "clusterIP": ip, "ports": [{ "port": 80 }] }));
    post(&client, SERVICES, &wanted("a", "10.96.0.77")).await;
    let path = format!("{ADDRESSES}/10.96.0.77");
    until(&client, &path, |answer| is_of(answer, "a")).await;
    let held = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
    assert_eq!(patch(&client, &path, "merge-patch", &held).await.status, 200);
    delete(&client, &format!("{SERVICES}/a")).await;
    for (name, ip) in [("b", "10.96.0.77"), ("c", "10.96.0.78")] {
        let made = post(&client, SERVICES, &wanted(name, ip)).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    until(&client, &format!("{ADDRESSES}/10.96.0.78"), |answer| {
        is_of(answer, "c")
    })
    .await;
    assert!(is_of(&get(&client, &path).await, "a"));
}

#[tokio::test]
async fn who_makes_an_ip_address_reserves_it() {
    let server = Server::start().await;
    let client = server.local();
    let mine = json!({ "metadata": { "name": "10.96.0.88" },
        "spec": { "parentRef": { "group": "example.com", "resource": "gateways", "name": "g" } } });
    let made = post(&client, ADDRESSES, &mine).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let wanted = service(
        "a",
        json!({ "clusterIP": "10.96.0.88", "ports": [{ "port": 80 }] }),
    );
    // What is reserved is told by a watch.
    let refusal = "failed to allocate IP 10.96.0.88: provided IP is already allocated";
    let dry = format!("{SERVICES}?dryRun=All");
    let post_until = async |path: &str, code: u16| {
        let wait = async {
            loop {
                let answer = post(&client, path, &wanted).await;
                if answer.status.as_u16() == code {
                    return answer;
                }
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap()
    };
    let (_, message) = post_until(&dry, 422).await.failure();
    assert!(message.ends_with(refusal), "{message}");
    delete(&client, &format!("{ADDRESSES}/10.96.0.88")).await;
    post_until(SERVICES, 201).await;
    let path = format!("{ADDRESSES}/10.96.0.88");
    until(&client, &path, |answer| is_of(answer, "a")).await;
}

#[tokio::test]
async fn plugins_and_steps_are_timed() {
    let server = Server::start().await;
    let client = server.admin().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    get(&client, maps).await;
    delete(&client, "/metrics").await;
    let map = json!({ "metadata": { "name": "a" } });
    assert_eq!(post(&client, maps, &map).await.status, 201);
    let nowhere = "/api/v1/namespaces/nowhere/configmaps";
    assert_eq!(post(&client, nowhere, &map).await.status, 404);
    assert_eq!(delete(&client, &format!("{maps}/a")).await.status, 200);
    let metrics = get(&client, "/metrics").await.text();
    let (plugin, step) = (
        "apiserver_admission_controller_admission_duration_seconds",
        "apiserver_admission_step_admission_duration_seconds",
    );
    for line in [
        format!(
            r#"{plugin}_count{{name="NamespaceLifecycle",operation="CREATE",rejected="false",type="admit"}} 1"#
        ),
        format!(
            r#"{plugin}_count{{name="NamespaceLifecycle",operation="CREATE",rejected="true",type="admit"}} 1"#
        ),
        format!(
            r#"{plugin}_count{{name="NamespaceLifecycle",operation="DELETE",rejected="false",type="admit"}} 1"#
        ),
        format!(
            r#"{plugin}_bucket{{name="ResourceQuota",operation="CREATE",rejected="false",type="validate",le="2.5"}} 1"#
        ),
        format!(r#"{step}_count{{operation="CREATE",rejected="false",type="admit"}} 1"#),
        format!(r#"{step}_count{{operation="CREATE",rejected="true",type="admit"}} 1"#),
        format!(r#"{step}_count{{operation="CREATE",rejected="false",type="validate"}} 1"#),
        format!(r#"{step}_count{{operation="DELETE",rejected="false",type="validate"}} 1"#),
        format!(r#"{step}_summary_count{{operation="CREATE",rejected="false",type="validate"}} 1"#),
    ] {
        assert!(
            metrics.lines().any(|its| its == line),
            "{line} is not in\n{metrics}"
        );
    }
    let of_others = format!(r#"{plugin}_count{{name="DefaultStorageClass",operation="DELETE""#);
    assert!(!metrics.contains(&of_others), "it is not asked about deletions");
    let quantile =
        format!(r#"{step}_summary{{operation="CREATE",rejected="false",type="admit",quantile="0.99"}} "#);
    assert!(metrics.contains(&quantile), "{metrics}");
}

#[tokio::test]
async fn what_the_parts_of_the_process_send_is_told_as_client_go_tells_it() {
    let server = Server::start().await;
    let local = server.local();
    let maps = "/api/v1/namespaces/default/configmaps";
    post(&local, maps, &json!({ "metadata": { "name": "a" } })).await;
    get(&local, &format!("{maps}/none")).await;
    let client = server.admin().await;
    get(&client, &format!("{maps}/none")).await;
    let metrics = get(&client, "/metrics").await.text();
    let host = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"rest_client_requests_total{code="201",host=""#))
        .unwrap_or_else(|| panic!("{metrics}"));
    let host = host.split('"').next().unwrap();
    assert!(host.starts_with("127.0.0.1:"), "{host}");
    for line in [
        format!(r#"rest_client_requests_total{{code="201",host="{host}",method="POST"}} 1"#),
        format!(r#"rest_client_requests_total{{code="404",host="{host}",method="GET"}} 1"#),
        format!(r#"rest_client_request_duration_seconds_count{{host="{host}",verb="POST"}} 1"#),
        format!(r#"rest_client_request_size_bytes_count{{host="{host}",verb="POST"}} 1"#),
        format!(r#"rest_client_response_size_bytes_count{{host="{host}",verb="GET"}} 1"#),
    ] {
        assert!(
            metrics.lines().any(|its| its == line),
            "{line} is not in\n{metrics}"
        );
    }
}
