//! WebSockets that the server itself speaks: a stream of messages to the client, which sends nothing of interest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::error::{ApiError, ApiResult};
use crate::http::accept::Encoding;
use crate::http::relay::is_upgrade;
use crate::http::resources::Call;
use crate::http::transform::FRAME_LENGTH;
use crate::http::{Counted, Response, ResponseBody};

/// The largest message that a client may send, in bytes: it is read only to be ignored.
const LONGEST_MESSAGE: usize = 64 << 10;

/// Whether a client wants to go on over a WebSocket.
pub(crate) fn asked_for(headers: &HeaderMap) -> bool {
    let websocket = headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && is_upgrade(headers)
}

/// A client's wish for a WebSocket that can be granted.
pub(crate) struct Handshake {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    upgrade: OnUpgrade,
    counted: Counted,
}

impl Handshake {
    /// Reads the request's headers, and takes its connection.
    ///
    /// # Errors
    /// 400 for another version than 13, for a wish without key, and for several subprotocols: one that is named is agreed
    /// to, but nothing says which of many.
    pub(crate) fn read(call: &mut Call) -> ApiResult<Self> {
        let headers = &call.headers;
        let refused = |why: &str| ApiError::bad_request(why);
        if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
            return Err(refused("missing or bad WebSocket Version"));
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
        let key = key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| refused("mismatch challenge/response"))?;
        let mut protocols = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|protocol| !protocol.is_empty());
        let protocol = protocols.next().and_then(|text| HeaderValue::from_str(text).ok());
        if protocols.next().is_some() {
            return Err(refused("missing or bad WebSocket-Protocol"));
        }
        let accept = HeaderValue::from_str(&derive_accept_key(key)).map_err(ApiError::internal)?;
        let upgrade = call.upgrade.get_mut().take();
        Ok(Self {
            accept,
            protocol,
            counted: call.counted.clone(),
            upgrade: upgrade.ok_or_else(|| ApiError::bad_request("Upgrade request required"))?,
        })
    }

    /// Whether one of these subprotocols is asked for, or none.
    ///
    /// # Errors
    /// 400 for another one.
    pub(crate) fn speaks(self, known: &[&str]) -> ApiResult<Self> {
        let asked = self.protocol();
        if asked.is_empty() || known.contains(&asked) {
            return Ok(self);
        }
        Err(ApiError::bad_request(format!(
            "unable to upgrade: requested protocol(s) are not supported: [{asked}]; supports {known:?}"
        )))
    }

    fn protocol(&self) -> &str {
        let protocol = self.protocol.as_ref().and_then(|name| name.to_str().ok());
        protocol.unwrap_or_default()
    }

    /// Answers, and writes a text piece by piece: as it is, or in base64 for browsers that read only texts.
    pub(crate) fn accept_pieces(self, pieces: BoxStream<'static, Result<Bytes, std::io::Error>>) -> Response {
        let base64 = self.protocol().starts_with("base64.");
        let messages = pieces
            .take_while(|piece| std::future::ready(piece.is_ok()))
            .filter_map(|piece| std::future::ready(piece.ok()))
            .map(move |piece| {
                if base64 {
                    Message::Text(STANDARD.encode(piece).into())
                } else {
                    Message::Binary(piece)
                }
            })
            .boxed();
        self.begin(messages)
    }

    /// Answers, and writes the events: JSON as text, protobuf as binary messages without the length that stands before
    /// them elsewhere.
    pub(crate) fn accept(
        self,
        content_type: &'static str,
        encoding: Encoding,
        events: BoxStream<'static, Bytes>,
    ) -> Response {
        let messages = events
            .map(move |event| match encoding {
                Encoding::Protobuf => Message::Binary(event.slice(FRAME_LENGTH.min(event.len())..)),
                _ => Utf8Bytes::try_from(event).map_or_else(|_| Message::Ping(Bytes::new()), Message::Text),
            })
            .boxed();
        let mut response = self.begin(messages);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    fn begin(self, messages: BoxStream<'static, Message>) -> Response {
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let (upgrade, counted) = (self.upgrade, self.counted);
        tokio::spawn(async move {
            let _counted = counted;
            match upgrade.await {
                Ok(connection) => write(TokioIo::new(connection), messages).await,
                Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
            }
        });
        response
    }
}

/// Writes until there is nothing more, or the client has closed. A client that does not read is waited for, with one
/// message in hand.
async fn write(connection: TokioIo<hyper::upgrade::Upgraded>, mut messages: BoxStream<'static, Message>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let client_leaves = async {
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                return;
            }
        }
    };
    let all_is_sent = async {
        while let Some(message) = messages.next().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let farewell = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        };
        let _ = sink.send(Message::Close(Some(farewell))).await;
        let _ = sink.close().await;
    };
    tokio::select! {
        () = client_leaves => {}
        () = all_is_sent => {}
    }
}
