//! The watch cache of one kind: its objects in the order of their keys, and its recent changes.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use skiff_api::{KindInfo, Strategy};
use skiff_store::KeyValue;
use tokio::sync::watch;

use super::entry::{Entry, EventType, Facts, Head};
use super::index::Index;
use super::past::{KeyRange, Keyed, Past, borrowed, empty};
use super::present::Present;
use super::ring::{Change, Ring, TooOld};
use super::routes::{Routes, Track};
use super::selection::Selection;
use crate::error::ApiResult;

/// A kind's objects as of a revision.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// With their keys' order.
    pub(super) items: Vec<Arc<Entry>>,
    /// The revision of the last change among them.
    pub(super) revision: i64,
    /// Whether there were more than the limit, and how many, where that is known without asking each.
    pub(super) more: Option<Option<usize>>,
}

/// Which part of a list is wanted; all of it by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page<'a> {
    /// At most so many objects.
    pub(super) limit: Option<usize>,
    /// Those that come after this key, which is below the list's prefix.
    pub(super) after: Option<&'a str>,
}

/// The watch cache of one kind.
#[derive(Debug)]
pub(super) struct Cache {
    strategy: Arc<dyn Strategy>,
    head: Head,
    /// `/registry/pods/`
    prefix: String,
    state: RwLock<State>,
    /// The ring's end; what watches wait for.
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// By key below the prefix: `namespace/name` or `name`.
    entries: Present,
    index: Index,
    ring: Ring,
    routes: Routes,
    revision: i64,
}

/// Where a watch begins to read.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) track: Track,
    pub(super) place: u64,
    /// Changes that come before the place, which the track has not: it is younger than they are.
    pub(super) backlog: Vec<Arc<Change>>,
    /// Changes when there is something to read.
    pub(super) wake: watch::Receiver<u64>,
}

/// One change as it goes into the cache.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) key: Arc<str>,
    pub(super) revision: i64,
    pub(super) entry: Option<Arc<Entry>>,
}

impl Cache {
    pub(super) fn new(strategy: Arc<dyn Strategy>) -> Self {
        let info = strategy.info();
        Self {
            head: Head::of(info),
            prefix: format!("/registry/{}/", info.store_prefix),
            state: RwLock::new(State {
                entries: Present::default(),
                index: Index::new(info.indexed_fields),
                ring: Ring::default(),
                routes: Routes::default(),
                revision: 0,
            }),
            end: watch::Sender::new(0),
            strategy,
        }
    }

    #[cfg(test)]
    pub(super) fn strategy(&self) -> &Arc<dyn Strategy> {
        &self.strategy
    }

    pub(super) fn info(&self) -> &KindInfo {
        self.strategy.info()
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// What all keys of the kind begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the keys of a namespace's objects begin with.
    pub(super) fn prefix_of(&self, namespace: Option<&str>) -> String {
        match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// An object's key in the store.
    pub(super) fn key(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() {
            format!("{}{name}", self.prefix)
        } else {
            format!("{}{namespace}/{name}", self.prefix)
        }
    }

    /// The entry of a stored object.
    pub(super) fn read(&self, stored: &KeyValue) -> ApiResult<Arc<Entry>> {
        let announced = if stored.create_revision == stored.mod_revision {
            EventType::Added
        } else {
            EventType::Modified
        };
        let facts = Facts::read(self.strategy.as_ref(), &stored.value)
            .map_err(|error| crate::error::ApiError::internal(format!("reading {}: {error}", stored.key)))?;
        let entry = Entry::new(
            &self.head,
            Arc::new(facts),
            &stored.value,
            stored.mod_revision,
            announced,
        )?;
        Ok(Arc::new(entry))
    }

    /// The entry with a key of the store.
    pub(super) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        let below = key.strip_prefix(&self.prefix)?;
        self.state
            .read()
            .entries
            .get(below)
            .map(|(_, entry)| entry.clone())
    }

    /// A page of the objects that match.
    pub(super) fn select(&self, selection: &Selection, page: Page<'_>) -> Snapshot {
        self.select_in(&self.state.read(), selection, page, &Past::default())
    }

    /// A page of the objects that matched at a revision, which the cache has reached.
    ///
    /// # Errors
    /// When the changes since then are no longer all known.
    pub(super) fn select_at(
        &self,
        revision: i64,
        selection: &Selection,
        page: Page<'_>,
    ) -> Result<Snapshot, TooOld> {
        let state = self.state.read();
        let past = Past::after(&state.ring, revision)?;
        Ok(self.select_in(&state, selection, page, &past))
    }

    fn select_in(&self, state: &State, selection: &Selection, page: Page<'_>, past: &Past) -> Snapshot {
        let limit = page.limit.unwrap_or(usize::MAX);
        let range = range_of(selection, page.after);
        let matched = |entry: &Entry| selection.matches(entry.facts());
        let mut found = past.over(self.matching(state, selection, &range), &range, matched);
        let items = found.by_ref().take(limit).cloned().collect();
        // How many are left is known without asking each only when all match.
        let more = if selection.is_plain() {
            Some(found.count()).filter(|&left| left > 0).map(Some)
        } else {
            found.next().map(|_| None)
        };
        Snapshot {
            items,
            revision: state.revision,
            more,
        }
    }

    /// The objects in a range of keys that match, in the order of their keys.
    fn matching<'a>(
        &self,
        state: &'a State,
        selection: &'a Selection,
        range: &'a KeyRange,
    ) -> Box<dyn Iterator<Item = Keyed<'a>> + 'a> {
        let namespace = namespace_of(selection);
        let matches = |(_, entry): &Keyed<'a>| selection.matches(entry.facts());
        if empty(range) {
            Box::new(std::iter::empty())
        } else if let Some(name) = selection.name()
            && (namespace.is_some() || self.info().scope == skiff_api::Scope::Cluster)
        {
            let key = self.key(namespace.unwrap_or_default(), name);
            let below = key.strip_prefix(&self.prefix).unwrap_or_default();
            let within = RangeBounds::<str>::contains(&borrowed(range), below);
            let found = state.entries.get(below).filter(|_| within);
            Box::new(found.into_iter().filter(matches))
        } else if let Some(candidates) = state.index.candidates(selection, range) {
            let all = candidates.all_match;
            let found = candidates.found;
            let found = found.filter_map(|(key, place)| Some((key, state.entries.at(place)?)));
            Box::new(found.filter(move |found| all || matches(found)))
        } else {
            let all = selection.is_plain();
            Box::new(
                state
                    .entries
                    .range(range)
                    .filter(move |found| all || matches(found)),
            )
        }
    }

