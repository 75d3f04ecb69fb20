//! Versions that are served and not kept: what becomes of an object on its way to the store and back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may; the lint knows only functions marked as one"
)]

mod support;

use proptest::prelude::{Strategy as Generate, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};
use skiff_api::catalogue::builtin;
use skiff_api::field::Errors;
use skiff_api::{Conversion, Object, Strategy, Target};

use support::json_of;

fn with<T>(
    group: &str,
    version: &str,
    plural: &str,
    run: impl FnOnce(&dyn Strategy, &dyn Conversion) -> T,
) -> T {
    let catalogue = builtin();
    let strategy = catalogue.resource(group, version, plural).unwrap();
    run(strategy.as_ref(), strategy.conversion().unwrap())
}

fn autoscaler<T>(run: impl FnOnce(&dyn Strategy, &dyn Conversion) -> T) -> T {
    with("autoscaling", "v1", "horizontalpodautoscalers", run)
}

fn event<T>(run: impl FnOnce(&dyn Strategy, &dyn Conversion) -> T) -> T {
    with("events.k8s.io", "v1", "events", run)
}

#[test]
fn versions_of_a_kind_share_a_place_in_the_store() {
    let catalogue = builtin();
    let converted: Vec<String> = catalogue
        .iter()
        .filter(|strategy| strategy.conversion().is_some())
        .map(|strategy| {
            let (info, stored) = (strategy.info(), strategy.stored().info());
            assert_eq!(info.store_prefix, stored.store_prefix);
            format!("{} {} as {}", info.api_version(), info.kind, stored.api_version())
        })
        .collect();
    assert_eq!(
        converted,
        [
            "autoscaling/v1 HorizontalPodAutoscaler as autoscaling/v2",
            "events.k8s.io/v1 Event as v1"
        ]
    );
    let stored = catalogue
        .resource("autoscaling", "v2", "horizontalpodautoscalers")
        .unwrap();
    assert_eq!(catalogue.versions(stored.as_ref()).count(), 2);
}

