//! What a request asks of the registry, beside the object: the options of each verb and what each verb gives back.

use std::sync::Arc;
use std::time::Duration;

use skiff_api::field::Path;
use skiff_api::{Errors, Subresource};

use super::Entry;
use crate::error::{ApiError, ApiResult};
use crate::twice::Repeated;
use crate::user::UserInfo;
use crate::warnings::Warnings;

/// Which objects to list, and as of when. The texts are the query parameters as the client sent them; an empty
/// selector selects all.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only this namespace; `None` for all, and for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `limit`; `None` and 0 are no limit.
    pub limit: Option<u64>,
    /// `continue`: where the page before this one ended.
    pub continue_: Option<String>,
    /// `resourceVersion`.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`.
    pub resource_version_match: Option<String>,
    /// `sendInitialEvents`, which only a watch may have.
    pub send_initial_events: Option<bool>,
}

/// The objects that a list found.
#[derive(Clone, Debug)]
pub struct List {
    /// The objects in the order of their keys.
    pub items: Vec<Arc<Entry>>,
    /// The revision that the list shows.
    pub resource_version: i64,
    /// What to pass as `continue` for the next page; `None` on the last one.
    pub continue_: Option<String>,
    /// How many objects come after these; known only without selectors.
    pub remaining: Option<i64>,
}

/// What to watch, and from when. The texts are the query parameters as the client sent them.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Only this namespace; `None` for all, and for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `resourceVersion`.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`.
    pub resource_version_match: Option<String>,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `continue`, which only a list can go on from.
    pub continue_: Option<String>,
    /// `allowWatchBookmarks`.
    pub allow_bookmarks: bool,
    /// When the watch ends of itself.
    pub timeout: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            label_selector: String::new(),
            field_selector: String::new(),
            resource_version: None,
            resource_version_match: None,
            send_initial_events: None,
            continue_: None,
            allow_bookmarks: false,
            timeout: Duration::from_secs(30 * 60),
        }
    }
}

/// What becomes of fields that the kind does not have, and of fields that stand twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// The request fails.
    Strict,
    /// They are dropped with a warning to the client.
    #[default]
    Warn,
    /// They are dropped.
    Ignore,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Everything but the write itself.
    pub dry_run: bool,
    /// Who comes to own the fields that the write changes. `None`: nobody does (the server's own housekeeping).
    pub field_manager: Option<String>,
    /// The subresource as which the fields are tracked, where that is not the one written to (`scale`).
    pub tracked_as: Option<Subresource>,
    /// `force`: an apply takes over what others own.
    pub force: bool,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// The keys that stood twice in the body and that what was made of it does not tell of.
    pub repeated: Vec<Repeated>,
    /// Who asks.
    pub user: UserInfo,
    /// What the client is to be warned of, whatever comes of the write.
    pub warnings: Warnings,
}

/// An object as a write left it.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object. After a dry run, what would have been written; its resource version is the one it had before, and
    /// a created object has none.
    pub entry: Arc<Entry>,
    /// Whether the object is new (201 instead of 200).
    pub created: bool,
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows which lists are maps or sets.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// What a delete does with the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They lose their owner reference and stay.
    Orphan,
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
}

impl Propagation {
    /// The policy with this name.
    ///
    /// # Errors
    /// 422 in Kubernetes' words when there is none.
    pub fn parse(name: &str) -> ApiResult<Self> {
        match name {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            other => {
                let mut errors = Errors::new();
                errors.not_supported(
                    &Path::new("propagationPolicy"),
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                );
                Err(ApiError::invalid_options("DeleteOptions", &errors))
            }
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orphan => "Orphan",
            Self::Background => "Background",
            Self::Foreground => "Foreground",
        }
    }
}

/// How to delete (`meta/v1` `DeleteOptions`).
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_period: Option<i64>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `orphanDependents`, from before there were policies.
    pub orphan_dependents: Option<bool>,
    /// Everything but the delete itself.
    pub dry_run: bool,
}

/// What a delete did.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is marked; it stays until its grace period and its finalizers are done.
    Marked(Arc<Entry>),
    /// The object is gone; this was its last state.
    Removed(Arc<Entry>),
}

impl Deleted {
    /// The object as it was left, or last was.
    pub fn entry(&self) -> &Arc<Entry> {
        match self {
            Self::Marked(entry) | Self::Removed(entry) => entry,
        }
    }
}