    /// Follows changes, which are in order.
    pub(super) fn apply(&self, changes: Vec<Incoming>) {
        let now = Instant::now();
        let end = {
            let mut state = self.state.write();
            let state = &mut *state;
            for Incoming { key, revision, entry } in changes {
                let changed = match &entry {
                    Some(entry) => Some(state.entries.insert(&key, entry.clone())),
                    None => state
                        .entries
                        .remove(&key)
                        .map(|(place, gone)| (place, Some(gone))),
                };
                state.revision = revision;
                let Some((place, previous)) = changed else {
                    continue;
                };
                let facts = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.facts().clone());
                let (old, new) = (facts(&previous), facts(&entry));
                state.index.replace(&key, place, old.as_deref(), new.as_deref());
                let change = Arc::new(Change::new(revision, previous, entry, now));
                state.routes.push(&change);
                state.ring.push(change);
            }
            state.ring.end()
        };
        self.end.send_replace(end);
    }

    /// Replaces everything by a list of all objects, in the order of their keys; watches from before it end.
    pub(super) fn restart(&self, items: Vec<(Arc<str>, Arc<Entry>)>, revision: i64) {
        let end = {
            let mut state = self.state.write();
            let mut index = Index::new(self.info().indexed_fields);
            state.entries = Present::default();
            for (key, entry) in items {
                let (place, _) = state.entries.insert(&key, entry.clone());
                index.replace(&key, place, None, Some(entry.facts()));
            }
            state.index = index;
            state.revision = revision;
            state.routes.restart(revision);
            state.ring.restart(revision);
            state.ring.end()
        };
        self.end.send_replace(end);
    }

    /// Begins to read the changes that may concern a selection, after a revision.
    pub(super) fn watch_after(&self, selection: &Selection, revision: i64) -> Result<Subscription, TooOld> {
        let (track, wake) = self.track(selection);
        let state = self.state.read();
        let from = state.ring.place_after(revision)?;
        let (place, backlog) = match state.end(&track) {
            Some(end) => (end, state.ring.read(from, usize::MAX)?),
            None => (from, Vec::new()),
        };
        Ok(Subscription {
            track,
            place,
            backlog,
            wake,
        })
    }

    /// The objects that match, and the changes after that state.
    pub(super) fn watch_from_state(&self, selection: &Selection) -> (Snapshot, Subscription) {
        let (track, wake) = self.track(selection);
        let state = self.state.read();
        let subscription = Subscription {
            place: state.end(&track).unwrap_or_else(|| state.ring.end()),
            track,
            backlog: Vec::new(),
            wake,
        };
        let snapshot = self.select_in(&state, selection, Page::default(), &Past::default());
        (snapshot, subscription)
    }

    fn track(&self, selection: &Selection) -> (Track, watch::Receiver<u64>) {
        let Some((field, value)) = selection.indexed_fields.first() else {
            return (Track::All, self.end.subscribe());
        };
        let mut state = self.state.write();
        let floor = state.revision;
        let wake = state.routes.subscribe(field, value, floor);
        (Track::Value(field, value.clone()), wake)
    }

    /// At most `most` changes of a track from a place on.
    pub(super) fn changes(&self, track: &Track, place: u64, most: usize) -> Result<Vec<Arc<Change>>, TooOld> {
        let state = self.state.read();
        match track {
            Track::All => state.ring.read(place, most),
            Track::Value(field, value) => match state.routes.get(field, value) {
                Some(route) => route.ring.read(place, most),
                None => Err(TooOld {
                    floor: state.revision,
                }),
            },
        }
    }
}

