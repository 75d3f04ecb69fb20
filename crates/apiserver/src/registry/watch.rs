//! A watch: a cursor into a kind's recent changes.
//!
//! A watcher has no queue of its own. It reads the shared ring from its place on, as fast as its client takes the frames;
//! when it has fallen so far behind that its place is no longer kept, it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Subscription};
use super::entry::Entry;
use super::feed::Feed;
use super::ring::{Change, TooOld};
use super::routes::Track;
use super::selection::Selection;
use crate::error::ApiError;

/// How often a watch that wants bookmarks gets one (upstream's `defaultBookmarkFrequency`).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch gets its last bookmark.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How many changes are taken from the ring at once.
const BATCH: usize = 256;

/// What a watch brings next.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The object is new, or began to match.
    Added(Arc<Entry>),
    /// The object changed.
    Modified(Arc<Entry>),
    /// The object is gone or no longer matches: its last state, with the resource version of the change.
    Deleted(Arc<Entry>),
    /// How far the watch is.
    Bookmark {
        /// All changes up to and with this revision have been delivered.
        revision: i64,
        /// Whether the initial state is complete with it (`k8s.io/initial-events-end`).
        initial_events_end: bool,
    },
    /// The watch has failed; the last frame.
    Error(ApiError),
}

/// 410, as a watch from a resource version that is no longer kept is told.
pub(super) fn too_old(asked: i64, TooOld { floor }: TooOld) -> ApiError {
    ApiError::gone(format!("too old resource version: {asked} ({floor})"))
}

/// Where a watch begins.
pub(super) struct Start {
    /// Objects to show as added first.
    pub(super) initial: Vec<Arc<Entry>>,
    /// The changes after them.
    pub(super) subscription: Subscription,
    /// The revision that the client has then seen; earlier changes are not shown.
    pub(super) revision: i64,
    /// Whether to mark the end of the initial objects.
    pub(super) mark_end: bool,
}

struct Watcher {
    cache: Arc<Cache>,
    feed: Arc<Feed>,
    selection: Selection,
    /// Frames of one batch that the client has not taken yet; at most as many as the ring gave at once, and the initial
    /// objects.
    ready: VecDeque<Frame>,
    track: Track,
    place: u64,
    /// The revision that the watch began after, and the one that it has shown last.
    from: i64,
    seen: i64,
    wake: watch::Receiver<u64>,
    bookmark: Option<Instant>,
    end: Instant,
    shutdown: CancellationToken,
    ended: bool,
}

/// The frames of a watch.
pub(super) fn frames(
    cache: Arc<Cache>,
    feed: Arc<Feed>,
    selection: Selection,
    start: Start,
    (bookmarks, timeout): (bool, Duration),
    shutdown: CancellationToken,
) -> BoxStream<'static, Frame> {
    let mut ready: VecDeque<Frame> = start.initial.into_iter().map(Frame::Added).collect();
    if start.mark_end && bookmarks {
        ready.push_back(Frame::Bookmark {
            revision: start.revision,
            initial_events_end: true,
        });
    }
    let now = Instant::now();
    // A timeout beyond all reason is a year.
    let end = now + timeout.min(Duration::from_secs(365 * 86_400));
    let Subscription {
        track,
        place,
        backlog,
        wake,
    } = start.subscription;
    let mut watcher = Watcher {
        wake,
        cache,
        feed,
        selection,
        ready,
        track,
        place,
        from: start.revision,
        seen: start.revision,
        bookmark: bookmarks.then(|| next_bookmark(now, end)),
        end,
        shutdown,
        ended: false,
    };
    for change in &backlog {
        watcher.show(change);
    }
    stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        Some((frame, watcher))
    })
    .boxed()
}

/// Every minute, and shortly before the end.
fn next_bookmark(now: Instant, end: Instant) -> Instant {
    match end.checked_sub(BOOKMARK_BEFORE_END) {
        Some(last) if last > now => last.min(now + BOOKMARK_EVERY),
        _ => now + BOOKMARK_EVERY,
    }
}

