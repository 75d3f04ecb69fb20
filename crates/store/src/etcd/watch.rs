//! Watching: one etcd watch after another, as one.
//!
//! Each follows all keys of etcd, for the contract wants a batch for each revision: etcd's own notes of progress come
//! late, and on request they can overtake events before etcd 3.4.25 and 3.5.8. What is not below the prefix is dropped here.
//!
//! Each begins *at* the last revision that was delivered, whose events it then leaves out, rather than after it. So etcd
//! itself says when something since then is compacted: state that a change at the very revision of a compaction leaves
//! behind stays, but a deletion and the states before are gone.

use std::collections::VecDeque;
use std::sync::Arc;

use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchClient, WatchOptions, WatchStream};
use futures::stream;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use super::failure::Failure;
use super::keys::{Keys, ZERO};
use super::members::{ATTEMPT, Members};
use super::{error, key_value, read};
use crate::{Error, Event, Result, Revision, Watch, WatchBatch};

/// `mvccpb.Event.EventType`'s `DELETE`.
const DELETE: i32 = 1;

pub(super) async fn watch(members: Arc<Members>, keys: Keys, prefix: &str, after: Revision) -> Result<Watch> {
    let mut watcher = Watcher {
        members,
        position: Position {
            prefix: keys.stored_prefix(prefix),
            keys,
            reached: after.max(1),
            held: VecDeque::new(),
        },
        source: None,
        backoff: Backoff::default(),
    };
    let deadline = watcher.members.deadline();
    watcher.open(Some(deadline)).await?;
    let batches = stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(batch) => Some((Ok(batch), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Box::pin(batches))
}

struct Watcher {
    members: Arc<Members>,
    position: Position,
    source: Option<Source>,
    backoff: Backoff,
}

/// An etcd watch, the connection that is all its own, and the turn in which its member was chosen.
struct Source {
    stream: WatchStream,
    _client: WatchClient,
    turn: usize,
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchBatch> {
        loop {
            let Some(source) = &mut self.source else {
                self.open(None).await?;
                continue;
            };
            let turn = source.turn;
            let lost = match source.stream.message().await {
                Ok(Some(response)) => match self.position.advance(response.0) {
                    Ok(Some(batch)) => {
                        self.backoff.reset();
                        return Ok(batch);
                    }
                    Ok(None) => continue,
                    Err(End::Compacted(oldest)) => return Err(Error::Compacted { oldest }),
                    Err(End::PreviousIsCompacted) => {
                        let oldest = read::oldest(&self.members).await?;
                        return Err(Error::Compacted { oldest });
                    }
                    Err(End::Refused(text)) => return Err(Error::Unavailable(text)),
                    Err(End::Canceled(text)) => text,
                },
                Ok(None) => "the stream ended".to_owned(),
                Err(failed) => match Failure::from(failed) {
                    Failure::NotDone(text) | Failure::Unknown(text) => text,
                    refused => return Err(error(refused)),
                },
            };
            self.lose(turn, &lost).await;
        }
    }

    /// Gives the etcd watch up, to go on with the next member.
    async fn lose(&mut self, turn: usize, reason: &str) {
        let reached = self.position.reached;
        tracing::debug!(%reason, reached, "a watch lost its etcd member and goes on with another");
        self.source = None;
        // What was held back comes again.
        self.position.held.clear();
        self.members.failed(turn);
        // Etcd can't tell that a member is back. It is asked again, after a while.
        sleep(self.backoff.next()).await;
    }

    /// Opens the etcd watch from where this one is. Without a deadline it takes as long as it takes.
    async fn open(&mut self, deadline: Option<Instant>) -> Result<()> {
        loop {
            let (turn, mut client) = self.members.apart().await?;
            let options = WatchOptions::new()
                .with_all_keys()
                .with_start_revision(self.position.reached)
                .with_prev_key()
                .with_fragment();
            let opening = client.watch(ZERO, Some(options));
            let attempt = Instant::now() + ATTEMPT;
            let until = deadline.map_or(attempt, |deadline| deadline.min(attempt));
            let reason = match timeout_at(until, opening).await {
                Ok(Ok(stream)) => {
                    self.source = Some(Source {
                        stream,
                        _client: client,
                        turn,
                    });
                    return Ok(());
                }
                Ok(Err(failed)) => match Failure::from(failed) {
                    Failure::NotDone(text) | Failure::Unknown(text) => text,
                    refused => return Err(error(refused)),
                },
                Err(_) => "no answer in time".to_owned(),
            };
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::Unavailable(format!("etcd: {reason}")));
            }
            self.lose(turn, &reason).await;
        }
    }
}

/// Why an etcd watch is over.
#[derive(Debug)]
enum End {
    /// It begins before this revision, and what was before it is gone.
    Compacted(Revision),
    /// The state before a change was compacted away before etcd could read it.
    PreviousIsCompacted,
    /// It would be refused again.
    Refused(String),
    /// It can be opened again.
    Canceled(String),
}

/// How far a watch is.
struct Position {
    keys: Keys,
    /// What the watched keys begin with in etcd; `None` when there can be none.
    prefix: Option<Vec<u8>>,
    /// All up to and with this revision has been delivered.
    reached: Revision,
    /// Changes of one revision, more of which are to come.
    held: VecDeque<PbEvent>,
}

