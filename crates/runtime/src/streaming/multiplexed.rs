//! Remote commands over SPDY: one stream each for input, outputs, window sizes and the end's status.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::session::{self, Inbound, Outbound, Remote, Size};
use super::spdy::{self, Frame};
use super::{FINISH, Wanted};

/// Frames that wait for a slow client.
const FRAMES: usize = 8;
/// The longest text of window sizes that is kept for its end to come, in bytes.
const LONGEST_SIZE: usize = 4096;
/// How long a client may take to open the streams that its request announced (upstream's).
const CREATION: Duration = Duration::from_secs(30);

/// What a stream of the client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

fn kind(headers: &spdy::Headers) -> Option<Kind> {
    match headers.get("streamtype")?.as_str() {
        "error" => Some(Kind::Error),
        "stdin" => Some(Kind::Stdin),
        "stdout" => Some(Kind::Stdout),
        "stderr" => Some(Kind::Stderr),
        "resize" => Some(Kind::Resize),
        _ => None,
    }
}

/// The client's streams.
#[derive(Debug, Default)]
struct Streams {
    open: Vec<(Kind, u32)>,
    replied: bool,
    /// A window size that has not come whole.
    size: BytesMut,
}

impl Streams {
    fn id(&self, kind: Kind) -> Option<u32> {
        let found = self.open.iter().find(|(its, _)| *its == kind);
        found.map(|(_, id)| *id)
    }

    fn kind(&self, id: u32) -> Option<Kind> {
        let found = self.open.iter().find(|(_, its)| *its == id);
        found.map(|(kind, _)| *kind)
    }

    /// Whether all that the request announced has come.
    fn complete(&self, wanted: Wanted) -> bool {
        [
            (true, Kind::Error),
            (wanted.stdin, Kind::Stdin),
            (wanted.stdout, Kind::Stdout),
            (wanted.stderr, Kind::Stderr),
        ]
        .iter()
        .all(|(wanted, kind)| !wanted || self.id(*kind).is_some())
    }

    /// The sizes in a text of them, of which the last may not be whole.
    fn sizes(&mut self, text: &[u8]) -> Vec<Size> {
        self.size.extend_from_slice(text);
        let kept = self.size.split();
        let mut found = serde_json::Deserializer::from_slice(&kept).into_iter::<Size>();
        let sizes: Vec<Size> = found.by_ref().map_while(Result::ok).collect();
        let rest = kept.get(found.byte_offset()..).unwrap_or_default();
        if rest.len() <= LONGEST_SIZE {
            self.size.extend_from_slice(rest);
        }
        sizes
    }
}

/// Serves a session until the client has ended it: it does so when it has read how the process ended. With `plain_end`
/// that is a text for people, and nothing when all went well.
///
/// # Errors
/// When the connection broke.
pub(super) async fn serve<S>(connection: S, wanted: Wanted, plain_end: bool, remote: Remote) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Remote {
        inbound,
        mut outbound,
    } = remote;
    let (from, mut to) = tokio::io::split(connection);
    let mut reader = spdy::Reader::new(from)?;
    let mut streams = Streams::default();
    // Nothing is sent before it is known where to.
    timeout(CREATION, async {
        while !streams.complete(wanted) {
            for frame in take(reader.next().await?, &mut streams, &inbound).await? {
                to.write_all(&frame).await?;
            }
        }
        io::Result::Ok(())
    })
    .await??;
    let ids = [Kind::Error, Kind::Stdout, Kind::Stderr].map(|kind| streams.id(kind));
    let [error, stdout, stderr] = ids;
    let (replies, mut frames) = mpsc::channel(FRAMES);
    let read = async move {
        while let Ok(frame) = reader.next().await {
            let Ok(answers) = take(frame, &mut streams, &inbound).await else {
                return;
            };
            for answer in answers {
                if replies.send(answer).await.is_err() {
                    return;
                }
            }
        }
    };
    // Where the client is read it may have to wait for the process; pieces for it are sent meanwhile.
    let mut read = std::pin::pin!(read.fuse());
    let mut client_lives = true;
    let mut patience = None;
    loop {
        let piece = tokio::select! {
            piece = outbound.recv(), if patience.is_none() => piece,
            Some(frame) = frames.recv() => {
                to.write_all(&frame).await?;
                continue;
            }
            () = &mut read, if client_lives => {
                client_lives = false;
                if patience.is_some() {
                    break;
                }
                continue;
            }
            () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => break,
        };
        let (stream, bytes, last) = match piece {
            Some(Outbound::Stdout(bytes)) => (stdout, bytes, false),
            Some(Outbound::Stderr(bytes)) => (stderr, bytes, false),
            Some(Outbound::End(status)) if plain_end => (
                error,
                Bytes::from(session::complaint(&status).unwrap_or_default()),
                true,
            ),
            Some(Outbound::End(status)) => (error, status, true),
            None => break,
        };
        if let Some(stream) = stream {
            for piece in bytes.chunks(spdy::PIECE) {
                to.write_all(&spdy::data(stream, piece, false)).await?;
            }
        }
        if !last {
            continue;
        }
        for stream in ids.into_iter().flatten() {
            to.write_all(&spdy::data(stream, &[], true)).await?;
        }
        if !client_lives {
            break;
        }
        // Were the connection closed now, what the client sends yet (pings, ends of streams) would be answered with a
        // reset, at which it would lose what it has not read. It closes when it has read all.
        patience = Some(Instant::now() + FINISH);
    }
    to.shutdown().await
}

