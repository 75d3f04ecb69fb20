//! `proxy`: pods, services and nodes answer through the server.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::*;

/// An address of this machine that is not the loopback's, to which the server does not connect for others.
fn own_address() -> IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: this asks the routing table.
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

async fn echo(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut four = [0; 4];
            stream.read_exact(&mut four).await.unwrap();
            stream.write_all(&four).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("connection", "Upgrade"), ("upgrade", "echo")] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return Ok(response);
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let headers: serde_json::Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let told = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(Full::from(told.to_string()));
    let headers = response.headers_mut();
    headers.insert("access-control-allow-origin", "*".parse().unwrap());
    headers.insert("x-mine", "1".parse().unwrap());
    if head.uri.path() == "/moved" {
        headers.insert("location", "/there".parse().unwrap());
        *response.status_mut() = StatusCode::FOUND;
    }
    Ok(response)
}

/// A program in a pod, and the objects that lead to it.
async fn backend(server: &Server) -> u16 {
    let address = own_address();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    let client = server.local();
    let mut web = pod("web");
    web["spec"]["containers"][0]["ports"] = json!([{ "containerPort": port }]);
    assert_eq!(post(&client, PODS, &web).await.status, 201);
    let ip = address.to_string();
    let status = json!({ "status": { "podIP": ip, "podIPs": [{ "ip": ip }] } });
    let patched = patch(&client, &format!("{PODS}/web/status"), "merge-patch", &status).await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    let service =
        json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "name": "http", "port": 80 }] } });
    let made = post(&client, "/api/v1/namespaces/default/services", &service).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let target = json!({ "kind": "Pod", "namespace": "default", "name": "web" });
    let endpoints = json!({ "metadata": { "name": "web" }, "subsets": [{
        "addresses": [{ "ip": ip, "targetRef": target }],
        "ports": [{ "name": "http", "port": port }],
    }] });
    let made = post(&client, "/api/v1/namespaces/default/endpoints", &endpoints).await;
    assert_eq!(made.status, 201, "{}", made.text());
    port
}

const SERVICES: &str = "/api/v1/namespaces/default/services";

#[tokio::test]
async fn every_method_and_path_reaches_the_pod() {
    let server = Server::start().await.with_default_account().await;
    let port = backend(&server).await;
    let client = server.admin().await;
    for id in [
        "web".to_string(),
        format!("web:{port}"),
        format!("http:web:{port}"),
    ] {
        let path = format!("{PODS}/{id}/proxy/a%20b/c/?x=1&y=%2F");
        let told = get(&client, &path).await.json();
        assert_eq!(
            (&told["method"], &told["uri"]),
            (&json!("GET"), &json!("/a%20b/c/?x=1&y=%2F"))
        );
        let headers = &told["headers"];
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["x-forwarded-uri"], format!("{PODS}/{id}/proxy/a%20b/c/"));
    }
    for id in ["web:http", "web:80", "http:web:http", "http:web:80"] {
        let told = get(&client, &format!("{SERVICES}/{id}/proxy/")).await.json();
        assert_eq!(told["uri"], "/", "{id}");
    }
    for method in [
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        let path = format!("{SERVICES}/web:http/proxy/x");
        let headers = [
            ("content-type", "text/plain"),
            ("impersonate-user", "admin"),
            ("impersonate-group", "system:masters"),
        ];
        let answer = send(&client, request(method.clone(), &path, &headers, "a body")).await;
        let told = answer.json();
        assert_eq!(
            (&told["method"], &told["body"]),
            (&json!(method.as_str()), &json!("a body"))
        );
        assert_eq!(told["headers"]["content-type"], "text/plain");
        assert_eq!(
            told["headers"]["impersonate-user"],
            Value::Null,
            "a credential stays here"
        );
        assert_eq!(answer.headers["x-mine"], "1");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let head = send(
        &client,
        request(Method::HEAD, &format!("{PODS}/web/proxy/"), &[], ""),
    )
    .await;
    assert_eq!(head.status, 200);
    let raw = server
        .kubectl(
            &["get", "--raw", &format!("{SERVICES}/http:web:80/proxy/raw")],
            "",
        )
        .await;
    if let Some(raw) = raw {
        assert!(raw.out.contains(r#""uri":"/raw""#), "{raw:?}");
    }
}

#[tokio::test]
async fn redirects_and_upgrades_go_through_the_proxy() {
    let server = Server::start().await.with_default_account().await;
    backend(&server).await;
    let client = server.admin().await;
    let moved = get(&client, &format!("{SERVICES}/web:http/proxy/moved")).await;
    assert_eq!(
        (moved.status.as_u16(), moved.headers["location"].to_str().unwrap()),
        (302, "/api/v1/namespaces/default/services/web:http/proxy/there")
    );
    let bare = get(&client, &format!("{PODS}/web/proxy?x=1")).await;
    assert_eq!(
        (bare.status.as_u16(), bare.headers["location"].to_str().unwrap()),
        (301, "/api/v1/namespaces/default/pods/web/proxy/?x=1")
    );
    let mut response = server
        .upgrade(&format!("{PODS}/web/proxy/"), &[("upgrade", "echo")])
        .await;
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"ping");
}

#[tokio::test]
async fn who_cannot_be_reached_is_refused_in_upstreams_words() {
    let server = Server::start().await.with_default_account().await;
    backend(&server).await;
    let client = server.admin().await;
    post(&client, PODS, &pod("idle")).await;
    let service = json!({ "metadata": { "name": "lonely" }, "spec": { "ports": [{ "port": 80 }] } });
    post(&client, SERVICES, &service).await;
    let nobodys = json!({ "metadata": { "name": "lonely" }, "subsets": [{
        "addresses": [{ "ip": "192.0.2.7" }], "ports": [{ "port": 80 }],
    }] });
    post(&client, "/api/v1/namespaces/default/endpoints", &nobodys).await;
    let node = json!({ "metadata": { "name": "n" }, "status": { "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }] } });
    post(&client, "/api/v1/nodes", &node).await;
    let cases = [
        (
            format!("{PODS}/ftp:web:80/proxy/"),
            400,
            "invalid pod request \"ftp:web:80\"",
        ),
        (format!("{PODS}/idle/proxy/"), 400, "address not allowed"),
        (format!("{PODS}/none/proxy/"), 404, "pods \"none\" not found"),
        (
            format!("{PODS}/web:1/proxy/"),
            503,
            "error trying to reach service: dial tcp ",
        ),
        (
            format!("{SERVICES}/web:81/proxy/"),
            503,
            "no service port 81 found for service \"web\"",
        ),
        (
            format!("{SERVICES}/web:no/proxy/"),
            503,
            "no endpoints available for service \"web:no\"",
        ),
        (
            format!("{SERVICES}/lonely/proxy/"),
            503,
            "no endpoints available for service \"lonely\"",
        ),
        (
            "/api/v1/nodes/n:80/proxy/".to_string(),
            400,
            "address not allowed",
        ),
        (
            "/api/v1/nodes/none/proxy/".to_string(),
            404,
            "nodes \"none\" not found",
        ),
    ];
    for (path, code, message) in cases {
        let (its_code, its_message) = get(&client, &path).await.failure();
        assert_eq!(its_code, code, "{path}: {its_message}");
        assert!(its_message.starts_with(message), "{path}: {its_message}");
    }
}