fn revision(event: &PbEvent) -> Revision {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl Position {
    /// Takes what etcd says. It tells the changes of a revision together, except in fragments.
    fn advance(&mut self, response: PbWatchResponse) -> std::result::Result<Option<WatchBatch>, End> {
        if response.compact_revision != 0 {
            return Err(End::Compacted(response.compact_revision));
        }
        if response.canceled {
            let reason = format!("etcd canceled the watch: {}", response.cancel_reason);
            return Err(if reason.contains("permission denied") {
                End::Refused(reason)
            } else {
                End::Canceled(reason)
            });
        }
        let mut events = std::mem::take(&mut self.held);
        events.extend(response.events);
        if response.fragment {
            let last = events.back().map_or(0, revision);
            let whole = events.partition_point(|event| revision(event) < last);
            self.held = events.split_off(whole);
        }
        let Some(reached) = events.back().map(revision) else {
            return Ok(None);
        };
        if reached <= self.reached {
            return Ok(None);
        }
        let mut delivered = Vec::with_capacity(events.len());
        for event in events {
            if revision(&event) > self.reached
                && let Some(event) = self.event(event)?
            {
                delivered.push(event);
            }
        }
        self.reached = reached;
        Ok(Some(WatchBatch {
            events: delivered,
            revision: reached,
        }))
    }

    /// The change, if it is below the prefix.
    fn event(&self, event: PbEvent) -> std::result::Result<Option<Event>, End> {
        let (Some(prefix), Some(kv)) = (&self.prefix, event.kv) else {
            return Ok(None);
        };
        if !kv.key.starts_with(prefix) {
            return Ok(None);
        }
        let Some(key) = self.keys.ours(&kv.key) else {
            return Ok(None);
        };
        let deleted = event.r#type == DELETE;
        let revision = kv.mod_revision;
        let created = !deleted && kv.create_revision == revision;
        let previous = event.prev_kv.map(|previous| key_value(key.clone(), previous));
        if previous.is_none() && !created {
            return Err(End::PreviousIsCompacted);
        }
        Ok(Some(Event {
            current: (!deleted).then(|| key_value(key, kv)),
            previous,
            revision,
        }))
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;

    fn position(prefix: &str, reached: Revision) -> Position {
        let keys = Keys::new("", "");
        Position {
            prefix: keys.stored_prefix(prefix),
            keys,
            reached,
            held: VecDeque::new(),
        }
    }

    fn created(key: &str, revision: Revision) -> PbEvent {
        PbEvent {
            kv: Some(PbKeyValue {
                key: key.into(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                ..PbKeyValue::default()
            }),
            ..PbEvent::default()
        }
    }

    fn response(events: &[(&str, Revision)], fragment: bool) -> PbWatchResponse {
        PbWatchResponse {
            events: events
                .iter()
                .map(|(key, revision)| created(key, *revision))
                .collect(),
            fragment,
            ..PbWatchResponse::default()
        }
    }

    /// The keys told, and the revision reached.
    fn told(advanced: std::result::Result<Option<WatchBatch>, End>) -> Option<(Vec<String>, Revision)> {
        let batch = advanced.unwrap()?;
        let key = |event: Event| event.current.unwrap().key.to_string();
        Some((batch.events.into_iter().map(key).collect(), batch.revision))
    }

    #[test]
    fn a_batch_has_what_is_new_and_below_the_prefix() {
        let mut position = position("/a/", 4);
        for (events, expected) in [
            (&[][..], None),
            (&[("/a/1", 4)], None),
            (&[("/a/1", 4), ("/a/2", 5)], Some((vec!["/a/2"], 5))),
            (&[("/b", 6)], Some((vec![], 6))),
            (
                &[("/a/3", 7), ("/b", 7), ("/a/4", 7)],
                Some((vec!["/a/3", "/a/4"], 7)),
            ),
            (&[("/a/3", 7)], None),
        ] {
            let expected = expected.map(|(keys, at): (Vec<&str>, _)| {
                (keys.into_iter().map(String::from).collect::<Vec<_>>(), at)
            });
            assert_eq!(
                told(position.advance(response(events, false))),
                expected,
                "{events:?}"
            );
        }
    }

    #[test]
    fn a_revision_that_comes_in_fragments_is_delivered_whole() {
        let mut position = position("/", 1);
        let mut next = |events: &[_], fragment| told(position.advance(response(events, fragment)));
        assert_eq!(next(&[("/1", 2), ("/2", 3)], true), Some((vec!["/1".into()], 2)));
        assert_eq!(next(&[("/3", 3)], true), None);
        assert_eq!(
            next(&[("/4", 3), ("/5", 4)], false),
            Some((vec!["/2".into(), "/3".into(), "/4".into(), "/5".into()], 4))
        );
    }

    #[test]
    fn a_change_whose_previous_state_is_gone_ends_the_watch() {
        let mut event = created("/a", 5);
        event.kv.as_mut().unwrap().create_revision = 3;
        let mut deletion = created("/a", 5);
        deletion.r#type = DELETE;
        for event in [event, deletion] {
            let response = PbWatchResponse {
                events: vec![event],
                ..PbWatchResponse::default()
            };
            assert!(position("/b", 1).advance(response.clone()).is_ok());
            let end = position("/", 1).advance(response).unwrap_err();
            assert!(matches!(end, End::PreviousIsCompacted));
        }
    }

    #[test]
    fn a_canceled_watch_says_whether_it_can_go_on() {
        let canceled = |reason: &str, compact_revision| PbWatchResponse {
            canceled: true,
            cancel_reason: reason.into(),
            compact_revision,
            ..PbWatchResponse::default()
        };
        let mut position = position("/", 1);
        let end = |response| format!("{:?}", position.advance(response).unwrap_err());
        let ends = [canceled("", 7), canceled("permission denied", 0), canceled("", 0)].map(end);
        assert!(ends[0].starts_with("Compacted(7)"));
        assert!(ends[1].starts_with("Refused("));
        assert!(ends[2].starts_with("Canceled("));
    }
}
