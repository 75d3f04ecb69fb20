//! SPDY/3.1 frames, as far as Kubernetes uses them: streams with headers, data, pings. There is no flow control: no client
//! of Kubernetes does any.

mod headers;

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) use headers::{Headers, Inflater};

const VERSION: u16 = 3;
const FIN: u8 = 1;
/// The longest frame that is taken, in bytes.
const LONGEST: usize = 1 << 20;
/// How much of a stream goes into one frame.
pub(super) const PIECE: usize = 32 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream is reset: it is not taken.
const REFUSED_STREAM: u32 = 3;

/// A frame that a server cares for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        stream: u32,
        headers: Headers,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        last: bool,
    },
    Reset {
        stream: u32,
    },
    Ping(u32),
    GoAway,
    /// Settings, window updates and the like.
    Other,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn number(body: &[u8], at: usize) -> io::Result<u32> {
    let bytes = body.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or_else(|| invalid("a frame is too short"))
}

/// Reads frames.
pub(super) struct Reader<R> {
    from: R,
    inflater: Inflater,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> io::Result<Self> {
        Ok(Self {
            from,
            inflater: Inflater::new()?,
        })
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection has ended, or is no SPDY/3.
    pub(super) async fn next(&mut self) -> io::Result<Frame> {
        let head = self.from.read_u32().await?;
        let rest = self.from.read_u32().await?;
        let flags = (rest >> 24) as u8;
        let length = (rest & 0x00ff_ffff) as usize;
        if length > LONGEST {
            return Err(invalid("a frame is too long"));
        }
        let mut body = vec![0; length];
        self.from.read_exact(&mut body).await?;
        if head >> 31 == 0 {
            return Ok(Frame::Data {
                stream: head,
                bytes: Bytes::from(body),
                last: flags & FIN != 0,
            });
        }
        if ((head >> 16) & 0x7fff) as u16 != VERSION {
            return Err(invalid("not SPDY/3"));
        }
        match (head & 0xffff) as u16 {
            SYN_STREAM => {
                let stream = number(&body, 0)? & 0x7fff_ffff;
                let headers = self.inflater.headers(body.get(10..).unwrap_or_default())?;
                Ok(Frame::Open { stream, headers })
            }
            SYN_REPLY | HEADERS => {
                // All header blocks of a connection are one compressed stream.
                self.inflater.headers(body.get(4..).unwrap_or_default())?;
                Ok(Frame::Other)
            }
            RST_STREAM => Ok(Frame::Reset {
                stream: number(&body, 0)? & 0x7fff_ffff,
            }),
            PING => Ok(Frame::Ping(number(&body, 0)?)),
            GO_AWAY => Ok(Frame::GoAway),
            _ => Ok(Frame::Other),
        }
    }
}

fn control(kind: u16, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(0) & 0x00ff_ffff);
    frame.extend_from_slice(body);
    frame
}

/// Says that a stream is open; `first` for the connection's first such frame.
pub(super) fn reply(stream: u32, first: bool) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(stream);
    body.extend_from_slice(&headers::none(first));
    control(SYN_REPLY, &body).freeze()
}

/// Refuses a stream.
pub(super) fn reset(stream: u32) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(stream);
    body.put_u32(REFUSED_STREAM);
    control(RST_STREAM, &body).freeze()
}

/// Answers a ping.
pub(super) fn pong(id: u32) -> Bytes {
    control(PING, &id.to_be_bytes()).freeze()
}

/// A piece of a stream.
pub(super) fn data(stream: u32, bytes: &[u8], last: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + bytes.len());
    frame.put_u32(stream & 0x7fff_ffff);
    frame.put_u8(if last { FIN } else { 0 });
    frame.put_uint(bytes.len() as u64, 3);
    frame.extend_from_slice(bytes);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_they_are_written() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&data(5, b"abc", true));
        bytes.extend_from_slice(&pong(7));
        bytes.extend_from_slice(&reply(5, true));
        bytes.extend_from_slice(&reply(7, false));
        bytes.extend_from_slice(&reset(9));
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let expected = [
            Frame::Data {
                stream: 5,
                bytes: Bytes::from_static(b"abc"),
                last: true,
            },
            Frame::Ping(7),
            Frame::Other,
            Frame::Other,
            Frame::Reset { stream: 9 },
        ];
        for frame in expected {
            assert_eq!(reader.next().await.unwrap(), frame);
        }
        assert!(reader.next().await.is_err());
        assert!(
            Reader::new(&[0x80, 2, 0, 1, 0, 0, 0, 0][..])
                .unwrap()
                .next()
                .await
                .is_err()
        );
    }
}
