//! Random histories: the store says at each revision what a model of a few lines says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

mod etcd_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use skiff_store::{
    Error, Event, Expect, KeyValue, LeaseId, Range, Revision, SqliteOptions, SqliteStore, Store,
};
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: usize,
        size: usize,
        expect: Want,
        lease: Option<usize>,
    },
    Delete {
        key: usize,
        expect: Want,
    },
    /// A point between the last compaction and the present, in thousandths.
    Compact {
        at: i64,
    },
    Grant,
    Revoke {
        lease: usize,
    },
    Reopen,
}

/// What a write demands, told without knowing the revisions.
#[derive(Clone, Copy, Debug)]
enum Want {
    Any,
    Absent,
    TheRightRevision,
    AnOldRevision,
}

const KEYS: [&str; 8] = ["/a", "/a/1", "/a/2", "/a/22", "/b/1", "/b/2", "/b0", "/ä"];
const PREFIXES: [&str; 6] = ["", "/a", "/a/", "/b/", "/ä", "/none"];

fn op() -> impl Strategy<Value = Op> {
    let want = prop_oneof![
        5 => Just(Want::Any),
        2 => Just(Want::Absent),
        4 => Just(Want::TheRightRevision),
        1 => Just(Want::AnOldRevision),
    ];
    let put = (
        0..KEYS.len(),
        0..3000usize,
        want.clone(),
        proptest::option::of(0..4usize),
    );
    prop_oneof![
        12 => put.prop_map(|(key, size, expect, lease)| Op::Put { key, size, expect, lease }),
        4 => (0..KEYS.len(), want).prop_map(|(key, expect)| Op::Delete { key, expect }),
        1 => (0..=1000i64).prop_map(|at| Op::Compact { at }),
        1 => Just(Op::Grant),
        1 => (0..4usize).prop_map(|lease| Op::Revoke { lease }),
        1 => Just(Op::Reopen),
    ]
}

type State = BTreeMap<String, KeyValue>;

/// The state at each revision from 1 on.
#[derive(Debug)]
struct Model {
    states: Vec<State>,
    compacted: Revision,
}

impl Model {
    fn revision(&self) -> Revision {
        self.states.len() as Revision
    }

    fn at(&self, revision: Revision) -> &State {
        &self.states[revision as usize - 1]
    }

    fn now(&self) -> &State {
        self.at(self.revision())
    }

    fn expect(&self, key: &str, want: Want) -> Expect {
        let right = self.now().get(key).map(|kv| kv.mod_revision);
        match want {
            Want::Any => Expect::Any,
            Want::Absent => Expect::Absent,
            Want::TheRightRevision => right.map_or(Expect::Absent, Expect::Revision),
            Want::AnOldRevision => Expect::Revision(right.unwrap_or(1) - 1),
        }
    }

    fn allows(&self, key: &str, expect: Expect) -> bool {
        let current = self.now().get(key);
        match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Revision(revision) => current.map(|kv| kv.mod_revision) == Some(revision),
        }
    }

    fn put(&mut self, key: &str, value: Bytes, lease: Option<LeaseId>) {
        let mut state = self.now().clone();
        let revision = self.revision() + 1;
        let old = state.get(key);
        let kv = KeyValue {
            key: key.into(),
            value,
            create_revision: old.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |kv| kv.version + 1),
            lease,
        };
        state.insert(key.into(), kv);
        self.states.push(state);
    }

    fn delete(&mut self, key: &str) {
        let mut state = self.now().clone();
        state.remove(key);
        self.states.push(state);
    }

    /// What a watch of a prefix must tell, out of the difference of each two states.
    fn events(&self, prefix: &str, after: Revision) -> Vec<Event> {
        let mut events = Vec::new();
        for revision in after + 1..=self.revision() {
            let (before, now) = (self.at(revision - 1), self.at(revision));
            for key in KEYS.iter().filter(|key| key.starts_with(prefix)) {
                let (previous, current) = (before.get(*key).cloned(), now.get(*key).cloned());
                if previous != current {
                    events.push(Event {
                        current,
                        previous,
                        revision,
                    });
                }
            }
        }
        events
    }
}

/// The store that is held against the model, open.
enum Subject {
    Sqlite {
        directory: TempDir,
        ring_events: usize,
        store: Arc<SqliteStore>,
    },
    Etcd {
        member: etcd_server::Member,
        store: Arc<dyn Store>,
    },
}

