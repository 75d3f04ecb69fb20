//! The server: an upgrade to WebSocket or SPDY, and whom it is led to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::idle::Observed;
use super::session::{self, Outbound, Remote, Session};
use super::{Addresses, IDLE, Purpose, Wanted, multiplexed, port_forward, websocket};
use crate::runtime::Runtime;

/// How long a client may take for its request's head.
const PATIENCE: Duration = Duration::from_secs(30);
/// The header in which SPDY clients and servers name the protocol inside.
const PROTOCOL: &str = "x-stream-protocol-version";
/// The header in which a server names the protocols that it would have spoken.
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";

const V4: &str = "v4.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";
/// What a client speaks that names nothing.
const UNNAMED: &str = "";
/// What is spoken with commands over WebSocket, the newest first.
const COMMANDS: [&str; 6] = [
    V5,
    V4,
    "v4.base64.channel.k8s.io",
    V1,
    "base64.channel.k8s.io",
    UNNAMED,
];
/// What is spoken with commands over SPDY.
const COMMANDS_IN_STREAMS: [&str; 5] = [V4, V3, V2, V1, UNNAMED];
const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNELLED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    WebSocket,
    Spdy,
}

/// Serves until shutdown.
pub(crate) async fn run(listener: TcpListener, addresses: Arc<Addresses>, runtime: Arc<Runtime>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = runtime.shutdown.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely; the kernel does not say when there are some again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(serve(stream, Arc::clone(&addresses), Arc::clone(&runtime)));
    }
}

async fn serve(stream: TcpStream, addresses: Arc<Addresses>, runtime: Arc<Runtime>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let response = answer(request, &addresses, &runtime);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to the streams");
    }
}

fn refusal(code: StatusCode, message: impl Into<String>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(message.into()));
    *response.status_mut() = code;
    response
}

