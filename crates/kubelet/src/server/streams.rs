//! `/exec`, `/attach` and `/portForward`: the runtime is asked where it streams, and the upgraded connection is led there.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use skiff_informer::ObjectKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::cri::CriError;
use crate::pod::identity::uid;
use crate::pod::runtime::{RuntimePod, State as RunState};
use crate::shared::Shared;

/// As much of the runtime's refusal as is passed on, in bytes.
const LONGEST_REFUSAL: usize = 1 << 20;
/// How long a runtime keeps an address that nobody uses, in seconds (upstream's).
const ADDRESSES_LAST: &str = "60";
/// How long a command may take whose output is answered as a whole.
const LONGEST_RUN: Duration = Duration::from_secs(120);
/// How long a side may take to read what the other has said before it ended.
const FINISH: Duration = Duration::from_secs(15 * 60);

type Pairs = Query<Vec<(String, String)>>;

/// Which of a process' streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    /// # Errors
    /// Upstream's text: nothing is wanted.
    fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let flag = |name: &str| query.iter().any(|(key, value)| key == name && value == "1");
        let wanted = Self {
            stdin: flag("input"),
            stdout: flag("output"),
            // A terminal has one output.
            stderr: flag("error") && !flag("tty"),
            tty: flag("tty"),
        };
        if wanted.stdin || wanted.stdout || wanted.stderr {
            Ok(wanted)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr".into())
        }
    }
}

fn refusal(code: StatusCode, message: impl Into<String>) -> Response {
    (code, message.into()).into_response()
}

fn cri_refusal(error: &CriError) -> Response {
    let code = match error.code {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = refusal(code, error.to_string());
    if code == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static(ADDRESSES_LAST));
    }
    response
}

/// What the runtime has of a pod.
async fn observe(shared: &Shared, namespace: String, name: String) -> Result<RuntimePod, Response> {
    let Some(pod) = shared.pods.get(&ObjectKey::new(namespace, name)) else {
        return Err(refusal(StatusCode::NOT_FOUND, "pod does not exist"));
    };
    RuntimePod::observe(&shared.cri, uid(&pod))
        .await
        .map_err(|error| cri_refusal(&error))
}

/// The run of a container of a pod that has a process.
async fn container_id(
    shared: &Shared,
    (namespace, name, container): (String, String, String),
) -> Result<String, Response> {
    let runtime = observe(shared, namespace, name).await?;
    let run = runtime
        .latest(&container)
        .filter(|run| run.state == RunState::Running);
    let run = run.ok_or_else(|| {
        let message = format!("container not found ({container:?})");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    Ok(run.id.clone())
}

/// `/run`: a command's output as a whole.
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, String)>,
    Query(query): Pairs,
) -> Response {
    let id = match container_id(&shared, path).await {
        Ok(id) => id,
        Err(refusal) => return refusal,
    };
    let command = query.iter().find(|(key, _)| key == "cmd");
    let command = command.map(|(_, text)| text.as_str()).unwrap_or_default();
    let command = command.split(' ').map(str::to_owned).collect();
    match shared.cri.exec_sync(&id, command, LONGEST_RUN).await {
        Ok(done) if done.exit_code == 0 => {
            let output = [done.stdout, done.stderr].concat();
            ([(header::CONTENT_TYPE, "application/json")], output).into_response()
        }
        Ok(done) => {
            let code = done.exit_code;
            let message = format!(
                "command exited with {code}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            refusal(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, String)>,
    Query(query): Pairs,
    request: Request,
) -> Response {
    let answer = async {
        let wanted = Wanted::parse(&query).map_err(|text| refusal(StatusCode::BAD_REQUEST, text))?;
        let container_id = container_id(&shared, path).await?;
        let command = query.into_iter().filter(|(key, _)| key == "command");
        let url = shared.cri.exec_url(ExecRequest {
            container_id,
            cmd: command.map(|(_, part)| part).collect(),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        });
        url.await.map_err(|error| cri_refusal(&error))
    };
    lead(answer.await, request, shared.shutdown.clone()).await
}

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, String)>,
    Query(query): Pairs,
    request: Request,
) -> Response {
    let answer = async {
        let wanted = Wanted::parse(&query).map_err(|text| refusal(StatusCode::BAD_REQUEST, text))?;
        let has_tty = shared
            .pods
            .get(&ObjectKey::new(path.0.clone(), path.1.clone()))
            .and_then(|pod| {
                let spec = pod.spec.as_ref()?;
                let mut all = spec
                    .containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten());
                all.find(|container| container.name == path.2)?.tty
            })
            .unwrap_or(false);
        let container_id = container_id(&shared, path).await?;
        let url = shared.cri.attach_url(AttachRequest {
            container_id,
            stdin: wanted.stdin,
            tty: has_tty,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !has_tty,
        });
        url.await.map_err(|error| cri_refusal(&error))
    };
    lead(answer.await, request, shared.shutdown.clone()).await
}

