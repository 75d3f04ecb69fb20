//! The subresources that are no plain writes: binding, scale, log, eviction.

use futures::StreamExt;
use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::*;

fn binding(pod: &str, node: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod }, "target": { "kind": "Node", "name": node } })
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    post(&client, PODS, &pod("p")).await;
    let bound = post(&client, &format!("{PODS}/p/binding"), &binding("p", "n1")).await;
    assert_eq!(bound.status, 201, "{}", bound.text());
    assert_eq!(bound.json()["status"], "Success");
    let read = get(&client, &format!("{PODS}/p")).await.json();
    assert_eq!(read["spec"]["nodeName"], "n1");
    let conditions = read["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c["type"] == "PodScheduled" && c["status"] == "True")
    );
    let again = post(
        &client,
        "/api/v1/namespaces/default/bindings",
        &binding("p", "n2"),
    )
    .await;
    assert_eq!(
        again.failure(),
        (
            409,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
                .into()
        )
    );
    let none = post(&client, &format!("{PODS}/none/binding"), &binding("none", "n1")).await;
    assert_eq!(none.failure(), (404, "pods \"none\" not found".into()));
    let nowhere = post(&client, &format!("{PODS}/p/binding"), &binding("p", "")).await;
    assert_eq!(nowhere.status, 422);
}

#[tokio::test]
async fn ephemeral_containers_are_added_to_a_pod_that_runs() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    post(&client, PODS, &pod("p")).await;
    post(&client, &format!("{PODS}/p/binding"), &binding("p", "n1")).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debugger =
        |name: &str| json!({ "spec": { "ephemeralContainers": [{ "name": name, "image": "busybox" }] } });
    let added = patch(&client, &path, "strategic-merge-patch", &debugger("debug")).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let mut read = get(&client, &path).await.json();
    assert_eq!(read["spec"]["ephemeralContainers"][0]["name"], "debug");
    assert_eq!(
        read["spec"]["ephemeralContainers"][0]["imagePullPolicy"],
        "Always"
    );
    assert_eq!(read["metadata"]["generation"], 2);
    // Nothing else is written this way, and nothing is taken away.
    read["metadata"]["labels"] = json!({ "a": "b" });
    read["spec"]["ephemeralContainers"] = json!([
        { "name": "debug", "image": "another" },
    ]);
    let written = put(&client, &path, &read).await;
    assert_eq!(written.failure().0, 422, "{}", written.text());
    assert!(
        written.text().contains("may not be changed"),
        "{}",
        written.text()
    );
    let mut read = get(&client, &format!("{PODS}/p")).await.json();
    let all = read["spec"]["ephemeralContainers"].as_array_mut().unwrap();
    all.push(json!({ "name": "more", "image": "busybox" }));
    read["metadata"]["labels"] = json!({ "a": "b" });
    let written = put(&client, &path, &read).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let read = get(&client, &format!("{PODS}/p")).await.json();
    assert_eq!(read["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
    assert_ne!(read["metadata"]["labels"]["a"], "b");
    let none = json!({ "spec": { "ephemeralContainers": [{ "$patch": "delete", "name": "debug" }] } });
    let removed = patch(&client, &path, "strategic-merge-patch", &none).await;
    assert_eq!(
        removed.failure(),
        (
            422,
            "Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not \
             be removed\n"
                .into()
        )
    );
}

#[tokio::test]
async fn a_resize_changes_what_a_pod_asks_for() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let mut made = pod("p");
    made["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "1" } });
    assert_eq!(post(&client, PODS, &made).await.status, 201);
    let name = made["spec"]["containers"][0]["name"].clone();
    let path = format!("{PODS}/p/resize");
    let asking =
        |resources: Value| json!({ "spec": { "containers": [{ "name": name, "resources": resources }] } });
    let more = asking(json!({ "requests": { "cpu": "2" } }));
    let refused = patch(&client, &format!("{PODS}/p"), "strategic-merge-patch", &more).await;
    assert_eq!(refused.failure().0, 422, "{}", refused.text());
    let resized = patch(&client, &path, "strategic-merge-patch", &more).await;
    assert_eq!(resized.status, 200, "{}", resized.text());
    let read = get(&client, &path).await.json();
    assert_eq!(read["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    assert_eq!(read["metadata"]["generation"], 2);
    let gone = asking(json!({ "requests": { "cpu": null } }));
    let refused = patch(&client, &path, "strategic-merge-patch", &gone).await;
    assert_eq!(refused.failure().0, 422);
    assert!(
        refused
            .text()
            .contains("Pod QOS Class may not change as a result of resizing")
    );
    assert!(refused.text().contains("resource requests cannot be removed"));
}

#[tokio::test]
async fn a_deployment_is_scaled() {
    let server = Server::start().await;
    let client = server.local();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": { "name": "d" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "d" } },
            "template": { "metadata": { "labels": { "app": "d" } }, "spec": { "containers": [{ "name": "a", "image": "a" }] } },
        },
    });
    let made = post(&client, deployments, &deployment).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("{deployments}/d/scale");
    let scale = get(&client, &path).await.json();
    assert_eq!(
        (scale["kind"].as_str(), scale["apiVersion"].as_str()),
        (Some("Scale"), Some("autoscaling/v1"))
    );
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!("app=d"))
    );
    let patched = patch(
        &client,
        &path,
        "merge-patch",
        &json!({ "spec": { "replicas": 5 } }),
    )
    .await;
    assert_eq!(patched.json()["spec"]["replicas"], 5, "{}", patched.text());
    let mut stale = scale.clone();
    stale["spec"]["replicas"] = json!(7);
    assert_eq!(put(&client, &path, &stale).await.status, 409);
    assert_eq!(
        get(&client, &format!("{deployments}/d")).await.json()["spec"]["replicas"],
        5
    );
    let wrong = patch(
        &client,
        &path,
        "merge-patch",
        &json!({ "spec": { "replicas": -1 } }),
    )
    .await;
    assert_eq!(wrong.status, 422);
}

