//! What a job's status may become. Controllers of others may look after jobs (`spec.managedBy`), so what clients rely on
//! is checked here: a job that has ended stays ended, and its counts and times fit its conditions. A rule is asked only
//! where what it is about changes, so that an old status that breaks it can still be mended in other places.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};

use super::indexes;
use crate::field::{Errors, Path};
use crate::same::same;

const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";
const FAILURE_TARGET: &str = "FailureTarget";
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// Whether a condition is true.
pub(super) fn is_true(status: &JobStatus, type_: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
}

fn is_finished(status: &JobStatus) -> bool {
    is_true(status, COMPLETE) || is_true(status, FAILED)
}

/// A write of the status: what is, what was, and the job's spec.
struct Change<'a> {
    new: &'a JobStatus,
    old: &'a JobStatus,
    spec: &'a JobSpec,
}

impl Change<'_> {
    /// Whether a condition has become true or has ceased to be.
    fn turns(&self, type_: &str) -> bool {
        is_true(self.new, type_) != is_true(self.old, type_)
    }

    fn turns_finished(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    /// Whether the new status has a condition and another one.
    fn has_both(&self, one: &str, other: &str) -> bool {
        is_true(self.new, one) && is_true(self.new, other)
    }

    /// Whether the new status has a condition without another one.
    fn lacks(&self, one: &str, other: &str) -> bool {
        is_true(self.new, one) && !is_true(self.new, other)
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }
}

/// Checks a write of the status.
pub(super) fn validate(new: &Job, old: &Job, errors: &mut Errors) {
    let (status, before) = (
        new.status.clone().unwrap_or_default(),
        old.status.clone().unwrap_or_default(),
    );
    let spec = new.spec.clone().unwrap_or_default();
    let change = Change {
        new: &status,
        old: &before,
        spec: &spec,
    };
    let path = Path::new("status");
    validate_counts(&status, &path, errors);
    validate_end(&change, &path, errors);
    validate_indexes(&change, &path, errors);
    validate_pods(&change, &path, errors);
    validate_success(&change, &path.child("conditions"), errors);
    validate_history(&change, &path, errors);
}

fn validate_counts(status: &JobStatus, path: &Path, errors: &mut Errors) {
    for (field, count) in [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ] {
        errors.non_negative(&path.child(field), count);
    }
    let Some(uncounted) = &status.uncounted_terminated_pods else {
        return;
    };
    let path = path.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for (field, uids) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
        for (index, uid) in uids.iter().flatten().enumerate() {
            let at = path.child(field).index(index);
            if uid.is_empty() {
                errors.invalid(&at, uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&at, uid);
            }
        }
    }
}

