//! One transaction of many requests: each is decided in order, on the committed state with the batch's own changes
//! over it.
//!
//! Nothing but the transaction is changed before the commit, so a batch that fails leaves no trace.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;

use super::lease::{self, Leases, Now};
use super::schema;
use super::visible::{Head, Visible};
use crate::{Error, Event, Expect, KeyValue, LeaseId, Result, Revision, Written};

/// A transaction in the making.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    visible: &'a Visible,
    leases: &'a Leases,
    now: Now,
    revision: Revision,
    compacted: Revision,
    /// The keys that this batch changed, as it leaves them.
    heads: HashMap<Arc<str>, Option<KeyValue>>,
    events: Vec<Event>,
    lease_changes: Vec<LeaseChange>,
    ended: HashSet<LeaseId>,
    swept: usize,
}

/// What a batch did to a lease.
#[derive(Debug)]
enum LeaseChange {
    Granted(LeaseId, Duration),
    Renewed(LeaseId),
    Ended(LeaseId),
}

/// What a committed batch has changed, for [`Changes::show`].
#[derive(Debug)]
pub(super) struct Changes {
    now: Now,
    compacted: Revision,
    events: Vec<Event>,
    lease_changes: Vec<LeaseChange>,
    swept: usize,
}

impl Changes {
    /// Lets everybody see them. Answers whether the store has a new revision.
    pub(super) fn show(self, visible: &Visible, leases: &mut Leases) -> bool {
        // First the grants and last the ends: an event may speak of a lease that ended after it.
        for change in &self.lease_changes {
            match change {
                LeaseChange::Granted(id, ttl) => leases.grant(*id, *ttl, self.now),
                LeaseChange::Renewed(id) => leases.renew(*id, self.now),
                LeaseChange::Ended(_) => {}
            }
        }
        self.events.iter().for_each(|event| leases.apply(event));
        for change in &self.lease_changes {
            if let LeaseChange::Ended(id) = change {
                leases.remove(*id);
            }
        }
        let news = !self.events.is_empty();
        visible.commit(self.events, self.compacted, self.swept);
        news
    }
}

/// The outer error fails the whole batch, the inner one this request alone.
pub(super) type Decision<T> = schema::Result<Result<T>>;

