//! Watches on the wire: lines, length-delimited messages, WebSockets.

use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use skiff_api::schema::protobuf;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PARTIAL: &str = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

fn map(name: &str, label: &str) -> Value {
    json!({ "metadata": { "name": name, "labels": { "app": label } }, "data": { "key": "value" } })
}

/// Type and object of a `WatchEvent` as client-go reads it.
fn event(mut message: &[u8]) -> (String, Bytes) {
    fn field<'a>(bytes: &mut &'a [u8], number: u8) -> &'a [u8] {
        assert_eq!(bytes.get_u8(), number << 3 | 2);
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = bytes.get_u8();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (field, rest) = bytes.split_at(length);
        *bytes = rest;
        field
    }
    let type_ = String::from_utf8(field(&mut message, 1).to_vec()).unwrap();
    let mut extension = field(&mut message, 2);
    let object = Bytes::copy_from_slice(field(&mut extension, 1));
    assert!(message.is_empty() && extension.is_empty());
    (type_, object)
}

/// The frames of a watch's body.
struct Frames {
    body: Body,
    kept: BytesMut,
}

impl Frames {
    async fn more(&mut self) {
        let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.unwrap();
        self.kept
            .extend_from_slice(&frame.expect("another frame").unwrap().into_data().unwrap());
    }

    async fn line(&mut self) -> Value {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                return serde_json::from_slice(&self.kept.split_to(end + 1)).unwrap();
            }
            self.more().await;
        }
    }

    async fn message(&mut self) -> (String, Value) {
        loop {
            if let Some(length) = self.kept.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.kept.len() >= 4 + length {
                    self.kept.advance(4);
                    let (type_, object) = event(&self.kept.split_to(length));
                    return (type_, read(&object));
                }
            }
            self.more().await;
        }
    }
}

fn read(object: &[u8]) -> Value {
    serde_json::from_slice(&protobuf::to_json(object).unwrap()).unwrap()
}

async fn watch(client: &kube::Client, path: &str, accept: &str) -> (String, Frames) {
    let response = client
        .send(request(Method::GET, path, &[("accept", accept)], ""))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let type_ = response.headers()["content-type"].to_str().unwrap().to_string();
    let frames = Frames {
        body: response.into_body(),
        kept: BytesMut::new(),
    };
    (type_, frames)
}

#[tokio::test]
async fn a_protobuf_watch_is_a_stream_of_messages_behind_their_lengths() {
    let server = Server::start().await;
    let client = server.admin().await;
    post(&client, MAPS, &map("a", "one")).await;
    let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true&labelSelector=app%3Done");
    let (type_, mut frames) = watch(&client, &path, PROTOBUF).await;
    assert_eq!(type_, "application/vnd.kubernetes.protobuf;stream=watch");
    let (type_, object) = frames.message().await;
    assert_eq!(
        (type_.as_str(), &object["kind"], &object["data"]["key"]),
        ("ADDED", &json!("ConfigMap"), &json!("value"))
    );
    let (type_, object) = frames.message().await;
    assert_eq!(
        (type_.as_str(), &object["metadata"]["annotations"]),
        ("BOOKMARK", &json!({ "k8s.io/initial-events-end": "true" }))
    );
    put(&client, &format!("{MAPS}/a"), &map("a", "two")).await;
    let (type_, object) = frames.message().await;
    assert_eq!(type_, "DELETED", "it no longer matches");
    assert_eq!(
        object["metadata"]["labels"]["app"], "one",
        "as it was when it did"
    );

    let (_, mut partial) = watch(&client, &path, &format!("{PROTOBUF}{PARTIAL}")).await;
    put(&client, &format!("{MAPS}/a"), &map("a", "one")).await;
    for expected in ["BOOKMARK", "ADDED"] {
        let (type_, object) = partial.message().await;
        assert_eq!(
            (type_.as_str(), &object["kind"], &object["data"]),
            (expected, &json!("PartialObjectMetadata"), &Value::Null)
        );
    }
}

#[tokio::test]
async fn lists_and_objects_come_in_protobuf_to_who_names_it_first() {
    let server = Server::start().await;
    let client = server.admin().await;
    for name in ["a", "b"] {
        post(&client, MAPS, &map(name, "x")).await;
    }
    let accept = format!("{PROTOBUF},application/json");
    let mut plain = get(&client, MAPS).await.json();
    let packed = get_as(&client, MAPS, &accept).await;
    assert_eq!(packed.headers["content-type"], PROTOBUF);
    let mut unpacked = read(&packed.body);
    // The server writes its own objects meanwhile.
    for list in [&mut plain, &mut unpacked] {
        assert_ne!(list["metadata"]["resourceVersion"].take(), Value::Null);
    }
    assert_eq!(unpacked, plain);
    let one = get_as(&client, &format!("{MAPS}/a"), &accept).await;
    assert_eq!(read(&one.body), get(&client, &format!("{MAPS}/a")).await.json());
    let partial = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let partial = read(&get_as(&client, MAPS, &partial).await.body);
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][1]["metadata"], plain["items"][1]["metadata"]);
    assert_eq!(partial["items"][1]["data"], Value::Null);
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(get_as(&client, MAPS, &table).await.status, 406);
    for path in ["/api", "/apis", "/apis/apps", "/apis/apps/v1"] {
        let packed = get_as(&client, path, PROTOBUF).await;
        let plain = get(&client, path).await.json();
        assert_eq!(read(&packed.body)["kind"], plain["kind"], "{path}");
    }
}

