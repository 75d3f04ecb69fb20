//! The paths that are no resources.

use http::Method;
use serde_json::json;

use crate::harness::*;

#[tokio::test]
async fn discovery_is_to_be_had_plain_and_aggregated() {
    let server = Server::start().await;
    let client = server.admin().await;
    assert_eq!(get(&client, "/api").await.json()["versions"], json!(["v1"]));
    let groups = get(&client, "/apis").await.json();
    assert_eq!(groups["kind"], "APIGroupList");
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"apps") && !names.contains(&""), "{names:?}");
    assert_eq!(
        get(&client, "/apis/apps").await.json()["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    let core = get(&client, "/api/v1").await.json();
    let resources = core["resources"].as_array().unwrap();
    let named = |name: &str| {
        resources
            .iter()
            .find(|r| r["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(named("pods")["shortNames"], json!(["po"]));
    assert_eq!(named("pods/log")["verbs"], json!(["get"]));
    assert_eq!(named("pods/binding")["kind"], "Binding");
    assert_eq!(named("bindings")["verbs"], json!(["create"]));
    assert_eq!(named("namespaces")["namespaced"], false);

    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let aggregated = get_as(&client, "/apis", accept).await;
    assert_eq!(
        aggregated.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let list = aggregated.json();
    let apps = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["metadata"]["name"] == "apps")
        .unwrap();
    let deployments = apps["versions"][0]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["resource"] == "deployments")
        .unwrap();
    let scale = deployments["subresources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["subresource"] == "scale")
        .unwrap();
    assert_eq!(
        scale["responseKind"],
        json!({ "group": "autoscaling", "version": "v1", "kind": "Scale" })
    );

    let tag = aggregated.headers["etag"].to_str().unwrap().to_string();
    let headers = [("accept", accept), ("if-none-match", tag.as_str())];
    let unchanged = send(&client, request(Method::GET, "/apis", &headers, "")).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
    assert_eq!(get(&client, "/apis/none").await.status, 404);
    assert_eq!(get(&client, "/apis/apps/v9").await.status, 404);
}

#[tokio::test]
async fn the_server_tells_what_it_is_and_how_it_was_started() {
    let server = Server::start().await;
    let client = server.admin().await;
    let listed = get(&client, "/").await.json();
    for path in ["/statusz", "/flagz"] {
        assert!(
            listed["paths"].as_array().unwrap().contains(&json!(path)),
            "{path}"
        );
        let page = &path[1..];
        let answer = send(&client, request(Method::GET, path, &[], "")).await;
        assert_eq!(
            answer.headers["content-type"], "text/plain; charset=utf-8",
            "{path}"
        );
        let expected =
            format!("\nkube-apiserver {page}\nWarning: This endpoint is not meant to be machine parseable");
        assert!(answer.text().starts_with(&expected), "{}", answer.text());
        let refused = get_as(&client, path, "application/json").await;
        assert_eq!(
            refused.failure(),
            (
                406,
                "only the following media types are accepted: application/json, application/yaml, text/plain"
                    .to_string()
            )
        );
        let nobody = server.client(Credential::Nothing).await;
        assert_eq!(get_as(&nobody, path, "*/*").await.status, 403, "{path}");
        let pair = server.authority.client("prometheus", &["system:monitoring"]);
        let monitoring = server.client(Credential::Certificate(&pair)).await;
        assert_eq!(get_as(&monitoring, path, "*/*").await.status, 200, "{path}");
    }
    assert_eq!(
        get_as(&client, "/statusz", "*/*").await.headers["content-type"],
        "text/plain; charset=utf-8"
    );
    let text = get_as(&client, "/statusz", "*/*").await.text();
    assert!(
        text.contains("Binary version")
            && text.contains(" /flagz /healthz /livez /metrics /readyz /statusz /version\n"),
        "{text}"
    );
    let named = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
    let status = get_as(&client, "/statusz", named).await;
    assert_eq!(
        status.headers["content-type"],
        "application/json;g=config.k8s.io;v=v1beta1;as=Statusz"
    );
    let mut status = status.json();
    let started: jiff::Timestamp = status["startTime"].take().as_str().unwrap().parse().unwrap();
    assert!(started <= jiff::Timestamp::now());
    assert!(status["uptimeSeconds"].take().as_i64().unwrap() >= 0);
    assert_eq!(
        status,
        json!({
            "kind": "Statusz",
            "apiVersion": "config.k8s.io/v1beta1",
            "metadata": { "name": "kube-apiserver" },
            "startTime": null,
            "uptimeSeconds": null,
            "goVersion": "",
            "binaryVersion": "1.37.0",
            "emulationVersion": "1.37",
            "paths": ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"],
        })
    );
    let named = "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz";
    let flags = get_as(&client, "/flagz", named).await;
    assert_eq!(
        flags.headers["warning"],
        "299 - \"This version of the flagz endpoint is deprecated. Please use a newer version.\""
    );
    assert!(
        !get_as(&client, "/flagz", &named.replace("alpha", "beta"))
            .await
            .headers
            .contains_key("warning")
    );
    let flags = flags.json();
    assert_eq!(
        (&flags["kind"], &flags["apiVersion"]),
        (&json!("Flagz"), &json!("config.k8s.io/v1alpha1"))
    );
    assert_eq!(flags["flags"]["service-node-port-range"], "30000-32767");
    assert_eq!(flags["flags"]["max-requests-inflight"], "400");
    for (flag, value) in [
        ("event-ttl", "1h0m0s"),
        ("etcd-compaction-interval", "5m0s"),
        ("default-unreachable-toleration-seconds", "300"),
        ("lease-reuse-duration-seconds", "60"),
        ("min-request-timeout", "1800"),
        ("request-timeout", "1m0s"),
        ("http2-max-streams-per-connection", "250"),
        ("tls-min-version", "VersionTLS12"),
    ] {
        assert_eq!(flags["flags"][flag], value, "{flag}");
    }
    // As by default: these belong to other programs, or are switched off.
    for path in ["/configz", "/logs", "/logs/", "/debug/nothing"] {
        assert_eq!(get(&client, path).await.text(), "404 page not found\n", "{path}");
    }
}

#[tokio::test]
async fn counts_begin_anew_when_somebody_says_so() {
    let server = Server::start().await;
    let client = server.admin().await;
    let counted = async || {
        let text = get(&client, "/metrics").await.text();
        let line = text.lines().find(|line| {
            line.starts_with("apiserver_request_total{") && line.contains(r#"resource="configmaps""#)
        });
        line.map(|line| line.rsplit_once(' ').unwrap().1.to_string())
    };
    for _ in 0..3 {
        get(&client, "/api/v1/namespaces/default/configmaps").await;
    }
    assert_eq!(counted().await.as_deref(), Some("3"));
    let reset = delete(&client, "/metrics").await;
    assert_eq!(
        (reset.status.as_u16(), reset.text().as_str()),
        (200, "metrics reset\n")
    );
    assert_eq!(reset.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(counted().await, None);
    let nobody = server.client(Credential::Nothing).await;
    assert_eq!(delete(&nobody, "/metrics").await.status, 403);
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = Server::start().await;
    let client = server.admin().await;
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/readyz", "/api/v1/pods", "/api/v1/nodes/none", "/none"] {
        let answer = get(&client, path).await;
        let id = answer.headers["audit-id"].to_str().unwrap().to_string();
        assert_eq!(id.len(), 36, "{path}: {id}");
        assert!(seen.insert(id), "{path}");
    }
    let headers = [("audit-id", "mine")];
    let answer = send(&client, request(Method::GET, "/version", &headers, "")).await;
    assert_eq!(answer.headers["audit-id"], "mine");
    let nobody = server.client(Credential::Token("wrong")).await;
    assert!(get(&nobody, "/api").await.headers.contains_key("audit-id"));
}

#[tokio::test]
async fn health_version_and_metrics_answer() {
    let server = Server::start().await;
    let client = server.admin().await;
    assert_eq!(get(&client, "/readyz").await.text(), "ok");
    let verbose = get(&client, "/readyz?verbose").await.text();
    assert!(
        verbose.starts_with("[+]ping ok\n") && verbose.ends_with("readyz check passed\n"),
        "{verbose}"
    );
    assert_eq!(get(&client, "/livez/ping").await.text(), "ok");
    assert_eq!(get(&client, "/livez/nonsense").await.status, 404);
    assert_eq!(get(&client, "/version").await.json()["gitVersion"], "v1.37.0");
    assert!(
        get(&client, "/").await.json()["paths"]
            .as_array()
            .unwrap()
            .contains(&json!("/apis/apps/v1"))
    );
    assert_eq!(
        send(&client, request(Method::POST, "/version", &[], ""))
            .await
            .status,
        405
    );
    assert_eq!(get(&client, "/nonsense").await.status, 404);
    get(&client, "/api/v1/pods").await;
    let metrics = get(&client, "/metrics").await.text();
    for line in [
        "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1",
        "apiserver_storage_objects{resource=\"namespaces\"} 4",
        "git_version=\"v1.37.0\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn who_is_not_served_by_any_group_gets_a_plain_page() {
    let server = Server::start().await;
    let client = server.admin().await;
    let plain = [
        "/nonsense",
        "/apis/none",
        "/apis/none/v1",
        "/apis/none/v1/things",
        "/openapi",
        "/healthz/",
        "/metrics/",
        "/livez/nonsense",
    ];
    for path in plain {
        let answer = get(&client, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
        assert_eq!(
            (
                &answer.headers["content-type"],
                &answer.headers["x-content-type-options"]
            ),
            (
                &"text/plain; charset=utf-8".parse().unwrap(),
                &"nosniff".parse().unwrap()
            )
        );
    }
    for path in [
        "/api/v2",
        "/apis/apps/v9",
        "/apis/apps/v9/things",
        "/apis/apps/v1/things",
    ] {
        let message = "the server could not find the requested resource".to_string();
        assert_eq!(get(&client, path).await.failure(), (404, message), "{path}");
    }
    for path in ["/api/", "/apis/", "/version/", "/apis/apps/"] {
        assert_eq!(get(&client, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn checks_can_be_left_out_and_asked_for_one_by_one() {
    let server = Server::start().await;
    let client = server.admin().await;
    let verbose = get(&client, "/livez?verbose&exclude=etcd&exclude=moon&exclude=log")
        .await
        .text();
    for line in [
        "[+]ping ok\n",
        "[+]log excluded: ok\n",
        "[+]etcd excluded: ok\n",
        "[+]poststarthook/rbac/bootstrap-roles ok\n",
        "warn: some health checks cannot be excluded: no matches for \"moon\"\nlivez check passed\n",
    ] {
        assert!(verbose.contains(line), "{line}: {verbose}");
    }
    let told = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("[+]")?.strip_suffix(" ok"));
        lines.map(str::to_string).collect()
    };
    let ready = told(&get(&client, "/readyz?verbose").await.text());
    assert_eq!(
        ready,
        [
            "ping",
            "log",
            "etcd",
            "etcd-readiness",
            "informer-sync",
            "poststarthook/start-apiserver-admission-initializer",
            "poststarthook/generic-apiserver-start-informers",
            "poststarthook/priority-and-fairness-config-consumer",
            "poststarthook/priority-and-fairness-filter",
            "poststarthook/start-system-namespaces-controller",
            "poststarthook/start-cluster-authentication-info-controller",
            "poststarthook/start-kube-apiserver-identity-lease-controller",
            "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
            "poststarthook/storage-readiness",
            "poststarthook/start-legacy-token-tracking-controller",
            "poststarthook/start-service-ip-repair-controllers",
            "poststarthook/rbac/bootstrap-roles",
            "poststarthook/scheduling/bootstrap-system-priority-classes",
            "poststarthook/priority-and-fairness-config-producer",
            "poststarthook/bootstrap-controller",
            "poststarthook/start-kubernetes-service-cidr-controller",
            "poststarthook/start-kube-aggregator-informers",
            "poststarthook/apiservice-status-local-available-controller",
            "poststarthook/kube-apiserver-autoregistration",
            "autoregister-completion",
            "shutdown",
        ]
    );
    for path in ["/livez", "/healthz"] {
        let mut alive = ready.clone();
        alive.retain(|check| !["etcd-readiness", "informer-sync", "shutdown"].contains(&check.as_str()));
        assert_eq!(
            told(&get(&client, &format!("{path}?verbose")).await.text()),
            alive,
            "{path}"
        );
        for check in &alive {
            assert_eq!(
                get(&client, &format!("{path}/{check}")).await.text(),
                "ok",
                "{path}/{check}"
            );
        }
    }
    let single = get(&client, "/readyz/poststarthook/rbac/bootstrap-roles").await;
    assert_eq!((single.status.as_u16(), single.text().as_str()), (200, "ok"));
    // Whoever watches over a server may ask as it likes.
    for method in [Method::HEAD, Method::POST] {
        let answer = send(&client, request(method.clone(), "/healthz", &[], "")).await;
        assert_eq!(answer.status, 200, "{method}");
    }
    assert_eq!(
        send(&client, request(Method::POST, "/version", &[], ""))
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn discovery_is_written_in_every_encoding() {
    use skiff_api::schema::protobuf;
    let server = Server::start().await;
    let client = server.admin().await;
    let of = |media: &str, version: &str| {
        format!("application/{media};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
    };
    let json = get_as(&client, "/apis", &of("json", "v2")).await;
    let binary = get_as(&client, "/apis", &of("vnd.kubernetes.protobuf", "v2")).await;
    assert_eq!(
        binary.headers["content-type"],
        of("vnd.kubernetes.protobuf", "v2").as_str()
    );
    assert_eq!(binary.headers["etag"], json.headers["etag"]);
    let decoded: serde_json::Value =
        serde_json::from_slice(&protobuf::to_json(&binary.body).unwrap()).unwrap();
    assert_eq!(decoded["kind"], "APIGroupDiscoveryList");
    let (decoded, plain) = (&decoded["items"], json.json());
    for (index, group) in plain["items"].as_array().unwrap().iter().enumerate() {
        assert_eq!(decoded[index]["metadata"]["name"], group["metadata"]["name"]);
        assert_eq!(decoded[index]["versions"], group["versions"]);
    }
    let yaml = get_as(&client, "/api", &of("yaml", "v2")).await;
    assert!(
        yaml.text().contains("kind: APIGroupDiscoveryList"),
        "{}",
        yaml.text()
    );
    // The beta is gone: whoever takes plain documents gets them, the others nothing.
    assert_eq!(get_as(&client, "/apis", &of("json", "v2beta1")).await.status, 406);
    let either = format!("{},application/json", of("json", "v2beta1"));
    assert_eq!(
        get_as(&client, "/apis", &either).await.json()["kind"],
        "APIGroupList"
    );
}

#[tokio::test]
async fn errors_are_written_as_the_client_reads() {
    use skiff_api::schema::protobuf;
    let server = Server::start().await;
    let client = server.admin().await;
    let nobody = server.client(Credential::Nothing).await;
    let missing = "/api/v1/namespaces/default/pods/none";
    for (client, path, code) in [
        (&client, missing, 404),
        (&nobody, missing, 403),
        (&client, "/api/v1/pods?timeout=soon", 400),
    ] {
        let json = get(client, path).await;
        assert_eq!(
            (json.status.as_u16(), &json.headers["content-type"]),
            (code, &"application/json".parse().unwrap())
        );
        let binary = get_as(
            client,
            path,
            "application/vnd.kubernetes.protobuf,application/json",
        )
        .await;
        assert_eq!(
            binary.headers["content-type"],
            "application/vnd.kubernetes.protobuf"
        );
        let decoded: serde_json::Value =
            serde_json::from_slice(&protobuf::to_json(&binary.body).unwrap()).unwrap();
        for field in ["kind", "apiVersion", "message", "reason", "code", "status"] {
            assert_eq!(decoded[field], json.json()[field], "{path} {field}");
        }
        let yaml = get_as(client, path, "application/yaml").await;
        assert_eq!(yaml.headers["content-type"], "application/yaml");
        assert!(
            yaml.text().contains(&format!("code: {code}\n")),
            "{}",
            yaml.text()
        );
        // What cannot be written is refused before the object is looked for, and nothing else is hidden by it.
        let other = get_as(client, path, "image/png").await;
        assert_eq!(other.status, if code == 404 { 406 } else { code });
        assert!(other.text().starts_with("{\n  \""), "{}", other.text());
        let table = get_as(client, path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
        assert_eq!((table.status.as_u16(), table.json()), (code, json.json()));
        let curl = [("user-agent", "curl/8.0")];
        let pretty = send(client, request(Method::GET, path, &curl, "")).await;
        assert!(pretty.text().starts_with("{\n  \""), "{}", pretty.text());
    }
}

#[tokio::test]
async fn the_range_of_services_is_an_object_that_comes_back() {
    let server = Server::start().await;
    let client = server.admin().await;
    let path = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    let first = get(&client, path).await.json();
    assert_eq!(first["spec"]["cidrs"], json!(["10.96.0.0/12"]));
    let condition = &first["status"]["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"],
            &condition["message"]
        ),
        (
            &json!("Ready"),
            &json!("True"),
            &json!(""),
            &json!("Kubernetes default Service CIDR is ready")
        )
    );
    assert_eq!(
        send(&client, request(Method::DELETE, path, &[], "")).await.status,
        200
    );
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let now = get(&client, path).await;
        let is_new = now.status == 200 && now.json()["metadata"]["uid"] != first["metadata"]["uid"];
        if is_new && now.json()["status"]["conditions"][0]["status"] == "True" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", now.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