#[test]
fn events_have_other_names_for_the_same_things() {
    let newer = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a", "namespace": "default"},
        "action": "Binding", "deprecatedCount": 3, "deprecatedFirstTimestamp": "2026-11-21T08:00:00Z",
        "deprecatedLastTimestamp": "2026-11-21T08:00:01Z", "deprecatedSource": {"component": "c", "host": "h"},
        "eventTime": "2026-11-21T08:00:00.123456Z", "note": "it happened", "reason": "Happened",
        "regarding": {"kind": "Pod", "name": "p"}, "related": {"kind": "Node"}, "reportingController": "k/c",
        "reportingInstance": "i", "series": {"count": 2, "lastObservedTime": "2026-11-21T08:00:02.000000Z"},
        "type": "Normal",
    });
    let stored = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a", "namespace": "default"},
        "action": "Binding", "count": 3, "firstTimestamp": "2026-11-21T08:00:00Z",
        "lastTimestamp": "2026-11-21T08:00:01Z", "source": {"component": "c", "host": "h"},
        "eventTime": "2026-11-21T08:00:00.123456Z", "message": "it happened", "reason": "Happened",
        "involvedObject": {"kind": "Pod", "name": "p"}, "related": {"kind": "Node"}, "reportingComponent": "k/c",
        "reportingInstance": "i", "series": {"count": 2, "lastObservedTime": "2026-11-21T08:00:02.000000Z"},
        "type": "Normal",
    });
    event(|strategy, conversion| {
        let object = strategy.decode_value(newer.clone()).unwrap();
        assert_eq!(json_of(object.as_ref()), stored);
        assert_eq!(conversion.of_stored(stored.clone()), newer);
        let served = conversion.serve(stored.to_string().as_bytes()).unwrap();
        assert!(served.starts_with(br#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"#));
        assert_eq!(serde_json::from_slice::<Value>(&served).unwrap(), newer);
        assert_eq!(
            strategy.field(object.as_ref(), "regarding.name").as_deref(),
            Some("p")
        );
        assert_eq!(
            strategy.field(object.as_ref(), "reportingController").as_deref(),
            Some("k/c")
        );
        assert_eq!(strategy.field(object.as_ref(), "involvedObject.name"), None);
    });
}

fn new_event(change: Value) -> Value {
    support::over(
        json!({
            "metadata": {"name": "a", "namespace": "default"}, "action": "Binding", "reason": "Scheduled",
            "eventTime": "2026-11-21T08:00:00.123456Z", "note": "n", "reportingController": "k/c",
            "reportingInstance": "i", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
            "type": "Normal",
        }),
        change,
    )
}

fn texts(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn events_made_in_the_newer_form_are_held_to_it() {
    let cases = [
        (json!({}), vec![]),
        (json!({"eventTime": null}), vec!["eventTime: Required value"]),
        (
            json!({"type": "Odd", "deprecatedCount": 1, "deprecatedSource": {"component": "c"},
                   "deprecatedFirstTimestamp": "2026-11-21T08:00:00Z", "deprecatedLastTimestamp": "2026-11-21T08:00:00Z"}),
            vec![
                "type: Invalid value: \"\": has invalid value: Odd",
                "firstTimestamp: Invalid value: \"\": needs to be unset",
                "lastTimestamp: Invalid value: \"\": needs to be unset",
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ],
        ),
        (
            json!({"series": {"count": 1}}),
            vec![
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
            ],
        ),
        (
            json!({"reportingInstance": "", "action": "", "reason": "x".repeat(129), "note": "x".repeat(1025)}),
            vec![
                "reportingInstance: Required value",
                "action: Required value",
                "reason: Invalid value: \"\": can have at most 128 characters",
                "message: Invalid value: \"\": can have at most 1024 characters",
            ],
        ),
        (
            json!({"regarding": {"namespace": ""}, "metadata": {"namespace": "web"}}),
            vec!["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"],
        ),
    ];
    for (change, expected) in cases {
        event(|strategy, _| {
            let object = strategy.decode_value(new_event(change.clone())).unwrap();
            let mut errors = Errors::new();
            strategy.validate_create(object.as_ref(), &mut errors);
            assert_eq!(texts(&errors), expected, "{change}");
        });
    }
    // The older form asks for none of this.
    let older = json!({"metadata": {"name": "a", "namespace": "default"}, "involvedObject": {"namespace": "default"}, "count": 1});
    assert_eq!(support::create_errors("Event", older), [""; 0]);
}

#[test]
fn only_the_series_of_an_event_may_change_in_the_newer_form() {
    let cases = [
        (
            json!({"series": {"count": 2, "lastObservedTime": "2026-11-21T08:00:02.000000Z"}}),
            vec![],
        ),
        (
            json!({"series": {"count": 1, "lastObservedTime": "2026-11-21T08:00:02.000000Z"}}),
            vec!["series.count: Invalid value: \"\": should be at least 2"],
        ),
        (
            json!({"note": "other", "reportingController": "k/d"}),
            vec![
                "message: Invalid value: \"other\": field is immutable",
                "reportingController: Invalid value: \"k/d\": field is immutable",
            ],
        ),
    ];
    for (change, expected) in cases {
        event(|strategy, _| {
            let old = strategy.decode_value(new_event(json!({}))).unwrap();
            let new = strategy.decode_value(new_event(change.clone())).unwrap();
            let mut errors = Errors::new();
            strategy.validate_update(new.as_ref(), old.as_ref(), Target::Main, &mut errors);
            assert_eq!(texts(&errors), expected, "{change}");
        });
    }
}

fn version_2(spec: Value, status: Value) -> Value {
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": support::over(json!({"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}), spec),
    });
    if !status.is_null() {
        object["status"] = status;
    }
    object
}

fn cpu(percent: i32) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
}

