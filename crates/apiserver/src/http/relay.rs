//! Relaying: a request that somebody else answers, and a connection that goes on in another protocol.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, BodyStream, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::error::{ApiError, ApiResult};
use crate::http::node::{Endpoint, Trust};
use crate::http::resources::Call;
use crate::http::{Response, ResponseBody};

/// As much of a refusal to upgrade as is passed on, in bytes.
const LONGEST_REFUSAL: usize = 1 << 20;

/// How long a side may take to read what the other has said before it ended.
const FINISH: Duration = Duration::from_secs(15 * 60);

/// What is about one connection and not about the message (RFC 9110, 7.6.1).
const OF_ONE_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes away what is about one connection, with what `Connection` names beside.
pub(super) fn without_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().chain(&OF_ONE_HOP) {
        headers.remove(name);
    }
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether a client wants to go on in another protocol.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Passes on a request for an upgrade, and then each byte.
///
/// # Errors
/// 500 when there is nobody, or somebody who answers as if no upgrade had been asked for.
pub(super) async fn upgraded(
    call: &Call,
    endpoint: &Endpoint,
    trust: Trust,
    path: &str,
) -> ApiResult<Response> {
    let client = call.upgrade.lock().take();
    let client = client.ok_or_else(|| ApiError::bad_request("Upgrade request required"))?;
    let mut request = http::Request::new(Empty::new());
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = path.parse().map_err(ApiError::internal)?;
    *request.headers_mut() = call.headers.clone();
    request.headers_mut().remove(http::header::HOST);
    let answer = call.shared.nodes.send(endpoint, trust, request).await;
    let mut answer =
        answer.map_err(|error| ApiError::unclassified(format!("error dialing backend: {error}")))?;
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS && status.as_u16() < 400 {
        let code = status.as_u16();
        return Err(ApiError::unclassified(format!(
            "invalid upgrade response: status code {code}"
        )));
    }
    let accepted = status == StatusCode::SWITCHING_PROTOCOLS;
    let body = if accepted {
        let other = hyper::upgrade::on(&mut answer);
        let (shutdown, counted) = (call.shared.shutdown.clone(), call.counted.clone());
        tokio::spawn(async move {
            let _counted = counted;
            relay(client, other, shutdown).await;
        });
        bytes::Bytes::new()
    } else {
        let body = Limited::new(answer.body_mut(), LONGEST_REFUSAL).collect().await;
        body.map(|body| body.to_bytes()).unwrap_or_default()
    };
    let mut response = http::Response::new(ResponseBody::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    if !accepted {
        without_hop(response.headers_mut());
        response.headers_mut().remove(CONTENT_LENGTH);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// A body as it comes, no faster than it is taken; a failure breaks it off.
pub(super) fn streamed(body: Incoming, shutdown: CancellationToken) -> ResponseBody {
    ResponseBody::relayed(pieces(body, shutdown))
}

/// What another server sends, piece by piece.
pub(super) fn pieces(
    body: Incoming,
    shutdown: CancellationToken,
) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    let frames = BodyStream::new(body).filter_map(|frame| {
        std::future::ready(match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(std::io::Error::other(error))),
        })
    });
    frames.take_until(shutdown.cancelled_owned()).boxed()
}

async fn relay(client: OnUpgrade, other: OnUpgrade, shutdown: CancellationToken) {
    match tokio::try_join!(client, other) {
        Ok((client, other)) => tokio::select! {
            () = copy(TokioIo::new(client), TokioIo::new(other)) => {}
            () = shutdown.cancelled() => {}
        },
        Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
    }
}

/// Copies both ways until one side has ended: neither WebSocket nor SPDY knows a connection that is half open.
async fn copy<S>(client: S, other: S)
where
    S: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_other, mut to_other) = tokio::io::split(other);
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_other) => ended,
        ended = tokio::io::copy(&mut from_other, &mut to_client) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnel broke");
    }
    let _ = to_client.shutdown().await;
    let _ = to_other.shutdown().await;
    // A socket that is closed before all has been read of it resets its connection, and the other side loses what is on
    // the way to it.
    let (mut nowhere, mut nobody) = (tokio::io::sink(), tokio::io::sink());
    let rest = async {
        tokio::join!(
            tokio::io::copy(&mut from_client, &mut nowhere),
            tokio::io::copy(&mut from_other, &mut nobody)
        )
    };
    let _ = tokio::time::timeout(FINISH, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn an_upgrade_is_asked_for_in_two_headers() {
        assert!(is_upgrade(&headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "SPDY/3.1")
        ])));
        assert!(!is_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!is_upgrade(&headers(&[("connection", "upgrade")])));
    }

    #[test]
    fn what_is_about_one_connection_is_not_passed_on() {
        let mut all = headers(&[
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        without_hop(&mut all);
        assert_eq!(all, headers(&[("accept", "*/*")]));
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
