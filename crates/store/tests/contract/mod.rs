//! What every store promises, a test for each promise. A store's own test file gives `contract!` a function that makes
//! an empty store.

pub(crate) mod compaction;
pub(crate) mod leases;
pub(crate) mod ranges;
pub(crate) mod watches;
pub(crate) mod writes;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use skiff_store::{Event, Expect, KeyValue, Range, Revision, Store, Watch};

/// An empty store, and what must live as long as it does.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _guard: Box<dyn Any + Send>,
}

/// Nothing here takes so long, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("took too long")
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    store
        .put(key, bytes(value), Expect::Any, None)
        .await
        .unwrap()
        .revision
}

pub(crate) fn below(prefix: &str) -> Range {
    Range {
        prefix: prefix.into(),
        ..Range::default()
    }
}

pub(crate) async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let page = store.range(below(prefix)).await.unwrap();
    page.items.iter().map(|kv| kv.key.to_string()).collect()
}

/// A change, written as `+key=value` (created), `~key=old>new` or `-key=old`.
pub(crate) fn say(event: &Event) -> String {
    let text = |kv: &KeyValue| String::from_utf8(kv.value.to_vec()).unwrap();
    match (&event.previous, &event.current) {
        (None, Some(now)) => format!("+{}={}", now.key, text(now)),
        (Some(old), Some(now)) => format!("~{}={}>{}", now.key, text(old), text(now)),
        (Some(old), None) => format!("-{}={}", old.key, text(old)),
        (None, None) => "nothing".into(),
    }
}

/// Whether a change may share the revision of the one before: a store may delete what hung on one lease in one revision.
fn together(before: &[Event], event: &Event) -> bool {
    let deleted = |event: &Event| match (&event.previous, &event.current) {
        (Some(previous), None) => Some(previous.key.clone()),
        _ => None,
    };
    before.last().is_some_and(|last| {
        last.revision == event.revision && deleted(last).is_some() && deleted(last) < deleted(event)
    })
}

/// Reads a watch up to a revision, and sees to it that the events come in order and that none comes late.
pub(crate) async fn events(watch: &mut Watch, after: Revision, upto: Revision) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut reached = after;
    while reached < upto {
        let batch = within(watch.next()).await.expect("the watch goes on").unwrap();
        assert!(batch.revision > reached, "a batch gets further");
        let mut last = reached;
        for event in batch.events {
            assert!(
                (last < event.revision || together(&events, &event)) && event.revision <= batch.revision,
                "events are in order"
            );
            last = event.revision;
            events.push(event);
        }
        reached = batch.revision;
    }
    events
}

pub(crate) async fn said(watch: &mut Watch, after: Revision, upto: Revision) -> Vec<String> {
    events(watch, after, upto).await.iter().map(say).collect()
}

/// Makes a test of each promise, on a store that `$make` (an async function to a [`Fixture`]) makes.
#[macro_export]
macro_rules! contract {
    ($make:path) => {
        $crate::contract! { $make =>
            writes {
                an_empty_store_is_at_revision_1_and_the_first_write_makes_2
                each_write_makes_one_revision_and_a_refused_one_none
                a_key_tells_its_revisions_and_version
                a_write_is_refused_unless_the_state_is_the_expected_one
                of_writers_that_race_one_wins
                a_refused_write_takes_none_of_its_neighbours_with_it
                what_was_acknowledged_is_read
            }
            ranges {
                a_range_is_the_prefix_in_byte_order
                a_range_comes_in_pages_of_one_snapshot
                the_state_at_each_revision_can_be_read
                values_are_any_bytes_of_any_size
            }
            watches {
                a_watch_tells_each_change_below_its_prefix
                an_event_has_the_whole_states_and_the_revision
                a_watch_from_the_past_goes_on_into_the_present
                a_watch_tells_how_far_it_is_when_nothing_below_its_prefix_changed
                a_watch_of_the_future_waits_for_it
                watches_that_start_amid_writes_have_no_gap_and_no_duplicate
            }
            compaction {
                compaction_forgets_the_past_and_keeps_the_state
                compaction_of_a_future_revision_is_refused
                compacting_again_is_no_error
                a_watch_of_a_compacted_revision_is_refused
            }
            leases {
                a_lease_that_is_revoked_takes_its_keys_with_it
                a_key_hangs_on_the_lease_of_its_last_write
                a_lease_that_is_not_there_is_not_found
                a_lease_ends_by_itself
                a_lease_that_is_kept_alive_outlives_its_ttl
            }
        }
    };
    ($make:path => $($part:ident { $($promise:ident)* })*) => {
        $(mod $part {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let fixture = $make().await;
                $crate::contract::$part::$promise(&*fixture.store).await;
            })*
        })*
    };
}