impl State {
    /// The end of a track that is a route.
    fn end(&self, track: &Track) -> Option<u64> {
        match track {
            Track::All => None,
            Track::Value(field, value) => self.routes.get(field, value).map(|route| route.ring.end()),
        }
    }
}

fn namespace_of(selection: &Selection) -> Option<&str> {
    selection.namespace.as_deref().filter(|name| !name.is_empty())
}

/// The keys that a selection's namespace leaves, after one of them.
fn range_of(selection: &Selection, after: Option<&str>) -> KeyRange {
    // '0' follows '/', so what is between them is all keys that begin with `namespace/`.
    match (namespace_of(selection), after) {
        (None, None) => (Bound::Unbounded, Bound::Unbounded),
        (None, Some(after)) => (Bound::Excluded(after.to_string()), Bound::Unbounded),
        (Some(namespace), after) => (
            Bound::Excluded(format!("{namespace}/{}", after.unwrap_or_default())),
            Bound::Excluded(format!("{namespace}0")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skiff_api::catalogue;
    use std::collections::BTreeMap;

    fn cache() -> Cache {
        let catalogue = catalogue::builtin();
        Cache::new(catalogue.resource("", "v1", "pods").unwrap().clone())
    }

    fn pod(
        cache: &Cache,
        (namespace, name): &(String, String),
        labels: &[(String, String)],
        node: &str,
        revision: i64,
    ) -> Arc<Entry> {
        let json = serde_json::json!({"metadata": {
            "namespace": namespace, "name": name, "labels": labels.iter().cloned().collect::<BTreeMap<_, _>>()
        }, "spec": {"nodeName": node, "containers": []}});
        let object = cache.strategy().decode_value(json).unwrap();
        let facts = Facts::of(cache.strategy().as_ref(), object.as_ref());
        let value = object.encode().unwrap();
        Arc::new(Entry::new(cache.head(), facts.into(), &value, revision, EventType::Added).unwrap())
    }

    type Operation = ((String, String), Option<(Vec<(String, String)>, String)>);

    fn operation() -> impl proptest::strategy::Strategy<Value = Operation> {
        let labels = prop::collection::vec(("[ab]", "[xy]"), 0..3);
        (
            ("(a|a-b|b)", "[p-s]"),
            prop::option::weighted(0.8, (labels, "(n1|n2|)")),
        )
    }

    proptest! {
        #[test]
        fn a_selection_is_what_asking_each_object_finds(
            operations in prop::collection::vec(operation(), 0..40),
            namespace in prop::option::of("(a|b|c)"),
            labels in prop::sample::select(vec![
                "", "a=x", "a!=x", "b", "!b", "a in (x)", "a in (x,y)", "a=x,b=y",
            ]),
            fields in prop::sample::select(vec![
                "", "spec.nodeName=n1", "spec.nodeName!=n1", "spec.nodeName=", "metadata.name=p", "metadata.namespace=a",
            ]),
            limit in prop::option::of(1..5_usize),
            past in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let cache = cache();
            let mut model: BTreeMap<String, Arc<Entry>> = BTreeMap::new();
            let mut states = vec![(0, model.clone())];
            for (index, (key, state)) in operations.iter().enumerate() {
                let revision = index as i64 + 2;
                let below = format!("{}/{}", key.0, key.1);
                let entry = state.as_ref().map(|(labels, node)| pod(&cache, key, labels, node, revision));
                match &entry {
                    Some(entry) => drop(model.insert(below.clone(), entry.clone())),
                    None => drop(model.remove(&below)),
                }
                cache.apply(vec![Incoming { key: below.into(), revision, entry }]);
                states.push((revision, model.clone()));
            }
            let (revision, model) = match past {
                Some(past) => past.get(&states).clone(),
                None => (i64::MAX, model),
            };
            let selection = Selection::parse(cache.info(), namespace.as_deref(), labels, fields).unwrap();
            let expected: Vec<i64> = model
                .values()
                .filter(|entry| selection.matches(entry.facts()))
                .map(|entry| entry.revision())
                .collect();
            // Page by page, until there is no more.
            let (mut left, mut after) = (&expected[..], None::<String>);
            loop {
                let page = Page { limit, after: after.as_deref() };
                let found = match past {
                    Some(_) => cache.select_at(revision, &selection, page).unwrap(),
                    None => cache.select(&selection, page),
                };
                let revisions: Vec<i64> = found.items.iter().map(|entry| entry.revision()).collect();
                let most = limit.unwrap_or(usize::MAX).min(left.len());
                prop_assert_eq!(&revisions, &left[..most]);
                left = &left[most..];
                prop_assert_eq!(found.more.is_some(), !left.is_empty());
                if let Some(Some(count)) = found.more {
                    prop_assert_eq!(count, left.len());
                }
                if left.is_empty() {
                    break;
                }
                let last = found.items.last().unwrap();
                after = Some(match selection.namespace {
                    Some(_) => last.name().to_string(),
                    None => last.below(),
                });
            }
        }
    }
}
