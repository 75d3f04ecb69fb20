//! A connection that notices when it has been silent for too long: a client may have vanished without a word.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When something was last heard or said, in milliseconds since the connection was made.
#[derive(Clone, Debug)]
struct Last {
    begun: Instant,
    millis: Arc<AtomicU64>,
}

impl Last {
    fn touch(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn at(&self) -> Instant {
        self.begun + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// A connection whose life is looked at.
#[derive(Debug)]
pub(super) struct Observed<S> {
    inner: S,
    last: Last,
}

impl<S> Observed<S> {
    pub(super) fn new(inner: S) -> Self {
        let last = Last {
            begun: Instant::now(),
            millis: Arc::default(),
        };
        Self { inner, last }
    }

    /// Ready when nothing has come or gone for that long.
    pub(super) fn silent_for(&self, limit: Duration) -> impl Future<Output = ()> + use<S> {
        let last = self.last.clone();
        async move {
            while last.at().elapsed() < limit {
                tokio::time::sleep_until(last.at() + limit).await;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if read.is_ready() {
            self.last.touch();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if written.is_ready() {
            self.last.touch();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_word() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut observed = Observed::new(ours);
        let begun = Instant::now();
        let silent = tokio::spawn(observed.silent_for(Duration::from_secs(10)));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(8)).await;
            theirs.write_all(b"x").await.unwrap();
            observed.read_u8().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        observed.write_all(b"y").await.unwrap();
        silent.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 4 * 8 + 10);
    }
}
