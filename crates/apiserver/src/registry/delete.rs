//! delete: what becomes of an object that is to go — it is marked, or marked and removed, or removed.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use skiff_api::field::Path;
use skiff_api::{Dependents, Errors, Object, Strategy};
use skiff_store::Expect;

use super::admit::{AdmissionRequest, Operation};
use super::entry::Entry;
use super::options::{DeleteOptions, Deleted, List, ListOptions, Propagation, WriteOptions};
use super::resource::{Put, Resource};
use super::write::{encode, now};
use crate::error::{ApiError, ApiResult};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How many objects of a collection are deleted at once, so that they can share commits.
const AT_ONCE: usize = 32;
/// How often a delete is tried again because a write came between.
const ATTEMPTS: usize = 1000;

/// What is to be done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// It is being deleted already, and no sooner by this request.
    Pending,
    /// It is written as it now is, and stays.
    Mark,
    /// It is written as it now is, then removed.
    MarkAndRemove,
    /// It is removed.
    Remove,
}

/// Decides, and marks the object accordingly (upstream's `rest.BeforeDelete` and
/// `updateForGracefulDeletionAndFinalizers`).
fn plan(strategy: &dyn Strategy, object: &mut dyn Object, options: &DeleteOptions, now: &Time) -> Plan {
    // A negative period is taken for a second.
    let requested = options
        .grace_period
        .map(|period| if period < 0 { 1 } else { period });
    let mut grace = None;
    if strategy.info().graceful {
        let meta = object.metadata();
        match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
            (None, _) => {
                let period = strategy.grace_period(object, requested);
                mark_graceful(object.metadata_mut(), period, now);
                grace = Some(period);
            }
            // A delete that went half through before: it is removed now.
            (Some(_), None | Some(0)) => {}
            (Some(deadline), Some(pending)) => match requested {
                Some(period) if period < pending => {
                    let earlier = SignedDuration::from_secs(pending - period);
                    let deadline = deadline.0.checked_sub(earlier).unwrap_or(now.0);
                    let meta = object.metadata_mut();
                    meta.deletion_timestamp = Some(Time(deadline));
                    meta.deletion_grace_period_seconds = Some(period);
                    grace = Some(period);
                }
                _ => return Plan::Pending,
            },
        }
    }
    let finalizers = finalizers(strategy.info().dependents, object.metadata(), options);
    let held = !finalizers.is_empty() || strategy.is_held(object);
    let meta = object.metadata_mut();
    meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    match (grace, held) {
        (None, false) => Plan::Remove,
        (None, true) => {
            mark_now(meta, now);
            strategy.begin_deletion(object);
            Plan::Mark
        }
        (Some(period), held) => {
            strategy.begin_deletion(object);
            if period == 0 && !held {
                Plan::MarkAndRemove
            } else {
                Plan::Mark
            }
        }
    }
}

fn mark_graceful(meta: &mut ObjectMeta, period: i64, now: &Time) {
    let deadline = now.0.checked_add(SignedDuration::from_secs(period));
    meta.deletion_timestamp = Some(Time(deadline.unwrap_or(Timestamp::MAX)));
    meta.deletion_grace_period_seconds = Some(period);
    raise_generation(meta);
}

fn mark_now(meta: &mut ObjectMeta, now: &Time) {
    if meta.deletion_grace_period_seconds.is_none() && meta.deletion_timestamp.is_none() {
        raise_generation(meta);
    }
    if meta.deletion_timestamp.as_ref().is_none_or(|at| at.0 > now.0) {
        meta.deletion_timestamp = Some(now.clone());
    }
    meta.deletion_grace_period_seconds = Some(0);
}

fn raise_generation(meta: &mut ObjectMeta) {
    if let Some(generation) = meta.generation.filter(|&generation| generation > 0) {
        meta.generation = Some(generation + 1);
    }
}

