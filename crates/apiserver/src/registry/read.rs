//! get, list and watch: from when, and from where.

use std::sync::Arc;

use futures::stream::BoxStream;
use skiff_api::Errors;
use skiff_api::field::Path;
use skiff_store::{Error as StoreError, KeyValue, Range};

use super::cache::{Page, Snapshot};
use super::continuation::Continuation;
use super::entry::Entry;
use super::options::{List, ListOptions, WatchOptions};
use super::resource::Resource;
use super::selection::Selection;
use super::watch::{self, Frame, Start};
use crate::error::{ApiError, ApiResult};

/// Which state a reader wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsOf {
    /// The present one.
    Now,
    /// Whatever is at hand.
    Any,
    /// At least this revision.
    NotOlderThan(i64),
    /// This revision.
    Exactly(i64),
}

/// A resource version as a parameter; an empty one is none.
pub(super) fn parse_version(text: Option<&str>) -> ApiResult<Option<i64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<u64>().map(i64::try_from) {
        Ok(Ok(version)) => Ok(Some(version)),
        _ => {
            let why = if text.bytes().all(|byte| byte.is_ascii_digit()) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            // Words of validation, which upstream does not say as such.
            Err(ApiError::unclassified_input(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
            )))
        }
    }
}

/// What a get with this `resourceVersion` wants to see.
fn get_as_of(version: Option<&str>) -> ApiResult<AsOf> {
    Ok(match parse_version(version)? {
        None => AsOf::Now,
        Some(0) => AsOf::Any,
        Some(version) => AsOf::NotOlderThan(version),
    })
}

