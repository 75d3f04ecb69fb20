//! Keeping objects as they should be: what changes is looked at again, for as long as the server runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::error::ApiResult;
use crate::registry::{Entry, Frame, Resource, WatchOptions};

/// Who keeps them.
pub(crate) trait Keeper: Send + 'static {
    /// Brings all in order. Called when nobody knows what happened before.
    fn check_all(&mut self) -> impl Future<Output = ApiResult<()>> + Send;
    /// Brings in order what has changed; this is its state, its last one when it is gone.
    fn check(&mut self, changed: &Entry) -> impl Future<Output = ApiResult<()>> + Send;
}

/// What is watched, and how.
pub(crate) type Watched = Vec<(Arc<Resource>, WatchOptions)>;

/// Keeps what some watches show until `shutdown`.
pub(crate) fn keep(mut keeper: impl Keeper, watched: Watched, shutdown: CancellationToken) {
    tokio::spawn(async move {
        while !shutdown.is_cancelled() {
            let kept = tokio::select! {
                kept = follow(&mut keeper, &watched) => kept,
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = kept {
                let kinds: Vec<&str> = watched
                    .iter()
                    .map(|(resource, _)| resource.info().kind.as_ref())
                    .collect();
                tracing::warn!(%error, ?kinds, "keeping the server's own objects");
            }
            // A watch ended, or the store is gone, and then nothing tells when it is back.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Looks at what changes until one of the watches ends or something fails.
async fn follow(keeper: &mut impl Keeper, watched: &Watched) -> ApiResult<()> {
    let mut watches = Vec::new();
    for (resource, options) in watched {
        let frames = resource.watch(options.clone()).await?;
        watches.push(frames.map(Some).chain(stream::iter([None])));
    }
    let mut frames = stream::select_all(watches);
    // Nothing told what happened before the watches began.
    keeper.check_all().await?;
    while let Some(Some(frame)) = frames.next().await {
        match frame {
            Frame::Added(entry) | Frame::Modified(entry) | Frame::Deleted(entry) => {
                keeper.check(&entry).await?;
            }
            Frame::Bookmark { .. } => {}
            Frame::Error(error) => return Err(error),
        }
    }
    Ok(())
}
