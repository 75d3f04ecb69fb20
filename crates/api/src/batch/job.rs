//! Job: pods that run until enough of them have succeeded.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::job_status::is_true;
use super::{failure_policy, job_spec, job_status};
use crate::cell;
use crate::core::pod_spec;
use crate::field::{Errors, Internal, Path};
use crate::halves;
use crate::internal;
use crate::kind::{Column, Dependents, Kind, KindInfo, Subresource, Target, age, human_duration};
use crate::meta;
use crate::names;
use crate::same::same;
use crate::selector::{self, LabelSelector};
use crate::workload;

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";

/// What a client is told that deletes a job and does not say what is to become of its pods.
const ORPHANS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

impl Kind for Job {
    fn info() -> KindInfo {
        let mut columns = vec![
            Column::object_name(),
            Column::new("Status", "string", "Status of the job."),
            Column::of("Completions", "string", "batch.v1.JobStatus", "succeeded"),
            Column::new("Duration", "string", "Time required to complete the job."),
            Column::age(),
        ];
        columns.extend(cell::selected_template_columns("batch.v1.JobSpec"));
        KindInfo {
            categories: &["all"],
            subresources: &[Subresource::Status],
            columns,
            selectable_fields: &["status.successful"],
            dependents: Dependents::Orphaned(ORPHANS),
            ..KindInfo::of::<Self>("job")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        };
        spec.backoff_limit.get_or_insert(limit);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".into());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        for pattern in failure_policy::conditions_mut(spec) {
            if pattern.status.as_deref().unwrap_or_default().is_empty() {
                pattern.status = Some("True".into());
            }
        }
        let replacement = if spec.pod_failure_policy.is_some() {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        spec.pod_replacement_policy
            .get_or_insert_with(|| replacement.into());
        let labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone());
        if self.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
            self.metadata.labels = labels;
        }
        pod_spec::default_template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        let meta = self.metadata.clone();
        let spec = self.spec.get_or_insert_default();
        if spec.manual_selector != Some(true) {
            generate_selector(spec, &meta);
        }
        // Workload-aware scheduling is an alpha feature.
        spec.scheduling = None;
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        let scheduled = old.spec.as_ref().is_some_and(|spec| spec.scheduling.is_some());
        if let Some(spec) = self.spec.as_mut().filter(|_| !scheduled) {
            spec.scheduling = None;
        }
        halves::carry_over(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = self.spec.clone().unwrap_or_default();
        validate_generated(&spec, &self.metadata, &path, errors);
        job_spec::validate(&spec, &path, errors);
        match &spec.selector {
            None => errors.required(&path.child("selector"), ""),
            Some(selector) => selector::validate(selector, &path.child("selector"), errors),
        }
        let labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref());
        if LabelSelector::of(spec.selector.as_ref()).is_ok_and(|selector| !selector.matches(&labels)) {
            errors.invalid(
                &path.child("template.metadata.labels"),
                labels,
                "`selector` does not match template `labels`",
            );
        }
        validate_hostnames(&spec, &self.metadata, errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            validate_change(self, old, errors);
        } else {
            job_status::validate(self, old, errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() {
            warnings.extend(workload::name_warning(&self.metadata));
        }
        if let Some(spec) = &self.spec
            && old.is_none_or(|old| old.metadata.generation != self.metadata.generation)
        {
            job_spec::warn(spec, &Path::new("spec"), &mut warnings);
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = cell::template(Some(&spec.template));
        vec![
            self.metadata.name.clone().into(),
            state(&status, &self.metadata).into(),
            completions(&spec, &status).into(),
            duration(&status, now).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            cell::selector(&spec.selector.unwrap_or_default()).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "status.successful" => {
                let status = self.status.as_ref();
                let succeeded = status.and_then(|status| status.succeeded);
                succeeded.unwrap_or(0).to_string()
            }
            _ => String::new(),
        }
    }
}

/// Labels that only this job's pods have, and the selector of them.
fn generate_selector(spec: &mut JobSpec, meta: &ObjectMeta) {
    let name = meta.name.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    let labels = spec
        .template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    // Labels of the user's own that differ are found wrong afterwards.
    for (key, value) in [
        (OLD_JOB_NAME, &name),
        (JOB_NAME, &name),
        (OLD_CONTROLLER_UID, &uid),
        (CONTROLLER_UID, &uid),
    ] {
        labels.entry(key.into()).or_insert_with(|| value.clone());
    }
    let selected = spec
        .selector
        .get_or_insert_default()
        .match_labels
        .get_or_insert_default();
    selected.entry(CONTROLLER_UID.into()).or_insert(uid);
}

fn validate_generated(spec: &JobSpec, meta: &ObjectMeta, path: &Path, errors: &mut Errors) {
    if spec.manual_selector == Some(true) || spec.selector.is_none() {
        return;
    }
    let name = meta.name.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    if uid.is_empty() {
        errors.required(&Path::new("metadata.uid"), "");
    }
    let expected: BTreeMap<String, String> = [
        (OLD_CONTROLLER_UID.to_string(), uid.clone()),
        (OLD_JOB_NAME.to_string(), name.clone()),
        (CONTROLLER_UID.to_string(), uid),
        (JOB_NAME.to_string(), name),
    ]
    .into();
    let template = spec.template.metadata.clone().unwrap_or_default();
    let labels = template.labels.unwrap_or_default();
    let at = path.child("template.metadata.labels");
    for key in [OLD_CONTROLLER_UID, OLD_JOB_NAME, CONTROLLER_UID, JOB_NAME] {
        let value = expected.get(key).cloned().unwrap_or_default();
        let detail = format!("must be '{value}'");
        match labels.get(key) {
            None => errors.required(&at.key(key), &detail),
            Some(found) if *found != value => errors.invalid(&at.key(key), &labels, &detail),
            Some(_) => {}
        }
    }
    if LabelSelector::of(spec.selector.as_ref()).is_ok_and(|selector| !selector.matches(&expected)) {
        errors.invalid(
            &path.child("selector"),
            &spec.selector,
            "`selector` not auto-generated",
        );
    }
}

/// The pods of an indexed job are named after it and their index, and so are their hosts.
fn validate_hostnames(spec: &JobSpec, meta: &ObjectMeta, errors: &mut Errors) {
    let Some(last) = spec.completions.filter(|&count| count > 0).map(|count| count - 1) else {
        return;
    };
    let name = meta.name.as_deref().unwrap_or_default();
    let longest = format!("{name}-{last}");
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if indexed && !names::dns_label(&longest, false).is_empty() {
        errors.invalid(
            &Path::new("metadata.name"),
            name,
            format!("will not able to create pod with invalid DNS label: {longest}"),
        );
    }
}

fn validate_change(new: &Job, old: &Job, errors: &mut Errors) {
    let path = Path::new("spec");
    let (spec, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    let at = path.child("completions");
    if spec.completion_mode.as_deref() != Some("Indexed") {
        meta::immutable(&spec.completions, &before.completions, &at, errors);
    } else if spec.completions != before.completions
        && spec.completions.is_some()
        && spec.completions != spec.parallelism
    {
        errors.invalid(
            &at,
            spec.completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
    meta::immutable(&spec.selector, &before.selector, &path.child("selector"), errors);
    validate_template_change(&spec, old, &path, errors);
    meta::immutable(
        &spec.completion_mode,
        &before.completion_mode,
        &path.child("completionMode"),
        errors,
    );
    if !same(&spec.pod_failure_policy, &before.pod_failure_policy) {
        errors.invalid(
            &path.child("podFailurePolicy"),
            shown_policy("PodFailurePolicy", spec.pod_failure_policy.as_ref()),
            meta::IMMUTABLE,
        );
    }
    meta::immutable(
        &spec.backoff_limit_per_index,
        &before.backoff_limit_per_index,
        &path.child("backoffLimitPerIndex"),
        errors,
    );
    meta::immutable(
        &spec.managed_by,
        &before.managed_by,
        &path.child("managedBy"),
        errors,
    );
    if !same(&spec.success_policy, &before.success_policy) {
        errors.invalid(
            &path.child("successPolicy"),
            shown_policy("SuccessPolicy", spec.success_policy.as_ref()),
            meta::IMMUTABLE,
        );
    }
}

/// The template of a job that is suspended may still be told where its pods go, and what they need: before they ever
/// ran, and again once none of them runs any more.
fn validate_template_change(spec: &JobSpec, old: &Job, path: &Path, errors: &mut Errors) {
    let before = old.spec.clone().unwrap_or_default();
    let status = old.status.clone().unwrap_or_default();
    let never_started = status.start_time.is_none();
    let at_rest = is_true(&status, "Suspended") && status.active.unwrap_or(0) == 0;
    let mut kept = before.template;
    if before.suspend == Some(true) && (never_started || at_rest) {
        let template = spec.template.clone();
        let metadata = template.metadata.unwrap_or_default();
        let kept_metadata = kept.metadata.get_or_insert_default();
        kept_metadata.annotations = metadata.annotations;
        kept_metadata.labels = metadata.labels;
        if let (Some(kept), Some(wanted)) = (&mut kept.spec, template.spec) {
            take_directives(kept, wanted);
        }
    }
    if !same(&spec.template, &kept) {
        let shown = internal::of("PodTemplateSpec", &spec.template);
        errors.invalid(&path.child("template"), shown, meta::IMMUTABLE);
    }
}

fn shown_policy(type_: &str, policy: Option<&impl Serialize>) -> Internal {
    Internal::optional(policy.map(|policy| internal::of(&format!("batch.v1.{type_}"), policy)))
}

fn take_directives(kept: &mut PodSpec, wanted: PodSpec) {
    let nodes = wanted.affinity.and_then(|affinity| affinity.node_affinity);
    if nodes.is_some() {
        kept.affinity.get_or_insert_default().node_affinity = nodes;
    } else if let Some(affinity) = &mut kept.affinity {
        affinity.node_affinity = None;
    }
    kept.node_selector = wanted.node_selector;
    kept.tolerations = wanted.tolerations;
    kept.scheduling_gates = wanted.scheduling_gates;
    let pairs = kept.containers.iter_mut().zip(wanted.containers);
    let init = kept.init_containers.iter_mut().flatten();
    for (kept, wanted) in pairs.chain(init.zip(wanted.init_containers.into_iter().flatten())) {
        let Some(wanted) = wanted.resources.filter(|_| kept.name == wanted.name) else {
            continue;
        };
        let kept = kept.resources.get_or_insert_default();
        kept.requests = wanted.requests;
        kept.limits = wanted.limits;
    }
}

fn state(status: &JobStatus, meta: &ObjectMeta) -> &'static str {
    let deleting = meta.deletion_timestamp.is_some();
    if is_true(status, "Complete") {
        "Complete"
    } else if is_true(status, "Failed") {
        "Failed"
    } else if deleting {
        "Terminating"
    } else if is_true(status, "Suspended") {
        "Suspended"
    } else if is_true(status, "FailureTarget") {
        "FailureTarget"
    } else if is_true(status, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or(0);
    match (spec.completions, spec.parallelism.unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(status: &JobStatus, now: Timestamp) -> String {
    let Some(start) = &status.start_time else {
        return String::new();
    };
    let end = status.completion_time.as_ref().map_or(now, |time| time.0);
    human_duration(end.as_second() - start.0.as_second())
}