pub(super) async fn port_forward(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Pairs,
    request: Request,
) -> Response {
    let answer = async {
        let mut ports = Vec::new();
        for (_, text) in query.iter().filter(|(key, _)| key == "port") {
            for port in text.split(',') {
                let port = port.parse::<u16>().ok().filter(|port| *port != 0);
                let port =
                    port.ok_or_else(|| refusal(StatusCode::BAD_REQUEST, format!("invalid port {text:?}")))?;
                ports.push(i32::from(port));
            }
        }
        let runtime = observe(&shared, namespace.clone(), name.clone()).await?;
        let sandbox = runtime
            .sandboxes
            .iter()
            .find(|sandbox| sandbox.ready)
            .ok_or_else(|| {
                let message = format!("pod not found ({:?})", format!("{name}_{namespace}"));
                refusal(StatusCode::INTERNAL_SERVER_ERROR, message)
            })?;
        let url = shared.cri.port_forward_url(PortForwardRequest {
            pod_sandbox_id: sandbox.id.clone(),
            port: ports,
        });
        url.await.map_err(|error| cri_refusal(&error))
    };
    lead(answer.await, request, shared.shutdown.clone()).await
}

/// Leads a request to where the runtime streams.
async fn lead(url: Result<String, Response>, mut request: Request, shutdown: CancellationToken) -> Response {
    let url = match url {
        Ok(url) => url,
        Err(refusal) => return refusal,
    };
    if !request.headers().contains_key(header::UPGRADE) {
        return refusal(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    let client = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let mut answer = match ask(&url, head.method, head.headers).await {
        Ok(answer) => answer,
        Err(error) => {
            let message = format!("error dialing backend: {error}");
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    };
    let accepted = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let body = if accepted {
        let runtime = hyper::upgrade::on(&mut answer);
        tokio::spawn(relay(client, runtime, shutdown));
        Body::empty()
    } else {
        let body = Limited::new(answer.body_mut(), LONGEST_REFUSAL).collect().await;
        Body::from(body.map(|body| body.to_bytes()).unwrap_or_default())
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    if !accepted {
        without_framing(response.headers_mut());
    }
    response
}

/// Takes away what was about the runtime's connection and the body as it came over it.
fn without_framing(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
    ] {
        headers.remove(name);
    }
}

type Refused = Box<dyn std::error::Error + Send + Sync>;

async fn ask(
    url: &str,
    method: Method,
    headers: HeaderMap,
) -> Result<axum::http::Response<hyper::body::Incoming>, Refused> {
    let url: Uri = url.parse()?;
    let authority = url.authority().ok_or("the runtime's address has no host")?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the runtime's streams");
        }
    });
    let mut passed_on = axum::http::Request::new(Empty::<bytes::Bytes>::new());
    *passed_on.method_mut() = method;
    *passed_on.headers_mut() = headers;
    passed_on
        .headers_mut()
        .insert(header::HOST, authority.as_str().parse()?);
    *passed_on.uri_mut() = match url.path_and_query() {
        Some(path) => path.as_str().parse()?,
        None => Uri::from_static("/"),
    };
    Ok(sender.send_request(passed_on).await?)
}

async fn relay(client: OnUpgrade, runtime: OnUpgrade, shutdown: CancellationToken) {
    match tokio::try_join!(client, runtime) {
        Ok((client, runtime)) => tokio::select! {
            () = copy(TokioIo::new(client), TokioIo::new(runtime)) => {}
            () = shutdown.cancelled() => {}
        },
        Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
    }
}

/// Copies both ways until one side has ended: neither WebSocket nor SPDY knows a connection that is half open.
async fn copy<S>(client: S, runtime: S)
where
    S: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_runtime, mut to_runtime) = tokio::io::split(runtime);
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_runtime) => ended,
        ended = tokio::io::copy(&mut from_runtime, &mut to_client) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a stream broke");
    }
    let _ = to_client.shutdown().await;
    let _ = to_runtime.shutdown().await;
    // A socket that is closed before all has been read of it resets its connection, and the other side loses what is on
    // the way to it.
    let (mut nowhere, mut nobody) = (tokio::io::sink(), tokio::io::sink());
    let rest = async {
        tokio::join!(
            tokio::io::copy(&mut from_client, &mut nowhere),
            tokio::io::copy(&mut from_runtime, &mut nobody)
        )
    };
    let _ = tokio::time::timeout(FINISH, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_must_be_wanted() {
        let parse = |keys: &[&str]| {
            let pairs: Vec<_> = keys.iter().map(|key| ((*key).into(), "1".into())).collect();
            Wanted::parse(&pairs)
        };
        let all = Wanted {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        assert_eq!(parse(&["input", "output", "error"]), Ok(all));
        let terminal = Wanted {
            stderr: false,
            tty: true,
            ..all
        };
        assert_eq!(parse(&["input", "output", "error", "tty"]), Ok(terminal));
        assert!(parse(&["command", "tty"]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_reads_in_peace_what_the_other_said_before_it_ended() {
        use tokio::io::AsyncReadExt;
        let (mut client, ours) = tokio::io::duplex(64);
        let (mut far, theirs) = tokio::io::duplex(64);
        let copying = tokio::spawn(copy(ours, theirs));
        far.write_all(b"all that there is").await.unwrap();
        drop(far);
        tokio::time::sleep(FINISH / 2).await;
        // A connection that had been closed would be reset by this.
        client.write_all(b"a ping").await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "all that there is");
        assert!(!copying.is_finished());
        drop(client);
        copying.await.unwrap();
    }
}
