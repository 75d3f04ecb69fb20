//! DaemonSet: a pod on every node.

use std::num::IntErrorKind;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::cell;
use crate::core::pod_spec;
use crate::field::{self, Errors, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::meta;
use crate::same::same;
use crate::selector::{self, LabelSelector};
use crate::workload::{self, check_count_or_percent, non_negative};

/// Where the generation of the template is kept since there is no field for it any more.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &DaemonSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(TEMPLATE_GENERATION))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string());
}

impl Kind for DaemonSet {
    fn info() -> KindInfo {
        let mut columns = vec![
            Column::object_name(),
            Column::of(
                "Desired",
                "integer",
                "apps.v1.DaemonSetStatus",
                "desiredNumberScheduled",
            ),
            Column::of(
                "Current",
                "integer",
                "apps.v1.DaemonSetStatus",
                "currentNumberScheduled",
            ),
            Column::of("Ready", "integer", "apps.v1.DaemonSetStatus", "numberReady"),
            Column::of(
                "Up-to-date",
                "integer",
                "apps.v1.DaemonSetStatus",
                "updatedNumberScheduled",
            ),
            Column::of(
                "Available",
                "integer",
                "apps.v1.DaemonSetStatus",
                "numberAvailable",
            ),
            Column::of("Node Selector", "string", "core.v1.PodSpec", "nodeSelector"),
            Column::age(),
        ];
        columns.extend(cell::selected_template_columns("apps.v1.DaemonSetSpec"));
        KindInfo {
            short_names: &["ds"],
            categories: &["all"],
            subresources: &[Subresource::Status],
            columns,
            ..KindInfo::of::<Self>("daemonset")
        }
    }

    fn default(&mut self) {
        let spec = &mut self.spec;
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            strategy.type_ = Some("RollingUpdate".into());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        pod_spec::default_template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
        let generation = template_generation(self).max(1);
        set_template_generation(self, generation);
    }

    fn misfit(&self) -> Option<String> {
        // Upstream reads the number into a field of its own.
        let text = self.metadata.annotations.as_ref()?.get(TEMPLATE_GENERATION)?;
        let error = text.parse::<i64>().err()?;
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Some(format!(
            "strconv.ParseInt: parsing {}: {why}",
            field::quoted(text)
        ))
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
        let before = template_generation(old);
        let changed = !same(&self.spec.template, &old.spec.template);
        set_template_generation(self, before + i64::from(changed));
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        let template = path.child("template");
        selector::validate(&spec.selector, &path.child("selector"), errors);
        let labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref());
        let selector = (spec.selector != Default::default()).then_some(&spec.selector);
        if LabelSelector::of(selector).is_ok_and(|selector| !selector.matches(&labels)) {
            errors.invalid(
                &template.child("metadata.labels"),
                labels,
                "`selector` does not match template `labels`",
            );
        }
        if selector.is_some() && workload::is_empty(&spec.selector) {
            errors.invalid(
                &path.child("selector"),
                &spec.selector,
                "empty selector is invalid for daemonset",
            );
        }
        pod_spec::validate_template(&spec.template, &template, errors);
        workload::check_runs_for_ever(&spec.template, "DaemonSet", &template, errors);
        if let Some(strategy) = &spec.update_strategy {
            validate_strategy(strategy, &path.child("updateStrategy"), errors);
        }
        non_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
        non_negative(
            spec.revision_history_limit,
            &path.child("revisionHistoryLimit"),
            errors,
        );
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return meta::immutable(
                &self.spec.selector,
                &old.spec.selector,
                &Path::new("spec.selector"),
                errors,
            );
        }
        let status = self.status.clone().unwrap_or_default();
        let path = Path::new("status");
        let count = |count: Option<i32>| count.map(i64::from);
        let counts = [
            (
                "currentNumberScheduled",
                Some(status.current_number_scheduled.into()),
            ),
            ("numberMisscheduled", Some(status.number_misscheduled.into())),
            (
                "desiredNumberScheduled",
                Some(status.desired_number_scheduled.into()),
            ),
            ("numberReady", Some(status.number_ready.into())),
            ("observedGeneration", status.observed_generation),
            ("updatedNumberScheduled", count(status.updated_number_scheduled)),
            ("numberAvailable", count(status.number_available)),
            ("numberUnavailable", count(status.number_unavailable)),
            ("collisionCount", count(status.collision_count)),
        ];
        for (field, count) in counts {
            errors.non_negative(&path.child(field), count);
        }
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        workload::check_collisions(status.collision_count, before, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        // Here it is the template alone that counts.
        let unchanged = old.is_some_and(|old| same(&old.spec.template, &self.spec.template));
        let template = (!unchanged).then_some(&self.spec.template);
        workload::template_warnings(template, "spec.template", &self.metadata, None)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let pod = self.spec.template.spec.as_ref();
        let (names, images) = cell::template(Some(&self.spec.template));
        vec![
            self.metadata.name.clone().into(),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or(0).into(),
            status.number_available.unwrap_or(0).into(),
            cell::labels(pod.and_then(|pod| pod.node_selector.as_ref())).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            cell::selector(&self.spec.selector).into(),
        ]
    }
}

fn validate_strategy(strategy: &DaemonSetUpdateStrategy, path: &Path, errors: &mut Errors) {
    let rolling = path.child("rollingUpdate");
    match (
        strategy.type_.as_deref().unwrap_or_default(),
        &strategy.rolling_update,
    ) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&rolling, ""),
        ("RollingUpdate", Some(update)) => validate_rolling(update, &rolling, errors),
        (type_, rolling) => {
            let rolling = rolling
                .as_ref()
                .map(|rolling| (&rolling.max_unavailable, &rolling.max_surge));
            let shown = workload::shown_strategy(type_, rolling);
            errors.not_supported(path, shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

/// One of the two, and only one, tells how a pod is exchanged: first down, or first up.
fn validate_rolling(update: &RollingUpdateDaemonSet, path: &Path, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    let both = [("maxUnavailable", unavailable), ("maxSurge", surge)];
    for (field, value) in both {
        check_count_or_percent(value, &path.child(field), errors);
    }
    for (field, value) in both {
        workload::check_not_more_than_all(value, &path.child(field), errors);
    }
    let given = |value: &IntOrString| workload::amount(value) != 0;
    match (given(unavailable), given(surge)) {
        (true, true) => errors.invalid(
            &path.child("maxSurge"),
            surge,
            "may not be set when maxUnavailable is non-zero",
        ),
        (false, false) => {
            errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}