/// The object's finalizers, with those of the propagation policy (upstream's `shouldOrphanDependents`,
/// `shouldDeleteDependents`).
fn finalizers(dependents: Dependents, meta: &ObjectMeta, options: &DeleteOptions) -> Vec<String> {
    let own = meta.finalizers.as_deref().unwrap_or_default();
    let has = |name: &str| own.iter().any(|finalizer| finalizer == name);
    // The request overrides what the object says, and the object what is usual for its kind.
    let (orphan, foreground) = match (dependents, options.orphan_dependents, options.propagation) {
        (Dependents::None, ..) => (false, false),
        (_, Some(orphan), _) => (orphan, false),
        (_, None, Some(policy)) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
        (_, None, None) if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND) && !has(ORPHAN)),
        (Dependents::Orphaned(_), None, None) => (true, false),
        (Dependents::Deleted, None, None) => (false, false),
    };
    if (has(ORPHAN), has(FOREGROUND)) == (orphan, foreground) {
        return own.to_vec();
    }
    let mut finalizers: Vec<String> = own
        .iter()
        .filter(|finalizer| !matches!(finalizer.as_str(), ORPHAN | FOREGROUND))
        .cloned()
        .collect();
    if orphan {
        finalizers.push(ORPHAN.into());
    }
    if foreground {
        finalizers.push(FOREGROUND.into());
    }
    finalizers
}

fn validate(options: &DeleteOptions) -> ApiResult<()> {
    let mut errors = Errors::new();
    if let (Some(policy), Some(_)) = (options.propagation, options.orphan_dependents) {
        errors.invalid(
            &Path::new("propagationPolicy"),
            policy.name(),
            "orphanDependents and deletionPropagation cannot be both set",
        );
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid_options("DeleteOptions", &errors))
    }
}

enum Attempt {
    Done(Deleted),
    /// Nothing is to be written. Holds only if the state it was decided by is the present one.
    Unwritten(Deleted),
    Again(Option<Arc<Entry>>),
}

