//! Port forwarding: for each connection of the client a pair of SPDY streams, one for data and one for what went wrong;
//! or for each port a pair of WebSocket channels.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use super::spdy::{self, Frame};
use super::websocket;
use crate::runtime::Runtime;

/// Pieces that wait for a slow side.
const PIECES: usize = 16;
/// How many connections a client may have at once.
const MOST: usize = 1024;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);

/// The streams of one connection, by the client's number for it.
#[derive(Debug, Default)]
struct Pair {
    error: Option<u32>,
    data: Option<(u32, mpsc::Receiver<Bytes>)>,
    port: u16,
}

/// Where connections lead.
#[derive(Clone, Debug)]
struct Place {
    /// The pod's network; `None` is the node's.
    netns: Option<PathBuf>,
    /// The sandbox' name in messages.
    sandbox: String,
}

impl Place {
    fn of(runtime: &Runtime, sandbox: &str) -> io::Result<Self> {
        let entry = runtime
            .sandbox(sandbox)
            .map_err(|status| io::Error::other(status.message().to_owned()))?;
        let record = entry.record.lock().clone();
        Ok(Self {
            netns: (!record.host_network()).then(|| runtime.sandbox_paths(&record.id).netns),
            sandbox: record.id,
        })
    }
}

/// Serves a client until it leaves.
pub(super) async fn serve<S>(connection: S, runtime: &Runtime, sandbox: &str)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    if let Err(error) = forward(connection, runtime, sandbox).await {
        tracing::debug!(%error, sandbox, "port forwarding ended");
    }
}

async fn forward<S>(connection: S, runtime: &Runtime, sandbox: &str) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let place = Place::of(runtime, sandbox)?;
    let (from, mut to) = tokio::io::split(connection);
    let (out, mut frames) = mpsc::channel::<Bytes>(PIECES);
    // Ends when nobody is left who could send, or with the first error.
    let writer = tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            to.write_all(&frame).await?;
        }
        to.shutdown().await
    });
    let result = read(from, out, place).await;
    writer.abort();
    result
}

async fn read<R: AsyncRead + Unpin>(from: R, out: mpsc::Sender<Bytes>, place: Place) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let mut reader = spdy::Reader::new(from)?;
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut inputs: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut connections = tokio::task::JoinSet::new();
    let mut replied = false;
    loop {
        while connections.try_join_next().is_some() {}
        match reader.next().await? {
            Frame::Open { stream, headers } => {
                if connections.len() + pairs.len() >= MOST {
                    return Err(io::Error::other("too many connections"));
                }
                let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
                let port = header("port").parse::<u16>().unwrap_or(0);
                if port == 0 || !matches!(header("streamtype"), "error" | "data") {
                    out.send(spdy::reset(stream)).await.map_err(|_| gone())?;
                    continue;
                }
                out.send(spdy::reply(stream, !std::mem::replace(&mut replied, true)))
                    .await
                    .map_err(|_| gone())?;
                // Old clients send no number, and the data stream's is the one behind the error stream's.
                let request = match (header("requestid"), header("streamtype")) {
                    ("", "error") => (stream + 2).to_string(),
                    ("", _) => stream.to_string(),
                    (id, _) => id.to_owned(),
                };
                let pair = pairs.entry(request.clone()).or_default();
                if header("streamtype") == "error" {
                    pair.error = Some(stream);
                } else {
                    let (input, data) = mpsc::channel(PIECES);
                    inputs.insert(stream, input);
                    pair.data = Some((stream, data));
                    pair.port = port;
                }
                if let Some(Pair {
                    error: Some(error),
                    data: Some((stream, data)),
                    port,
                }) = pairs.remove(&request).and_then(|pair| match pair {
                    Pair {
                        error: Some(_),
                        data: Some(_),
                        ..
                    } => Some(pair),
                    half => {
                        pairs.insert(request, half);
                        None
                    }
                }) {
                    let (out, place) = (out.clone(), place.clone());
                    connections.spawn(async move {
                        let told =
                            one(port, &place, data, &out, |piece| spdy::data(stream, piece, false)).await;
                        let _ = out.send(spdy::data(error, told.as_bytes(), true)).await;
                        let _ = out.send(spdy::data(stream, &[], true)).await;
                    });
                }
            }
            Frame::Data { stream, bytes, last } => {
                let dead = match inputs.get(&stream) {
                    Some(input) if !bytes.is_empty() => input.send(bytes).await.is_err(),
                    _ => false,
                };
                if dead || last {
                    inputs.remove(&stream);
                }
            }
            Frame::Reset { stream } => {
                inputs.remove(&stream);
            }
            Frame::Ping(id) => out.send(spdy::pong(id)).await.map_err(|_| gone())?,
            Frame::GoAway => return Ok(()),
            Frame::Other => {}
        }
    }
}

