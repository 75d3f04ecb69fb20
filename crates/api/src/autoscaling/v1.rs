//! HorizontalPodAutoscaler in its first version, which knows one metric: the CPU. It is kept as version 2; what that one
//! knows beside is shown in annotations, and read from there again.

use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler as Stored, HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::v1_metrics::{self, Which};
use crate::version::Version;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// What only other versions have beside these; it is dropped like them.
const UPDATE_POLICY: &str = "autoscaling.alpha.kubernetes.io/updatePolicy";

/// The annotations in which one version carries what it has no fields for. No stored object has them.
pub(super) const ROUND_TRIP: [&str; 5] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR, UPDATE_POLICY];

impl Version for HorizontalPodAutoscaler {
    type Stored = Stored;

    fn to_stored(object: &mut Map<String, Value>) {
        let carried = take_annotations(object);
        let read = |name: &str| carried.get(name).and_then(Value::as_str).unwrap_or_default();

        let mut spec = take(object, "spec");
        let mut metrics =
            list(read(METRICS), |metric| v1_metrics::to_stored(metric, Which::Spec)).unwrap_or_default();
        metrics = typed::<MetricSpec>(metrics).unwrap_or_default();
        if let Some(percent) = given(spec.remove("targetCPUUtilizationPercentage")) {
            metrics.push(cpu(
                "target",
                json!({"type": "Utilization", "averageUtilization": percent}),
            ));
        }
        if metrics.is_empty() {
            metrics.push(cpu(
                "target",
                json!({"type": "Utilization", "averageUtilization": 80}),
            ));
        }
        spec.insert("metrics".into(), metrics.into());
        if let Some(behavior) = behavior_of(read(BEHAVIOR)) {
            spec.insert("behavior".into(), behavior);
        }
        object.insert("spec".into(), spec.into());

        let carried_metrics = list(read(CURRENT_METRICS), |metric| {
            v1_metrics::to_stored(metric, Which::Status)
        })
        .and_then(typed::<MetricStatus>);
        let conditions = list(read(CONDITIONS), Some).and_then(typed::<HorizontalPodAutoscalerCondition>);
        let has_status = matches!(object.get("status"), Some(Value::Object(_)));
        if !has_status && carried_metrics.is_none() && conditions.is_none() {
            return;
        }
        let mut status = take(object, "status");
        let percent = given(status.remove("currentCPUUtilizationPercentage"));
        let metrics = match (carried_metrics, percent) {
            (Some(carried), _) => Some(carried),
            (None, Some(percent)) => Some(vec![cpu("current", json!({"averageUtilization": percent}))]),
            (None, None) => None,
        };
        for (name, list) in [("currentMetrics", metrics), ("conditions", conditions)] {
            if let Some(list) = list {
                status.insert(name.into(), list.into());
            }
        }
        object.insert("status".into(), status.into());
    }

    fn of_stored(object: &mut Map<String, Value>) {
        take_annotations(object);
        let mut carried: Vec<(&str, String)> = Vec::new();

        let mut spec = take(object, "spec");
        let mut metrics = array(spec.remove("metrics"));
        if let Some(place) = metrics
            .iter()
            .position(|metric| utilization(metric, "target").is_some())
        {
            let percent = utilization(&metrics.remove(place), "target");
            spec.insert("targetCPUUtilizationPercentage".into(), percent.into());
        }
        let behavior = spec.remove("behavior");
        object.insert("spec".into(), spec.into());
        if !metrics.is_empty() {
            let metrics = metrics
                .into_iter()
                .filter_map(|metric| v1_metrics::of_stored(metric, Which::Spec));
            carried.push((METRICS, Value::Array(metrics.collect()).to_string()));
        }
        if let Some(text) = given(behavior).and_then(behavior_text) {
            carried.push((BEHAVIOR, text));
        }

        if let Some(Value::Object(status)) = object.get_mut("status") {
            let metrics = array(status.remove("currentMetrics"));
            let percent = metrics.iter().find_map(|metric| utilization(metric, "current"));
            if let Some(percent) = percent {
                status.insert("currentCPUUtilizationPercentage".into(), percent.into());
            }
            let metrics: Vec<Value> = metrics
                .into_iter()
                .filter_map(|metric| v1_metrics::of_stored(metric, Which::Status))
                .collect();
            for (name, list) in [
                (CURRENT_METRICS, metrics),
                (CONDITIONS, array(status.remove("conditions"))),
            ] {
                if !list.is_empty() {
                    carried.push((name, Value::Array(list).to_string()));
                }
            }
            // This version has no way to leave it out.
            status.entry("currentReplicas").or_insert(0.into());
        }
        if !carried.is_empty() {
            let mut metadata = take(object, "metadata");
            let mut annotations = take(&mut metadata, "annotations");
            annotations.extend(carried.into_iter().map(|(name, text)| (name.into(), text.into())));
            metadata.insert("annotations".into(), annotations.into());
            object.insert("metadata".into(), metadata.into());
        }
    }
}

