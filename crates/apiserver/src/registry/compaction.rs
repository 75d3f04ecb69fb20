//! Compaction: the store's history is kept for five to ten minutes, as upstream keeps etcd's.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::feed::StoreRef;

/// How often, and how much history stays (upstream's `--etcd-compaction-interval`).
const EVERY: Duration = Duration::from_secs(300);

/// Forgets, at each tick, what is older than the tick before. A timer, because age is what it is about.
pub(super) async fn run(store: StoreRef, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Some(revision) = before
            && let Err(error) = store.0.compact(revision).await
        {
            tracing::warn!(%error, revision, "compaction failed");
        }
        match store.0.revision().await {
            Ok(revision) => before = Some(revision),
            Err(error) => tracing::warn!(%error, "the store's revision is unknown, compacting later"),
        }
    }
}
