//! A walk over every family of paths with every method and with headers that do not belong there: codes as upstream's, and
//! never a failure of the server.

use http::Method;
use serde_json::json;

use crate::harness::*;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND",
];

const PATHS: [&str; 46] = [
    "/",
    "/index.html",
    "//",
    "/api",
    "/api/",
    "/api/v1",
    "/api/v1/",
    "/api/v2",
    "/api//v1",
    "/apis",
    "/apis/",
    "/apis/apps",
    "/apis/apps/v1",
    "/apis/apps/v1beta1",
    "/apis/none/v1/things",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/api/v1",
    "/openapi/v3/none",
    "/healthz",
    "/healthz/etcd",
    "/livez?verbose",
    "/readyz/none",
    "/metrics",
    "/metrics/slis",
    "/metrics/none",
    "/version",
    "/logs",
    "/logs/../version",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
    "/api/v1/nodes/x/proxy",
    "/api/v1/nodes/x/proxy/",
    "/api/v1/nodes/none/proxy/logs",
    "/api/v1/namespaces/default/pods/x/exec?command=a",
    "/api/v1/namespaces/default/pods/x/attach",
    "/api/v1/namespaces/default/pods/x/portforward?ports=1",
    "/api/v1/namespaces/default/pods/x/log",
    "/api/v1/namespaces/default/pods/x/proxy/a%2fb",
    "/api/v1/namespaces/default/pods/none/exec",
    "/api/v1/namespaces/default/services/http:x:80/proxy/",
    "/api/v1/namespaces/default/pods/x/status",
    "/api/v1/namespaces/default/pods/x/none",
    "/api/v1/proxy/namespaces/default/pods/x",
    "/api/v1/watch/namespaces/default/pods/x?timeoutSeconds=1",
    "/api/v1/namespaces/%00/pods/%ff%fe",
];

const HEADERS: [&[(&str, &str)]; 6] = [
    &[],
    &[("upgrade", "websocket"), ("connection", "Upgrade")],
    &[
        ("upgrade", "SPDY/3.1"),
        ("connection", "Upgrade"),
        ("x-stream-protocol-version", "v9"),
    ],
    &[
        ("accept", "application/vnd.kubernetes.protobuf"),
        ("content-type", "application/vnd.kubernetes.protobuf"),
    ],
    &[
        ("accept", ";;,q=,*/*;q=z"),
        ("content-type", "/"),
        ("if-none-match", "W/\""),
    ],
    &[("impersonate-extra-%zz", "x"), ("impersonate-user", "")],
];

async fn furnished() -> Server {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let service = json!({ "metadata": { "name": "x" }, "spec": { "ports": [{ "port": 80 }] } });
    for (path, object) in [
        (PODS, pod("x")),
        ("/api/v1/namespaces/default/services", service),
        ("/api/v1/nodes", json!({ "metadata": { "name": "x" } })),
    ] {
        assert_eq!(post(&client, path, &object).await.status, 201, "{path}");
    }
    // Nobody listens there.
    let status = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 1 } },
    } });
    let told = patch(&client, "/api/v1/nodes/x/status", "merge-patch", &status).await;
    assert_eq!(told.status, 200, "{}", told.text());
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_is_answered_with_a_failure_whatever_is_done_with_it() {
    let server = furnished().await;
    let client = server.local();
    let mut failures = Vec::new();
    for path in PATHS {
        for method in METHODS {
            for headers in HEADERS {
                let mut sent = request(method.parse().unwrap(), path, headers, "");
                *sent.body_mut() = kube::client::Body::from(b"{".to_vec());
                let answer = tokio::time::timeout(DEADLINE, send(&client, sent)).await;
                let Ok(answer) = answer else {
                    failures.push(format!("{method} {path} {headers:?}: no answer"));
                    continue;
                };
                // A node that is not there to be reached is, and so is a service without a pod, not the server's failure.
                let unreachable = path.contains("proxy") && matches!(answer.status.as_u16(), 502..=504);
                if answer.status.is_server_error() && !unreachable {
                    failures.push(format!(
                        "{method} {path} {headers:?}: {} {}",
                        answer.status,
                        answer.text()
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn codes_are_upstreams() {
    let server = furnished().await;
    let client = server.admin().await;
    for (method, path, code) in [
        ("GET", "/", 200),
        ("GET", "/index.html", 200),
        ("GET", "/api/v2", 404),
        ("POST", "/api/v1", 405),
        ("DELETE", "/apis/apps", 405),
        ("GET", "/apis/apps/v1beta1", 404),
        ("GET", "/openapi/v3/none", 404),
        ("GET", "/readyz/none", 404),
        ("GET", "/metrics/none", 404),
        ("POST", "/version", 405),
        ("GET", "/logs", 404),
        ("OPTIONS", "/api/v1/pods", 405),
        ("PROPFIND", "/api/v1/pods", 405),
        ("PUT", PODS, 405),
        ("PATCH", PODS, 405),
        ("POST", "/api/v1/pods", 405),
        ("GET", "/api/v1/nodes/none/proxy", 404),
        ("GET", "/api/v1/namespaces/default/pods/none/exec", 404),
        ("POST", "/api/v1/namespaces/default/pods/none/attach", 404),
        ("GET", "/api/v1/namespaces/default/pods/none/log", 404),
        ("PUT", "/api/v1/namespaces/default/pods/x/exec", 405),
        ("DELETE", "/api/v1/namespaces/default/pods/x/log", 405),
        ("DELETE", "/api/v1/namespaces/default/pods/x/status", 405),
        ("GET", "/api/v1/namespaces/default/pods/x/binding", 405),
        ("GET", "/api/v1/namespaces/default/pods/x/eviction", 405),
        (
            "GET",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            405,
        ),
        ("GET", "/api/v1/namespaces/default/pods/x/none", 404),
        ("GET", "/api/v1/namespaces/default/services/x/proxy/", 404),
    ] {
        let answer = send(&client, request(method.parse::<Method>().unwrap(), path, &[], "")).await;
        assert_eq!(answer.status, code, "{method} {path}: {}", answer.text());
    }
}