/// What a list with these options wants to see (API concepts, "resourceVersion in lists").
fn list_as_of(options: &ListOptions) -> ApiResult<AsOf> {
    let version = options.resource_version.as_deref().unwrap_or_default();
    let match_ = options.resource_version_match.as_deref().unwrap_or_default();
    let continues = options
        .continue_
        .as_deref()
        .is_some_and(|token| !token.is_empty());
    let path = Path::new("resourceVersionMatch");
    let mut errors = Errors::new();
    if !match_.is_empty() {
        if version.is_empty() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if continues {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if !matches!(match_, "Exact" | "NotOlderThan") {
            errors.not_supported(&path, match_, &["Exact", "NotOlderThan", ""]);
        }
        if match_ == "Exact" && version == "0" {
            errors.forbidden(
                &path,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if options.send_initial_events.is_some() {
        errors.forbidden(
            &Path::new("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        );
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid_options("ListOptions", &errors));
    }
    let limited = options.limit.is_some_and(|limit| limit > 0);
    if continues && !matches!(version, "" | "0") {
        // What the token says comes first.
        Continuation::decode(options.continue_.as_deref().unwrap_or_default())?;
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let parsed = parse_version(Some(version))
        .map_err(|error| ApiError::bad_request(format!("invalid resource version: {error}")))?;
    Ok(match parsed {
        None => AsOf::Now,
        Some(0) => AsOf::Any,
        Some(version) if match_ == "Exact" => AsOf::Exactly(version),
        Some(version) if match_.is_empty() && limited => AsOf::Exactly(version),
        Some(version) => AsOf::NotOlderThan(version),
    })
}

/// How a watch begins (API concepts, "resourceVersion in watches", "streaming lists").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// With the changes after a revision.
    After(i64),
    /// With the objects that there are, of a state that is new enough; then the changes.
    State { as_of: AsOf },
    /// With the changes from now on.
    Here(AsOf),
}

fn beginning(options: &WatchOptions) -> ApiResult<Beginning> {
    let match_ = options.resource_version_match.as_deref().unwrap_or_default();
    let path = Path::new("resourceVersionMatch");
    let mut errors = Errors::new();
    let continues = options
        .continue_
        .as_deref()
        .is_some_and(|token| !token.is_empty());
    // Who names no version is taken to ask for the objects there are.
    let defaulted = options.send_initial_events.is_none()
        && match_.is_empty()
        && matches!(options.resource_version.as_deref(), None | Some("" | "0"));
    if defaulted && continues {
        errors.forbidden(
            &path,
            "resourceVersionMatch is forbidden when continue is provided",
        );
    }
    if options.send_initial_events.is_some() && match_ != "NotOlderThan" {
        errors.forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if !match_.is_empty() {
        if options.send_initial_events.is_none() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if match_ != "NotOlderThan" {
            errors.not_supported(&path, match_, &["NotOlderThan"]);
        }
        if continues {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid_options("ListOptions", &errors));
    }
    let version = parse_version(options.resource_version.as_deref())?;
    let as_of = match version {
        None => AsOf::Now,
        Some(0) => AsOf::Any,
        Some(version) => AsOf::NotOlderThan(version),
    };
    Ok(match (options.send_initial_events, version) {
        (_, Some(version)) if version > 0 && options.send_initial_events != Some(true) => {
            Beginning::After(version)
        }
        (Some(false), _) => Beginning::Here(as_of),
        // Who names no version gets the objects there are without asking for them, and their end marked.
        (Some(true) | None, _) => Beginning::State { as_of },
    })
}

impl Resource {
    /// The object's present state.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn get(&self, namespace: &str, name: &str) -> ApiResult<Arc<Entry>> {
        self.get_not_older(namespace, name, None).await
    }

    /// The object's state, at least as new as a `resourceVersion` parameter demands.
    ///
    /// # Errors
    /// 404 when there is none, 400 for a malformed version, 504 for one that is not reached in time.
    pub async fn get_not_older(
        &self,
        namespace: &str,
        name: &str,
        resource_version: Option<&str>,
    ) -> ApiResult<Arc<Entry>> {
        self.wait_until(get_as_of(resource_version)?).await?;
        self.cache
            .get(&self.cache.key(namespace, name))
            .ok_or_else(|| ApiError::not_found(self.info(), name))
    }

    /// The objects that match.
    ///
    /// # Errors
    /// 400 or 422 for options that make no sense, 410 for a continuation that is too old, 504 for a version that is not
    /// reached in time.
    pub async fn list(&self, options: &ListOptions) -> ApiResult<List> {
        let as_of = list_as_of(options)?;
        let selection = Selection::of(
            self.strategy().as_ref(),
            options.namespace.as_deref(),
            &options.label_selector,
            &options.field_selector,
        )?;
        let limit = options
            .limit
            .filter(|&limit| limit > 0)
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let from = match options.continue_.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => Some(Continuation::decode(token)?),
            None => None,
        };
        let after = from.as_ref().map(|from| from.after.as_str());
        let past = match (&from, as_of) {
            (Some(from), _) => from.revision,
            (None, AsOf::Exactly(revision)) => Some(revision),
            _ => None,
        };
        if let Some(revision) = past {
            let page = Page { limit, after };
            // What this server has not heard of may be another one's past.
            if revision <= self.feed.reached()
                && let Ok(snapshot) = self.cache.select_at(revision, &selection, page)
            {
                return Ok(self.page(options, snapshot, revision));
            }
            return self
                .list_store(options, &selection, limit, from.as_ref(), revision)
                .await;
        }
        self.wait_until(as_of).await?;
        // Read before the objects: what they show is then at least this.
        let reached = self.feed.reached();
        let page = Page {
            // Upstream answers `resourceVersion=0` from its cache as a whole, whatever the limit.
            limit: limit.filter(|_| as_of != AsOf::Any || from.is_some()),
            after,
        };
        let snapshot = self.cache.select(&selection, page);
        let revision = reached.max(snapshot.revision);
        Ok(self.page(options, snapshot, revision))
    }

    fn page(&self, options: &ListOptions, snapshot: Snapshot, revision: i64) -> List {
        let last = snapshot.items.last().filter(|_| snapshot.more.is_some());
        List {
            continue_: last.map(|last| self.continue_after(options, last, revision)),
            remaining: snapshot.more.flatten().and_then(|left| i64::try_from(left).ok()),
            items: snapshot.items,
            resource_version: revision,
        }
    }

    fn continue_after(&self, options: &ListOptions, last: &Entry, revision: i64) -> String {
        let after = match options.namespace.as_deref().unwrap_or_default() {
            "" => last.below(),
            _ => last.name().to_string(),
        };
        let revision = Some(revision);
        Continuation { revision, after }.encode()
    }

    /// A list that the cache no longer has, of a revision that is long past.
    async fn list_store(
        &self,
        options: &ListOptions,
        selection: &Selection,
        limit: Option<usize>,
        from: Option<&Continuation>,
        revision: i64,
    ) -> ApiResult<List> {
        let prefix = self.cache.prefix_of(options.namespace.as_deref());
        let mut range = Range {
            after: from.map(|from| format!("{prefix}{}", from.after)),
            // With a selector one page of the store may not fill a page of the list.
            limit: limit.map_or(0, |limit| {
                if selection.is_plain() {
                    limit
                } else {
                    limit.max(500)
                }
            }),
            prefix,
            revision: Some(revision),
        };
        let mut items = Vec::new();
        loop {
            let page = match self.store.0.range(range.clone()).await {
                Err(StoreError::Compacted { .. }) => {
                    return Err(match from {
                        Some(from) => from.expired(),
                        None => ApiError::gone("The resourceVersion for the provided list is too old."),
                    });
                }
                Err(StoreError::FutureRevision { current }) => {
                    // Nobody waits for the store to get there, so nobody is told when to come again.
                    let mut error = ApiError::too_large_resource_version(revision, current);
                    if let Some(details) = &mut error.0.details {
                        details.retry_after_seconds = None;
                    }
                    return Err(error);
                }
                other => other?,
            };
            range.revision = Some(page.revision);
            let mut more = page.remaining > 0;
            let mut remaining = page.remaining;
            let read = page.items.len();
            for (index, stored) in page.items.iter().enumerate() {
                let entry = self.stored_entry(stored)?;
                if !selection.matches(entry.facts()) {
                    continue;
                }
                if Some(items.len()) == limit {
                    more = true;
                    remaining += read - index;
                    break;
                }
                items.push(entry);
            }
            let full = limit.is_some_and(|limit| items.len() >= limit);
            if full || !more {
                let last = items.last().filter(|_| full && more);
                return Ok(List {
                    continue_: last.map(|last| self.continue_after(options, last, page.revision)),
                    remaining: last
                        .filter(|_| selection.is_plain())
                        .and_then(|_| i64::try_from(remaining).ok()),
                    items,
                    resource_version: page.revision,
                });
            }
            range.after = page.items.last().map(|last| last.key.to_string());
        }
    }

    /// The entry of a stored object: the cache's own when it has this version.
    pub(super) fn stored_entry(&self, stored: &KeyValue) -> ApiResult<Arc<Entry>> {
        match self.cache.get(&stored.key) {
            Some(entry) if entry.revision() == stored.mod_revision => Ok(entry),
            _ => self.cache.read(stored),
        }
    }

    /// The changes of the objects that match.
    ///
    /// # Errors
    /// 400 or 422 for options that make no sense. A resource version that is too old is a [`Frame::Error`].
    pub async fn watch(&self, options: WatchOptions) -> ApiResult<BoxStream<'static, Frame>> {
        let beginning = beginning(&options)?;
        let selection = Selection::of(
            self.strategy().as_ref(),
            options.namespace.as_deref(),
            &options.label_selector,
            &options.field_selector,
        )?;
        // A watch that was understood has begun: what goes wrong then is told as an event.
        let failed = |error| -> ApiResult<BoxStream<'static, Frame>> {
            Ok(Box::pin(futures::stream::iter([Frame::Error(error)])))
        };
        let start = match beginning {
            Beginning::After(revision) => match self.cache.watch_after(&selection, revision) {
                Err(gap) => return failed(watch::too_old(revision, gap)),
                Ok(subscription) => Start {
                    initial: Vec::new(),
                    subscription,
                    revision,
                    mark_end: false,
                },
            },
            Beginning::State { as_of } => {
                if let Err(error) = self.wait_until(as_of).await {
                    return failed(error);
                }
                let reached = self.feed.reached();
                let (snapshot, subscription) = self.cache.watch_from_state(&selection);
                Start {
                    initial: snapshot.items,
                    subscription,
                    revision: reached.max(snapshot.revision),
                    mark_end: true,
                }
            }
            Beginning::Here(as_of) => {
                if let Err(error) = self.wait_until(as_of).await {
                    return failed(error);
                }
                let reached = self.feed.reached();
                let (snapshot, subscription) = self.cache.watch_from_state(&selection);
                Start {
                    initial: Vec::new(),
                    subscription,
                    revision: reached.max(snapshot.revision),
                    mark_end: false,
                }
            }
        };
        Ok(watch::frames(
            self.cache.clone(),
            self.feed.clone(),
            selection,
            start,
            (options.allow_bookmarks, options.timeout),
            self.shutdown.clone(),
        ))
    }

    async fn wait_until(&self, as_of: AsOf) -> ApiResult<()> {
        match as_of {
            AsOf::Now => self.feed.catch_up().await,
            AsOf::NotOlderThan(revision) => self.feed.wait_for(revision).await,
            AsOf::Any | AsOf::Exactly(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_sees_the_state_that_its_options_ask_for() {
        let forbidden = |detail: &str| {
            Err((
                422,
                format!(r#"ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: {detail}"#),
            ))
        };
        let bad = |text: &str| Err((400, text.to_string()));
        let after = "ns/name".to_string();
        let good = Continuation {
            revision: Some(3),
            after,
        }
        .encode();
        let cases = [
            ("", "", 0, "", Ok(AsOf::Now)),
            ("0", "", 0, "", Ok(AsOf::Any)),
            ("0", "NotOlderThan", 5, "", Ok(AsOf::Any)),
            ("7", "", 0, "", Ok(AsOf::NotOlderThan(7))),
            ("7", "", 5, "", Ok(AsOf::Exactly(7))),
            ("7", "NotOlderThan", 5, "", Ok(AsOf::NotOlderThan(7))),
            ("7", "Exact", 0, "", Ok(AsOf::Exactly(7))),
            ("", "", 5, "token", Ok(AsOf::Now)),
            (
                "7",
                "",
                5,
                good.as_str(),
                bad("specifying resource version is not allowed when using continue"),
            ),
            (
                "7",
                "",
                5,
                "x",
                bad("invalid continue token: continue key is not valid: illegal base64 data at input byte 0"),
            ),
            (
                "",
                "Exact",
                0,
                "",
                forbidden("Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ),
            (
                "0",
                "Exact",
                0,
                "",
                forbidden(r#"Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0""#),
            ),
            (
                "7",
                "x",
                0,
                "",
                forbidden(r#"Unsupported value: "x": supported values: "Exact", "NotOlderThan", """#),
            ),
            (
                "7",
                "Exact",
                0,
                "token",
                forbidden("Forbidden: resourceVersionMatch is forbidden when continue is provided"),
            ),
            (
                "abc",
                "",
                0,
                "",
                bad(
                    r#"invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax"#,
                ),
            ),
        ];
        for (version, match_, limit, token, expected) in cases {
            let options = ListOptions {
                limit: Some(limit),
                continue_: Some(token.to_string()),
                resource_version: Some(version.to_string()),
                resource_version_match: Some(match_.to_string()),
                ..ListOptions::default()
            };
            let found = list_as_of(&options).map_err(|error| (error.code(), error.to_string()));
            assert_eq!(found, expected, "{version:?} {match_:?} {limit} {token:?}");
        }
    }

    #[test]
    fn a_watch_begins_where_its_options_say() {
        let state = |as_of| Ok(Beginning::State { as_of });
        let cases = [
            ("", None, "", state(AsOf::Now)),
            ("0", None, "", state(AsOf::Any)),
            ("7", None, "", Ok(Beginning::After(7))),
            ("", Some(true), "NotOlderThan", state(AsOf::Now)),
            ("0", Some(true), "NotOlderThan", state(AsOf::Any)),
            ("7", Some(true), "NotOlderThan", state(AsOf::NotOlderThan(7))),
            ("", Some(false), "NotOlderThan", Ok(Beginning::Here(AsOf::Now))),
            ("7", Some(false), "NotOlderThan", Ok(Beginning::After(7))),
            (
                "7",
                None,
                "NotOlderThan",
                Err(
                    "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ),
            ),
            (
                "7",
                Some(true),
                "",
                Err("Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
            ),
        ];
        for (version, send_initial_events, match_, expected) in cases {
            let options = WatchOptions {
                resource_version: Some(version.to_string()),
                resource_version_match: Some(match_.to_string()),
                send_initial_events,
                ..WatchOptions::default()
            };
            let expected = expected.map_err(|detail| {
                format!(r#"ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: {detail}"#)
            });
            let found = beginning(&options).map_err(|error| error.to_string());
            assert_eq!(found, expected, "{version:?} {send_initial_events:?} {match_:?}");
        }
    }
}