/// Serves a client that speaks channels: port after port it has one for data and one for what went wrong, of which the
/// first message each is the port's number in two bytes, the lower first.
pub(super) async fn serve_channels<S>(
    socket: WebSocketStream<S>,
    runtime: &Runtime,
    sandbox: &str,
    ports: &[u16],
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = match Place::of(runtime, sandbox) {
        Ok(place) => place,
        Err(error) => return tracing::debug!(%error, sandbox, "port forwarding came to nothing"),
    };
    let (mut sink, mut stream) = socket.split();
    let (out, mut messages) = mpsc::channel::<Bytes>(PIECES);
    let mut inputs = HashMap::new();
    let mut connections = tokio::task::JoinSet::new();
    for (channel, &port) in (0_u8..).step_by(2).zip(ports) {
        let (input, data) = mpsc::channel(PIECES);
        inputs.insert(channel, input);
        let (out, place) = (out.clone(), place.clone());
        connections.spawn(async move {
            let error = channel.saturating_add(1);
            for channel in [channel, error] {
                let _ = out.send(websocket::framed(channel, &port.to_le_bytes())).await;
            }
            let told = one(port, &place, data, &out, |piece| {
                websocket::framed(channel, piece)
            })
            .await;
            if !told.is_empty() {
                let _ = out.send(websocket::framed(error, told.as_bytes())).await;
            }
        });
    }
    drop(out);
    let mut reader = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Binary(bytes) = message else {
                if message.is_close() {
                    return;
                }
                continue;
            };
            let Some((channel, _)) = bytes.split_first() else {
                continue;
            };
            if let Some(input) = inputs.get(channel)
                && input.send(bytes.slice(1..)).await.is_err()
            {
                inputs.remove(channel);
            }
        }
    }));
    // Ends when all connections have, or when the client is gone.
    while let Some(message) = messages.recv().await {
        if sink.send(Message::Binary(message)).await.is_err() {
            break;
        }
    }
    let _ = sink.send(websocket::farewell()).await;
    websocket::answered(&mut reader).await;
    let _ = sink.close().await;
}

/// One connection, from its beginning to its end; returns what went wrong.
async fn one(
    port: u16,
    place: &Place,
    data: mpsc::Receiver<Bytes>,
    out: &mpsc::Sender<Bytes>,
    frame: impl Fn(&[u8]) -> Bytes,
) -> String {
    match carry(port, place, data, out, frame).await {
        Ok(()) => String::new(),
        // The runtime is told the sandbox as the pod, and no uid.
        Err(why) => {
            let (pod, netns) = (&place.sandbox, place.netns.as_ref());
            let netns = netns.map_or("host".into(), |path| path.to_string_lossy());
            let what = match why.kind() {
                // The pod's network has gone with it.
                io::ErrorKind::NotFound => format!("sandbox container {pod:?} is not running"),
                _ => format!("failed to execute portforward in network namespace {netns:?}: {why}"),
            };
            format!("error forwarding port {port} to pod {pod}, uid : {what}")
        }
    }
}

async fn carry(
    port: u16,
    place: &Place,
    mut data: mpsc::Receiver<Bytes>,
    out: &mpsc::Sender<Bytes>,
    frame: impl Fn(&[u8]) -> Bytes,
) -> io::Result<()> {
    let (mut from_pod, mut to_pod) = connect(port, place).await?.into_split();
    let sent = async {
        while let Some(bytes) = data.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let received = async {
        let mut buffer = vec![0; spdy::PIECE];
        while let Ok(n @ 1..) = from_pod.read(&mut buffer).await {
            let piece = buffer.get(..n).unwrap_or_default();
            if out.send(frame(piece)).await.is_err() {
                return;
            }
        }
    };
    // The pod's side decides when all is said; a client that has said all may still listen.
    tokio::pin!(sent);
    tokio::pin!(received);
    tokio::select! {
        () = &mut received => {}
        () = &mut sent => received.await,
    }
    Ok(())
}

/// Connects to a port as a process in the pod would.
async fn connect(port: u16, place: &Place) -> io::Result<TcpStream> {
    let (told, connected) = oneshot::channel();
    let place = place.clone();
    // A thread of its own, for it does not come back from the pod's network.
    std::thread::Builder::new()
        .name("port-forward".to_owned())
        .spawn(move || {
            let _ = told.send(connect_in(port, &place));
        })?;
    let stream = connected.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

fn connect_in(port: u16, place: &Place) -> io::Result<std::net::TcpStream> {
    if let Some(netns) = &place.netns {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    }
    let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let connect = |address| std::net::TcpStream::connect_timeout(&address, CONNECT);
    connect(four).or_else(|first| {
        connect(six).map_err(|second| {
            let sandbox = &place.sandbox;
            io::Error::other(format!(
                "failed to connect to localhost:{port} inside namespace {sandbox:?}, IPv4: dial tcp4 {four}: {} IPv6 \
                 dial tcp6 {six}: {}",
                told(&first),
                told(&second)
            ))
        })
    })
}

/// A failed connection in Go's words, which clients look for.
fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        io::ErrorKind::AddrNotAvailable => "connect: cannot assign requested address".into(),
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}
