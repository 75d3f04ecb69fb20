//! Response bodies: shared segments written as they are, or a stream of them.
//!
//! Who reads a [`ResponseBody`] in the process gets frames of one piece. A socket gets a [`SocketBody`]: the same, its frames
//! runs of segments that are written where they lie, by one call.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
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
    pub(crate) fn on_abort<F: Fn() + Send + 'static>(&mut self, aborted: impl FnOnce() -> F) {
        if matches!(self.content, Content::Relayed(_)) {
            self.aborted = Some(Box::new(aborted()));
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

/// A frame has about so many bytes: a socket takes a few large frames in a fraction of the time that thousands of small
/// ones need.
const FRAME: usize = 64 * 1024;

/// Segments of a run that are smaller than this are copied together, in bytes: to pass a pointer to one costs more.
const SMALL: usize = 1024;

/// The next segments of one frame: at least one, and no more than fit.
fn next_run(segments: &mut VecDeque<Bytes>) -> VecDeque<Bytes> {
    let mut size = 0;
    let fitting = segments.iter().take_while(|segment| {
        size += segment.len();
        size <= FRAME
    });
    let count = fitting.count().max(1).min(segments.len());
    segments.drain(..count).collect()
}

fn joined(segments: &[Bytes]) -> Bytes {
    match segments {
        [one] => one.clone(),
        many => {
            let mut joined = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            many.iter().for_each(|segment| joined.put_slice(segment));
            joined.freeze()
        }
    }
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
                if segments.is_empty() {
                    return Poll::Ready(None);
                }
                let frame = joined(next_run(segments).make_contiguous());
                *size = size.saturating_sub(frame.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(frame))))
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

/// Segments that are written together, each where it lies: the one that is next, and the others.
#[derive(Debug, Default)]
pub(crate) struct Run(Bytes, VecDeque<Bytes>);

impl Run {
    /// Of these segments; neighbours that are small are copied together.
    fn of(segments: VecDeque<Bytes>) -> Self {
        let mut run = VecDeque::with_capacity(segments.len());
        let mut small: Vec<Bytes> = Vec::new();
        // A buffer's next piece is empty only at its end.
        for segment in segments.into_iter().filter(|segment| !segment.is_empty()) {
            if segment.len() < SMALL {
                small.push(segment);
                continue;
            }
            if !small.is_empty() {
                run.push_back(joined(&small));
                small.clear();
            }
            run.push_back(segment);
        }
        if !small.is_empty() {
            run.push_back(joined(&small));
        }
        Self(run.pop_front().unwrap_or_default(), run)
    }
}

impl From<Bytes> for Run {
    fn from(segment: Bytes) -> Self {
        Self(segment, VecDeque::new())
    }
}

impl Buf for Run {
    fn remaining(&self) -> usize {
        self.0.len() + self.1.iter().map(Bytes::len).sum::<usize>()
    }

    fn chunk(&self) -> &[u8] {
        &self.0
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let next = Some(&self.0).filter(|next| !next.is_empty());
        let filled = slices.iter_mut().zip(next.into_iter().chain(&self.1));
        filled
            .map(|(slice, segment)| *slice = IoSlice::new(segment))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        while count >= self.0.len() {
            count -= self.0.len();
            match self.1.pop_front() {
                Some(next) => self.0 = next,
                None => {
                    self.0 = Bytes::new();
                    return;
                }
            }
        }
        self.0.advance(count);
    }
}

/// A response's body on its way to a socket.
#[derive(Debug, Default)]
pub(crate) struct SocketBody(pub(crate) ResponseBody);

impl Body for SocketBody {
    type Data = Run;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Run>, std::io::Error>>> {
        if let Content::Segments(segments, size) = &mut self.0.content {
            if segments.is_empty() {
                return Poll::Ready(None);
            }
            let run = match segments.len() {
                1 => segments.pop_front().unwrap_or_default().into(),
                _ => Run::of(next_run(segments)),
            };
            *size = size.saturating_sub(run.remaining() as u64);
            return Poll::Ready(Some(Ok(Frame::data(run))));
        }
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map_ok(|frame| frame.map_data(Run::from))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    fn segments(lengths: &[usize]) -> VecDeque<Bytes> {
        let letters = (b'a'..=b'z').cycle();
        let segments = lengths.iter().zip(letters);
        segments
            .map(|(length, letter)| Bytes::from(vec![letter; *length]))
            .collect()
    }

    #[tokio::test]
    async fn small_segments_are_gathered_and_large_ones_pass_as_they_are() {
        let lengths = [1, 1, FRAME, 1];
        let mut body = ResponseBody::segments(segments(&lengths));
        assert_eq!(body.size_hint().exact(), Some(FRAME as u64 + 3));
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(
            frames,
            [
                Bytes::from_static(b"ab"),
                Bytes::from(vec![b'c'; FRAME]),
                Bytes::from_static(b"d")
            ]
        );
    }

    #[tokio::test]
    async fn a_socket_gets_large_segments_where_they_lie() {
        let items = segments(&[2, 5000, 2, 5000, 2, 10, 2, 10, 2, 5000]);
        let places: Vec<*const u8> = items.iter().map(|item| item.as_ptr()).collect();
        let mut body = SocketBody(ResponseBody::segments(items));
        let run = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(body.is_end_stream() && body.frame().await.is_none());
        let mut slices = [IoSlice::new(&[]); 16];
        let count = run.chunks_vectored(&mut slices);
        let lengths: Vec<usize> = slices[..count].iter().map(|slice| slice.len()).collect();
        assert_eq!(lengths, [2, 5000, 2, 5000, 2 + 10 + 2 + 10 + 2, 5000]);
        for (slice, place) in [(1, 1), (3, 3), (5, 9)] {
            assert_eq!(slices[slice].as_ptr(), places[place]);
        }
    }

    proptest! {
        #[test]
        fn a_socket_gets_what_anybody_gets(
            lengths in proptest::collection::vec(prop_oneof![0_usize..8, 900_usize..1200, 0_usize..70_000], 0..40),
            step in 1_usize..100_000,
        ) {
            let whole: Vec<u8> = segments(&lengths).iter().flatten().copied().collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (as_is, written, vectored) = runtime.block_on(async {
                let as_is = ResponseBody::segments(segments(&lengths)).collect().await.unwrap().to_bytes();
                let mut body = SocketBody(ResponseBody::segments(segments(&lengths)));
                let (mut written, mut vectored) = (Vec::new(), Vec::new());
                while let Some(frame) = body.frame().await {
                    let mut run = frame.unwrap().into_data().unwrap();
                    let mut slices = [IoSlice::new(&[]); 80];
                    let count = run.chunks_vectored(&mut slices);
                    slices[..count].iter().for_each(|slice| vectored.extend_from_slice(slice));
                    while run.has_remaining() {
                        let piece = run.chunk().len().min(step);
                        written.extend_from_slice(&run.chunk()[..piece]);
                        // A socket may take more than the first piece.
                        let more = step.saturating_sub(piece).min(run.remaining() - piece);
                        written.extend_from_slice(&run.0.iter().chain(run.1.iter().flatten()).copied().skip(piece).take(more).collect::<Vec<_>>());
                        run.advance(piece + more);
                    }
                }
                (as_is, written, vectored)
            });
            prop_assert_eq!(&as_is, &whole);
            prop_assert_eq!(&written, &whole);
            prop_assert_eq!(&vectored, &whole);
        }
    }
}