/// Takes the annotations that only carry what a version has no fields for.
fn take_annotations(object: &mut Map<String, Value>) -> Map<String, Value> {
    let mut taken = Map::new();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata")
        && let Some(Value::Object(annotations)) = metadata.get_mut("annotations")
    {
        for name in ROUND_TRIP {
            taken.extend(annotations.remove_entry(name));
        }
        if annotations.is_empty() && !taken.is_empty() {
            metadata.remove("annotations");
        }
    }
    taken
}

/// Takes the object out of a field; an empty one where there is none.
fn take(object: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match object.remove(name) {
        Some(Value::Object(part)) => part,
        _ => Map::new(),
    }
}

fn given(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !value.is_null())
}

fn array(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn cpu(field: &str, value: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", field: value}})
}

/// The CPU's utilization, in percent, where that is what a metric is about.
fn utilization(metric: &Value, field: &str) -> Option<i64> {
    let resource = metric.get("resource")?;
    let is_cpu = metric.get("type")?.as_str()? == "Resource" && resource.get("name")?.as_str()? == "cpu";
    let percent = resource.get(field)?.get("averageUtilization")?.as_i64();
    percent.filter(|_| is_cpu)
}

/// The elements of a list in an annotation; nothing where it is none, as one that is malformed counts for nothing.
fn list(text: &str, convert: impl Fn(Value) -> Option<Value>) -> Option<Vec<Value>> {
    let elements: Vec<Value> = serde_json::from_str(text).ok()?;
    elements.into_iter().map(convert).collect()
}

/// The elements, if each is what it should be.
fn typed<T: Serialize + DeserializeOwned>(elements: Vec<Value>) -> Option<Vec<Value>> {
    let parsed: Vec<T> = serde_json::from_value(Value::Array(elements)).ok()?;
    parsed
        .iter()
        .map(|element| serde_json::to_value(element).ok())
        .collect()
}

/// A behavior as it stands in its annotation: with the names of Go's fields.
fn behavior_text(behavior: Value) -> Option<String> {
    let behavior: HorizontalPodAutoscalerBehavior = serde_json::from_value(behavior).ok()?;
    let rules = |rules: Option<HPAScalingRules>| {
        rules.map(|rules| {
            let policies = rules.policies.map(|policies| {
                let shown = policies.iter().map(|policy| {
                    json!({"Type": policy.type_, "Value": policy.value, "PeriodSeconds": policy.period_seconds})
                });
                shown.collect::<Vec<Value>>()
            });
            json!({
                "StabilizationWindowSeconds": rules.stabilization_window_seconds,
                "SelectPolicy": rules.select_policy,
                "Policies": policies,
                "Tolerance": rules.tolerance,
            })
        })
    };
    let (up, down) = (rules(behavior.scale_up), rules(behavior.scale_down));
    Some(json!({"ScaleUp": up, "ScaleDown": down}).to_string())
}

fn behavior_of(text: &str) -> Option<Value> {
    let behavior: HorizontalPodAutoscalerBehavior =
        serde_json::from_value(with_small_letters(serde_json::from_str(text).ok()?)).ok()?;
    (behavior != HorizontalPodAutoscalerBehavior::default())
        .then(|| serde_json::to_value(behavior).ok())
        .flatten()
}

/// The same with the fields' names as JSON has them in the API.
fn with_small_letters(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let mut letters = name.chars();
                let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                (
                    first.into_iter().chain(letters).collect(),
                    with_small_letters(value),
                )
            });
            Value::Object(fields.collect())
        }
        Value::Array(elements) => elements.into_iter().map(with_small_letters).collect(),
        other => other,
    }
}
