//! What a writer hands to the feed: the facts of an object it is about to put, so that the feed need not decode it, and
//! so that the write's response and the cache share one entry.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::entry::{Entry, EventType, Facts, Head};
use crate::error::ApiResult;

/// An object on its way into the store.
#[derive(Debug)]
pub(super) struct Parcel {
    head: Head,
    facts: Arc<Facts>,
    value: Bytes,
    announced: EventType,
    entry: OnceLock<Arc<Entry>>,
}

impl Parcel {
    /// The entry of the object, as it was written at this revision. Made by whoever asks first.
    ///
    /// The first to ask may have another write in hand than the next: another server of the cluster may have put the
    /// same bytes under the same key, so that the feed took its write for the one that was announced.
    pub(super) fn entry(&self, revision: i64) -> ApiResult<Arc<Entry>> {
        if let Some(entry) = self.entry.get().filter(|entry| entry.revision() == revision) {
            return Ok(entry.clone());
        }
        let entry = Arc::new(Entry::new(
            &self.head,
            self.facts.clone(),
            &self.value,
            revision,
            self.announced,
        )?);
        let first = self.entry.get_or_init(|| entry.clone());
        Ok(if first.revision() == revision {
            first.clone()
        } else {
            entry
        })
    }
}

/// The objects on their way, by key.
#[derive(Debug, Default)]
pub(super) struct Handoff {
    parcels: Mutex<HashMap<String, Arc<Parcel>>>,
}

impl Handoff {
    /// Announces a put. When the put does not succeed, the ticket must be dropped unused.
    pub(super) fn announce(
        self: &Arc<Self>,
        key: &str,
        head: &Head,
        facts: Facts,
        value: Bytes,
        announced: EventType,
    ) -> Ticket {
        let parcel = Arc::new(Parcel {
            head: head.clone(),
            facts: Arc::new(facts),
            value,
            announced,
            entry: OnceLock::new(),
        });
        self.parcels.lock().insert(key.to_string(), parcel.clone());
        Ticket {
            handoff: self.clone(),
            key: key.to_string(),
            parcel,
            done: false,
        }
    }

    /// Takes what was announced for a key, if it is this value that was written.
    pub(super) fn take(&self, key: &str, value: &Bytes) -> Option<Arc<Parcel>> {
        let mut parcels = self.parcels.lock();
        let parcel = parcels.get(key)?;
        let same = (parcel.value.as_ptr() == value.as_ptr() && parcel.value.len() == value.len())
            || parcel.value == *value;
        if same { parcels.remove(key) } else { None }
    }

    /// Forgets everything: the feed has listed, and will not hear of the writes before that.
    pub(super) fn clear(&self) {
        self.parcels.lock().clear();
    }
}

/// An announced put.
#[derive(Debug)]
pub(super) struct Ticket {
    handoff: Arc<Handoff>,
    key: String,
    parcel: Arc<Parcel>,
    done: bool,
}

impl Ticket {
    /// The put has succeeded: the feed will take the parcel, if it has not yet.
    pub(super) fn written(mut self, revision: i64) -> ApiResult<Arc<Entry>> {
        self.done = true;
        self.parcel.entry(revision)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut parcels = self.handoff.parcels.lock();
        if parcels
            .get(&self.key)
            .is_some_and(|parcel| Arc::ptr_eq(parcel, &self.parcel))
        {
            parcels.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_api::catalogue;

    #[test]
    fn the_same_bytes_of_another_server_do_not_pass_for_ones_own_write() {
        let catalogue = catalogue::builtin();
        let head = Head::of(catalogue.resource("", "v1", "configmaps").unwrap().info());
        let value = Bytes::from_static(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#);
        let handoff = Arc::new(Handoff::default());
        let ticket = handoff.announce("k", &head, Facts::default(), value.clone(), EventType::Modified);
        // The feed sees the other server's write first, and takes what was announced for it.
        let parcel = handoff.take("k", &Bytes::copy_from_slice(&value)).unwrap();
        assert_eq!(parcel.entry(7).unwrap().revision(), 7);
        let own = ticket.written(9).unwrap();
        assert_eq!(own.revision(), 9);
        assert!(own.json().windows(3).any(|text| text == b"\"9\""));
        assert!(Arc::ptr_eq(&parcel.entry(7).unwrap(), &parcel.entry(7).unwrap()));
    }
}