fn answer(
    mut request: http::Request<Incoming>,
    addresses: &Addresses,
    runtime: &Arc<Runtime>,
) -> Response<Full<Bytes>> {
    let Some(purpose) = addresses.take(request.uri().path()) else {
        return refusal(StatusCode::NOT_FOUND, "404: Page Not Found");
    };
    let (transport, protocol) = match negotiate(request.headers(), &purpose) {
        Ok(agreed) => agreed,
        Err(response) => return *response,
    };
    if transport == Transport::WebSocket
        && protocol != TUNNELLED_PORT_FORWARD
        && matches!(&purpose, Purpose::PortForward { ports, .. } if ports.is_empty())
    {
        return refusal(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match transport {
        Transport::WebSocket => {
            let key = request
                .headers()
                .get(SEC_WEBSOCKET_KEY)
                .map(HeaderValue::as_bytes);
            let accept = derive_accept_key(key.unwrap_or_default());
            let Ok(accept) = HeaderValue::from_str(&accept) else {
                return refusal(StatusCode::BAD_REQUEST, "bad Sec-WebSocket-Key");
            };
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            if protocol != UNNAMED {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            }
        }
        Transport::Spdy => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            if protocol != UNNAMED {
                headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
            }
        }
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let runtime = Arc::clone(runtime);
    tokio::spawn(async move {
        let shutdown = runtime.shutdown.clone();
        let serve = async {
            match upgrade.await {
                Ok(connection) => connected(connection, transport, protocol, purpose, runtime).await,
                Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
            }
        };
        tokio::select! {
            () = serve => {}
            () = shutdown.cancelled() => {}
        }
    });
    response
}

/// The values of a header that may come more than once and hold several each.
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(str::trim)
}

/// What to speak, and over what.
///
/// # Errors
/// Why nothing fits.
fn negotiate(
    headers: &HeaderMap,
    purpose: &Purpose,
) -> Result<(Transport, &'static str), Box<Response<Full<Bytes>>>> {
    let is_forward = matches!(purpose, Purpose::PortForward { .. });
    let upgrades = |to: &str| values(headers, "upgrade").any(|value| value.eq_ignore_ascii_case(to));
    let (transport, known, asked): (_, &[&'static str], Vec<&str>) = if upgrades("websocket") {
        let known: &[&'static str] = if is_forward {
            &[TUNNELLED_PORT_FORWARD, V4, UNNAMED]
        } else {
            &COMMANDS
        };
        (
            Transport::WebSocket,
            known,
            values(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).collect(),
        )
    } else if upgrades("SPDY/3.1") {
        let known: &[&'static str] = if is_forward {
            &[PORT_FORWARD, UNNAMED]
        } else {
            &COMMANDS_IN_STREAMS
        };
        (Transport::Spdy, known, values(headers, PROTOCOL).collect())
    } else {
        let message = "unable to upgrade: missing upgrade headers in request";
        return Err(Box::new(refusal(StatusCode::BAD_REQUEST, message)));
    };
    // Who asks for nothing gets what was there before there were names.
    let fits = |protocol: &&&str| asked.contains(protocol) || (asked.is_empty() && **protocol == UNNAMED);
    if let Some(protocol) = known.iter().find(fits) {
        return Ok((transport, protocol));
    }
    let known: Vec<&str> = known.iter().copied().filter(|name| *name != UNNAMED).collect();
    let message = format!(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
        asked.join(" "),
        known.join(" ")
    );
    let mut response = refusal(StatusCode::FORBIDDEN, message);
    for protocol in known {
        response
            .headers_mut()
            .append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
    }
    Err(Box::new(response))
}

async fn connected(
    connection: Upgraded,
    transport: Transport,
    protocol: &str,
    purpose: Purpose,
    runtime: Arc<Runtime>,
) {
    let connection = Observed::new(TokioIo::new(connection));
    let silent = connection.silent_for(IDLE);
    tokio::select! {
        () = led(connection, transport, protocol, purpose, runtime) => {}
        () = silent => {}
    }
}

/// Leads a connection to what it is for.
async fn led(
    connection: Observed<TokioIo<Upgraded>>,
    transport: Transport,
    protocol: &str,
    purpose: Purpose,
    runtime: Arc<Runtime>,
) {
    let (container, command, wanted) = match purpose {
        Purpose::PortForward { sandbox, ports } => {
            return match transport {
                Transport::Spdy => port_forward::serve(connection, &runtime, &sandbox).await,
                Transport::WebSocket => {
                    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
                    if protocol == TUNNELLED_PORT_FORWARD {
                        port_forward::serve(websocket::tunnel(socket), &runtime, &sandbox).await;
                    } else {
                        port_forward::serve_channels(socket, &runtime, &sandbox, &ports).await;
                    }
                }
            };
        }
        Purpose::Exec {
            container,
            command,
            wanted,
        } => (container, Some(command), wanted),
        Purpose::Attach { container, wanted } => (container, None, wanted),
    };
    let (session, remote) = session::pair();
    let dialect = websocket::Dialect::of(protocol);
    tokio::join!(
        speak(connection, transport, dialect, wanted, remote),
        work(&runtime, &container, command, wanted, session)
    );
}

async fn speak(
    connection: Observed<TokioIo<Upgraded>>,
    transport: Transport,
    dialect: websocket::Dialect,
    wanted: Wanted,
    remote: Remote,
) {
    match transport {
        Transport::WebSocket => {
            let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
            websocket::serve(socket, dialect, wanted, remote).await;
        }
        Transport::Spdy => {
            if let Err(error) = multiplexed::serve(connection, wanted, dialect.plain_end, remote).await {
                tracing::debug!(%error, "a SPDY connection");
            }
        }
    }
}

async fn work(
    runtime: &Runtime,
    container: &str,
    command: Option<Vec<String>>,
    wanted: Wanted,
    mut session: Session,
) {
    let status = match command {
        Some(command) => match runtime
            .exec_streams(container, &command, wanted, &mut session)
            .await
        {
            Ok(exit_code) => session::ended(&command, exit_code),
            Err(why) => session::failed("error executing command in container", &why),
        },
        None => match runtime.attach_streams(container, wanted, &mut session).await {
            Ok(()) => session::success(),
            Err(why) => session::failed("error attaching to container", &why),
        },
    };
    // A client that has left does not mind.
    let _ = session.outbound.send(Outbound::End(status)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_protocol_that_both_know_is_spoken() {
        let exec = Purpose::Attach {
            container: "c".to_owned(),
            wanted: Wanted::default(),
        };
        let forward = Purpose::PortForward {
            sandbox: "s".to_owned(),
            ports: vec![80],
        };
        let headers = |upgrade: &str, name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, upgrade.parse().unwrap());
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let socket = |value| headers("websocket", "sec-websocket-protocol", value);
        let spdy = |value| headers("SPDY/3.1", PROTOCOL, value);
        let mut unnamed = HeaderMap::new();
        unnamed.insert(UPGRADE, "websocket".parse().unwrap());
        let both = "v4.channel.k8s.io, v5.channel.k8s.io";
        let cases = [
            (socket(both), &exec, Some((Transport::WebSocket, V5))),
            (socket(V4), &exec, Some((Transport::WebSocket, V4))),
            (socket("v1"), &exec, None),
            (spdy("v5.channel.k8s.io"), &exec, None),
            (spdy("v2.channel.k8s.io"), &exec, Some((Transport::Spdy, V2))),
            (
                headers("SPDY/3.1", "host", "h"),
                &exec,
                Some((Transport::Spdy, UNNAMED)),
            ),
            (
                socket("base64.channel.k8s.io"),
                &exec,
                Some((Transport::WebSocket, "base64.channel.k8s.io")),
            ),
            (unnamed, &exec, Some((Transport::WebSocket, UNNAMED))),
            (
                spdy("v4.channel.k8s.io,v3.channel.k8s.io"),
                &exec,
                Some((Transport::Spdy, V4)),
            ),
            (
                socket(TUNNELLED_PORT_FORWARD),
                &forward,
                Some((Transport::WebSocket, TUNNELLED_PORT_FORWARD)),
            ),
            (
                spdy(PORT_FORWARD),
                &forward,
                Some((Transport::Spdy, PORT_FORWARD)),
            ),
            (socket(both), &forward, Some((Transport::WebSocket, V4))),
            (HeaderMap::new(), &forward, None),
        ];
        for (headers, purpose, expected) in cases {
            assert_eq!(negotiate(&headers, purpose).ok(), expected, "{headers:?}");
        }
    }

    #[test]
    fn who_speaks_nothing_that_is_known_is_told_what_is() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, "SPDY/3.1".parse().unwrap());
        headers.insert(PROTOCOL, "v9.channel.k8s.io, v8".parse().unwrap());
        let exec = Purpose::Attach {
            container: "c".to_owned(),
            wanted: Wanted::default(),
        };
        let response = negotiate(&headers, &exec).unwrap_err();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let accepted = values(response.headers(), ACCEPTED_PROTOCOLS);
        assert_eq!(accepted.collect::<Vec<_>>(), [V4, V3, V2, V1]);
    }
}
