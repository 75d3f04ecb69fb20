//! HorizontalPodAutoscaler: as many replicas as the load needs.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use serde_json::Value;

use super::{metrics, v1};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::quantity::{self, Quantity};

/// The longest that a recommendation may be held back, in seconds.
const MAX_WINDOW: i32 = 3600;
/// The longest period of a policy, in seconds.
const MAX_PERIOD: i32 = 1800;
const MAX: &str = "Max";

impl Kind for HorizontalPodAutoscaler {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["hpa"],
            categories: &["all"],
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of(
                    "Reference",
                    "string",
                    "autoscaling.v2.HorizontalPodAutoscalerSpec",
                    "scaleTargetRef",
                ),
                Column::of(
                    "Targets",
                    "string",
                    "autoscaling.v2.HorizontalPodAutoscalerSpec",
                    "metrics",
                ),
                Column::of(
                    "MinPods",
                    "string",
                    "autoscaling.v2.HorizontalPodAutoscalerSpec",
                    "minReplicas",
                ),
                Column::of(
                    "MaxPods",
                    "string",
                    "autoscaling.v2.HorizontalPodAutoscalerSpec",
                    "maxReplicas",
                ),
                Column::of(
                    "Replicas",
                    "string",
                    "autoscaling.v2.HorizontalPodAutoscalerStatus",
                    "currentReplicas",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("horizontalpodautoscaler")
        }
    }

    fn default(&mut self) {
        // They carry to other versions what those have no fields for; here they would only go stale.
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.retain(|name, _| !v1::ROUND_TRIP.contains(&name.as_str()));
        }
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![MetricSpec {
                type_: "Resource".into(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".into(),
                    target: MetricTarget {
                        type_: "Utilization".into(),
                        average_utilization: Some(80),
                        ..Default::default()
                    },
                }),
                ..Default::default()
            }]);
        }
        for metric in spec.metrics.iter_mut().flatten() {
            canonicalize(metric);
        }
        if let Some(behavior) = &mut spec.behavior {
            let policy = |type_: &str, value: i32| HPAScalingPolicy {
                type_: type_.into(),
                value,
                period_seconds: 15,
            };
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            fill_in(up, vec![policy("Pods", 4), policy("Percent", 100)]);
            let down = behavior.scale_down.get_or_insert_default();
            fill_in(down, vec![policy("Percent", 100)]);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Main {
            self.status.clone_from(&old.status);
        } else {
            self.spec.clone_from(&old.spec);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        let least = spec.min_replicas;
        if let Some(least) = least.filter(|&least| least < 0) {
            errors.invalid(
                &path.child("minReplicas"),
                least,
                "must be greater than or equal to 0",
            );
        }
        let at = path.child("maxReplicas");
        if spec.max_replicas < 1 {
            errors.invalid(&at, spec.max_replicas, "must be greater than 0");
        }
        if least.is_some_and(|least| spec.max_replicas < least) {
            errors.invalid(
                &at,
                spec.max_replicas,
                "must be greater than or equal to `minReplicas`",
            );
        }
        metrics::check_reference(&spec.scale_target_ref, &path.child("scaleTargetRef"), errors);
        for (index, metric) in spec.metrics.iter().flatten().enumerate() {
            metrics::validate(metric, &path.child("metrics").index(index), errors);
        }
        // What uses no resources cannot be scaled up again for the resources that it uses.
        let mut metrics = spec.metrics.iter().flatten();
        if least == Some(0) && !metrics.any(|metric| matches!(metric.type_.as_str(), "Object" | "External")) {
            errors.forbidden(
                &path.child("metrics"),
                "must specify at least one Object or External metric to support scaling to zero replicas",
            );
        }
        let Some(behavior) = &spec.behavior else { return };
        let path = path.child("behavior");
        for (field, rules) in [
            ("scaleUp", &behavior.scale_up),
            ("scaleDown", &behavior.scale_down),
        ] {
            if let Some(rules) = rules {
                validate_rules(rules, &path.child(field), errors);
            }
        }
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return;
        }
        let status = self.status.clone().unwrap_or_default();
        let path = Path::new("status");
        errors.non_negative(&path.child("currentReplicas"), status.current_replicas);
        errors.non_negative(&path.child("desiredReplicas"), Some(status.desired_replicas));
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let target = &self.spec.scale_target_ref;
        let current = self.status.as_ref().and_then(|status| status.current_replicas);
        let least = self.spec.min_replicas;
        vec![
            self.metadata.name.clone().into(),
            format!("{}/{}", target.kind, target.name).into(),
            metrics::shown(self).into(),
            least
                .map_or_else(|| "<unset>".to_string(), |count| count.to_string())
                .into(),
            self.spec.max_replicas.into(),
            current.unwrap_or(0).into(),
            age(&self.metadata, now),
        ]
    }
}

fn canonicalize(metric: &mut MetricSpec) {
    let targets = [
        metric.object.as_mut().map(|source| &mut source.target),
        metric.pods.as_mut().map(|source| &mut source.target),
        metric.resource.as_mut().map(|source| &mut source.target),
        metric
            .container_resource
            .as_mut()
            .map(|source| &mut source.target),
        metric.external.as_mut().map(|source| &mut source.target),
    ];
    for target in targets.into_iter().flatten() {
        for amount in [&mut target.value, &mut target.average_value] {
            amount.iter_mut().for_each(quantity::canonicalize);
        }
    }
}

fn fill_in(rules: &mut HPAScalingRules, policies: Vec<HPAScalingPolicy>) {
    rules.select_policy.get_or_insert_with(|| MAX.into());
    if rules.policies.is_none() {
        rules.policies = Some(policies);
    }
}

fn validate_rules(rules: &HPAScalingRules, path: &Path, errors: &mut Errors) {
    if let Some(window) = rules.stabilization_window_seconds {
        let at = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&at, window, "must be greater than or equal to zero");
        }
        if window > MAX_WINDOW {
            errors.invalid(&at, window, format!("must be less than or equal to {MAX_WINDOW}"));
        }
    }
    if let Some(policy) = rules.select_policy.as_deref()
        && !matches!(policy, MAX | "Min" | "Disabled")
    {
        errors.not_supported(&path.child("selectPolicy"), policy, &["Disabled", MAX, "Min"]);
    }
    let at = path.child("policies");
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.required(&at, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = at.index(index);
        if !matches!(policy.type_.as_str(), "Pods" | "Percent") {
            errors.not_supported(&at.child("type"), &policy.type_, &["Percent", "Pods"]);
        }
        if policy.value <= 0 {
            errors.invalid(&at.child("value"), policy.value, "must be greater than zero");
        }
        let (period, at) = (policy.period_seconds, at.child("periodSeconds"));
        if period <= 0 {
            errors.invalid(&at, period, "must be greater than zero");
        }
        if period > MAX_PERIOD {
            errors.invalid(&at, period, format!("must be less than or equal to {MAX_PERIOD}"));
        }
    }
    if let Some(tolerance) = &rules.tolerance
        && Quantity::of(tolerance).is_negative()
    {
        errors.invalid(
            &path.child("tolerance"),
            &tolerance.0,
            "must be greater than or equal to 0",
        );
    }
}
