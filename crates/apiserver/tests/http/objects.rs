//! The verbs and the forms of their answers.

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::Method;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "app": name } }, "data": { "a": "1" } })
}

async fn lives_its_life(client: Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let made: ConfigMap = serde_json::from_value(map("one")).unwrap();
    let made = maps.create(&PostParams::default(), &made).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let version = made.metadata.resource_version.clone().unwrap();

    let listed = maps.list(&ListParams::default().labels("app=one")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let none = maps
        .list(
            &ListParams::default()
                .labels("app notin (one)")
                .fields("metadata.name=one"),
        )
        .await
        .unwrap();
    assert!(none.items.is_empty());

    let mut events = maps
        .watch(&WatchParams::default().labels("app=one").timeout(20), &version)
        .await
        .unwrap()
        .boxed();
    let patch = Patch::Merge(json!({ "data": { "b": "2" } }));
    let patched = maps.patch("one", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.as_ref().unwrap().len(), 2);
    let mut replaced = patched.clone();
    replaced.data = None;
    maps.replace("one", &PostParams::default(), &replaced)
        .await
        .unwrap();
    let conflict = maps
        .replace("one", &PostParams::default(), &patched)
        .await
        .unwrap_err();
    assert!(
        conflict.to_string().contains("the object has been modified"),
        "{conflict}"
    );
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    let gone = maps.get("one").await.unwrap_err();
    assert!(
        gone.to_string().contains("configmaps \"one\" not found"),
        "{gone}"
    );

    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = tokio::time::timeout(DEADLINE, events.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        match event {
            WatchEvent::Modified(_) => seen.push("MODIFIED"),
            WatchEvent::Deleted(_) => seen.push("DELETED"),
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["MODIFIED", "MODIFIED", "DELETED"]);
}

#[tokio::test]
async fn an_object_lives_its_life_over_the_socket() {
    let server = Server::start().await;
    lives_its_life(server.admin().await).await;
}

#[tokio::test]
async fn an_object_lives_its_life_within_the_process() {
    let server = Server::start().await;
    lives_its_life(server.local()).await;
}

#[tokio::test]
async fn a_list_has_the_items_as_upstream_writes_them() {
    let server = Server::start().await;
    let client = server.local();
    for name in ["a", "b", "c"] {
        assert_eq!(post(&client, MAPS, &map(name)).await.status, 201);
    }
    let list = get(&client, &format!("{MAPS}?limit=2")).await.json();
    assert_eq!(
        (list["kind"].as_str(), list["apiVersion"].as_str()),
        (Some("ConfigMapList"), Some("v1"))
    );
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert_eq!(list["items"][0].get("kind"), None, "the list's kind implies it");
    assert_eq!(list["metadata"]["remainingItemCount"], 1);
    let next = list["metadata"]["continue"].as_str().unwrap();
    let list = get(&client, &format!("{MAPS}?limit=2&continue={next}"))
        .await
        .json();
    assert_eq!(list["items"][0]["metadata"]["name"], "c");
    let one = get(&client, &format!("{MAPS}/a")).await.json();
    assert_eq!(one["kind"], "ConfigMap");
}

#[tokio::test]
async fn tables_metadata_and_yaml_are_to_be_had() {
    let server = Server::start().await;
    let client = server.local();
    post(&client, MAPS, &map("a")).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let list = get_as(&client, &format!("{MAPS}?labelSelector=app"), table)
        .await
        .json();
    assert_eq!(list["kind"], "Table");
    let columns: Vec<&str> = list["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Name", "Data", "Age"]);
    assert_eq!(list["rows"][0]["cells"][0], "a");
    assert_eq!(list["rows"][0]["cells"][1], 1);
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(list["rows"][0]["object"]["metadata"]["name"], "a");
    let whole = get_as(&client, &format!("{MAPS}/a?includeObject=Object"), table)
        .await
        .json();
    assert_eq!(whole["rows"][0]["object"]["data"]["a"], "1");
    let none = get_as(&client, &format!("{MAPS}/a?includeObject=None"), table)
        .await
        .json();
    assert_eq!(none["rows"][0]["object"], Value::Null);

    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = get_as(&client, MAPS, partial).await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0].get("data"), None);

    let yaml = get_as(&client, &format!("{MAPS}/a"), "application/yaml").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(yaml.text().contains("kind: ConfigMap"), "{}", yaml.text());
    let headers = [("content-type", "application/yaml")];
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: from-yaml\ndata:\n  k: v\n";
    let made = send(&client, request(Method::POST, MAPS, &headers, body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

#[tokio::test]
async fn objects_are_read_and_written_in_protobuf() {
    use skiff_api::schema::protobuf::{from_json, to_json};
    let server = Server::start().await;
    let client = server.admin().await;
    let protobuf = "application/vnd.kubernetes.protobuf";
    let body = from_json(map("p").to_string().as_bytes()).unwrap();
    let headers = [("content-type", protobuf), ("accept", protobuf)];
    let made = send(&client, request(Method::POST, MAPS, &headers, body)).await;
    assert_eq!(
        (
            made.status.as_u16(),
            made.headers["content-type"].to_str().unwrap()
        ),
        (201, protobuf)
    );
    let made: Value = serde_json::from_slice(&to_json(&made.body).unwrap()).unwrap();
    assert_eq!(made["data"], json!({ "a": "1" }));
    let list = get_as(&client, MAPS, protobuf).await;
    let list: Value = serde_json::from_slice(&to_json(&list.body).unwrap()).unwrap();
    assert_eq!(list["items"][0]["metadata"]["uid"], made["metadata"]["uid"]);
    let preferred = get_as(
        &client,
        MAPS,
        "application/json,application/vnd.kubernetes.protobuf",
    )
    .await;
    assert_eq!(preferred.json()["kind"], "ConfigMapList");
    let headers = [("content-type", protobuf)];
    let broken = send(&client, request(Method::POST, MAPS, &headers, "k8s\0\n")).await;
    assert_eq!(broken.status, 400);
}

#[tokio::test]
async fn a_watch_streams_lines_of_the_form_that_is_asked_for() {
    let server = Server::start().await;
    let client = server.admin().await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=20";
    let response = client.send(request(Method::GET, path, &table, "")).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut lines = response
        .into_body()
        .into_data_stream()
        .map_err(std::io::Error::other)
        .into_async_read()
        .lines();
    for name in ["other", "a"] {
        assert_eq!(post(&client, MAPS, &map(name)).await.status, 201);
    }
    delete(&client, &format!("{MAPS}/a")).await;
    let mut events = Vec::new();
    while events.len() < 2 {
        let line = tokio::time::timeout(DEADLINE, lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["type"] != "BOOKMARK" {
            events.push(event);
        }
    }
    assert_eq!(events[0]["type"], "ADDED");
    assert_eq!(events[0]["object"]["rows"][0]["cells"][0], "a");
    assert!(events[0]["object"]["columnDefinitions"].is_array());
    assert_eq!(events[1]["type"], "DELETED");
    assert_eq!(
        events[1]["object"]["columnDefinitions"],
        Value::Null,
        "only the first event has them"
    );
}

#[tokio::test]
async fn a_deletion_answers_with_a_status_or_the_object() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let made = post(&client, MAPS, &map("a")).await.json();
    let status = delete(&client, &format!("{MAPS}/a")).await.json();
    assert_eq!(status["status"], "Success");
    assert_eq!(
        status["details"],
        json!({ "name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"] })
    );
    let mut kept = map("kept");
    kept["metadata"]["finalizers"] = json!(["example.com/keep"]);
    post(&client, MAPS, &kept).await;
    let marked = delete(&client, &format!("{MAPS}/kept")).await;
    assert_eq!(marked.status, 200);
    assert!(marked.json()["metadata"]["deletionTimestamp"].is_string());
    // Some kinds answer with what was deleted: clients decode the answer as that.
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" } });
    post(&client, accounts, &account).await;
    let deleted = delete(&client, &format!("{accounts}/robot")).await;
    assert_eq!(
        (
            deleted.status,
            deleted.json()["kind"].clone(),
            deleted.json()["metadata"]["name"].clone()
        ),
        (http::StatusCode::OK, json!("ServiceAccount"), json!("robot"))
    );
    for name in ["x", "y"] {
        post(&client, MAPS, &map(name)).await;
    }
    let deleted = delete(&client, &format!("{MAPS}?labelSelector=app+in+(x,y)"))
        .await
        .json();
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn people_get_json_that_they_can_read() {
    let server = Server::start().await;
    let client = server.local();
    post(&client, MAPS, &map("a")).await;
    let plain = get(&client, &format!("{MAPS}/a")).await;
    let pretty = get(&client, &format!("{MAPS}/a?pretty=true")).await;
    assert!(
        pretty.text().starts_with("{\n  \"apiVersion\": \"v1\",\n"),
        "{}",
        pretty.text()
    );
    assert_eq!(pretty.json(), plain.json());
    let headers = [("user-agent", "curl/8.0")];
    let list = send(&client, request(Method::GET, MAPS, &headers, "")).await;
    assert!(
        list.text().starts_with("{\n  \"kind\": \"ConfigMapList\",\n"),
        "{}",
        list.text()
    );
    let headers = [("user-agent", "curl/8.0")];
    let list = send(
        &client,
        request(Method::GET, &format!("{MAPS}?pretty=false"), &headers, ""),
    )
    .await;
    // It ends with the line, as Go's encoder ends everything.
    assert_eq!(list.text().find('\n'), Some(list.body.len() - 1));
}

#[tokio::test]
async fn large_lists_are_compressed_for_those_who_ask() {
    let server = Server::start().await;
    let client = server.local();
    let mut large = map("large");
    large["data"]["a"] = "x".repeat(300_000).into();
    assert_eq!(post(&client, MAPS, &large).await.status, 201);
    let path = format!("{MAPS}/large");
    let plain = get(&client, &path).await;
    let headers = [("accept-encoding", "gzip")];
    let packed = send(&client, request(Method::GET, &path, &headers, "")).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() * 10 < plain.body.len());
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    post(&client, PODS, &pod("p")).await;
    let not_found = "the server could not find the requested resource";
    let not_allowed = "the server does not allow this method on the requested resource";
    let json_type: &[(&str, &str)] = &[("content-type", "application/json")];
    /// Method, path, headers and body; code and message.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
    let cases: &[Case<'_>] = &[
        ("GET", "/api/v1/nonsense", &[], "", 404, not_found),
        ("GET", "/api/v1/pods/p", &[], "", 404, not_found),
        ("GET", "/api/v1/namespaces/default/nodes", &[], "", 404, not_found),
        (
            "GET",
            "/api/v1/namespaces/default/pods/p/nonsense",
            &[],
            "",
            404,
            not_found,
        ),
        (
            "GET",
            "/api/v1/namespaces/default/pods/none",
            &[],
            "",
            404,
            "pods \"none\" not found",
        ),
        (
            "GET",
            "/apis/apps/v1/namespaces/default/deployments/none",
            &[],
            "",
            404,
            "deployments.apps \"none\" not found",
        ),
        ("HEAD", PODS, &[], "", 405, ""),
        ("OPTIONS", PODS, &[], "", 405, not_allowed),
        ("POST", "/api/v1/pods", json_type, "{}", 405, not_allowed),
        (
            "POST",
            "/api/v1/namespaces/default/pods/p",
            json_type,
            "{}",
            405,
            not_allowed,
        ),
        ("DELETE", "/api/v1/pods", &[], "", 405, not_allowed),
        ("PUT", PODS, json_type, "{}", 405, not_allowed),
        (
            "GET",
            "/api/v1/pods?limit=x",
            &[],
            "",
            400,
            "strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "GET",
            PODS,
            &[("accept", "image/png")],
            "",
            406,
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        ),
        (
            "POST",
            PODS,
            &[("content-type", "application/xml")],
            "x",
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/p",
            &[("content-type", "application/json")],
            "{}",
            415,
            "415: Unsupported Media Type",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/p",
            &[("content-type", "application/apply-patch+yaml")],
            "{}",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "GET",
            "/api/v1/watch",
            &[],
            "",
            400,
            "unable to determine kind and namespace from url, /api/v1/watch",
        ),
    ];
    for (method, path, headers, body, code, message) in cases {
        let method_name = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(&client, request(method_name, path, headers, *body)).await;
        assert_eq!(
            answer.status.as_u16(),
            *code,
            "{method} {path}: {}",
            answer.text()
        );
        if !message.is_empty() {
            assert_eq!(answer.json()["message"], *message, "{method} {path}");
            assert_eq!(answer.json()["kind"], "Status");
        }
    }
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    let answer = send(&client, request(Method::POST, PODS, json_type, large)).await;
    assert_eq!(
        answer.failure(),
        (413, "Request entity too large: limit is 3145728".into())
    );
    let answer = post(&client, &format!("{PODS}?dryRun=Nothing"), &pod("q")).await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .starts_with("CreateOptions.meta.k8s.io \"\" is invalid: dryRun: ")
    );
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_dropped() {
    let server = Server::start().await;
    let client = server.local();
    let with_unknown = |name: &str| {
        let mut object = map(name);
        object["dada"] = json!({});
        object
    };
    let strict = post(
        &client,
        &format!("{MAPS}?fieldValidation=Strict"),
        &with_unknown("a"),
    )
    .await;
    assert_eq!(strict.status, 400);
    assert!(
        strict.failure().1.contains("unknown field \"dada\""),
        "{}",
        strict.text()
    );
    let warned = post(&client, MAPS, &with_unknown("a")).await;
    assert_eq!(warned.status, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"dada\\\"\"");
    let ignored = post(
        &client,
        &format!("{MAPS}?fieldValidation=Ignore"),
        &with_unknown("b"),
    )
    .await;
    assert_eq!(ignored.status, 201);
    assert!(!ignored.headers.contains_key("warning"));
    let dry = post(&client, &format!("{MAPS}?dryRun=All"), &map("dry")).await;
    assert_eq!(dry.status, 201);
    assert_eq!(get(&client, &format!("{MAPS}/dry")).await.status, 404);
}

#[tokio::test]
async fn a_second_server_on_the_same_state_knows_it_all() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let _ = rustls::crypto::ring::default_provider().install_default();
    for round in 0..2 {
        let shutdown = tokio_util::sync::CancellationToken::new();
        let store = open(directory.path());
        let api =
            skiff_apiserver::ApiServer::start(config(&authority, 6443), store.clone(), shutdown.clone())
                .await
                .unwrap();
        assert!(api.ready().await);
        let client = Client::new(api.local(skiff_apiserver::UserInfo::master("test")), "default");
        let service = json!({ "metadata": { "name": format!("s{round}") }, "spec": { "clusterIP": "10.96.0.77", "ports": [{ "port": 80 }] } });
        let answer = post(&client, "/api/v1/namespaces/default/services", &service).await;
        // The first keeps its address when the server starts again.
        assert_eq!(
            answer.status,
            if round == 0 { 201 } else { 422 },
            "{}",
            answer.text()
        );
        shutdown.cancel();
        drop((client, api));
        store.close().await;
    }
}