enum Woken {
    Changed,
    Bookmark,
    End,
}

impl Watcher {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            // In this order: what comes after the mark will wake us.
            self.wake.mark_unchanged();
            if self.read() {
                continue;
            }
            match self.sleep().await {
                Woken::Changed => {}
                Woken::End => self.ended = true,
                Woken::Bookmark => self.make_bookmark(),
            }
        }
    }

    /// Takes a batch of changes from the ring; whether there were any.
    fn read(&mut self) -> bool {
        match self.cache.changes(&self.track, self.place, BATCH) {
            Ok(changes) => {
                self.place += changes.len() as u64;
                for change in &changes {
                    self.show(change);
                }
                !changes.is_empty()
            }
            Err(TooOld { .. }) => {
                // As upstream: who is too slow is let go without a word, and told so when it comes back for what it missed.
                tracing::debug!(kind = self.cache.info().kind.as_ref(), "a watcher fell behind");
                self.ended = true;
                true
            }
        }
    }

    fn show(&mut self, change: &Arc<Change>) {
        // A client may begin at a revision that this kind has not reached.
        if change.revision <= self.from {
            return;
        }
        self.seen = change.revision;
        let matching = |entry: &Option<Arc<Entry>>| {
            entry
                .as_ref()
                .filter(|entry| self.selection.matches(entry.facts()))
                .cloned()
        };
        let frame = match (matching(&change.previous), matching(&change.current)) {
            (None, Some(entry)) => Some(Frame::Added(entry)),
            (Some(_), Some(entry)) => Some(Frame::Modified(entry)),
            (Some(_), None) => change.deleted().map(Frame::Deleted),
            (None, None) => None,
        };
        self.ready.extend(frame);
    }

    async fn sleep(&mut self) -> Woken {
        let until = self.bookmark.map_or(self.end, |at| at.min(self.end));
        tokio::select! {
            changed = self.wake.changed() => if changed.is_ok() { Woken::Changed } else { Woken::End },
            () = sleep_until(until) => if until == self.end { Woken::End } else { Woken::Bookmark },
            () = self.shutdown.cancelled() => Woken::End,
        }
    }

    fn make_bookmark(&mut self) {
        // How far the feed is must be read first: what comes in between is then read here, not skipped.
        let reached = self.feed.reached();
        if self.read() {
            // Due as it is, it is made as soon as nothing is left to be shown before it.
            return;
        }
        self.ready.push_back(Frame::Bookmark {
            revision: reached.max(self.seen),
            initial_events_end: false,
        });
        self.bookmark = Some(next_bookmark(Instant::now(), self.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::cache::Incoming;
    use crate::registry::entry::{EventType, Facts, Head};
    use crate::registry::feed::StoreRef;
    use skiff_api::catalogue;
    use skiff_store::{SqliteOptions, SqliteStore};

    fn entry(cache: &Cache, name: &str, revision: i64) -> Arc<Entry> {
        let facts = Facts {
            name: name.into(),
            ..Facts::default()
        };
        let value = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
        let head: &Head = cache.head();
        let entry = Entry::new(head, facts.into(), value.as_bytes(), revision, EventType::Added);
        Arc::new(entry.unwrap())
    }

    fn change(cache: &Cache, revision: i64) -> Incoming {
        Incoming {
            key: "a".into(),
            revision,
            entry: Some(entry(cache, "a", revision)),
        }
    }

    fn setup(directory: &tempfile::TempDir) -> (Arc<Cache>, Arc<Feed>) {
        let catalogue = catalogue::builtin();
        let strategy = catalogue.resource("", "v1", "configmaps").unwrap();
        let cache = Arc::new(Cache::new(strategy.clone()));
        let path = directory.path().join("state.db");
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let feed = Feed::new(StoreRef(Arc::new(store)), [cache.clone()]);
        (cache, Arc::new(feed))
    }

    #[tokio::test]
    async fn a_watch_of_one_nodes_pods_is_woken_by_them_alone() {
        let catalogue = catalogue::builtin();
        let cache = Cache::new(catalogue.resource("", "v1", "pods").unwrap().clone());
        let on = |node: &str| {
            let fields = format!("spec.nodeName={node}");
            Selection::parse(cache.info(), None, "", &fields).unwrap()
        };
        let place = |name: &str, node: &str, revision: i64| {
            let facts = Facts {
                name: name.into(),
                fields: vec![("spec.nodeName", node.into())],
                ..Facts::default()
            };
            let value = br#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#;
            let entry = Entry::new(cache.head(), facts.into(), value, revision, EventType::Added).unwrap();
            cache.apply(vec![Incoming {
                key: name.into(),
                revision,
                entry: Some(entry.into()),
            }]);
        };
        place("a", "n1", 2);
        let mut one = cache.watch_after(&on("n1"), 1).unwrap();
        let backlog: Vec<i64> = one.backlog.iter().map(|change| change.revision).collect();
        assert_eq!(backlog, [2], "what was there before anybody watched this node");
        let other = cache.watch_after(&on("n2"), 1).unwrap();
        one.wake.mark_unchanged();
        place("b", "n2", 3);
        assert!(!one.wake.has_changed().unwrap());
        assert!(other.wake.has_changed().unwrap());
        // A pod that moves concerns both.
        place("b", "n1", 4);
        assert!(one.wake.has_changed().unwrap());
        let read = |subscription: &Subscription| {
            let changes = cache.changes(&subscription.track, subscription.place, 9).unwrap();
            changes.iter().map(|change| change.revision).collect::<Vec<i64>>()
        };
        assert_eq!(read(&one), [4]);
        assert_eq!(read(&other), [3, 4]);
    }

    fn begin(cache: &Arc<Cache>, feed: &Arc<Feed>, initial: Vec<Arc<Entry>>) -> BoxStream<'static, Frame> {
        let start = Start {
            initial,
            subscription: cache.watch_after(&Selection::default(), 0).unwrap(),
            revision: 0,
            mark_end: false,
        };
        frames(
            cache.clone(),
            feed.clone(),
            Selection::default(),
            start,
            (false, Duration::from_secs(60)),
            CancellationToken::new(),
        )
    }

    #[tokio::test]
    async fn a_watcher_that_falls_out_of_the_ring_ends_without_a_word() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, feed) = setup(&directory);
        let mut slow = begin(&cache, &feed, Vec::new());
        let mut quick = begin(&cache, &feed, Vec::new());
        let mut revision = 0;
        let mut seen = 0;
        for _ in 0..20 {
            let batch: Vec<Incoming> = (0..1000)
                .map(|_| {
                    revision += 1;
                    change(&cache, revision)
                })
                .collect();
            // The writer waits for nobody.
            cache.apply(batch);
            while seen < revision {
                match quick.next().await {
                    Some(Frame::Added(entry) | Frame::Modified(entry)) => {
                        assert_eq!(entry.revision(), seen + 1);
                        seen = entry.revision();
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(slow.next().await.is_none());
        // Whoever comes back for what was missed is told.
        assert!(cache.watch_after(&Selection::default(), 1).is_err());
    }

    #[tokio::test]
    async fn a_watch_ends_when_the_server_does() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, feed) = setup(&directory);
        let shutdown = CancellationToken::new();
        let start = Start {
            initial: vec![entry(&cache, "a", 1)],
            subscription: cache.watch_after(&Selection::default(), 0).unwrap(),
            revision: 1,
            mark_end: false,
        };
        let timing = (false, Duration::from_secs(3600));
        let mut frames = frames(cache, feed, Selection::default(), start, timing, shutdown.clone());
        assert!(matches!(frames.next().await, Some(Frame::Added(_))));
        shutdown.cancel();
        assert!(frames.next().await.is_none());
    }
}
