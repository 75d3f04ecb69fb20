//! Three members: the leader is killed under load, again and again. No acknowledged write is lost, and a watch misses
//! nothing and repeats nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

mod etcd_server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::Client;
use etcd_server::{Member, cluster, connect, options};
use futures::StreamExt;
use skiff_store::{Error, EtcdOptions, EtcdStore, Event, Expect, KeyValue, Range, Revision, Store};
use tokio::sync::watch;

/// A leader's death takes an election, and a request that it took along some seconds more.
const DEADLINE: Duration = Duration::from_secs(240);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("took too long")
}

/// A write that was acknowledged: the revision it made, its key, and its value or that it was a deletion.
type Acknowledged = (Revision, String, Option<Bytes>);

struct Load {
    store: EtcdStore,
    stop: AtomicBool,
    acknowledged: watch::Sender<usize>,
    unknown: AtomicUsize,
}

impl Load {
    fn note(&self, done: &mut Vec<Acknowledged>, revision: Revision, key: &str, value: Option<Bytes>) {
        done.push((revision, key.to_owned(), value));
        self.acknowledged.send_modify(|count| *count += 1);
    }

    /// What is in the store, once that can be read.
    async fn look(&self, key: &str) -> Option<KeyValue> {
        loop {
            match self.store.get(key).await {
                Ok(read) => return read.value,
                Err(Error::Unavailable(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// Writes one key by compare-and-swap, over and over; nobody else does.
    async fn swap(&self, writer: usize) -> Vec<Acknowledged> {
        let key = format!("/w/{writer}");
        let mut done = Vec::new();
        let mut expect = Expect::Absent;
        // Values of which it is not known whether they were written, or will be.
        let mut doubtful: Vec<Bytes> = Vec::new();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let value = Bytes::from(format!("{writer}-{number}"));
            match self.store.put(&key, value.clone(), expect, None).await {
                Ok(written) => {
                    expect = Expect::Revision(written.revision);
                    self.note(&mut done, written.revision, &key, Some(value));
                }
                Err(Error::Unavailable(_)) => {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                    doubtful.push(value);
                    let found = self.look(&key).await;
                    expect = found.map_or(Expect::Absent, |kv| Expect::Revision(kv.mod_revision));
                }
                Err(Error::Conflict { current }) => {
                    // Only a write of our own can have come between, late.
                    let current = current.expect("nobody deletes it");
                    assert!(
                        doubtful.contains(&current.value),
                        "{current:?} is of none of {doubtful:?}"
                    );
                    expect = Expect::Revision(current.mod_revision);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        done
    }

    /// Creates keys and deletes every third one.
    async fn create(&self, writer: usize) -> Vec<Acknowledged> {
        let mut done = Vec::new();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let (key, value) = (format!("/c/{writer}/{number}"), Bytes::from(number.to_string()));
            match self.store.put(&key, value.clone(), Expect::Absent, None).await {
                Ok(written) => self.note(&mut done, written.revision, &key, Some(value)),
                Err(Error::Unavailable(_)) => {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(other) => panic!("{other:?}"),
            }
            if number % 3 == 0 {
                match self.store.delete(&key, Expect::Any).await {
                    Ok(written) => self.note(&mut done, written.revision, &key, None),
                    Err(Error::Unavailable(_)) => {
                        self.unknown.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        done
    }

    /// Waits until so many more writes are acknowledged.
    async fn progress(&self, more: usize) {
        let mut acknowledged = self.acknowledged.subscribe();
        let goal = *acknowledged.borrow() + more;
        acknowledged.wait_for(|count| *count >= goal).await.unwrap();
    }
}

/// Which member leads, by the word of any that answers.
async fn leader(members: &[Member]) -> usize {
    loop {
        for (number, member) in members.iter().enumerate() {
            let asked = async {
                let mut client = Client::connect([&member.url], None).await?;
                let status = client.status().await?;
                let own = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
                Ok::<_, etcd_client::Error>(own == status.leader())
            };
            if matches!(
                tokio::time::timeout(Duration::from_secs(2), asked).await,
                Ok(Ok(true))
            ) {
                return number;
            }
        }
    }
}

async fn follow(store: &EtcdStore, prefix: &str, upto: &watch::Sender<Option<Revision>>) -> Vec<Event> {
    let mut watch = store.watch(prefix, 1).await.unwrap();
    let mut end = upto.subscribe();
    let (mut reached, mut events) = (1, Vec::new());
    loop {
        let last = *end.borrow_and_update();
        if last.is_some_and(|last| last <= reached) {
            return events;
        }
        tokio::select! {
            batch = watch.next() => {
                let batch = batch.expect("the watch goes on").unwrap();
                assert!(batch.revision > reached, "nothing comes twice");
                let in_order = batch.events.iter().all(|event| {
                    reached < event.revision && event.revision <= batch.revision
                });
                assert!(in_order);
                reached = batch.revision;
                events.extend(batch.events);
            }
            changed = end.changed() => changed.unwrap(),
        }
    }
}

/// That each state follows from the one before, and what they come to.
fn replay(events: &[Event]) -> BTreeMap<String, KeyValue> {
    let mut state: BTreeMap<String, KeyValue> = BTreeMap::new();
    let mut last = 1;
    for event in events {
        assert!(last < event.revision, "each revision is told once");
        last = event.revision;
        let either = event.current.as_ref().or(event.previous.as_ref()).unwrap();
        let key = either.key.to_string();
        assert_eq!(state.get(&key), event.previous.as_ref(), "nothing is left out");
        match &event.current {
            Some(current) => state.insert(key, current.clone()),
            None => state.remove(&key),
        };
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_under_load_and_no_acknowledged_write_is_lost() {
    const ROUNDS: usize = 5;
    let mut members = cluster(3);
    let store = connect(&members.iter().collect::<Vec<_>>()).await;
    let mut urls: Vec<_> = members.iter().map(|member| member.url.clone()).collect();
    // The watches begin with another member than the writers.
    urls.rotate_left(1);
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let watching = EtcdStore::connect(options(&urls)).await.unwrap();
    let load = Load {
        store,
        stop: AtomicBool::new(false),
        acknowledged: watch::Sender::new(0),
        unknown: AtomicUsize::new(0),
    };
    let upto = watch::Sender::new(None);

    let write = async {
        let swaps = futures::future::join_all((0..6).map(|i| load.swap(i)));
        let creates = futures::future::join_all((0..6).map(|i| load.create(i)));
        let (swaps, creates) = futures::join!(swaps, creates);
        let all: Vec<_> = swaps.into_iter().chain(creates).flatten().collect();
        upto.send_replace(Some(load.store.revision().await.unwrap()));
        all
    };
    let kill = async {
        load.progress(200).await;
        for _ in 0..ROUNDS {
            let victim = leader(&members).await;
            members[victim].kill();
            // The two others go on.
            load.progress(100).await;
            members[victim].start();
            load.progress(100).await;
        }
        load.stop.store(true, Ordering::Relaxed);
    };
    let (acknowledged, (), all, some) = within(async {
        futures::join!(
            write,
            kill,
            follow(&watching, "/", &upto),
            follow(&watching, "/w/", &upto)
        )
    })
    .await;

    let state = replay(&all);
    let told: BTreeMap<Revision, &Event> = all.iter().map(|event| (event.revision, event)).collect();
    for (revision, key, value) in &acknowledged {
        let event = told.get(revision).expect("each acknowledged write is told");
        let current = event.current.as_ref().map(|kv| kv.value.clone());
        assert_eq!(&current, value, "{key} at {revision}");
    }
    let below: Vec<_> = all
        .iter()
        .filter(|event| event.current.as_ref().is_some_and(|kv| kv.key.starts_with("/w/")))
        .map(|event| event.revision)
        .collect();
    let some: Vec<_> = some.iter().map(|event| event.revision).collect();
    assert_eq!(some, below);
    let range = Range {
        prefix: "/".into(),
        ..Range::default()
    };
    let page = load.store.range(range).await.unwrap();
    assert_eq!(page.items, state.into_values().collect::<Vec<_>>());
    println!(
        "{} writes were acknowledged, {} were left unknown",
        acknowledged.len(),
        load.unknown.load(Ordering::Relaxed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_written_and_nothing_old_is_read() {
    let mut members = cluster(3);
    let urls: Vec<_> = members.iter().map(|member| member.url.clone()).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let patient = connect(&members.iter().collect::<Vec<_>>()).await;
    let before = patient
        .put("/a", Bytes::from("1"), Expect::Absent, None)
        .await
        .unwrap();
    members[0].kill();
    members[1].kill();
    let hasty = EtcdOptions {
        timeout: Duration::from_secs(2),
        ..options(&urls)
    };
    let refused = within(EtcdStore::connect(hasty)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    // One that has time gets through when there is a majority again, once.
    let write = patient.put("/a", Bytes::from("2"), Expect::Revision(before.revision), None);
    let (written, ()) = within(async { futures::join!(write, async { members[0].start() }) }).await;
    assert_eq!(written.unwrap().revision, before.revision + 1);
    let now = patient.get("/a").await.unwrap().value.unwrap();
    assert_eq!((now.version, now.value), (2, Bytes::from("2")));
}
