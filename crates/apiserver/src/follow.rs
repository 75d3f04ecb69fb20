//! Keeping something in memory in step with the objects of one kind.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::error::ApiResult;
use crate::registry::{Entry, Frame, ListOptions, Resource, WatchOptions};

/// What is kept in step.
pub(crate) trait Follower: Send + Sync + 'static {
    /// These objects are all that there are.
    fn replace(&self, entries: &[Arc<Entry>]);
    /// An object is new or has changed.
    fn put(&self, entry: &Entry);
    /// An object is gone; this was its last state.
    fn remove(&self, entry: &Entry);
}

/// Follows a kind until `shutdown`. When this returns, the follower knows all objects that are there now.
///
/// # Errors
/// When they cannot be listed.
pub(crate) async fn follow(
    resource: Arc<Resource>,
    follower: impl Follower,
    shutdown: CancellationToken,
) -> ApiResult<()> {
    let list = resource.list(&ListOptions::default()).await?;
    follower.replace(&list.items);
    let mut from = list.resource_version;
    tokio::spawn(async move {
        loop {
            let options = WatchOptions {
                resource_version: Some(from.to_string()),
                allow_bookmarks: true,
                ..WatchOptions::default()
            };
            let mut lost = true;
            if let Ok(frames) = resource.watch(options).await {
                lost = false;
                let mut frames = frames.take_until(shutdown.clone().cancelled_owned()).boxed();
                while let Some(frame) = frames.next().await {
                    match frame {
                        Frame::Added(entry) | Frame::Modified(entry) => {
                            from = entry.revision();
                            follower.put(&entry);
                        }
                        Frame::Deleted(entry) => {
                            from = entry.revision();
                            follower.remove(&entry);
                        }
                        Frame::Bookmark { revision, .. } => from = revision,
                        Frame::Error(_) => lost = true,
                    }
                }
            }
            if shutdown.is_cancelled() {
                return;
            }
            if lost && let Ok(list) = resource.list(&ListOptions::default()).await {
                follower.replace(&list.items);
                from = list.resource_version;
            }
            // The watch ended or failed, which it does at most when its time is up or the store is gone; in the latter
            // case nothing tells when it is back.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    Ok(())
}