#[tokio::test]
async fn tables_are_watched_with_their_columns_in_the_first_event_alone() {
    let server = Server::start().await;
    let client = server.admin().await;
    for name in ["a", "b"] {
        post(&client, MAPS, &map(name, "x")).await;
    }
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let (_, mut frames) = watch(&client, &format!("{MAPS}?watch=1"), accept).await;
    let first = frames.line().await;
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    let second = frames.line().await;
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    let yaml = get_as(&client, &format!("{MAPS}?watch=1"), "application/yaml").await;
    assert_eq!(yaml.status, 406);
}

#[tokio::test]
async fn the_paths_from_before_there_were_parameters_still_watch() {
    let server = Server::start().await;
    let client = server.admin().await;
    post(&client, MAPS, &map("a", "x")).await;
    post(&client, MAPS, &map("b", "x")).await;
    for (path, expected) in [
        ("/api/v1/watch/configmaps?fieldSelector=metadata.name%3Db", "b"),
        (
            "/api/v1/watch/namespaces/default/configmaps?fieldSelector=metadata.name%3Db",
            "b",
        ),
        ("/api/v1/watch/namespaces/default/configmaps/b", "b"),
        ("/api/v1/watch/namespaces/default", "default"),
        (
            "/api/v1/watch/namespaces?labelSelector=kubernetes.io%2Fmetadata.name%3Ddefault",
            "default",
        ),
    ] {
        let (_, mut frames) = watch(&client, path, "application/json").await;
        assert_eq!(
            frames.line().await["object"]["metadata"]["name"],
            expected,
            "{path}"
        );
    }
    let path = "/api/v1/watch/namespaces/default/configmaps/b?fieldSelector=metadata.name%3Da";
    let expected = "fieldSelector metadata.name doesn't match requested name";
    assert_eq!(get(&client, path).await.failure(), (400, expected.to_string()));
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_in_upstreams_words() {
    let server = Server::start().await;
    let client = server.admin().await;
    let cases = [
        (
            "watch=1&resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "watch=1&sendInitialEvents=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
            "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, \
             resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        ),
        (
            "sendInitialEvents=true",
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
    ];
    for (query, expected) in cases {
        let expected = format!("ListOptions.meta.k8s.io \"\" is invalid: {expected}");
        let answer = get(&client, &format!("{MAPS}?{query}")).await;
        assert_eq!(answer.failure(), (422, expected), "{query}");
    }
    let future = get(&client, &format!("{MAPS}?resourceVersion=999999999")).await;
    assert_eq!(future.status, 504);
    assert_eq!(future.headers["retry-after"], "1");
    assert_eq!(
        future.json()["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

async fn socket(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
) -> (
    http::HeaderMap,
    WebSocketStream<hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>>,
) {
    let mut all = vec![
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    all.extend_from_slice(headers);
    let mut response = server.upgrade(path, &all).await;
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    (response.headers().clone(), socket)
}

#[tokio::test]
async fn a_watch_goes_over_a_websocket() {
    let server = Server::start().await;
    let client = server.admin().await;
    post(&client, MAPS, &map("a", "x")).await;
    let path = format!("{MAPS}?watch=true");
    let (headers, mut texts) = socket(&server, &path, &[("sec-websocket-protocol", "mine")]).await;
    assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(headers["sec-websocket-protocol"], "mine");
    let next = async |texts: &mut WebSocketStream<_>| {
        let message: Message = tokio::time::timeout(DEADLINE, texts.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        message
    };
    let Message::Text(text) = next(&mut texts).await else {
        panic!()
    };
    let event_: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event_["type"], &event_["object"]["data"]["key"]),
        (&json!("ADDED"), &json!("value"))
    );
    delete(&client, &format!("{MAPS}/a")).await;
    let Message::Text(text) = next(&mut texts).await else {
        panic!()
    };
    assert!(
        text.starts_with(r#"{"type":"DELETED""#) && text.ends_with("}\n"),
        "{text}"
    );
    texts.send(Message::Close(None)).await.unwrap();
    while let Some(Ok(_)) = texts.next().await {}

    post(&client, MAPS, &map("a", "x")).await;
    let (_, mut messages) = socket(&server, &path, &[("accept", PROTOBUF)]).await;
    let Message::Binary(message) = next(&mut messages).await else {
        panic!()
    };
    let (type_, object) = event(&message);
    assert_eq!(
        (type_.as_str(), &read(&object)["data"]["key"]),
        ("ADDED", &json!("value"))
    );
    // A watch whose time is over says goodbye.
    let (_, mut short) = socket(
        &server,
        &format!("{path}&timeoutSeconds=1&resourceVersion=0"),
        &[],
    )
    .await;
    loop {
        if let Message::Close(Some(frame)) = next(&mut short).await {
            assert_eq!(u16::from(frame.code), 1000);
            break;
        }
    }
}

#[tokio::test]
async fn a_websocket_that_is_none_is_refused() {
    let server = Server::start().await;
    let path = format!("{MAPS}?watch=true");
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for headers in [
        vec![("upgrade", "websocket"), key, ("sec-websocket-version", "8")],
        vec![("upgrade", "websocket"), ("sec-websocket-version", "13")],
        vec![
            ("upgrade", "websocket"),
            key,
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "a, b"),
        ],
    ] {
        let refused = server.upgrade(&path, &headers).await;
        assert_eq!(refused.status(), 400, "{headers:?}");
    }
}