#[tokio::test]
async fn empty_lists_and_maps_are_left_out_as_go_does() {
    let server = Server::start().await;
    let client = server.local();
    let mut sent = map("empty");
    sent["data"] = json!({});
    sent["metadata"]["labels"] = json!({});
    sent["metadata"]["ownerReferences"] = json!([]);
    sent["metadata"]["finalizers"] = json!(["example.com/a"]);
    let made = post(&client, MAPS, &sent).await.json();
    let fields = |object: &Value| -> Vec<String> {
        let metadata = object["metadata"].as_object().unwrap().keys().cloned();
        metadata
            .chain(object.as_object().unwrap().keys().cloned())
            .collect()
    };
    for field in ["data", "labels", "ownerReferences"] {
        assert!(!fields(&made).contains(&field.to_string()), "{made}");
    }
    let path = format!("{MAPS}/empty");
    let patch = r#"[{ "op": "replace", "path": "/metadata/finalizers", "value": [] }]"#;
    let headers = [("content-type", "application/json-patch+json")];
    let patched = send(&client, request(Method::PATCH, &path, &headers, patch)).await;
    assert!(
        !fields(&patched.json()).contains(&"finalizers".to_string()),
        "{}",
        patched.text()
    );
    // What is an object of its own says something even when it is empty.
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "all" },
        "spec": { "podSelector": {}, "ingress": [], "egress": [{}] },
    });
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let made = post(&client, policies, &policy).await.json();
    assert_eq!(
        made["spec"],
        json!({ "podSelector": {}, "egress": [{}], "policyTypes": ["Ingress", "Egress"] })
    );
}

#[tokio::test]
async fn a_reference_without_a_name_stays_without_one() {
    let server = Server::start().await;
    let client = server.admin().await;
    let account =
        json!({ "metadata": { "name": "a" }, "imagePullSecrets": [{}, { "name": "" }, { "name": "b" }] });
    let made = post(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = "/api/v1/namespaces/default/serviceaccounts/a";
    for answer in [made.json(), get(&client, path).await.json()] {
        assert_eq!(answer["imagePullSecrets"], json!([{}, {}, { "name": "b" }]));
    }
    let packed = get_as(&client, path, "application/vnd.kubernetes.protobuf").await;
    let read: serde_json::Value =
        serde_json::from_slice(&skiff_api::schema::protobuf::to_json(&packed.body).unwrap()).unwrap();
    assert_eq!(read["imagePullSecrets"].as_array().unwrap().len(), 3);
}