impl Resource {
    /// Deletes an object, or marks it as being deleted.
    ///
    /// # Errors
    /// 404 when there is none, 409 when a precondition does not hold.
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> ApiResult<Deleted> {
        validate(options)?;
        let key = self.cache.key(namespace, name);
        let mut current = self.cached(&key);
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let attempt = match current.as_deref() {
                Some(entry) => self.try_delete(&key, entry, options, write).await,
                None => Err(ApiError::not_found(self.info(), name)),
            };
            let outcome = match attempt {
                Ok(Attempt::Done(deleted)) => return Ok(deleted),
                Ok(Attempt::Again(found)) => {
                    (current, fresh) = (found, true);
                    continue;
                }
                Ok(Attempt::Unwritten(deleted)) => Ok(deleted),
                Err(error) => Err(error),
            };
            // The cache may be behind: what it refuses, or finds done, is asked of the store.
            if fresh || self.is_present(&key, &mut current).await? {
                return outcome;
            }
            fresh = true;
        }
        Err(ApiError::modified(self.info(), name))
    }

    async fn try_delete(
        &self,
        key: &str,
        entry: &Entry,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> ApiResult<Attempt> {
        let (info, strategy) = (self.info(), self.strategy());
        let dry_run = options.dry_run || write.dry_run;
        let live = self.live(entry)?;
        let old = &live.object;
        self.check_preconditions(old.metadata(), options)?;
        let admission = AdmissionRequest {
            info,
            namespace: entry.namespace(),
            name: entry.name(),
            operation: Operation::Delete,
            subresource: None,
            old: Some(old.as_ref()),
            user: &write.user,
            dry_run,
            warnings: &write.warnings,
        };
        self.admission.check_delete(&admission).await?;
        let mut new = old.clone_object();
        let plan = plan(strategy.as_ref(), new.as_mut(), options, &now());
        let mut last = entry.revision();
        let mut shown = None;
        if matches!(plan, Plan::Mark | Plan::MarkAndRemove | Plan::Pending) {
            let facts = self.facts(new.as_ref());
            let value = encode(new.as_mut(), live.owners)?;
            let unchanged = plan == Plan::Pending || dry_run || entry.holds(&value);
            let marked = if unchanged {
                self.unwritten(facts, &value, entry.revision())?
            } else {
                match self
                    .put(key, facts, value, Expect::Revision(entry.revision()))
                    .await?
                {
                    Put::Done(marked) => marked,
                    Put::Conflict(found) => return Ok(Attempt::Again(found)),
                }
            };
            if plan != Plan::MarkAndRemove {
                let marked = Deleted::Marked(marked);
                return Ok(if unchanged {
                    Attempt::Unwritten(marked)
                } else {
                    Attempt::Done(marked)
                });
            }
            last = marked.revision();
            shown = Some(marked);
        }
        let before = shown.as_deref().unwrap_or(entry);
        if dry_run {
            let removed = Deleted::Removed(Arc::new(before.deleted_at(entry.revision())));
            return Ok(Attempt::Unwritten(removed));
        }
        let revision = match self.remove(key, last).await? {
            Ok(revision) => revision,
            // Somebody else has removed what we marked.
            Err(None) if shown.is_some() => last,
            Err(found) => return Ok(Attempt::Again(found)),
        };
        self.admission.released(info, old.as_ref()).await;
        Ok(Attempt::Done(Deleted::Removed(Arc::new(
            before.deleted_at(revision),
        ))))
    }

    /// Whether an object is the one, and in the version, that a delete is meant for.
    ///
    /// # Errors
    /// 409 when it is not.
    pub(crate) fn check_preconditions(&self, meta: &ObjectMeta, options: &DeleteOptions) -> ApiResult<()> {
        let name = meta.name.as_deref().unwrap_or_default();
        // Upstream's quirk: here the message names the kind, not the resource.
        let conflict = |detail: String| {
            let info = self.info();
            let message = format!(
                "Operation cannot be fulfilled on {} {name:?}: {detail}",
                info.group_kind()
            );
            let mut error = ApiError::conflict(info, name, &detail);
            error.0.message = Some(message);
            if let Some(details) = &mut error.0.details {
                details.kind = Some(info.kind.to_string());
            }
            error
        };
        let uid = meta.uid.as_deref().unwrap_or_default();
        if let Some(asked) = options.uid.as_deref().filter(|asked| *asked != uid) {
            return Err(conflict(format!(
                "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The object might have \
                 been deleted and then recreated"
            )));
        }
        let version = meta.resource_version.as_deref().unwrap_or_default();
        if let Some(asked) = options
            .resource_version
            .as_deref()
            .filter(|asked| *asked != version)
        {
            return Err(conflict(format!(
                "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record \
                 ({version}). The object might have been modified"
            )));
        }
        Ok(())
    }

    /// Deletes all objects that match. The list has them as they were left, or last were.
    ///
    /// # Errors
    /// As [`Resource::list`] and [`Resource::delete`].
    pub async fn delete_collection(
        &self,
        list: &ListOptions,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> ApiResult<List> {
        let found = self.list(list).await?;
        let delete = |entry: Arc<Entry>| async move {
            match self.delete(entry.namespace(), entry.name(), options, write).await {
                Ok(deleted) => Ok(Some(deleted.entry().clone())),
                // Somebody else was quicker.
                Err(error) if error.code() == 404 => Ok(None),
                Err(error) => Err(error),
            }
        };
        let deletes: Vec<_> = found.items.iter().cloned().map(delete).collect();
        let items: Vec<Option<Arc<Entry>>> = futures::stream::iter(deletes)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(List {
            items: items.into_iter().flatten().collect(),
            ..found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use skiff_api::catalogue;

    const NOW: i64 = 1_000_000;

    fn at(second: i64) -> Value {
        json!(Time(Timestamp::from_second(second).unwrap()))
    }

    fn planned(plural: &str, object: Value, options: &DeleteOptions) -> (Plan, Value) {
        let catalogue = catalogue::builtin();
        let strategy = catalogue.resource("", "v1", plural).unwrap();
        let mut object = strategy.decode_value(object).unwrap();
        let now = Time(Timestamp::from_second(NOW).unwrap());
        let plan = plan(strategy.as_ref(), object.as_mut(), options, &now);
        let json: Value = serde_json::from_slice(&object.encode().unwrap()).unwrap();
        (plan, json["metadata"].clone())
    }

    fn pod(meta: Value, node: &str, phase: &str) -> Value {
        json!({
            "metadata": meta,
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30, "containers": []},
            "status": {"phase": phase}
        })
    }

    #[test]
    fn pods_get_the_grace_that_is_due_to_them() {
        let deleting = |period: i64| json!({"deletionTimestamp": at(NOW + period), "deletionGracePeriodSeconds": period});
        let running = |meta: Value| pod(meta, "n", "Running");
        // Object, asked for; plan, period and deadline.
        let cases = [
            (running(json!({})), None, Plan::Mark, Some((30, 30))),
            (running(json!({})), Some(5), Plan::Mark, Some((5, 5))),
            (running(json!({})), Some(-7), Plan::Mark, Some((1, 1))),
            (running(json!({})), Some(0), Plan::MarkAndRemove, Some((0, 0))),
            (
                running(json!({"finalizers": ["a/b"]})),
                Some(0),
                Plan::Mark,
                Some((0, 0)),
            ),
            (
                pod(json!({}), "", "Pending"),
                None,
                Plan::MarkAndRemove,
                Some((0, 0)),
            ),
            (
                pod(json!({}), "n", "Succeeded"),
                Some(9),
                Plan::MarkAndRemove,
                Some((0, 0)),
            ),
            (running(deleting(30)), None, Plan::Pending, Some((30, 30))),
            (running(deleting(30)), Some(30), Plan::Pending, Some((30, 30))),
            (running(deleting(30)), Some(10), Plan::Mark, Some((10, 10))),
            (running(deleting(30)), Some(0), Plan::MarkAndRemove, Some((0, 0))),
            // Marked with no grace left, then the server stopped.
            (running(deleting(0)), None, Plan::Remove, Some((0, 0))),
        ];
        for (object, grace_period, expected, marked) in cases {
            let options = DeleteOptions {
                grace_period,
                ..DeleteOptions::default()
            };
            let (plan, meta) = planned("pods", object.clone(), &options);
            assert_eq!(plan, expected, "{object} {grace_period:?}");
            let (period, deadline) = marked.unwrap();
            assert_eq!(meta["deletionGracePeriodSeconds"], period, "{object}");
            assert_eq!(meta["deletionTimestamp"], at(NOW + deadline), "{object}");
        }
    }

    #[test]
    fn a_deletion_that_begins_raises_the_generation() {
        let generation =
            |plural, object| planned(plural, object, &DeleteOptions::default()).1["generation"].clone();
        assert_eq!(
            generation("pods", pod(json!({"generation": 1}), "n", "Running")),
            2
        );
        let held = json!({"metadata": {"generation": 4, "finalizers": ["a/b"]}});
        assert_eq!(generation("configmaps", held), 5);
        let pending = json!({"metadata": {
            "generation": 5, "finalizers": ["a/b"], "deletionTimestamp": at(NOW), "deletionGracePeriodSeconds": 0
        }});
        assert_eq!(generation("configmaps", pending), 5);
    }

    #[test]
    fn a_kind_has_a_policy_for_those_who_name_none() {
        const JOBS: Dependents = Dependents::Orphaned("");
        let cases = [
            (JOBS, json!([]), None, json!(["orphan"])),
            (
                JOBS,
                json!(["foregroundDeletion"]),
                None,
                json!(["foregroundDeletion"]),
            ),
            (JOBS, json!([]), Some(Propagation::Background), json!([])),
            (
                JOBS,
                json!(["orphan"]),
                Some(Propagation::Foreground),
                json!(["foregroundDeletion"]),
            ),
            (Dependents::Deleted, json!([]), None, json!([])),
            (
                Dependents::None,
                json!(["orphan", "a/b"]),
                Some(Propagation::Orphan),
                json!(["a/b"]),
            ),
        ];
        for (dependents, before, propagation, after) in cases {
            let meta: ObjectMeta = serde_json::from_value(json!({"finalizers": before})).unwrap();
            let options = DeleteOptions {
                propagation,
                ..DeleteOptions::default()
            };
            assert_eq!(
                json!(finalizers(dependents, &meta, &options)),
                after,
                "{dependents:?} {before} {propagation:?}"
            );
        }
    }

    #[test]
    fn a_policy_of_the_request_overrides_the_finalizers_of_the_object() {
        let cases = [
            (json!([]), None, None, json!([])),
            (json!(["a/b"]), None, None, json!(["a/b"])),
            (json!(["orphan", "a/b"]), None, None, json!(["orphan", "a/b"])),
            (
                json!(["orphan", "a/b"]),
                Some(Propagation::Background),
                None,
                json!(["a/b"]),
            ),
            (
                json!(["orphan"]),
                Some(Propagation::Foreground),
                None,
                json!(["foregroundDeletion"]),
            ),
            (
                json!(["a/b"]),
                Some(Propagation::Orphan),
                None,
                json!(["a/b", "orphan"]),
            ),
            (json!(["foregroundDeletion"]), None, Some(true), json!(["orphan"])),
            (json!(["foregroundDeletion"]), None, Some(false), json!([])),
        ];
        for (before, propagation, orphan_dependents, after) in cases {
            let meta: ObjectMeta = serde_json::from_value(json!({"finalizers": before})).unwrap();
            let options = DeleteOptions {
                propagation,
                orphan_dependents,
                ..DeleteOptions::default()
            };
            assert_eq!(
                json!(finalizers(Dependents::Deleted, &meta, &options)),
                after,
                "{before} {propagation:?} {orphan_dependents:?}"
            );
        }
    }
}
