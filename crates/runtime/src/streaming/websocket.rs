//! Remote commands over WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`, and what browsers' clients speak yet. A
//! message's first byte is its channel.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::task::AbortOnDropHandle;

use super::session::{self, Inbound, Outbound, Remote};
use super::{FINISH, IDLE, Wanted};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Only in v5: the byte behind names the channel that has ended.
const CLOSE: u8 = 255;

/// As much as a tunnel keeps for a slow side, in bytes.
const TUNNEL: usize = 64 << 10;

/// How a subprotocol writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Messages are texts: the channel as a digit, the rest in base64.
    base64: bool,
    /// The end is a text for people, and there is none when all went well.
    pub(super) plain_end: bool,
}

impl Dialect {
    pub(super) fn of(protocol: &str) -> Self {
        Self {
            base64: protocol.contains("base64"),
            plain_end: !protocol.starts_with("v4.") && !protocol.starts_with("v5."),
        }
    }

    /// What a message says; `None` when it says nothing that is known.
    fn inbound(self, message: &Bytes) -> Option<Inbound> {
        let (channel, rest) = message.split_first()?;
        let (channel, rest) = if self.base64 {
            let rest = STANDARD.decode(rest).ok()?;
            (channel.checked_sub(b'0')?, Bytes::from(rest))
        } else {
            (*channel, message.slice(1..))
        };
        match channel {
            STDIN => Some(Inbound::Stdin(rest)),
            RESIZE => serde_json::from_slice(&rest).ok().map(Inbound::Resize),
            CLOSE if rest == [STDIN].as_slice() => Some(Inbound::StdinEnd),
            _ => None,
        }
    }

    /// `None` when nothing is said of this.
    fn outbound(self, piece: &Outbound) -> Option<Message> {
        Some(match piece {
            Outbound::Stdout(bytes) => self.message(STDOUT, bytes),
            Outbound::Stderr(bytes) => self.message(STDERR, bytes),
            Outbound::End(status) if self.plain_end => {
                self.message(ERROR, session::complaint(status)?.as_bytes())
            }
            Outbound::End(status) => self.message(ERROR, status),
        })
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            Message::Text(format!("{channel}{}", STANDARD.encode(bytes)).into())
        } else {
            Message::Binary(framed(channel, bytes))
        }
    }
}

/// A message of a channel.
pub(super) fn framed(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(bytes);
    message.freeze()
}

/// Clients take an end without a code for a broken connection.
pub(super) fn farewell() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// Serves a session until the process or the client has ended it.
pub(super) async fn serve<S>(socket: WebSocketStream<S>, dialect: Dialect, wanted: Wanted, mut remote: Remote)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, stream) = socket.split();
    // Tells the client that all is set up.
    let first = match wanted {
        Wanted { stdout: true, .. } => STDOUT,
        Wanted { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    if sink.send(dialect.message(first, &[])).await.is_err() {
        return;
    }
    let mut reader = AbortOnDropHandle::new(tokio::spawn(read(stream, dialect, remote.inbound)));
    while let Some(piece) = remote.outbound.recv().await {
        let last = matches!(piece, Outbound::End(_));
        if let Some(message) = dialect.outbound(&piece)
            && sink.send(message).await.is_err()
        {
            break;
        }
        if last {
            break;
        }
    }
    let _ = sink.send(farewell()).await;
    answered(&mut reader).await;
    let _ = sink.close().await;
}

/// Waits until a client has taken its leave, too. Were the connection closed before, what the client sends yet (pings)
/// would be answered with a reset, at which it would lose what it has not read.
pub(super) async fn answered(reader: &mut AbortOnDropHandle<()>) {
    let _ = timeout(FINISH, reader).await;
}

async fn read<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    dialect: Dialect,
    to: tokio::sync::mpsc::Sender<Inbound>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        if let Some(piece) = dialect.inbound(&bytes) {
            // A process that has ended does not mind.
            let _ = to.send(piece).await;
        }
    }
}

/// A WebSocket whose messages are pieces of a byte stream: the stream.
pub(super) fn tunnel<S>(socket: WebSocketStream<S>) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(TUNNEL);
    let (mut sink, mut stream) = socket.split();
    let (mut from_us, mut to_us) = tokio::io::split(theirs);
    let mut reader = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    // When nobody takes it any more it is read all the same: see `answered`.
                    let _ = to_us.write_all(&bytes).await;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
        let _ = to_us.shutdown().await;
    }));
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(16 << 10);
            match from_us.read_buf(&mut buffer).await {
                Ok(1..) => {}
                _ => break,
            }
            let send = sink.send(Message::Binary(buffer.split().freeze()));
            if !matches!(timeout(IDLE, send).await, Ok(Ok(()))) {
                return;
            }
        }
        if matches!(timeout(FINISH, sink.send(farewell())).await, Ok(Ok(()))) {
            answered(&mut reader).await;
        }
        let _ = timeout(FINISH, sink.close()).await;
    });
    ours
}

