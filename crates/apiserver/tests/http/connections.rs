//! Connections: what is agreed on them, and that what is large arrives whole.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::CipherSuite;
use serde_json::json;

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn the_lightest_cipher_is_agreed_whatever_the_client_likes_best() {
    let server = Server::start().await;
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let stream = server.connect_for(&[protocol]).await;
        let (_, agreed) = stream.get_ref();
        assert_eq!(agreed.alpn_protocol(), Some(protocol));
        assert_eq!(
            agreed.negotiated_cipher_suite().map(|suite| suite.suite()),
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256)
        );
    }
}

#[tokio::test]
async fn a_large_list_arrives_whole_by_either_protocol() {
    let server = Server::start().await;
    let local = server.local();
    // Smaller and larger than what is gathered, than a frame, and than what a record of TLS holds.
    for (number, size) in [1, 700, 1500, 5000, 17_000, 70_000, 300_000, 2, 3, 900]
        .into_iter()
        .cycle()
        .take(60)
        .enumerate()
    {
        let map =
            json!({ "metadata": { "name": format!("m-{number:03}") }, "data": { "k": "x".repeat(size) } });
        assert_eq!(post(&local, MAPS, &map).await.status, 201);
    }
    let inside = get(&local, MAPS).await;
    assert_eq!(inside.json()["items"].as_array().map(Vec::len), Some(60));

    let stream = TokioIo::new(server.connect_for(&[b"http/1.1"]).await);
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let list = Request::get(MAPS)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(list).await.unwrap();
    let length = answer.headers().get("content-length").cloned().unwrap();
    let over_http1 = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(length.to_str().unwrap(), over_http1.len().to_string());
    assert!(over_http1 == inside.body, "the list over HTTP/1.1 is another");

    let stream = TokioIo::new(server.connect_for(&[b"h2"]).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let list = Request::get(format!("https://localhost{MAPS}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(list).await.unwrap();
    let over_http2 = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(over_http2 == inside.body, "the list over HTTP/2 is another");
}