#[test]
fn an_autoscalers_cpu_is_a_field_and_all_else_is_an_annotation() {
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let stored = version_2(
        json!({"metrics": [memory, cpu(70)], "behavior": {"scaleDown": {"selectPolicy": "Max", "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}}}),
        json!({"currentReplicas": 2, "desiredReplicas": 3,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "3m"}}}],
            "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": null}]}),
    );
    autoscaler(|strategy, conversion| {
        let shown = conversion.of_stored(stored.clone());
        assert_eq!(shown["apiVersion"], "autoscaling/v1");
        assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(shown["status"]["currentCPUUtilizationPercentage"], 12);
        for gone in [
            "/spec/metrics",
            "/spec/behavior",
            "/status/conditions",
            "/status/currentMetrics",
        ] {
            assert_eq!(shown.pointer(gone), None, "{gone}");
        }
        let annotations = &shown["metadata"]["annotations"];
        let read = |name: &str| -> Value {
            let name = format!("autoscaling.alpha.kubernetes.io/{name}");
            serde_json::from_str(annotations[name].as_str().unwrap()).unwrap()
        };
        assert_eq!(
            read("metrics"),
            json!([{"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}])
        );
        assert_eq!(
            read("current-metrics"),
            json!([{"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 12, "currentAverageValue": "3m"}}])
        );
        assert_eq!(
            read("conditions"),
            json!([{"type": "AbleToScale", "status": "True", "lastTransitionTime": null}])
        );
        assert_eq!(
            read("behavior"),
            json!({"ScaleUp": null, "ScaleDown": {"SelectPolicy": "Max", "StabilizationWindowSeconds": 60, "Tolerance": null,
                "Policies": [{"Type": "Pods", "Value": 1, "PeriodSeconds": 15}]}})
        );
        let back = strategy.decode_value(shown).unwrap();
        assert_eq!(json_of(back.as_ref()), stored);
    });
}

#[test]
fn an_autoscaler_of_the_first_version_gets_the_metric_that_it_means() {
    let first = |spec: Value, annotations: Value| {
        json!({"metadata": {"name": "a", "annotations": annotations},
               "spec": support::over(json!({"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}), spec)})
    };
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "2"}}});
    let cases = [
        (first(json!({}), json!({})), json!([cpu(80)])),
        (
            first(json!({"targetCPUUtilizationPercentage": 50}), json!({})),
            json!([cpu(50)]),
        ),
        (
            first(
                json!({"targetCPUUtilizationPercentage": 50}),
                json!({
                    "autoscaling.alpha.kubernetes.io/metrics": r#"[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"2"}}]"#,
                }),
            ),
            json!([pods, cpu(50)]),
        ),
        (
            first(
                json!({}),
                json!({"autoscaling.alpha.kubernetes.io/metrics": "not JSON"}),
            ),
            json!([cpu(80)]),
        ),
        (
            first(
                json!({}),
                json!({"autoscaling.alpha.kubernetes.io/metrics": r#"[{"type":7}]"#}),
            ),
            json!([cpu(80)]),
        ),
        (
            first(
                json!({}),
                json!({
                    "autoscaling.alpha.kubernetes.io/metrics":
                        r#"[{"type":"Object","object":{"target":{"kind":"S","name":"s"},"metricName":"m","targetValue":"0","averageValue":"4"}}]"#,
                }),
            ),
            json!([{"type": "Object", "object": {"describedObject": {"kind": "S", "name": "s"}, "metric": {"name": "m"},
                "target": {"type": "AverageValue", "averageValue": "4"}}}]),
        ),
    ];
    for (object, metrics) in cases {
        autoscaler(|strategy, _| {
            let stored: Box<dyn Object> = strategy.decode_value(object.clone()).unwrap();
            let stored = json_of(stored.as_ref());
            assert_eq!(stored["spec"]["metrics"], metrics, "{object}");
            let annotations = stored["metadata"]["annotations"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            assert!(annotations.is_empty(), "{annotations:?}");
        });
    }
}

fn amount() -> impl Generate<Value = Value> {
    (1u32..100).prop_map(|number| Value::String(number.to_string()))
}

fn metric() -> impl Generate<Value = Value> {
    let reference = json!({"kind": "Service", "name": "s", "apiVersion": "v1"});
    prop_oneof![
        amount().prop_map(|amount| json!({"type": "Resource", "resource": {"name": "memory",
            "target": {"type": "AverageValue", "averageValue": amount}}})),
        (1..100).prop_map(|percent| json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
            "target": {"type": "Utilization", "averageUtilization": percent}}})),
        amount().prop_map(|amount| json!({"type": "Pods", "pods": {"metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": amount}}})),
        amount().prop_map(move |amount| json!({"type": "Object", "object": {"describedObject": reference.clone(), "metric": {"name": "m"},
            "target": {"type": "Value", "value": amount}}})),
        amount().prop_map(|amount| json!({"type": "External", "external": {"metric": {"name": "m"},
            "target": {"type": "AverageValue", "averageValue": amount}}})),
    ]
}

proptest! {
    #[test]
    fn an_autoscaler_survives_the_first_version(
        metrics in proptest::collection::vec(metric(), 0..4),
        percent in 1..100,
        window in proptest::option::of(0..3600),
    ) {
        let mut metrics = metrics;
        metrics.push(cpu(percent));
        let mut spec = json!({"metrics": metrics});
        if let Some(window) = window {
            spec["behavior"] = json!({"scaleUp": {"stabilizationWindowSeconds": window}});
        }
        let stored = version_2(spec, json!({"currentReplicas": 1, "desiredReplicas": 1}));
        let back = autoscaler(|_, conversion| conversion.to_stored(conversion.of_stored(stored.clone())));
        prop_assert_eq!(back, stored);
    }
}
