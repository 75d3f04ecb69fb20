//! Remote commands over SPDY: one stream each for input, outputs, window sizes and the end's status.

use std::io;

use bytes::BytesMut;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Wanted;
use super::session::{Inbound, Outbound, Remote, Size};
use super::spdy::{self, Frame};

/// Frames that wait for a slow client.
const FRAMES: usize = 8;
/// The longest text of window sizes that is kept for its end to come, in bytes.
const LONGEST_SIZE: usize = 4096;

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

/// Serves a session until the process or the client has ended it.
///
/// # Errors
/// When the connection broke.
pub(super) async fn serve<S>(connection: S, wanted: Wanted, remote: Remote) -> io::Result<()>
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
    while !streams.complete(wanted) {
        for frame in take(reader.next().await?, &mut streams, &inbound).await? {
            to.write_all(&frame).await?;
        }
    }
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
    loop {
        let piece = tokio::select! {
            piece = outbound.recv() => piece,
            Some(frame) = frames.recv() => {
                to.write_all(&frame).await?;
                continue;
            }
            () = &mut read, if client_lives => {
                client_lives = false;
                continue;
            }
        };
        let (stream, bytes, last) = match piece {
            Some(Outbound::Stdout(bytes)) => (stdout, bytes, false),
            Some(Outbound::Stderr(bytes)) => (stderr, bytes, false),
            Some(Outbound::End(status)) => (error, status, true),
            None => break,
        };
        if let Some(stream) = stream {
            for piece in bytes.chunks(spdy::PIECE) {
                to.write_all(&spdy::data(stream, piece, false)).await?;
            }
        }
        if last {
            break;
        }
    }
    for stream in ids.into_iter().flatten() {
        to.write_all(&spdy::data(stream, &[], true)).await?;
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
        inbound.send(piece).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_sizes_come_in_any_pieces() {
        let mut streams = Streams::default();
        let size = |width, height| Size { width, height };
        assert_eq!(streams.sizes(br#"{"Width":80,"Height":24}{"Wid"#), [size(80, 24)]);
        assert_eq!(streams.sizes(br#"th":1,"Height":2}"#), [size(1, 2)]);
        assert_eq!(streams.sizes(b"nonsense"), []);
    }
}
