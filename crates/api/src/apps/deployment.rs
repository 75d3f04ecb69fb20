//! Deployment: replica sets, one a version of the pod template, exchanged step by step.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as LabelSelectorObject;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::cell;
use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::meta;
use crate::same::same;
use crate::selector::LabelSelector;
use crate::workload::{self, check_count_or_percent, non_negative};

impl Kind for Deployment {
    fn info() -> KindInfo {
        let mut columns = vec![
            Column::object_name(),
            Column::new("Ready", "string", "Number of the pod with ready state"),
            Column::of(
                "Up-to-date",
                "string",
                "apps.v1.DeploymentStatus",
                "updatedReplicas",
            ),
            Column::of(
                "Available",
                "string",
                "apps.v1.DeploymentStatus",
                "availableReplicas",
            ),
            Column::age(),
        ];
        columns.extend(cell::selected_template_columns("apps.v1.DeploymentSpec"));
        KindInfo {
            short_names: &["deploy"],
            categories: &["all"],
            subresources: &[Subresource::Status, Subresource::Scale],
            columns,
            ..KindInfo::of::<Self>("deployment")
        }
    }

    fn default(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            strategy.type_ = Some("RollingUpdate".into());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let quarter = || IntOrString::String("25%".into());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        pod_spec::default_template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Subresource(Subresource::Status) {
            self.spec.clone_from(&old.spec);
            self.metadata.labels.clone_from(&old.metadata.labels);
            self.metadata.generation = old.metadata.generation;
            return;
        }
        self.status.clone_from(&old.status);
        // The controller reads annotations of the deployment too, so they count as a change of what is desired.
        let annotations = |object: &Self| object.metadata.annotations.clone().unwrap_or_default();
        let changed = !same(&self.spec, &old.spec) || annotations(self) != annotations(old);
        self.metadata.generation = meta::generation_after(&old.metadata, changed);
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        let deadline = path.child("progressDeadlineSeconds");
        let seconds = spec.progress_deadline_seconds;
        let ready = spec.min_ready_seconds.unwrap_or(0);
        non_negative(spec.replicas, &path.child("replicas"), errors);
        workload::validate_selector(
            &spec.selector,
            "empty selector is invalid for deployment",
            &path.child("selector"),
            errors,
        );
        workload::validate_template(
            Some(&spec.template),
            &spec.selector,
            &path.child("template"),
            errors,
        );
        if let Some(strategy) = &spec.strategy {
            validate_strategy(strategy, &path.child("strategy"), errors);
        }
        non_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
        non_negative(
            spec.revision_history_limit,
            &path.child("revisionHistoryLimit"),
            errors,
        );
        non_negative(seconds, &deadline, errors);
        if let Some(seconds) = seconds.filter(|&seconds| seconds <= ready) {
            errors.invalid(&deadline, seconds, "must be greater than minReadySeconds");
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Subresource(Subresource::Status) {
            // Through `scale`, too, what results must be a valid one.
            if target != Target::Main {
                self.validate(errors);
            }
            return meta::immutable(
                &self.spec.selector,
                &old.spec.selector,
                &Path::new("spec.selector"),
                errors,
            );
        }
        let status = self.status.clone().unwrap_or_default();
        let path = Path::new("status");
        errors.non_negative(&path.child("observedGeneration"), status.observed_generation);
        let counts = [
            ("replicas", status.replicas),
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
            ("unavailableReplicas", status.unavailable_replicas),
            ("terminatingReplicas", status.terminating_replicas),
            ("collisionCount", status.collision_count),
        ];
        for (field, count) in counts {
            non_negative(count, &path.child(field), errors);
        }
        let all = status.replicas.unwrap_or(0);
        for (field, count) in counts.into_iter().skip(1).take(3) {
            workload::at_most(count, all, "status.replicas", &path.child(field), errors);
        }
        workload::at_most(
            status.available_replicas,
            status.ready_replicas.unwrap_or(0),
            "readyReplicas",
            &path.child("availableReplicas"),
            errors,
        );
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        workload::check_collisions(status.collision_count, before, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        workload::warnings(
            &self.metadata,
            Some(&self.spec.template),
            old.map(|old| &old.metadata),
        )
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = cell::template(Some(&self.spec.template));
        vec![
            self.metadata.name.clone().into(),
            format!(
                "{}/{}",
                status.ready_replicas.unwrap_or(0),
                self.spec.replicas.unwrap_or(0)
            )
            .into(),
            status.updated_replicas.unwrap_or(0).into(),
            status.available_replicas.unwrap_or(0).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            shown_selector(&self.spec.selector).into(),
        ]
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &Path, errors: &mut Errors) {
    let rolling = path.child("rollingUpdate");
    match (
        strategy.type_.as_deref().unwrap_or_default(),
        &strategy.rolling_update,
    ) {
        ("Recreate", Some(_)) => errors.forbidden(
            &rolling,
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.required(&rolling, "this should be defaulted and never be nil");
        }
        ("RollingUpdate", Some(update)) => validate_rolling(update, &rolling, errors),
        (type_, rolling) => {
            let rolling = rolling
                .as_ref()
                .map(|rolling| (&rolling.max_unavailable, &rolling.max_surge));
            let shown = workload::shown_strategy(type_, rolling);
            errors.not_supported(path, shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn validate_rolling(update: &RollingUpdateDeployment, path: &Path, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    check_count_or_percent(unavailable, &path.child("maxUnavailable"), errors);
    check_count_or_percent(surge, &path.child("maxSurge"), errors);
    if workload::amount(unavailable) == 0 && workload::amount(surge) == 0 {
        errors.invalid(
            &path.child("maxUnavailable"),
            unavailable,
            "may not be 0 when `maxSurge` is 0",
        );
    }
    workload::check_not_more_than_all(unavailable, &path.child("maxUnavailable"), errors);
}

/// The cell of the selector: of nothing where it selects everything.
fn shown_selector(selector: &LabelSelectorObject) -> String {
    match LabelSelector::of(Some(selector)) {
        Ok(selector) => selector.to_string(),
        Err(_) => "<invalid>".into(),
    }
}
