//! Watch fan-out: many watchers, and how late each change reaches each of them.
//!
//! All watchers see the same changes in the order of their revisions, so a watcher need not parse what it gets: its
//! n-th event is the change with the n-th smallest revision, and the writers know when that was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::delays::Delays;
use super::load::{Calls, Clients, Extent, Outcome, revision};
use super::pods::Pods;
use super::target::{Connection, Target};

/// How many connect at the same time: a server's queue of new connections is not what is measured.
const CONNECTING: usize = 32;

/// What came of it.
#[derive(Debug)]
pub(super) struct FanOut {
    /// Of all events that the watchers were to get, the share that they got (0 to 1).
    pub(super) delivered: f64,
    /// From the first change until the last watcher had the last event; `None` when some never did.
    pub(super) until_all: Option<Duration>,
    /// From asking for a change to a watcher's having it.
    pub(super) delays: Delays,
    /// The writers' side.
    pub(super) changes: Outcome,
}

/// Opens the watches, makes one change to each pod, and waits until all watchers have all, or time is up.
///
/// # Errors
/// When a watch cannot be opened.
pub(super) async fn fan_out(
    target: &Arc<Target>,
    clients: &mut Clients,
    pods: &Pods,
    watchers: usize,
    extent: Extent,
) -> anyhow::Result<FanOut> {
    let mut connection = target.connect().await?;
    let list = connection.send(&pods.list_page(1)).await?;
    let Some(revision) = revision(&list.body) else {
        bail!(
            "a list without a revision: {}",
            String::from_utf8_lossy(&list.body)
        );
    };
    // Longer than the measurement, or the server itself would end the watches.
    let watch = pods.watch(
        revision,
        extent.limit.as_secs().saturating_mul(2).saturating_add(60),
    );
    let watching: Vec<(Connection, Incoming)> = stream::iter(0..watchers)
        .map(|_| async {
            let mut connection = target.connect().await?;
            let response = connection.begin(&watch).await?;
            if !response.status().is_success() {
                bail!("a watch is refused: {}", response.status());
            }
            anyhow::Ok((connection, response.into_body()))
        })
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await?;

    let begin = Instant::now();
    let time_is_up = Arc::new(Semaphore::new(0));
    let tasks: Vec<_> = watching
        .into_iter()
        .map(|(connection, body)| {
            tokio::spawn(read(connection, body, extent.count, begin, time_is_up.clone()))
        })
        .collect();
    let mark = format!("{watchers}-watchers");
    let pods = pods.clone();
    let calls: Calls = Arc::new(move |number| pods.patch_status(number, &mark).kept());
    let changes = clients.run(&calls, extent).await?;
    let left = extent.limit.saturating_sub(begin.elapsed());
    let all = try_join_all(tasks);
    tokio::pin!(all);
    let arrivals = match tokio::time::timeout(left, &mut all).await {
        Ok(arrivals) => arrivals?,
        Err(_) => {
            time_is_up.close();
            all.await?
        }
    };
    Ok(summary(changes, &arrivals, extent.count, begin))
}

fn summary(mut changes: Outcome, arrivals: &[Vec<u32>], expected: usize, begin: Instant) -> FanOut {
    changes.revisions.sort_unstable();
    let asked: Vec<Duration> = changes
        .revisions
        .iter()
        .map(|(_, at)| at.saturating_duration_since(begin))
        .collect();
    let mut delays = Delays::default();
    let mut last = Duration::ZERO;
    for arrivals in arrivals {
        for (arrived, asked) in arrivals.iter().zip(&asked) {
            let arrived = Duration::from_micros(u64::from(*arrived));
            delays.add(arrived.saturating_sub(*asked));
            last = last.max(arrived);
        }
    }
    let wanted = expected.saturating_mul(arrivals.len());
    let got = delays.len();
    FanOut {
        delivered: got as f64 / wanted.max(1) as f64,
        until_all: (got == wanted).then_some(last),
        delays,
        changes,
    }
}

/// When each event came, in microseconds since the beginning, until all have come, the watch ends or time is up.
async fn read(
    connection: Connection,
    mut body: Incoming,
    expected: usize,
    begin: Instant,
    time_is_up: Arc<Semaphore>,
) -> Vec<u32> {
    let mut arrivals = Vec::with_capacity(expected);
    let mut lines = Lines::default();
    while arrivals.len() < expected {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = time_is_up.acquire() => None,
        };
        let Some(Ok(frame)) = frame else { break };
        if let Some(data) = frame.data_ref() {
            let now = u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX);
            let length = arrivals.len().saturating_add(lines.changes_in(data));
            arrivals.resize(length.min(expected), now);
        }
    }
    drop(connection);
    arrivals
}

/// Counts events of changed objects in a stream of lines, by each line's first bytes.
#[derive(Debug, Default)]
struct Lines {
    beginning: Vec<u8>,
}

impl Lines {
    const CHANGE: &[u8] = b"{\"type\":\"MODIFIED\"";

    fn changes_in(&mut self, data: &[u8]) -> usize {
        let mut changes = 0_usize;
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let missing = Self::CHANGE.len().saturating_sub(self.beginning.len());
            self.beginning.extend(piece.iter().take(missing));
            if piece.ends_with(b"\n") {
                changes = changes.saturating_add(usize::from(self.beginning == Self::CHANGE));
                self.beginning.clear();
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_however_the_stream_is_cut() {
        let text = b"{\"type\":\"MODIFIED\",\"object\":{}}\n{\"type\":\"ERROR\",\"object\":{}}\n{\"type\":\"MODIFIED\",\"object\":1}\n{\"type\":\"MODIF";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let count: usize = text.chunks(size).map(|chunk| lines.changes_in(chunk)).sum();
            assert_eq!(count, 2, "in pieces of {size}");
        }
    }

    #[test]
    fn a_delay_is_counted_from_the_change_of_the_same_rank() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let changes = Outcome {
            revisions: vec![(12, at(30)), (11, at(10))],
            ..Outcome::default()
        };
        let mut all = summary(changes, &[vec![15_000, 50_000], vec![20_000, 60_000]], 2, begin);
        assert_eq!(all.until_all, Some(Duration::from_millis(60)));
        assert_eq!(all.delays.quantile(0.0).to_bits(), 5.0_f64.to_bits());
        assert_eq!(all.delays.quantile(1.0).to_bits(), 30.0_f64.to_bits());

        let some = summary(
            Outcome {
                revisions: vec![(11, at(0)), (12, at(0))],
                ..Outcome::default()
            },
            &[vec![1], vec![1, 2]],
            2,
            begin,
        );
        assert_eq!(some.until_all, None);
        assert_eq!(some.delivered.to_bits(), 0.75_f64.to_bits());
    }
}