/// What a frame of the client means; returns what is to be answered.
async fn take(
    frame: Frame,
    streams: &mut Streams,
    inbound: &mpsc::Sender<Inbound>,
) -> io::Result<Vec<bytes::Bytes>> {
    let mut answers = Vec::new();
    let mut pieces = Vec::new();
    match frame {
        Frame::Open { stream, headers } => {
            if let Some(kind) = kind(&headers).filter(|kind| streams.id(*kind).is_none()) {
                streams.open.push((kind, stream));
            }
            answers.push(spdy::reply(
                stream,
                !std::mem::replace(&mut streams.replied, true),
            ));
        }
        Frame::Data { stream, bytes, last } => match streams.kind(stream) {
            Some(Kind::Stdin) => {
                if !bytes.is_empty() {
                    pieces.push(Inbound::Stdin(bytes));
                }
                if last {
                    pieces.push(Inbound::StdinEnd);
                }
            }
            Some(Kind::Resize) => pieces.extend(streams.sizes(&bytes).into_iter().map(Inbound::Resize)),
            _ => {}
        },
        Frame::Reset { stream } if streams.kind(stream) == Some(Kind::Stdin) => {
            pieces.push(Inbound::StdinEnd);
        }
        Frame::Ping(id) => answers.push(spdy::pong(id)),
        Frame::GoAway => return Err(io::ErrorKind::ConnectionAborted.into()),
        Frame::Reset { .. } | Frame::Other => {}
    }
    for piece in pieces {
        // A process that has ended does not mind.
        let _ = inbound.send(piece).await;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            stdout: true,
            ..Wanted::default()
        }
    }

    /// A frame that opens a stream for this; the first of a connection begins what is compressed.
    fn open(stream: u32, kind: &str) -> Vec<u8> {
        let mut block = if stream == 1 { vec![0x78, 1] } else { Vec::new() };
        let length = 12 + 10 + kind.len() as u16;
        block.push(0);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&(!length).to_le_bytes());
        block.extend_from_slice(&1_u32.to_be_bytes());
        for text in ["streamtype", kind] {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let mut frame = vec![0x80, 3, 0, 1, 0, 0, 0, 10 + block.len() as u8];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&block);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_is_the_clients_to_close() {
        use tokio::io::AsyncReadExt;
        for client_closes in [true, false] {
            let (mut client, ours) = tokio::io::duplex(1 << 20);
            let (session, remote) = session::pair();
            let serving = tokio::spawn(serve(ours, wanted(), false, remote));
            client.write_all(&open(1, "error")).await.unwrap();
            client.write_all(&open(3, "stdout")).await.unwrap();
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
            tokio::time::sleep(FINISH / 2).await;
            assert!(!serving.is_finished());
            // It may still say something, and is answered.
            client.write_all(&spdy::pong(7)).await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(&spdy::pong(7)) {
                assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0);
            }
            if client_closes {
                drop(client);
                serving.await.unwrap().unwrap();
            } else {
                tokio::time::sleep(FINISH).await;
                assert!(serving.is_finished());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_opens_no_streams_is_not_waited_for_for_ever() {
        let (mut client, ours) = tokio::io::duplex(1 << 20);
        let (_session, remote) = session::pair();
        let serving = tokio::spawn(serve(ours, wanted(), false, remote));
        client.write_all(&open(1, "error")).await.unwrap();
        let begun = Instant::now();
        assert_eq!(
            serving.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(begun.elapsed(), CREATION);
    }

    #[test]
    fn window_sizes_come_in_any_pieces() {
        let mut streams = Streams::default();
        let size = |width, height| Size { width, height };
        assert_eq!(streams.sizes(br#"{"Width":80,"Height":24}{"Wid"#), [size(80, 24)]);
        assert_eq!(streams.sizes(br#"th":1,"Height":2}"#), [size(1, 2)]);
        assert_eq!(streams.sizes(b"nonsense"), []);
    }
}