impl Subject {
    fn sqlite(directory: TempDir, ring_events: usize) -> Self {
        let options = SqliteOptions {
            ring_events,
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(&directory.path().join("state.db"), options).unwrap();
        Self::Sqlite {
            directory,
            ring_events,
            store: Arc::new(store),
        }
    }

    async fn etcd(member: etcd_server::Member) -> Self {
        let store = Arc::new(etcd_server::connect(&[&member]).await);
        Self::Etcd { member, store }
    }

    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite { store, .. } => store.clone(),
            Self::Etcd { store, .. } => store.clone(),
        }
    }

    async fn reopened(self) -> Self {
        match self {
            Self::Sqlite {
                directory,
                ring_events,
                store,
            } => {
                store.close().await;
                drop(store);
                Self::sqlite(directory, ring_events)
            }
            Self::Etcd { mut member, .. } => {
                member.kill();
                member.start();
                Self::etcd(member).await
            }
        }
    }

    /// Whether what hung on one lease is deleted in one revision.
    fn revokes_at_once(&self) -> bool {
        matches!(self, Self::Etcd { .. })
    }

    /// The first revision that can be asked for: to etcd, 0 is the present.
    fn first(&self) -> Revision {
        Revision::from(matches!(self, Self::Etcd { .. }))
    }
}

