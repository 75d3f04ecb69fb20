//! Exec, attach and port forwarding as their clients see them: frames over the address that CRI gives.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use futures::{SinkExt, StreamExt};
use k8s_cri::v1;
use support::{Node, PATIENCE, eventually, shell};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Sends the request for an upgrade; returns the connection and the answer's head.
async fn upgrade(url: &str, headers: &str) -> (TcpStream, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

async fn web_socket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let headers = format!(
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n"
    );
    let (stream, head) = upgrade(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

async fn spdy(url: &str, protocol: &str) -> TcpStream {
    let headers = format!("Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n");
    let (stream, head) = upgrade(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// A frame of SPDY that opens a stream with these headers. The first of a connection begins the compressed stream.
fn open(stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut plain = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        plain.extend_from_slice(text.as_bytes());
    }
    let mut body = stream.to_be_bytes().to_vec();
    body.extend_from_slice(&[0; 6]);
    if stream == 1 {
        body.extend_from_slice(&[0x78, 0x01]);
    }
    let length = u16::try_from(plain.len()).unwrap();
    body.push(0);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&(!length).to_le_bytes());
    body.extend_from_slice(&plain);
    frame([0x80, 3, 0, 1], 0, &body)
}

fn frame(head: [u8; 4], flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = head.to_vec();
    frame.extend_from_slice(&(u32::from(flags) << 24 | u32::try_from(body.len()).unwrap()).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// The next frame: its head, its flags, its body; `None` at the end.
async fn next(stream: &mut TcpStream) -> Option<([u8; 4], u8, Vec<u8>)> {
    let mut head = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut head))
        .await
        .unwrap()
        .ok()?;
    let rest = stream.read_u32().await.unwrap();
    let mut body = vec![0; (rest & 0x00ff_ffff) as usize];
    stream.read_exact(&mut body).await.unwrap();
    Some((head, (rest >> 24) as u8, body))
}

/// Reads frames until the stream has ended; returns its bytes.
async fn whole(connection: &mut TcpStream, stream: u8) -> String {
    let mut text = Vec::new();
    loop {
        let (head, flags, body) = next(connection).await.unwrap();
        if head == [0, 0, 0, stream] {
            text.extend_from_slice(&body);
            if flags == 1 {
                return String::from_utf8(text).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_attaches_may_leave_and_the_container_goes_on() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let mut config = shell(
        "a",
        "while read line; do echo got $line; echo bad $line >&2; done; echo over; sleep 1000",
    );
    config.stdin = true;
    let id = node.run(&pod, config).await;
    for turn in 0..3 {
        let request = v1::AttachRequest {
            container_id: id.clone(),
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        let url = node.cri.attach(request).await.unwrap().into_inner().url;
        let mut socket = web_socket(&url, "v5.channel.k8s.io").await;
        // The first message says that all is set up.
        for expected in ["\u{1}".to_owned(), format!("\u{1}got {turn}\n")] {
            let message = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(message.into_data(), expected.as_bytes());
            if expected.len() == 1 {
                let typed = Message::Binary(format!("\0{turn}\n").into());
                socket.send(typed).await.unwrap();
            }
        }
        // What is typed last is answered when nobody is there to read it.
        let typed = Message::Binary(format!("\0{turn} left\n").into());
        socket.send(typed).await.unwrap();
        drop(socket);
        node.said("a", &format!("got {turn} left")).await;
    }
    assert_eq!(
        node.status(&id).await.state(),
        v1::ContainerState::ContainerRunning
    );
    assert_eq!(node.exec(&id, "echo well", 10).await.unwrap().stdout, b"well\n");
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_container_keeps_nothing_for_who_has_left() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let id = node.run(&pod, shell("a", "sleep 1000")).await;
    let shim = node.shim_pid(&pod).await;
    let pipes = || {
        let descriptors = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap();
        let links = descriptors.filter_map(|its| std::fs::read_link(its.unwrap().path()).ok());
        links
            .filter(|to| to.to_string_lossy().starts_with("pipe:"))
            .count()
    };
    let attach = v1::AttachRequest {
        container_id: id.clone(),
        stdout: true,
        ..Default::default()
    };
    let before = pipes();
    for _ in 0..5 {
        let url = node.cri.attach(attach.clone()).await.unwrap().into_inner().url;
        let mut socket = web_socket(&url, "v5.channel.k8s.io").await;
        timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        eventually("the shim has a pipe to the client", || pipes() > before).await;
        drop(socket);
        eventually("the shim has let go of the pipe", || pipes() <= before).await;
    }
    node.remove_pod(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_run_is_complained_of_in_the_clients_protocol() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let id = node.run(&pod, shell("a", "sleep 1000")).await;
    let why = format!(
        "error executing command in container: failed to exec in container: failed to start exec \"{id}\": OCI runtime \
         exec failed: exec failed: unable to start container process: exec: \"none\": executable file not found in $PATH"
    );
    for (protocol, is_plain) in [("v4.channel.k8s.io", false), ("v2.channel.k8s.io", true)] {
        let request = v1::ExecRequest {
            container_id: id.clone(),
            cmd: vec!["none".into()],
            stdout: true,
            ..Default::default()
        };
        let url = node.cri.exec(request).await.unwrap().into_inner().url;
        let mut stream = spdy(&url, protocol).await;
        stream
            .write_all(&open(1, &[("streamtype", "error")]))
            .await
            .unwrap();
        stream
            .write_all(&open(3, &[("streamtype", "stdout")]))
            .await
            .unwrap();
        let text = whole(&mut stream, 1).await;
        if is_plain {
            assert_eq!(text, format!("Internal error occurred: {why}"));
        } else {
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status["message"], format!("Internal error occurred: {why}"));
            assert_eq!(
                (&status["reason"], &status["code"]),
                (&"InternalError".into(), &500.into())
            );
        }
    }
    node.remove_pod(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nobody_listens_is_told_on_the_error_stream() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let request = v1::PortForwardRequest {
        pod_sandbox_id: pod.clone(),
        ..Default::default()
    };
    let url = node.cri.port_forward(request).await.unwrap().into_inner().url;
    let mut stream = spdy(&url, "portforward.k8s.io").await;
    let pair = |kind| [("streamtype", kind), ("port", "81"), ("requestid", "0")];
    stream.write_all(&open(1, &pair("error"))).await.unwrap();
    stream.write_all(&open(3, &pair("data"))).await.unwrap();
    let told = whole(&mut stream, 1).await;
    let begin = format!(
        "error forwarding port 81 to pod {pod}, uid : failed to execute portforward in network namespace "
    );
    assert!(told.starts_with(&begin), "{told}");
    let end = format!(
        ": failed to connect to localhost:81 inside namespace \"{pod}\", IPv4: dial tcp4 127.0.0.1:81: connect: \
         connection refused IPv6 dial tcp6 [::1]:81: connect: "
    );
    assert!(told.contains(&end), "{told}");
    // A stream that does not say where to is refused, and harms no other.
    stream
        .write_all(&open(5, &[("streamtype", "data"), ("requestid", "1")]))
        .await
        .unwrap();
    loop {
        let (head, _, body) = next(&mut stream).await.unwrap();
        if head == [0x80, 3, 0, 3] {
            assert_eq!(body[..4], [0, 0, 0, 5]);
            break;
        }
    }
    node.remove_pod(&pod).await;
    let gone = |stream| {
        open(
            stream,
            &[
                ("streamtype", if stream == 7 { "error" } else { "data" }),
                ("port", "81"),
                ("requestid", "2"),
            ],
        )
    };
    stream.write_all(&gone(7)).await.unwrap();
    stream.write_all(&gone(9)).await.unwrap();
    let told = whole(&mut stream, 7).await;
    assert_eq!(
        told,
        format!("error forwarding port 81 to pod {pod}, uid : sandbox container \"{pod}\" is not running")
    );
}
