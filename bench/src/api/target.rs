//! The API server that is measured: where it is, who asks, and a connection to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kube::Config;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls_pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::{Layer as _, ServiceExt as _, service_fn};

/// No single request takes longer than this; a server that is slower is not measured but given up.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// How much is read of a socket at once, in bytes. rustls asks for 4 KiB at a time; the system calls of that were half of the
/// client's processor time, which the server on the same machine then had not.
const READ_SIZE: usize = 128 << 10;

/// An API server as a kubeconfig names it.
pub(super) struct Target {
    host: String,
    port: u16,
    /// What stands before every path, for servers behind a gateway.
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The credentials, unless they are a client certificate.
    headers: HeaderMap,
}

/// A request, ready to be sent as often as needed.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path with its query.
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// Whether the caller reads the answer. Otherwise it is only counted.
    pub(super) keep: bool,
}

impl Call {
    /// A request without a body.
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            content_type: "application/json",
            body: Bytes::new(),
            keep: false,
        }
    }

    /// The same with a body.
    pub(super) fn with_body(self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            content_type,
            body: body.into(),
            ..self
        }
    }

    /// The same, its answer kept.
    pub(super) fn kept(self) -> Self {
        Self { keep: true, ..self }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) length: usize,
    /// Empty unless it was to be kept, or tells of a failure.
    pub(super) body: Bytes,
}

impl Target {
    /// The current context of a kubeconfig file.
    pub(super) async fn read(kubeconfig: &Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        if config.proxy_url.is_some() {
            bail!("a proxy would be measured too: proxy-url is not supported");
        }
        let url = &config.cluster_url;
        let host = url.host().context("the server's URL has no host")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let is_tls = url.scheme_str() != Some("http");
        let tls = if is_tls {
            let mut client = config.rustls_client_config()?;
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
            Some((TlsConnector::from(Arc::new(client)), ServerName::try_from(name)?))
        } else {
            None
        };
        Ok(Self {
            port: url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            prefix: url.path().trim_end_matches('/').to_owned(),
            headers: credentials(&config).await?,
            host,
            tls,
        })
    }

    /// A new connection.
    pub(super) async fn connect(self: &Arc<Self>) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(READ_SIZE, stream);
        let sender = match &self.tls {
            Some((connector, name)) => handshake(connector.connect(name.clone(), stream).await?).await?,
            None => handshake(stream).await?,
        };
        Ok(Connection {
            target: self.clone(),
            sender,
        })
    }
}

/// The header that authenticates, made once: from a token, a token's file, a password or a program.
async fn credentials(config: &Config) -> anyhow::Result<HeaderMap> {
    let mut headers: HeaderMap = config.headers.iter().cloned().collect();
    if let Some(layer) = config.auth_layer()? {
        let echo = service_fn(|request: Request<Full<Bytes>>| async move {
            Ok::<_, tower::BoxError>(Response::new(request.headers().clone()))
        });
        let answer = layer.layer(echo).oneshot(Request::new(Full::default())).await;
        headers.extend(answer.map_err(anyhow::Error::from_boxed)?.into_body());
    }
    Ok(headers)
}

async fn handshake<S>(stream: S) -> anyhow::Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender; what went wrong is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// A connection that is kept from request to request.
pub(super) struct Connection {
    target: Arc<Target>,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends a request; returns when its answer begins.
    ///
    /// # Errors
    /// When the connection breaks or the server takes too long.
    pub(super) async fn begin(&mut self, call: &Call) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.target.prefix, call.path))
            .header(header::HOST, format!("{}:{}", self.target.host, self.target.port))
            .header(header::USER_AGENT, "skiff-bench")
            .header(header::ACCEPT, "application/json");
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.content_type);
        }
        let mut request = request.body(Full::new(call.body.clone()))?;
        request.headers_mut().extend(self.target.headers.clone());
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer = tokio::time::timeout(LONGEST_REQUEST, answer);
        Ok(answer.await.context("no answer in time")??)
    }

    /// Sends a request and reads its whole answer. A broken connection is made anew for the next one.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) async fn send(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let answer = tokio::time::timeout(LONGEST_REQUEST, self.exchange(call)).await;
        let answer = answer.context("no whole answer in time").flatten();
        if answer.is_err() || self.sender.is_closed() {
            *self = self.target.connect().await?;
        }
        answer
    }

    async fn exchange(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let response = self.begin(call).await?;
        let status = response.status();
        let keep = call.keep || !status.is_success();
        let (mut length, mut kept) = (0_usize, BytesMut::new());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                length = length.saturating_add(data.len());
                if keep {
                    kept.extend_from_slice(data);
                }
            }
        }
        Ok(Answer {
            status,
            length,
            body: kept.freeze(),
        })
    }
}
