//! One HTTP GET, as probes and hooks send it: no connection is kept, no certificate is checked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// As much of an answer as a probe reads.
const MAX_BODY: usize = 10 << 10;

/// Where to send the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With its query; `/` is put before it when it lacks one.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Target {
    /// The URL, for messages.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path_with_slash())
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn path_with_slash(&self) -> String {
        if self.path.starts_with('/') {
            self.path.clone()
        } else {
            format!("/{}", self.path)
        }
    }
}

/// The status and the beginning of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a GET and reads the answer, all within `limit`.
///
/// # Errors
/// Go's text of what went wrong: `Get "url": …`.
pub(crate) async fn get(target: &Target, limit: Duration) -> Result<Answer, String> {
    let failed = |error: String| format!("Get {:?}: {error}", target.url());
    match tokio::time::timeout(limit, send(target)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into(),
        )),
    }
}

async fn send(target: &Target) -> Result<Answer, String> {
    let authority = target.authority();
    let stream = TcpStream::connect(&authority)
        .await
        .map_err(|error| format!("dial tcp {authority}: {}", connect_error(&error)))?;
    if !target.tls {
        return exchange(stream, target).await;
    }
    // Whoever answers at the address is the one to ask: probes check no names (upstream does not either).
    let config = skiff_tls::trusting_client()
        .map_err(|error| error.to_string())?
        .with_no_client_auth();
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    exchange(stream, target).await
}

/// A failed connect in Go's words.
pub(crate) fn connect_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        _ => error.to_string(),
    }
}

async fn exchange<S>(stream: S, target: &Target) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let host = target
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let mut request = http::Request::get(target.path_with_slash())
        .header(
            "Host",
            host.map_or_else(|| target.authority(), |(_, value)| value.clone()),
        )
        .header("Connection", "close");
    let has = |wanted: &str| {
        target
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    if !has("User-Agent") {
        request = request.header("User-Agent", "kube-probe/1.37");
    }
    if !has("Accept") {
        request = request.header("Accept", "*/*");
    }
    for (name, value) in target
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
    {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string());
    let result = match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // A longer body is no failure; what was read of it is enough.
            let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status, body })
        }
        Err(error) => Err(error),
    };
    driver.abort();
    result
}
