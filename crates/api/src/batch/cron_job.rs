//! CronJob: a job at every time of a schedule.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};
use serde_json::Value;

use super::{failure_policy, job_spec, schedule};
use crate::cell;
use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::workload;

/// The controller appends a dash and ten digits to make a job's name.
const MAX_NAME: usize = 52;
/// What stands in front of the zone in a schedule that names one.
const ZONE: &str = "TZ";

impl Kind for CronJob {
    fn info() -> KindInfo {
        let mut columns = vec![
            Column::object_name(),
            Column::of("Schedule", "string", "batch.v1.CronJobSpec", "schedule"),
            Column::of("Timezone", "string", "batch.v1.CronJobSpec", "timeZone"),
            Column::of("Suspend", "boolean", "batch.v1.CronJobSpec", "suspend"),
            Column::of("Active", "integer", "batch.v1.CronJobStatus", "active"),
            Column::of(
                "Last Schedule",
                "string",
                "batch.v1.CronJobStatus",
                "lastScheduleTime",
            ),
            Column::age(),
        ];
        columns.extend(cell::selected_template_columns("batch.v1.JobSpec"));
        KindInfo {
            short_names: &["cj"],
            categories: &["all"],
            subresources: &[Subresource::Status],
            columns,
            ..KindInfo::of::<Self>("cronjob")
        }
    }

    fn default(&mut self) {
        let spec = &mut self.spec;
        if spec.concurrency_policy.as_deref().unwrap_or_default().is_empty() {
            spec.concurrency_policy = Some("Allow".into());
        }
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        spec.job_template.metadata.get_or_insert_default();
        let job = spec.job_template.spec.get_or_insert_default();
        pod_spec::default_template(&mut job.template);
        for pattern in failure_policy::conditions_mut(job) {
            pattern.status.get_or_insert_default();
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        validate_schedule(spec, &path, errors);
        errors.non_negative(
            &path.child("startingDeadlineSeconds"),
            spec.starting_deadline_seconds,
        );
        errors.one_of(
            &path.child("concurrencyPolicy"),
            spec.concurrency_policy.as_deref(),
            &["Allow", "Forbid", "Replace"],
        );
        let job = spec.job_template.spec.clone().unwrap_or_default();
        let template = path.child("jobTemplate.spec");
        job_spec::validate(&job, &template, errors);
        if job.selector.is_some() {
            errors.invalid(
                &template.child("selector"),
                &job.selector,
                "`selector` will be auto-generated",
            );
        }
        if job.manual_selector == Some(true) {
            errors.not_supported(&template.child("manualSelector"), true, &["nil", "false"]);
        }
        errors.non_negative(
            &path.child("successfulJobsHistoryLimit"),
            spec.successful_jobs_history_limit,
        );
        errors.non_negative(
            &path.child("failedJobsHistoryLimit"),
            spec.failed_jobs_history_limit,
        );
    }

    fn validate_create(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        refuse_zone_in_schedule(spec, &path, errors);
        validate_time_zone(spec, &path.child("timeZone"), errors);
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name.len() > MAX_NAME {
            errors.invalid(
                &Path::new("metadata.name"),
                name,
                "must be no more than 52 characters",
            );
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            return;
        }
        let (spec, path) = (&self.spec, Path::new("spec"));
        // Schedules that name a zone are older than the field for it.
        if !old.spec.schedule.contains(ZONE) {
            refuse_zone_in_schedule(spec, &path, errors);
        } else if spec.schedule.contains(ZONE) && spec.time_zone.is_some() {
            errors.invalid(
                &path.child("schedule"),
                &spec.schedule,
                "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            );
        }
        if spec.time_zone != old.spec.time_zone {
            validate_time_zone(spec, &path.child("timeZone"), errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() {
            warnings.extend(workload::name_warning(&self.metadata));
        }
        if let Some(job) = &self.spec.job_template.spec
            && old.is_none_or(|old| old.metadata.generation != self.metadata.generation)
        {
            job_spec::warn(job, &Path::new("spec.jobTemplate.spec"), &mut warnings);
        }
        if old.is_some() && self.spec.schedule.contains(ZONE) {
            warnings.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .into(),
            );
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let job = self.spec.job_template.spec.clone().unwrap_or_default();
        let (names, images) = cell::template(Some(&job.template));
        let last = match &status.last_schedule_time {
            Some(time) => cell::since(Some(time), now),
            None => cell::NONE.into(),
        };
        vec![
            self.metadata.name.clone().into(),
            self.spec.schedule.clone().into(),
            cell::or(self.spec.time_zone.as_deref(), cell::NONE).into(),
            cell::boolean(self.spec.suspend).into(),
            status.active.map_or(0, |active| active.len()).into(),
            last.into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            cell::selector(&job.selector.unwrap_or_default()).into(),
        ]
    }
}

fn validate_schedule(spec: &CronJobSpec, path: &Path, errors: &mut Errors) {
    let path = path.child("schedule");
    if spec.schedule.is_empty() {
        return errors.required(&path, "");
    }
    if let Err(why) = schedule::check(&spec.schedule) {
        errors.invalid(&path, &spec.schedule, why);
    }
}

fn refuse_zone_in_schedule(spec: &CronJobSpec, path: &Path, errors: &mut Errors) {
    if spec.schedule.contains(ZONE) {
        errors.invalid(
            &path.child("schedule"),
            &spec.schedule,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        );
    }
}

fn validate_time_zone(spec: &CronJobSpec, path: &Path, errors: &mut Errors) {
    let Some(zone) = spec.time_zone.as_deref() else {
        return;
    };
    if zone.is_empty() {
        return errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    if !zone.split('/').all(is_part_of_zone) {
        return errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("local") {
        errors.invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    }
    if !schedule::is_time_zone(zone) {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

/// Whether a text may stand between the slashes of a zone's name.
fn is_part_of_zone(part: &str) -> bool {
    (1..=14).contains(&part.len())
        && !matches!(part, "." | "..")
        && !part.starts_with('-')
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
}
