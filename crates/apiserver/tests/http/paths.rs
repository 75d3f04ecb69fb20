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
async fn the_documents_are_indexed_and_tagged() {
    let server = Server::start().await;
    let client = server.admin().await;
    let index = get(&client, "/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_string();
    let document = get(&client, &url).await;
    let paths = &document.json()["paths"];
    let patch = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert!(document.json()["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    let tag = document.headers["etag"].to_str().unwrap().to_string();
    let headers = [("if-none-match", tag.as_str())];
    assert_eq!(
        send(&client, request(Method::GET, &url, &headers, ""))
            .await
            .status,
        304
    );
    assert_eq!(get(&client, "/openapi/v3/apis/none/v1").await.status, 404);
    let swagger = get(&client, "/openapi/v2").await.json();
    assert_eq!(swagger["swagger"], "2.0");
    assert!(swagger["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let packed = get_as(&client, "/openapi/v2", protobuf).await;
    assert_eq!(packed.status, 200);
    assert!(
        packed.body.starts_with(b"\x0a\x032.0"),
        "the first field is the version"
    );
}

#[tokio::test]
async fn each_document_has_the_types_that_clients_accept() {
    let server = Server::start().await;
    let client = server.admin().await;
    let json = "application/json";
    let (two, three) = (
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    );
    let old = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let html = "text/html";
    // What comes for which `Accept`; nothing where none of it can be had.
    let cases = [
        ("/openapi/v3", json, Some("text/plain; charset=utf-8")),
        ("/openapi/v3", html, Some("text/plain; charset=utf-8")),
        ("/openapi/v3/version", "", Some(json)),
        ("/openapi/v3/version", "*/*", Some(json)),
        ("/openapi/v3/version", "application/*", Some(json)),
        (
            "/openapi/v3/version",
            "text/html, application/json;q=0.1",
            Some(json),
        ),
        ("/openapi/v3/version", old, Some(three)),
        ("/openapi/v3/version", three, Some(three)),
        ("/openapi/v3/version", html, None),
        ("/openapi/v3/version", "application/yaml", None),
        ("/openapi/v2", "", Some(json)),
        ("/openapi/v2", "application/*", Some(json)),
        ("/openapi/v2", two, Some(two)),
        ("/openapi/v2", html, None),
        ("/openapi/v2", "application/vnd.kubernetes.protobuf", None),
    ];
    for (path, accept, expected) in cases {
        let answer = match accept {
            "" => send(&client, request(Method::GET, path, &[], "")).await,
            accept => get_as(&client, path, accept).await,
        };
        let type_ = answer
            .headers
            .get("content-type")
            .map(|type_| type_.to_str().unwrap());
        assert_eq!(type_, expected, "{path} {accept}");
        assert_eq!(
            answer.status,
            if expected.is_some() { 200 } else { 406 },
            "{path} {accept}"
        );
        assert_eq!(answer.body.is_empty(), expected.is_none(), "{path} {accept}");
        let varies = answer.headers.get("vary").map(|vary| vary.to_str().unwrap());
        assert_eq!(
            varies.is_some_and(|vary| vary.contains("Accept")),
            path != "/openapi/v3",
            "{path}"
        );
    }
    for path in ["/openapi/v3/", "/openapi/v3/api/v1/", "/openapi/v3/apis/none/v1"] {
        let none = get(&client, path).await;
        assert_eq!((none.status.as_u16(), none.body.len()), (404, 0), "{path}");
        assert!(!none.headers.contains_key("content-type"), "{path}");
    }
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
            (406, "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf, text/plain".to_string())
        );
        let nobody = server.client(Credential::Nothing).await;
        assert_eq!(get_as(&nobody, path, "*/*").await.status, 403, "{path}");
        let pair = server.authority.client("prometheus", &["system:monitoring"]);
        let monitoring = server.client(Credential::Certificate(&pair)).await;
        assert_eq!(get_as(&monitoring, path, "*/*").await.status, 200, "{path}");
    }
    assert_eq!(
        get_as(&client, "/statusz", "*/*").await.headers["content-type"],
        "text/plain"
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
    let flags = get_as(&client, "/flagz", named).await.json();
    assert_eq!(
        (&flags["kind"], &flags["apiVersion"]),
        (&json!("Flagz"), &json!("config.k8s.io/v1alpha1"))
    );
    assert_eq!(flags["flags"]["service-node-port-range"], "30000-32767");
    assert_eq!(flags["flags"]["max-requests-inflight"], "400");
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
async fn a_document_with_its_hash_may_be_kept_and_an_old_one_leads_to_the_new() {
    let server = Server::start().await;
    let client = server.admin().await;
    let index = get(&client, "/openapi/v3").await.json();
    let path = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let kept = get(&client, path).await;
    assert_eq!(kept.headers["cache-control"], "public, immutable");
    assert!(kept.headers["expires"].to_str().unwrap().ends_with(" GMT"));
    let old = get(&client, "/openapi/v3/apis/apps/v1?hash=OLD").await;
    assert_eq!(
        (old.status.as_u16(), old.headers["location"].to_str().unwrap()),
        (301, path)
    );
    let any = get(&client, "/openapi/v3/apis/apps/v1").await;
    assert_eq!(any.headers["cache-control"], "no-cache, private");
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
async fn documents_of_version_three_are_to_be_had_in_protobuf() {
    let server = Server::start().await;
    let client = server.admin().await;
    let (path, media) = (
        "/openapi/v3/apis/apps/v1",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    );
    let json = get(&client, path).await;
    for accept in [
        media,
        "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
    ] {
        let binary = get_as(&client, path, accept).await;
        assert_eq!(binary.headers["content-type"], media);
        assert_eq!(binary.headers["vary"], "Accept");
        assert_eq!(binary.headers["etag"], json.headers["etag"]);
        // `openapi: "3.0.0"` begins the message.
        assert_eq!(&binary.body[..7], b"\x0a\x053.0.0");
        assert!(binary.body.windows(15).any(|bytes| bytes == b"listAppsV1Deplo"));
    }
    assert_eq!(json.headers["etag"].len(), 128 + 2, "a SHA-512, quoted");
    let tag = json.headers["etag"].to_str().unwrap();
    let kept = [("accept", media), ("if-none-match", tag)];
    assert_eq!(
        send(&client, request(Method::GET, path, &kept, "")).await.status,
        304
    );
    let refused = get_as(&client, path, "application/yaml").await;
    assert_eq!((refused.status.as_u16(), refused.body.len()), (406, 0));
}

#[tokio::test]
async fn there_are_documents_of_what_is_above_the_group_versions() {
    let server = Server::start().await;
    let client = server.admin().await;
    let index = get(&client, "/openapi/v3").await.json();
    for (name, path, id) in [
        ("api", "/api/", "getCoreAPIVersions"),
        ("api/v1", "/api/v1/", "getCoreV1APIResources"),
        ("apis", "/apis/", "getAPIVersions"),
        ("apis/apps", "/apis/apps/", "getAppsAPIGroup"),
        (
            "apis/rbac.authorization.k8s.io",
            "/apis/rbac.authorization.k8s.io/",
            "getRbacAuthorizationAPIGroup",
        ),
        (
            "apis/rbac.authorization.k8s.io/v1",
            "/apis/rbac.authorization.k8s.io/v1/",
            "getRbacAuthorizationV1APIResources",
        ),
        ("version", "/version/", "getCodeVersion"),
        (
            ".well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
        ),
        (
            "openid/v1/jwks",
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
        ),
    ] {
        let url = index["paths"][name]["serverRelativeURL"]
            .as_str()
            .unwrap_or_else(|| panic!("{name}"));
        let document = get(&client, url).await.json();
        assert_eq!(document["paths"][path]["get"]["operationId"], id);
        // And there is what it tells of.
        assert_eq!(get(&client, path).await.status, 200, "{path}");
    }
    let version = get(&client, "/openapi/v3/version").await.json();
    let info = "io.k8s.apimachinery.pkg.version.Info";
    assert_eq!(
        version["components"]["schemas"][info]["properties"]["gitVersion"]["type"],
        "string"
    );
    let swagger = get(&client, "/openapi/v2").await.json();
    assert_eq!(
        swagger["paths"]["/apis/apps/"]["get"]["operationId"],
        "getAppsAPIGroup"
    );
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let list = &swagger["paths"][roles]["get"];
    assert_eq!(list["operationId"], "listRbacAuthorizationV1ClusterRole");
    assert_eq!(list["tags"], json!(["rbacAuthorization_v1"]));
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