#[cfg(test)]
mod tests {
    use super::super::session::Size;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_is_not_cut_off_before_it_has_taken_its_leave() {
        use tokio_tungstenite::tungstenite::protocol::Role;
        let (client, ours) = tokio::io::duplex(1 << 20);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let ours = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
        let (session, remote) = session::pair();
        let wanted = Wanted {
            stdout: true,
            ..Wanted::default()
        };
        let serving = tokio::spawn(serve(ours, Dialect::of("v5.channel.k8s.io"), wanted, remote));
        session
            .outbound
            .send(Outbound::Stdout("said".into()))
            .await
            .unwrap();
        session
            .outbound
            .send(Outbound::End(session::success()))
            .await
            .unwrap();
        drop(session);
        // It reads slowly, and says things meanwhile.
        tokio::time::sleep(FINISH / 2).await;
        assert!(!serving.is_finished());
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        let mut heard = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            heard.push(message.into_data());
        }
        let status = [b"\x03", session::success().as_ref()].concat();
        let all: [&[u8]; 3] = [b"\x01", b"\x01said", &status];
        assert_eq!(
            heard
                .first_chunk::<3>()
                .unwrap()
                .each_ref()
                .map(|bytes| bytes.as_ref()),
            all
        );
        serving.await.unwrap();
    }

    #[test]
    fn messages_are_told_apart_by_their_first_byte() {
        let cases: [(&[u8], Option<Inbound>); 6] = [
            (b"\0abc", Some(Inbound::Stdin(Bytes::from_static(b"abc")))),
            (b"\xff\0", Some(Inbound::StdinEnd)),
            (b"\xff\x01", None),
            (br#"{"Width":80,"Height":24}"#, None),
            (
                b"\x04{\"Width\":80,\"Height\":24}",
                Some(Inbound::Resize(Size {
                    width: 80,
                    height: 24,
                })),
            ),
            (b"", None),
        ];
        let newest = Dialect::of("v5.channel.k8s.io");
        for (message, expected) in cases {
            assert_eq!(newest.inbound(&Bytes::from_static(message)), expected);
        }
        let sent = newest.outbound(&Outbound::Stderr(Bytes::from_static(b"no")));
        assert_eq!(sent, Some(Message::Binary(Bytes::from_static(b"\x02no"))));
    }

    #[test]
    fn older_dialects_write_texts_and_say_the_end_to_people() {
        let (oldest, texts, newer) = (
            Dialect::of(""),
            Dialect::of("base64.channel.k8s.io"),
            Dialect::of("v4.base64.channel.k8s.io"),
        );
        let typed = Some(Inbound::Stdin(Bytes::from_static(b"abc")));
        assert_eq!(oldest.inbound(&Bytes::from_static(b"\0abc")), typed);
        assert_eq!(texts.inbound(&Bytes::from_static(b"0YWJj")), typed);
        for wrong in [b"0YW=".as_slice(), b"\0abc", b"9YWJj", b""] {
            assert_eq!(texts.inbound(&Bytes::from_static(wrong)), None);
        }
        let said = Outbound::Stdout(Bytes::from_static(b"abc"));
        assert_eq!(
            oldest.outbound(&said),
            Some(Message::Binary(Bytes::from_static(b"\x01abc")))
        );
        assert_eq!(texts.outbound(&said), Some(Message::Text("1YWJj".into())));
        let (well, ill) = (
            Outbound::End(session::success()),
            Outbound::End(session::ended(&["x".into()], 3)),
        );
        assert_eq!((oldest.outbound(&well), texts.outbound(&well)), (None, None));
        let told = "command terminated with non-zero exit code: error executing command [x], exit code 3";
        assert_eq!(
            texts.outbound(&ill),
            Some(Message::Text(format!("3{}", STANDARD.encode(told)).into()))
        );
        assert_eq!(
            newer.outbound(&well),
            Some(Message::Text(
                format!("3{}", STANDARD.encode(session::success())).into()
            ))
        );
    }
}
