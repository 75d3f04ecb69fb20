//! Response bodies: shared segments written as they are, or a stream of them.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};

use crate::flow::Turn;
use crate::http::metrics::Counted;

/// The body of a response.
///
/// A list is a walk over the segments that the watch cache shares; a watch is a stream. Neither is copied here.
#[derive(Default)]
pub struct ResponseBody {
    content: Content,
    /// The request's turn, which ends when the body has been written.
    turn: Option<Turn>,
    /// Counts the request until then.
    counted: Option<Counted>,
    /// Called when the body breaks off.
    aborted: Option<Box<dyn Fn() + Send>>,
}

enum Content {
    Segments(VecDeque<Bytes>, u64),
    Stream(BoxStream<'static, Bytes>),
    /// What a node sends; a failure breaks the response off.
    Relayed(BoxStream<'static, Result<Bytes, std::io::Error>>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Segments(VecDeque::new(), 0)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("size", &self.size_hint())
            .finish_non_exhaustive()
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::segments(std::iter::once(bytes).collect())
    }
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for ResponseBody {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl ResponseBody {
    /// A body of known size, written segment by segment.
    pub fn segments(segments: VecDeque<Bytes>) -> Self {
        let size = segments.iter().map(|segment| segment.len() as u64).sum();
        Self {
            content: Content::Segments(segments, size),
            ..Self::default()
        }
    }

    /// A body that ends when the stream does.
    pub fn stream(stream: BoxStream<'static, Bytes>) -> Self {
        Self {
            content: Content::Stream(stream),
            ..Self::default()
        }
    }

    /// A body that comes from elsewhere and may break off.
    pub fn relayed(stream: BoxStream<'static, Result<Bytes, std::io::Error>>) -> Self {
        Self {
            content: Content::Relayed(stream),
            ..Self::default()
        }
    }

    /// Keeps the request's turn until the body has been written.
    pub(crate) fn hold(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Counts the request until the body has been written.
    pub(crate) fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Does something when a body that comes from elsewhere breaks off.
    pub(crate) fn on_abort(&mut self, aborted: impl Fn() + Send + 'static) {
        if matches!(self.content, Content::Relayed(_)) {
            self.aborted = Some(Box::new(aborted));
        }
    }

    /// The segments, when the size is known; the body is empty afterwards.
    pub(crate) fn take_segments(&mut self) -> Option<VecDeque<Bytes>> {
        match &mut self.content {
            Content::Segments(segments, size) => {
                *size = 0;
                Some(std::mem::take(segments))
            }
            _ => None,
        }
    }

    /// Replaces the content, keeping the request's turn.
    pub(crate) fn replace(&mut self, other: ResponseBody) {
        self.content = other.content;
    }
}

/// Segments up to this size are gathered into frames of this size, in bytes: the socket takes a few large frames in a
/// fraction of the time that thousands of small ones need, and the copy is made only when it is sent.
const FRAME: usize = 64 * 1024;

fn next_frame(segments: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let first = segments.pop_front()?;
    let fits = |size: usize, next: Option<&Bytes>| next.is_some_and(|next| size + next.len() <= FRAME);
    if !fits(first.len(), segments.front()) {
        return Some(first);
    }
    let mut frame = BytesMut::with_capacity(FRAME);
    frame.put_slice(&first);
    while fits(frame.len(), segments.front()) {
        if let Some(segment) = segments.pop_front() {
            frame.put_slice(&segment);
        }
    }
    Some(frame.freeze())
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut self.content {
            Content::Segments(segments, size) => {
                let segment = next_frame(segments);
                if let Some(segment) = &segment {
                    *size = size.saturating_sub(segment.len() as u64);
                }
                Poll::Ready(segment.map(|segment| Ok(Frame::data(segment))))
            }
            Content::Stream(stream) => stream
                .poll_next_unpin(cx)
                .map(|segment| segment.map(|segment| Ok(Frame::data(segment)))),
            Content::Relayed(stream) => {
                let polled = stream.poll_next_unpin(cx);
                if let (Poll::Ready(Some(Err(_))), Some(aborted)) = (&polled, &self.aborted) {
                    aborted();
                }
                polled.map(|segment| segment.map(|segment| segment.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Segments(segments, _) if segments.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Segments(_, size) => SizeHint::with_exact(*size),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn small_segments_are_gathered_and_large_ones_pass_as_they_are() {
        let large = Bytes::from(vec![b'x'; FRAME]);
        let segments: VecDeque<Bytes> = [
            Bytes::from_static(b"a"),
            Bytes::from_static(b"b"),
            large.clone(),
            Bytes::from_static(b"c"),
        ]
        .into();
        let mut body = ResponseBody::segments(segments);
        assert_eq!(body.size_hint().exact(), Some(FRAME as u64 + 3));
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(
            frames,
            [Bytes::from_static(b"ab"), large, Bytes::from_static(b"c")]
        );
    }
}
