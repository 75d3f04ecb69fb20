//! Keeping objects as they should be: what changes is looked at again, for as long as the server runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
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

/// Keeps what a watch shows until `shutdown`.
pub(crate) fn keep(
    mut keeper: impl Keeper,
    resource: Arc<Resource>,
    watched: WatchOptions,
    shutdown: CancellationToken,
) {
    tokio::spawn(async move {
        while !shutdown.is_cancelled() {
            let kept = tokio::select! {
                kept = follow(&mut keeper, &resource, watched.clone()) => kept,
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = kept {
                tracing::warn!(%error, kind = %resource.info().kind, "keeping the server's own objects");
            }
            // The watch ended, or the store is gone, and then nothing tells when it is back.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Looks at what changes until the watch ends or something fails.
async fn follow(keeper: &mut impl Keeper, resource: &Resource, watched: WatchOptions) -> ApiResult<()> {
    let mut frames = resource.watch(watched).await?;
    // Nothing told what happened before the watch began.
    keeper.check_all().await?;
    while let Some(frame) = frames.next().await {
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