/// The conditions and the times of a job that has ended.
fn validate_end(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (new, conditions) = (change.new, path.child("conditions"));
    let (start, end) = (&new.start_time, &new.completion_time);
    let (completed, at) = (is_true(new, COMPLETE), path.child("completionTime"));
    let start_changes = *start != change.old.start_time;
    let end_changes = *end != change.old.completion_time;
    if (change.turns(COMPLETE) || change.turns(FAILED)) && change.has_both(COMPLETE, FAILED) {
        let detail = "cannot set Complete=True and Failed=true conditions";
        errors.invalid_as_a_whole(&conditions, detail);
    }
    if (change.turns(COMPLETE) || change.turns(FAILURE_TARGET)) && change.has_both(COMPLETE, FAILURE_TARGET) {
        let detail = "cannot set Complete=True and FailureTarget=true conditions";
        errors.invalid_as_a_whole(&conditions, detail);
    }
    if change.turns(COMPLETE) || end_changes {
        match end {
            Some(end) if !completed => errors.invalid(
                &at,
                end,
                "cannot set completionTime when there is no Complete=True condition",
            ),
            None if completed => errors.required(&at, "completionTime is required for Complete jobs"),
            _ => {}
        }
    }
    if let (Some(start), Some(end)) = (start, end)
        && (start_changes || end_changes)
        && end.0 < start.0
    {
        errors.invalid(&at, end, "completionTime cannot be set before startTime");
    }
    let failed_indexes_change = new.failed_indexes != change.old.failed_indexes;
    if (change.turns(FAILED) || failed_indexes_change) && change.lacks(FAILED, FAILURE_TARGET) {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.invalid_as_a_whole(&conditions, detail);
    }
    if (change.turns(COMPLETE) || change.turns(SUCCESS_CRITERIA_MET))
        && change.lacks(COMPLETE, SUCCESS_CRITERIA_MET)
    {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.invalid_as_a_whole(&conditions, detail);
    }
    let finished = is_finished(new);
    let active = new.active.unwrap_or(0);
    if (change.turns_finished() || active != change.old.active.unwrap_or(0)) && active > 0 && finished {
        errors.invalid(
            &path.child("active"),
            active,
            "active>0 is invalid for finished job",
        );
    }
    if (change.turns_finished() || start_changes) && start.is_none() && finished {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
    if (change.turns_finished()
        || !same(
            &new.uncounted_terminated_pods,
            &change.old.uncounted_terminated_pods,
        ))
        && finished
        && let Some(uncounted) = &new.uncounted_terminated_pods
        && uncounted
            .failed
            .iter()
            .chain(&uncounted.succeeded)
            .any(|uids| !uids.is_empty())
    {
        errors.invalid(
            &path.child("uncountedTerminatedPods"),
            uncounted,
            "uncountedTerminatedPods needs to be empty for finished job",
        );
    }
}

fn validate_indexes(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let text = |indexes: &Option<String>| indexes.clone().unwrap_or_default();
    let (completed, failed) = (text(&change.new.completed_indexes), &change.new.failed_indexes);
    let completed_changes = completed != text(&change.old.completed_indexes);
    let failed_changes = *failed != change.old.failed_indexes;
    let (completed_at, failed_at) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let per_index = change.spec.backoff_limit_per_index.is_some();
    if let Some(bound) = change.spec.completions {
        if completed_changes && let Err(why) = indexes::count(&completed, bound) {
            let detail = format!("error parsing completedIndexes: {why}");
            errors.invalid(&completed_at, &completed, detail);
        }
        if let Some(failed) = failed
            && failed_changes
            && per_index
            && let Err(why) = indexes::count(failed, bound)
        {
            errors.invalid(&failed_at, failed, format!("error parsing failedIndexes: {why}"));
        }
    }
    if completed_changes && !completed.is_empty() && !change.is_indexed() {
        errors.invalid(
            &completed_at,
            &completed,
            "cannot set non-empty completedIndexes when non-indexed completion mode",
        );
    }
    let Some(failed) = failed else { return };
    if failed_changes && !per_index {
        errors.invalid(
            &failed_at,
            failed,
            "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        );
    }
    if let Some(bound) = change.spec.completions
        && (failed_changes || completed_changes)
        && let Some(index) = indexes::overlap(&completed, failed, bound)
    {
        errors.invalid(
            &failed_at,
            failed,
            format!("failedIndexes and completedIndexes overlap at index: {index}"),
        );
    }
}

fn validate_pods(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (new, old) = (change.new, change.old);
    if let Some(terminating) = new.terminating.filter(|&count| count > 0)
        && (change.turns_finished() || new.terminating != old.terminating)
        && is_finished(new)
    {
        errors.invalid(
            &path.child("terminating"),
            terminating,
            "terminating>0 is invalid for finished job",
        );
    }
    let active = new.active.unwrap_or(0);
    if let Some(ready) = new.ready.filter(|&ready| ready > active)
        && (new.ready != old.ready || active != old.active.unwrap_or(0))
    {
        errors.invalid(
            &path.child("ready"),
            ready,
            "cannot set more ready pods than active",
        );
    }
}

fn validate_success(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    for other in [FAILED, FAILURE_TARGET] {
        if change.has_both(SUCCESS_CRITERIA_MET, other) {
            let detail = format!("cannot set SuccessCriteriaMet=True and {other}=true conditions");
            errors.invalid_as_a_whole(path, &detail);
        }
    }
    if change.spec.success_policy.is_some() && change.lacks(COMPLETE, SUCCESS_CRITERIA_MET) {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.invalid_as_a_whole(path, detail);
    }
}

/// What has happened stays so.
fn validate_history(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (new, old, spec) = (change.new, change.old, change.spec);
    let conditions = path.child("conditions");
    for type_ in [FAILED, COMPLETE, FAILURE_TARGET] {
        if is_true(old, type_) && !is_true(new, type_) {
            let detail = format!("cannot disable the terminal {type_}=True condition");
            errors.invalid_as_a_whole(&conditions, &detail);
        }
    }
    let failed = new.failed.unwrap_or(0);
    if failed < old.failed.unwrap_or(0) {
        errors.invalid(
            &path.child("failed"),
            failed,
            "cannot decrease the failed counter",
        );
    }
    // An indexed job whose completions follow its parallelism can be made smaller.
    let elastic = change.is_indexed() && spec.completions == spec.parallelism;
    let succeeded = new.succeeded.unwrap_or(0);
    if !elastic && succeeded < old.succeeded.unwrap_or(0) {
        errors.invalid(
            &path.child("succeeded"),
            succeeded,
            "cannot decrease the succeeded counter",
        );
    }
    if let (Some(end), Some(before)) = (&new.completion_time, &old.completion_time)
        && end != before
    {
        errors.invalid(
            &path.child("completionTime"),
            end,
            "completionTime cannot be mutated",
        );
    }
    if old.start_time.is_some() && old.start_time != new.start_time && spec.suspend != Some(true) {
        errors.required(
            &path.child("startTime"),
            "startTime cannot be removed for unsuspended job",
        );
    }
    if is_true(old, SUCCESS_CRITERIA_MET) && !is_true(new, SUCCESS_CRITERIA_MET) {
        errors.invalid_as_a_whole(
            &conditions,
            "cannot disable the SuccessCriteriaMet=True condition",
        );
    }
    if is_true(old, COMPLETE) && !is_true(old, SUCCESS_CRITERIA_MET) && is_true(new, SUCCESS_CRITERIA_MET) {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_as_a_whole(&conditions, detail);
    }
}
