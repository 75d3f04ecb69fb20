//! Compaction: the store's history is kept for five to ten minutes, as upstream keeps etcd's.

use std::time::Duration;

use skiff_store::Revision;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::feed::StoreRef;

/// How often, and how much history stays (upstream's `--etcd-compaction-interval`).
pub(crate) const EVERY: Duration = Duration::from_secs(300);

/// Forgets, at each tick, what is older than the tick before; the first time, what is older than `before`. A timer,
/// because age is what it is about.
pub(super) async fn run(store: StoreRef, mut before: Revision, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = store.0.compact(before).await {
            tracing::warn!(%error, revision = before, "compaction failed");
        }
        match store.0.revision().await {
            Ok(revision) => before = revision,
            Err(error) => tracing::warn!(%error, "the store's revision is unknown, compacting no further"),
        }
    }
}
