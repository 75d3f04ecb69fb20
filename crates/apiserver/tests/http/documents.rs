//! The OpenAPI documents.

use http::Method;
use serde_json::json;

use crate::harness::*;

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
        assert_eq!(get_as(&client, path, "*/*").await.status, 200, "{path}");
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
async fn documents_come_in_part_and_only_to_who_does_not_have_them() {
    let server = Server::start().await;
    let client = server.admin().await;
    for path in ["/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1"] {
        let ask =
            async |headers: &[(&str, &str)]| send(&client, request(Method::GET, path, headers, "")).await;
        let whole = ask(&[]).await;
        assert_eq!(whole.headers["accept-ranges"], "bytes", "{path}");
        let modified = whole.headers["last-modified"].to_str().unwrap();
        assert_eq!(
            ask(&[("range", "bytes=1-4")]).await.body,
            whole.body[1..5],
            "{path}"
        );
        let part = ask(&[("range", "bytes=-1")]).await;
        let last = whole.body.len() - 1;
        assert_eq!(part.status, 206);
        assert_eq!(
            part.headers["content-range"],
            format!("bytes {last}-{last}/{}", last + 1).as_str()
        );
        let beyond = ask(&[("range", "bytes=999999999-")]).await;
        assert_eq!(
            (beyond.status.as_u16(), beyond.text().as_str()),
            (416, "invalid range: failed to overlap\n")
        );
        // The list of documents is made anew for everybody.
        let is_list = path == "/openapi/v3";
        assert_eq!(whole.headers.contains_key("etag"), !is_list, "{path}");
        let later = ask(&[("if-modified-since", modified)]).await;
        assert!(is_list || later.status == 304, "{path}");
        let other = ask(&[("if-match", "\"other\"")]).await;
        assert_eq!((other.status.as_u16(), other.body.len()), (412, 0), "{path}");
    }
}

#[tokio::test]
async fn version_two_is_compressed_and_version_three_never() {
    let server = Server::start().await;
    let client = server.admin().await;
    for (path, coding, packed) in [
        ("/openapi/v2", "gzip", true),
        ("/openapi/v2", "deflate;q=1, GZIP;q=0.2", true),
        ("/openapi/v2", "gzip;q=0", false),
        ("/openapi/v3/api/v1", "gzip", false),
        ("/openapi/v3", "gzip", false),
    ] {
        let answer = send(
            &client,
            request(Method::GET, path, &[("accept-encoding", coding)], ""),
        )
        .await;
        assert_eq!(
            answer.headers.contains_key("content-encoding"),
            packed,
            "{path} {coding}"
        );
        let vary: Vec<_> = answer
            .headers
            .get_all("vary")
            .iter()
            .map(|by| by.to_str().unwrap())
            .collect();
        let expected: &[&str] = match path {
            "/openapi/v2" => &["Accept-Encoding", "Accept"],
            "/openapi/v3" => &[],
            _ => &["Accept"],
        };
        assert_eq!(vary, expected, "{path}");
    }
}

#[tokio::test]
async fn version_three_tells_defaults_and_version_two_none() {
    let server = Server::start().await;
    let client = server.admin().await;
    let meta = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let container = "#/components/schemas/io.k8s.api.core.v1.Container";
    for (document, place, expected) in [
        // What is required and no pointer.
        (
            "api/v1",
            "ContainerPort/properties/containerPort/default",
            json!(0),
        ),
        ("api/v1", "ContainerPort/properties/hostPort/default", json!(null)),
        ("api/v1", "Container/properties/name/default", json!("")),
        ("api/v1", "Secret/properties/immutable/default", json!(null)),
        // What a marker says.
        (
            "api/v1",
            "ContainerPort/properties/protocol/default",
            json!("TCP"),
        ),
        (
            "api/v1",
            "ReplicationControllerSpec/properties/replicas/default",
            json!(1),
        ),
        (
            "api/v1",
            "LocalObjectReference/properties/name/default",
            json!(""),
        ),
        // Objects that are held by value; beside what is told of them they are wrapped.
        ("api/v1", "Pod/properties/metadata/default", json!({})),
        (
            "api/v1",
            "Pod/properties/metadata/allOf",
            json!([{ "$ref": meta }]),
        ),
        (
            "api/v1",
            "PodSpec/properties/securityContext/default",
            json!(null),
        ),
        ("api/v1", "HTTPGetAction/properties/port/default", json!(null)),
        // Elements and values are never left out.
        (
            "api/v1",
            "PodSpec/properties/containers/items",
            json!({ "$ref": container }),
        ),
        (
            "api/v1",
            "ConfigMap/properties/data/additionalProperties",
            json!({ "type": "string" }),
        ),
        (
            "api/v1",
            "PodList/properties/items/items",
            json!({ "$ref": "#/components/schemas/io.k8s.api.core.v1.Pod" }),
        ),
        (
            "api/v1",
            "PodList/properties/items/x-kubernetes-list-type",
            json!(null),
        ),
        // Metadata are required of events alone, names of references by keys not at all.
        ("api/v1", "Event/required", json!(["metadata", "involvedObject"])),
        ("api/v1", "ConfigMap/required", json!(null)),
        ("api/v1", "ConfigMapKeySelector/required", json!(["key"])),
        (
            "apis/apps/v1",
            "DeploymentSpec/properties/selector/default",
            json!(null),
        ),
        (
            "apis/apps/v1",
            "DeploymentSpec/properties/strategy/default",
            json!({}),
        ),
        (
            "apis/apps/v1",
            "DeploymentSpec/required",
            json!(["selector", "template"]),
        ),
        (
            "apis/policy/v1",
            "PodDisruptionBudgetSpec/properties/selector/x-kubernetes-patch-strategy",
            json!("replace"),
        ),
        (
            "api/v1",
            "PersistentVolumeSpec/properties/claimRef/x-kubernetes-map-type",
            json!("granular"),
        ),
        (
            "api/v1",
            "SeccompProfile/x-kubernetes-unions",
            json!([{ "discriminator": "type", "fields-to-discriminateBy": { "localhostProfile": "LocalhostProfile" } }]),
        ),
    ] {
        let schemas = get(&client, &format!("/openapi/v3/{document}")).await.json();
        let group = if document == "api/v1" {
            "core"
        } else {
            document.split('/').nth(1).unwrap()
        };
        let place = format!("/components/schemas/io.k8s.api.{group}.v1.{place}");
        let found = schemas.pointer(&place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{place}");
    }
    let swagger = get(&client, "/openapi/v2").await.json();
    let definitions = swagger["definitions"].as_object().unwrap();
    for (name, definition) in definitions {
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            assert_eq!(schema["default"], json!(null), "{name}.{field}");
            assert_eq!(schema["allOf"], json!(null), "{name}.{field}");
            for inner in ["items", "additionalProperties"] {
                assert_eq!(schema[inner]["default"], json!(null), "{name}.{field}");
            }
        }
    }
    let schemas = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    assert!(
        definitions[schemas]["properties"]["default"].is_object(),
        "a field of that name stays"
    );
}