/// Does the same to both, and finds the same answer.
async fn run(ops: &[Op], mut subject: Subject) {
    let mut store = subject.store();
    let mut model = Model {
        states: vec![State::new()],
        compacted: 0,
    };
    let mut leases: Vec<Option<LeaseId>> = Vec::new();
    // From before anything happens, and read at the end.
    let mut early = store.watch("/a", 1).await.unwrap();
    let mut early_lives = true;
    for (number, op) in ops.iter().enumerate() {
        match *op {
            Op::Put {
                key,
                size,
                expect,
                lease,
            } => {
                let key = KEYS[key];
                let expect = model.expect(key, expect);
                let lease = lease.and_then(|i| leases.get(i).copied().flatten());
                let value = Bytes::from(vec![number as u8; size]);
                let before = model.now().get(key).cloned();
                match store.put(key, value.clone(), expect, lease).await {
                    Ok(written) => {
                        assert!(model.allows(key, expect));
                        model.put(key, value, lease);
                        assert_eq!((written.revision, written.previous), (model.revision(), before));
                    }
                    Err(Error::Conflict { current }) => {
                        assert!(!model.allows(key, expect));
                        assert_eq!(current, before);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            Op::Delete { key, expect } => {
                let key = KEYS[key];
                let expect = model.expect(key, expect);
                let before = model.now().get(key).cloned();
                let allowed = before.is_some() && model.allows(key, expect);
                match store.delete(key, expect).await {
                    Ok(written) => {
                        assert!(allowed);
                        model.delete(key);
                        assert_eq!((written.revision, written.previous), (model.revision(), before));
                    }
                    Err(Error::Conflict { current }) => {
                        assert!(!allowed);
                        assert_eq!(current, before);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            Op::Compact { at } => {
                let at = model.compacted + (model.revision() - model.compacted) * at / 1000;
                store.compact(at).await.unwrap();
                model.compacted = at;
            }
            Op::Grant => leases.push(Some(store.lease_grant(Duration::from_secs(3600)).await.unwrap())),
            Op::Revoke { lease } => {
                if let Some(id) = leases.get_mut(lease).and_then(Option::take) {
                    store.lease_revoke(id).await.unwrap();
                    let hangs = |kv: &&KeyValue| kv.lease == Some(id);
                    let keys: Vec<_> = model
                        .now()
                        .values()
                        .filter(hangs)
                        .map(|kv| kv.key.clone())
                        .collect();
                    let before = model.states.len();
                    keys.iter().for_each(|key| model.delete(key));
                    if subject.revokes_at_once() && !keys.is_empty() {
                        model.states.drain(before..before + keys.len() - 1);
                    }
                }
            }
            Op::Reopen => {
                drop(store);
                subject = subject.reopened().await;
                store = subject.store();
                // It ends with a store in this process only.
                early_lives &= matches!(subject, Subject::Etcd { .. });
            }
        }
        assert_eq!(store.revision().await.unwrap(), model.revision());
        for key in KEYS {
            assert_eq!(store.get(key).await.unwrap().value.as_ref(), model.now().get(key));
        }
    }
    compare_ranges(&*store, &model, subject.first()).await;
    compare_watches(&*store, &model, subject.first()).await;
    if early_lives && model.compacted <= 1 {
        assert_eq!(
            read(&mut early, 1, model.revision()).await,
            said(&model.events("/a", 1))
        );
    }
}

async fn compare_ranges(store: &dyn Store, model: &Model, first: Revision) {
    for revision in first..=model.revision() + 1 {
        let range = |prefix: &str, after: Option<&str>, limit| Range {
            prefix: prefix.into(),
            after: after.map(Into::into),
            limit,
            revision: Some(revision),
        };
        if revision < model.compacted || revision > model.revision() {
            match store.range(range("", None, 0)).await {
                Err(Error::Compacted { oldest }) => {
                    assert_eq!(oldest, model.compacted);
                    assert!(revision < oldest);
                }
                Err(Error::FutureRevision { current }) => {
                    assert_eq!(current, model.revision());
                    assert!(revision > current);
                }
                other => panic!("{other:?}"),
            }
            continue;
        }
        // Before the first revision there was nothing.
        let nothing = State::new();
        let state = if revision == 0 {
            &nothing
        } else {
            model.at(revision)
        };
        for prefix in PREFIXES {
            for (after, limit) in [(None, 0), (None, 2), (Some("/a/2"), 0), (Some("/a/3"), 1)] {
                let page = store.range(range(prefix, after, limit)).await.unwrap();
                let mut expected: Vec<_> = state
                    .values()
                    .filter(|kv| kv.key.starts_with(prefix) && after.is_none_or(|after| &*kv.key > after))
                    .cloned()
                    .collect();
                let all = expected.len();
                expected.truncate(if limit == 0 { all } else { limit });
                assert_eq!(
                    page.remaining,
                    all - expected.len(),
                    "{prefix} after {after:?} at {revision}"
                );
                assert_eq!(page.items, expected, "{prefix} after {after:?} at {revision}");
                assert_eq!(page.revision, revision);
            }
        }
    }
}

async fn compare_watches(store: &dyn Store, model: &Model, first: Revision) {
    let watches = (first..=model.revision()).flat_map(|after| PREFIXES.map(|prefix| (after, prefix)));
    // Some at a time: each may wait for a beat of the store.
    let compared =
        futures::stream::iter(watches).map(|(after, prefix)| compare_watch(store, model, prefix, after));
    compared.buffer_unordered(32).collect::<Vec<_>>().await;
}

async fn compare_watch(store: &dyn Store, model: &Model, prefix: &str, after: Revision) {
    let watch = store.watch(prefix, after).await;
    if after < model.compacted {
        // Either at once or as the first thing that the watch says.
        let refused = match watch {
            Ok(mut watch) => watch.next().await.unwrap().err(),
            Err(error) => Some(error),
        };
        assert!(
            matches!(refused, Some(Error::Compacted { oldest }) if oldest == model.compacted),
            "{prefix} after {after}: {refused:?}"
        );
        return;
    }
    // From 0 is from the empty store, as from 1.
    let expected = said(&model.events(prefix, after.max(1)));
    assert_eq!(
        read(&mut watch.unwrap(), after.max(1), model.revision()).await,
        expected,
        "{prefix} after {after}"
    );
}

async fn read(watch: &mut skiff_store::Watch, after: Revision, upto: Revision) -> Vec<String> {
    let mut reached = after;
    let mut events = Vec::new();
    while reached < upto {
        let next = tokio::time::timeout(Duration::from_secs(30), watch.next());
        let batch = next.await.expect("took too long").unwrap().unwrap();
        assert!(batch.revision > reached);
        reached = batch.revision;
        events.extend(batch.events);
    }
    assert_eq!(reached, upto);
    said(&events)
}

fn said(events: &[Event]) -> Vec<String> {
    let state = |kv: &Option<KeyValue>| {
        kv.as_ref().map(|kv| {
            let KeyValue {
                key,
                create_revision,
                mod_revision,
                version,
                lease,
                ..
            } = kv;
            let (length, first) = (kv.value.len(), kv.value.first());
            format!("{key} c{create_revision} m{mod_revision} v{version} {lease:?} {length} of {first:?}")
        })
    };
    events
        .iter()
        .map(|event| {
            format!(
                "{}: {:?} to {:?}",
                event.revision,
                state(&event.previous),
                state(&event.current)
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_revision_reads_and_every_watch_tells_as_the_model_does(
        ops in proptest::collection::vec(op(), 1..60),
        ring_events in prop_oneof![Just(0usize), Just(5), Just(1000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&ops, Subject::sqlite(tempfile::tempdir().unwrap(), ring_events)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_revision_of_etcd_reads_and_every_watch_tells_as_the_model_does(
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { run(&ops, Subject::etcd(etcd_server::alone()).await).await });
    }
}
