//! A watch: a cursor into the last events, or into the file's history when it has fallen out of them.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tokio::sync::watch;

use super::reader::Readers;
use super::ring::Read;
use super::visible::Visible;
use crate::{Result, Revision, Watch, WatchBatch};

/// So many events are looked at under one hold of the lock, and so many a batch can have.
const EVENTS: usize = 1024;

struct Watcher {
    prefix: Arc<str>,
    /// Every change up to here has been delivered.
    cursor: Revision,
    visible: Arc<Visible>,
    readers: Arc<Readers>,
    published: watch::Receiver<Revision>,
}

/// The changes below `prefix` after a revision.
pub(super) fn watch(
    prefix: &str,
    after: Revision,
    visible: Arc<Visible>,
    readers: Arc<Readers>,
    published: watch::Receiver<Revision>,
) -> Watch {
    let watcher = Watcher {
        prefix: prefix.into(),
        cursor: after,
        visible,
        readers,
        published,
    };
    stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(batch) => Some((Ok(batch), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchBatch> {
        loop {
            // Before looking, so that what is published after the look wakes us.
            self.published.mark_unchanged();
            let batch = match self.visible.events(self.cursor, &self.prefix, EVENTS) {
                Ok(Read::Batch(batch)) => batch,
                Ok(_) => {
                    self.published.changed().await.map_err(|_| self.visible.ended())?;
                    continue;
                }
                Err(upto) => {
                    self.readers
                        .history(self.prefix.clone(), self.cursor, upto)
                        .await?
                }
            };
            self.cursor = batch.revision;
            // An empty batch tells how far the watch is; on the way there it would only be noise.
            if !batch.events.is_empty() || self.cursor >= self.visible.revision() {
                return Ok(batch);
            }
        }
    }
}