impl<'a> Batch<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        visible: &'a Visible,
        leases: &'a Leases,
        now: Now,
    ) -> Self {
        Self {
            connection,
            visible,
            leases,
            now,
            revision: visible.revision(),
            compacted: visible.compacted(),
            heads: HashMap::new(),
            events: Vec::new(),
            lease_changes: Vec::new(),
            ended: HashSet::new(),
            swept: 0,
        }
    }

    /// Call after the commit.
    pub(super) fn changes(self) -> Changes {
        Changes {
            now: self.now,
            compacted: self.compacted,
            events: self.events,
            lease_changes: self.lease_changes,
            swept: self.swept,
        }
    }

    /// [`crate::Store::put`].
    pub(super) fn put(
        &mut self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> Decision<Written> {
        let current = self.current(key)?;
        if !is_expected(current.as_ref(), expect) {
            return Ok(Err(Error::Conflict { current }));
        }
        if let Some(id) = lease
            && self.ttl(id).is_none()
        {
            return Ok(Err(Error::LeaseNotFound));
        }
        let revision = self.revision + 1;
        let next = KeyValue {
            key: current
                .as_ref()
                .map_or_else(|| Arc::from(key), |kv| kv.key.clone()),
            value,
            create_revision: current.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: current.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
        };
        self.change(next.key.clone(), Some(next), current).map(Ok)
    }

    /// [`crate::Store::delete`].
    pub(super) fn delete(&mut self, key: &str, expect: Expect) -> Decision<Written> {
        match self.current(key)? {
            Some(current) if is_expected(Some(&current), expect) => {
                self.change(current.key.clone(), None, Some(current)).map(Ok)
            }
            current => Ok(Err(Error::Conflict { current })),
        }
    }

    /// [`crate::Store::compact`]: readers are bound by it at once; [`Batch::sweep`] deletes.
    pub(super) fn compact(&mut self, revision: Revision) -> Decision<()> {
        if revision > self.revision {
            return Ok(Err(Error::FutureRevision {
                current: self.revision,
            }));
        }
        // That it was compacted already is what the caller wants, not an error.
        if revision > self.compacted {
            schema::set_compacted(self.connection, revision)?;
            self.compacted = revision;
        }
        Ok(Ok(()))
    }

    /// [`crate::Store::lease_grant`].
    pub(super) fn grant(&mut self, ttl: Duration) -> Decision<LeaseId> {
        let ttl = lease::bounded(ttl);
        let id = schema::insert_lease(self.connection, lease::millis(ttl), self.now.deadline(ttl))?;
        self.lease_changes.push(LeaseChange::Granted(id, ttl));
        Ok(Ok(id))
    }

    /// [`crate::Store::lease_keep_alive`].
    pub(super) fn keep_alive(&mut self, id: LeaseId) -> Decision<()> {
        let Some(ttl) = self.ttl(id) else {
            return Ok(Err(Error::LeaseNotFound));
        };
        schema::move_lease(self.connection, id, self.now.deadline(ttl))?;
        self.lease_changes.push(LeaseChange::Renewed(id));
        Ok(Ok(()))
    }

    /// [`crate::Store::lease_revoke`], and what happens when a lease's time is over.
    pub(super) fn revoke(&mut self, id: LeaseId) -> Decision<()> {
        if self.ttl(id).is_none() {
            return Ok(Err(Error::LeaseNotFound));
        }
        // In byte order, as etcd deletes them.
        let mut keys: BTreeSet<Arc<str>> = self.leases.keys(id).cloned().collect();
        keys.extend(self.heads.keys().cloned());
        for key in keys {
            let current = self.current(&key)?;
            if current.as_ref().is_some_and(|kv| kv.lease == Some(id)) {
                self.change(key, None, current)?;
            }
        }
        schema::erase_lease(self.connection, id)?;
        self.ended.insert(id);
        self.lease_changes.push(LeaseChange::Ended(id));
        Ok(Ok(()))
    }

    /// Deletes some of what was compacted before this batch.
    pub(super) fn sweep(&mut self, limit: usize) -> schema::Result<()> {
        for revision in self.visible.garbage(limit) {
            schema::erase(self.connection, revision)?;
            self.swept += 1;
        }
        Ok(())
    }

    /// A lease granted in this batch is not found: nobody has been told its number yet.
    fn ttl(&self, id: LeaseId) -> Option<Duration> {
        self.leases.ttl(id).filter(|_| !self.ended.contains(&id))
    }

    fn current(&self, key: &str) -> schema::Result<Option<KeyValue>> {
        if let Some(head) = self.heads.get(key) {
            return Ok(head.clone());
        }
        match self.visible.head(key).0 {
            Head::Absent => Ok(None),
            Head::Here(kv) => Ok(Some(kv)),
            Head::InFile(key, revision) => {
                let state = schema::state(self.connection, &key, revision)?;
                let missing =
                    || schema::Failure::Other(format!("the state of {key} at {revision} is missing"));
                state.ok_or_else(missing).map(Some)
            }
        }
    }

    fn change(
        &mut self,
        key: Arc<str>,
        current: Option<KeyValue>,
        previous: Option<KeyValue>,
    ) -> schema::Result<Written> {
        let revision = self.revision + 1;
        let replaced = previous.as_ref().map(|kv| kv.mod_revision);
        schema::insert(self.connection, revision, &key, current.as_ref(), replaced)?;
        self.revision = revision;
        self.heads.insert(key, current.clone());
        self.events.push(Event {
            current,
            previous: previous.clone(),
            revision,
        });
        Ok(Written { revision, previous })
    }
}

fn is_expected(current: Option<&KeyValue>, expect: Expect) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.is_some_and(|kv| kv.mod_revision == revision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_demands_what_it_says() {
        let kv = KeyValue {
            key: "/a".into(),
            value: Bytes::new(),
            create_revision: 2,
            mod_revision: 5,
            version: 3,
            lease: None,
        };
        for (expect, of_absent, of_present) in [
            (Expect::Any, true, true),
            (Expect::Absent, true, false),
            (Expect::Revision(5), false, true),
            (Expect::Revision(2), false, false),
            (Expect::Revision(0), false, false),
        ] {
            assert_eq!(is_expected(None, expect), of_absent, "{expect:?}");
            assert_eq!(is_expected(Some(&kv), expect), of_present, "{expect:?}");
        }
    }
}
