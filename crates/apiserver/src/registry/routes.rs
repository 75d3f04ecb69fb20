//! Changes by the value of an indexed field, so that a watch of one node's pods is not woken by every other node's.
//!
//! A route is a ring of its own that holds the same changes as the kind's ring, as far as they concern one value. It is
//! there as long as a watch reads it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::Facts;
use super::ring::{Change, Ring};

/// Which ring a watch reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Track {
    /// The kind's, of all changes.
    All,
    /// The one of the changes that concern this value of this field.
    Value(&'static str, String),
}

/// The changes that concern one value.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) ring: Ring,
    /// The ring's end; what watches wait for.
    pub(super) end: watch::Sender<u64>,
}

/// The routes of a kind.
#[derive(Debug, Default)]
pub(super) struct Routes {
    by_field: HashMap<&'static str, HashMap<String, Route>>,
}

impl Routes {
    pub(super) fn get(&self, field: &str, value: &str) -> Option<&Route> {
        self.by_field.get(field)?.get(value)
    }

    /// Begins to read a route. A new one holds the changes after `floor`. Routes that nobody reads any more are dropped.
    pub(super) fn subscribe(&mut self, field: &'static str, value: &str, floor: i64) -> watch::Receiver<u64> {
        let routes = self.by_field.entry(field).or_default();
        if let Some(route) = routes.get(value) {
            return route.end.subscribe();
        }
        routes.retain(|_, route| route.end.receiver_count() > 0);
        let mut ring = Ring::default();
        ring.restart(floor);
        let end = watch::Sender::new(ring.end());
        let receiver = end.subscribe();
        routes.insert(value.to_string(), Route { ring, end });
        receiver
    }

    /// Takes in a change, on the routes of the values before and after it. Whoever waits there is woken.
    pub(super) fn push(&mut self, change: &Arc<Change>) {
        let facts = [&change.previous, &change.current]
            .map(|entry| entry.as_ref().map(|entry| entry.facts().as_ref()));
        let [before, after] = facts;
        for (field, routes) in &mut self.by_field {
            let value =
                |facts: Option<&'_ Facts>| facts.and_then(|facts| facts.field(field)).map(String::from);
            let (before, after) = (value(before), value(after));
            let second = after.filter(|after| before.as_ref() != Some(after));
            for value in before.into_iter().chain(second) {
                if let Some(route) = routes.get_mut(&value) {
                    route.ring.push(change.clone());
                    route.end.send_replace(route.ring.end());
                }
            }
        }
    }

    /// Forgets all changes; those after `floor` will come.
    pub(super) fn restart(&mut self, floor: i64) {
        for route in self.by_field.values_mut().flat_map(HashMap::values_mut) {
            route.ring.restart(floor);
            route.end.send_replace(route.ring.end());
        }
    }
}
