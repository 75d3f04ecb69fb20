//! What bounds others: budgets, autoscalers, limit ranges, quotas, priorities, runtime classes.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, defaulted, json_of, metadata, over, update};

fn object(spec: Value) -> Value {
    json!({"metadata": metadata("x"), "spec": spec})
}

#[test]
fn budgets_say_one_thing() {
    let kind = "policy/PodDisruptionBudget";
    let cases = [
        (json!({"minAvailable": 1}), vec![]),
        (
            json!({"minAvailable": "150%"}),
            vec!["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"],
        ),
        (
            json!({"minAvailable": 1, "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "Sometimes"}),
            vec![
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":1,\"UnhealthyPodEvictionPolicy\":\"Sometimes\"}: minAvailable and maxUnavailable cannot be both set",
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Sometimes\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(create_errors(kind, object(spec.clone())), expected, "{spec}");
    }
    let mut value = object(json!({"minAvailable": "50%"}));
    value["status"] = json!({"disruptionsAllowed": 2});
    assert_eq!(cells(kind, value), ["x", "50%", "N/A", "2", "5h"]);
}

#[test]
fn autoscalers_are_filled_in_checked_and_shown() {
    let kind = "autoscaling/HorizontalPodAutoscaler";
    let target = json!({"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "web"}});
    let mut full = json_of(created(kind, object(over(target.clone(), json!({"behavior": {}})))).as_ref());
    let spec = &full["spec"];
    assert_eq!(spec["minReplicas"], 1);
    assert_eq!(
        spec["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
    assert_eq!(spec["behavior"]["scaleUp"]["policies"][0]["value"], 4);
    assert_eq!(
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        Value::Null
    );
    let cases = [
        (json!({}), vec![]),
        (
            json!({"minReplicas": 7, "scaleTargetRef": {"kind": "", "name": "a/b"}}),
            vec![
                "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        ),
        (
            json!({"metrics": [{"type": "Pods", "resource": {"name": "cpu", "target": {"type": "Value"}}}]}),
            vec![
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ],
        ),
        (
            json!({"behavior": {"scaleUp": {"selectPolicy": "Any", "stabilizationWindowSeconds": 4000}}}),
            vec![
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600",
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Any\": supported values: \"Disabled\", \"Max\", \"Min\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors(kind, object(over(target.clone(), spec.clone()))),
            expected,
            "{spec}"
        );
    }
    full["metadata"] = metadata("x");
    assert_eq!(
        cells(kind, full.clone()),
        ["x", "Deployment/web", "cpu: <unknown>/80%", "1", "5", "0", "5h"]
    );
    full["status"] = json!({"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]});
    assert_eq!(cells(kind, full)[2], "cpu: 12%/80%");
}

#[test]
fn limit_ranges_are_filled_in_and_ordered() {
    let value =
        object(json!({"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}]}));
    let object_ = json_of(defaulted("LimitRange", value).as_ref());
    let limit = &object_["spec"]["limits"][0];
    assert_eq!(limit["default"], json!({"cpu": "1"}));
    assert_eq!(limit["defaultRequest"], json!({"cpu": "1", "memory": "1Mi"}));
    let value = object(json!({"limits": [
        {"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "1"}},
        {"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}},
        {"type": "Container"},
    ]}));
    assert_eq!(
        create_errors("LimitRange", value),
        [
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[1].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            "spec.limits[2].type: Duplicate value: \"Container\"",
        ]
    );
}

#[test]
fn quotas_limit_known_resources_in_fitting_scopes() {
    let cases = [
        (
            json!({"hard": {"pods": "4", "requests.cpu": "1", "count/deployments.apps": "2"}}),
            vec![],
        ),
        (
            json!({"hard": {"pods": "1500m", "speed": "1"}}),
            vec![
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[speed]: Invalid value: \"speed\": must be a standard resource type or fully qualified",
                "spec.hard[speed]: Invalid value: \"speed\": must be a standard resource for quota",
            ],
        ),
        (
            json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
            vec!["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"],
        ),
        (
            json!({"hard": {"services": "1"}, "scopes": ["Terminating"]}),
            vec!["spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource"],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors("ResourceQuota", object(spec.clone())),
            expected,
            "{spec}"
        );
    }
    let mut value = object(json!({}));
    value["status"] = json!({"hard": {"limits.cpu": "2", "pods": "4"}, "used": {"pods": "1"}});
    assert_eq!(
        cells("ResourceQuota", value),
        ["x", "pods: 1/4", "limits.cpu: 0/2", "5h"]
    );
}

#[test]
fn priorities_of_the_system_are_its_own() {
    let kind = "scheduling.k8s.io/PriorityClass";
    let class = |name: &str, value: i32| json!({"metadata": {"name": name}, "value": value});
    assert_eq!(
        create_errors(kind, class("high", 1_000_000_000)),
        Vec::<String>::new()
    );
    assert_eq!(
        create_errors(kind, class("high", 1_000_000_001)),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    assert!(
        create_errors(kind, class("system-mine", 1))[0]
            .starts_with("metadata.name: Forbidden: priority class names with 'system-' prefix")
    );
    for (name, value, description) in skiff_api::scheduling::SYSTEM_CLASSES {
        let own = over(class(name, value), json!({"description": description}));
        assert_eq!(create_errors(kind, own), Vec::<String>::new());
    }
    let (_, errors) = update(kind, class("high", 1), class("high", 2), Target::Main);
    assert_eq!(errors, ["value: Forbidden: may not be changed in an update."]);
}

#[test]
fn the_handler_of_a_runtime_class_stays() {
    let class = |handler: &str| json!({"metadata": {"name": "sandboxed"}, "handler": handler});
    let (_, errors) = update("node.k8s.io/RuntimeClass", class("a"), class("b"), Target::Main);
    assert_eq!(errors, ["handler: Invalid value: \"b\": field is immutable"]);
    assert!(
        create_errors("node.k8s.io/RuntimeClass", class("A b"))[0]
            .starts_with("handler: Invalid value: \"A b\": a lowercase RFC 1123 label")
    );
}

#[test]
fn what_scales_to_zero_is_scaled_by_others_measures() {
    let scaled = |metrics: Value| {
        object(
            json!({"minReplicas": 0, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "metrics": metrics}),
        )
    };
    let queue = json!({"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "Value", "value": "5"}}});
    for (metrics, expected) in [
        (json!([queue]), vec![]),
        (
            json!(null),
            vec![
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
    ] {
        assert_eq!(
            create_errors("autoscaling/HorizontalPodAutoscaler", scaled(metrics)),
            expected
        );
    }
}

#[test]
fn conditions_of_budgets_are_conditions() {
    let old = object(json!({}));
    let new = over(
        old.clone(),
        json!({"status": {"disruptionsAllowed": -1, "conditions": [
            {"type": "A", "status": "Maybe", "reason": "R", "message": "", "lastTransitionTime": "2025-01-01T00:00:00Z"}]}}),
    );
    let path = Target::Subresource(Subresource::Status);
    let (_, errors) = update("policy/PodDisruptionBudget", old, new, path);
    assert_eq!(
        errors,
        [
            "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
}

#[test]
fn the_classes_of_the_system_may_be_described_anew() {
    let class = json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000});
    let (_, errors) = update(
        "scheduling.k8s.io/PriorityClass",
        class.clone(),
        over(class, json!({"description": "new"})),
        Target::Main,
    );
    assert_eq!(errors, Vec::<String>::new());
}