#[tokio::test]
async fn an_eviction_deletes() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    // Clients of before 1.22 drain nodes by the version in which evictions began.
    for version in ["policy/v1", "policy/v1beta1"] {
        post(&client, PODS, &pod("p")).await;
        let eviction = json!({ "apiVersion": version, "kind": "Eviction", "metadata": { "name": "p" }, "deleteOptions": { "gracePeriodSeconds": 0 } });
        let answer = post(&client, &format!("{PODS}/p/eviction"), &eviction).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["status"].as_str()),
            (201, Some("Success"))
        );
        assert_eq!(get(&client, &format!("{PODS}/p")).await.status, 404);
    }
}

/// A node's HTTPS server that knows who asks: echoes what it is asked, or refuses.
async fn kubelet(authority: &Authority) -> u16 {
    let pair = authority.server();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let asked = request.uri().to_string();
                let (code, text) = if asked.contains("previous=true") {
                    (
                        400,
                        "previous terminated container \"main\" in pod \"p\" not found\n".to_string(),
                    )
                } else {
                    (200, asked)
                };
                let response = http::Response::builder()
                    .status(code)
                    .body(Full::new(bytes::Bytes::from(text)));
                Ok::<_, Infallible>(response.unwrap())
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    port
}

#[tokio::test]
async fn logs_come_from_the_pods_node() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let port = kubelet(&server.authority).await;
    post(&client, PODS, &pod("p")).await;
    let log = format!("{PODS}/p/log");
    assert_eq!(
        get(&client, &log).await.text(),
        "",
        "a pod on no node has written nothing"
    );
    let mut node = post(&client, "/api/v1/nodes", &json!({ "metadata": { "name": "n" } }))
        .await
        .json();
    node["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "127.0.0.1" }]);
    node["status"]["daemonEndpoints"] = json!({ "kubeletEndpoint": { "Port": port } });
    assert_eq!(put(&client, "/api/v1/nodes/n/status", &node).await.status, 200);
    post(&client, &format!("{PODS}/p/binding"), &binding("p", "n")).await;

    let answer = get(&client, &format!("{log}?follow=true&tailLines=5&pretty=1")).await;
    assert_eq!(
        answer.text(),
        "/containerLogs/default/p/main?follow=true&tailLines=5"
    );
    assert_eq!(answer.headers["content-type"], "text/plain");
    // The same over a WebSocket, as browsers' clients read it.
    for (protocol, expected) in [
        (
            "",
            Message::Binary("/containerLogs/default/p/main?follow=true".into()),
        ),
        (
            "base64.binary.k8s.io",
            Message::Text("L2NvbnRhaW5lckxvZ3MvZGVmYXVsdC9wL21haW4/Zm9sbG93PXRydWU=".into()),
        ),
    ] {
        let mut headers = vec![
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        if !protocol.is_empty() {
            headers.push(("sec-websocket-protocol", protocol));
        }
        let response = server.upgrade(&format!("{log}?follow=true"), &headers).await;
        assert_eq!(response.status(), 101, "{protocol}");
        let agreed = response.headers().get("sec-websocket-protocol");
        assert_eq!(agreed.map_or("", |agreed| agreed.to_str().unwrap()), protocol);
        let connection = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(connection, Role::Client, None).await;
        assert_eq!(socket.next().await.unwrap().unwrap(), expected);
        assert!(socket.next().await.unwrap().unwrap().is_close(), "{protocol}");
    }
    let refused = get(&client, &format!("{log}?previous=true")).await;
    assert_eq!(
        refused.failure(),
        (
            400,
            "previous terminated container \"main\" in pod \"p\" not found".into()
        )
    );
    let wrong = get(&client, &format!("{log}?container=x")).await;
    assert_eq!(
        wrong.failure(),
        (400, "container x is not valid for pod p".into())
    );
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{ "name": "a", "image": "a" }, { "name": "b", "image": "b" }]);
    post(&client, PODS, &two).await;
    assert_eq!(
        get(&client, &format!("{PODS}/two/log")).await.failure(),
        (
            400,
            "a container name must be specified for pod two, choose one of: [a b]".into()
        )
    );

    node = get(&client, "/api/v1/nodes/n").await.json();
    node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] = json!(1);
    put(&client, "/api/v1/nodes/n/status", &node).await;
    let (code, message) = get(&client, &log).await.failure();
    assert_eq!(code, 500);
    assert!(
        message.contains("dial tcp 127.0.0.1:1: connect: connection refused"),
        "{message}"
    );
}
