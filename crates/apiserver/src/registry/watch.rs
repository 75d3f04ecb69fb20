//! A watch: a cursor into a kind's recent changes.

use std::sync::Arc;

use super::Entry;
use crate::error::ApiError;

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
