//! Devices: classes, claims and what they get, templates, slices, taints.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may; the lint knows only functions marked as one"
)]

mod support;

use serde_json::{Value, json};
use skiff_api::{Subresource, Target};

use support::{cells, create_errors, created, json_of, metadata, over, update};

const CLAIM: &str = "resource.k8s.io/ResourceClaim";
const TEMPLATE: &str = "resource.k8s.io/ResourceClaimTemplate";
const SLICE: &str = "resource.k8s.io/ResourceSlice";
const STATUS: Target = Target::Subresource(Subresource::Status);

fn cluster() -> Value {
    json!({"name": "x", "creationTimestamp": "2024-12-31T21:00:00Z"})
}

fn claim(devices: Value) -> Value {
    json!({"metadata": metadata("c"), "spec": {"devices": devices}})
}

fn one() -> Value {
    json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]})
}

#[test]
fn claims_are_filled_in() {
    let devices = json!({"requests": [
        {"name": "a", "exactly": {"deviceClassName": "c", "tolerations": [{"key": "k"}]}},
        {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}, {"name": "y", "deviceClassName": "c", "allocationMode": "All"}]},
    ]});
    for (kind, object, at) in [
        (CLAIM, claim(devices.clone()), "/spec/devices/requests"),
        (
            TEMPLATE,
            json!({"metadata": metadata("t"), "spec": {"spec": {"devices": devices}}}),
            "/spec/spec/devices/requests",
        ),
    ] {
        let object = json_of(created(kind, object).as_ref());
        let requests = object.pointer(at).unwrap();
        assert_eq!(requests[0]["exactly"]["allocationMode"], "ExactCount");
        assert_eq!(requests[0]["exactly"]["count"], 1);
        assert_eq!(requests[0]["exactly"]["tolerations"][0]["operator"], "Equal");
        assert_eq!(requests[1]["firstAvailable"][0]["count"], 1);
        assert_eq!(requests[1]["firstAvailable"][1]["count"], Value::Null);
    }
}

#[test]
fn claims_are_checked() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (one(), vec![]),
        (json!({}), vec![]),
        (
            json!({"requests": [{"name": "a"}, {"name": "a", "exactly": {"deviceClassName": ""}}]}),
            vec![
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1].exactly.deviceClassName: Required value",
                "spec.devices.requests[1]: Duplicate value: \"a\"",
            ],
        ),
        (
            json!({"requests": [{"name": "a", "exactly": {"deviceClassName": "c", "allocationMode": "All", "count": 2,
                "selectors": [{}, {"cel": {"expression": "true"}}], "tolerations": [{"operator": "Exists", "value": "v", "effect": "Explode"}]}}]}),
            vec![
                "spec.devices.requests[0].exactly.selectors[0].cel: Required value",
                "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                "spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`",
                "spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"Explode\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            ],
        ),
        (
            over(
                one(),
                json!({"constraints": [{"requests": ["gpu", "cpu"], "matchAttribute": "numa"}, {}]}),
            ),
            vec![
                "spec.devices.constraints[0].requests[1]: Invalid value: \"cpu\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash",
                "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ],
        ),
        (
            over(
                one(),
                json!({"config": [{"requests": ["gpu"]}, {"opaque": {"driver": "d.example.com", "parameters": [1]}}]}),
            ),
            vec![
                "spec.devices.config[0].opaque: Required value",
                "spec.devices.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            ],
        ),
        (
            json!({"requests": (0..33).map(|n| json!({"name": format!("r{n}"), "exactly": {"deviceClassName": "c"}})).collect::<Vec<_>>()}),
            vec!["spec.devices.requests: Too many: 33: must have at most 32 items"],
        ),
    ];
    for (devices, expected) in cases {
        assert_eq!(
            create_errors(CLAIM, claim(devices.clone())),
            expected,
            "{devices}"
        );
    }
}

#[test]
fn a_claim_is_what_it_was_made() {
    let (_, errors) = update(CLAIM, claim(one()), claim(json!({})), Target::Main);
    assert!(errors[0].ends_with("field is immutable"), "{errors:?}");
    let with_status = over(claim(one()), json!({"status": {"allocation": {}}}));
    let (new, errors) = update(CLAIM, claim(one()), with_status.clone(), Target::Main);
    assert_eq!(errors, [""; 0]);
    assert_eq!(new["status"].get("allocation"), None);
    assert_eq!(json_of(created(CLAIM, with_status).as_ref())["status"], json!({}));
}

fn allocation(pool: &str) -> Value {
    json!({"allocation": {"devices": {"results": [
        {"request": "gpu", "driver": "d.example.com", "pool": pool, "device": "dev-0"}]}}})
}

#[test]
fn what_a_claim_got_is_checked() {
    let with = |status: Value| over(claim(one()), json!({"status": status}));
    let user = |uid: &str| json!({"resource": "pods", "name": "p", "uid": uid});
    let cases: Vec<(Value, Value, Vec<&str>)> = vec![
        (json!({}), allocation("p"), vec![]),
        (
            json!({}),
            json!({"reservedFor": [user("1")]}),
            vec!["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
        ),
        (
            allocation("p"),
            over(
                allocation("p"),
                json!({"reservedFor": [user("1"), user("1"), {"resource": "", "name": "", "uid": ""}]}),
            ),
            vec![
                "status.reservedFor[2].resource: Required value",
                "status.reservedFor[2].name: Required value",
                "status.reservedFor[2].uid: Required value",
                "status.reservedFor[1]: Duplicate value: \"1\"",
            ],
        ),
        (
            json!({}),
            json!({"allocation": {"devices": {"results": [{"request": "cpu", "driver": "d.example.com", "pool": "", "device": "UP"}]}}}),
            vec![
                "status.allocation.devices.results[0].request: Invalid value: \"cpu\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "status.allocation.devices.results[0].pool: Required value",
                "status.allocation.devices.results[0].device: Invalid value: \"UP\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            allocation("p"),
            over(
                allocation("p"),
                json!({"devices": [{"driver": "d.example.com", "pool": "other", "device": "dev-0"}]}),
            ),
            vec![
                "status.devices[0]: Invalid value: \"d.example.com/other/dev-0\": must be an allocated device in the claim",
            ],
        ),
    ];
    for (old, new, expected) in cases {
        let (_, errors) = update(CLAIM, with(old), with(new.clone()), STATUS);
        assert_eq!(errors, expected, "{new}");
    }
    let (_, errors) = update(CLAIM, with(allocation("p")), with(allocation("q")), STATUS);
    assert!(
        errors[0].starts_with("status.allocation: Invalid value")
            && errors[0].ends_with("field is immutable"),
        "{errors:?}"
    );
    let (released, errors) = update(CLAIM, with(allocation("p")), with(json!({})), STATUS);
    assert_eq!((released["status"].get("allocation"), errors.len()), (None, 0));

    assert_eq!(cells(CLAIM, claim(one())), ["c", "pending", "5h"]);
    let used = over(allocation("p"), json!({"reservedFor": [user("1")]}));
    assert_eq!(cells(CLAIM, with(used)), ["c", "allocated,reserved", "5h"]);
}

fn slice(change: Value) -> Value {
    let spec = json!({"driver": "d.example.com", "nodeName": "n1", "pool": {"name": "n1", "generation": 0, "resourceSliceCount": 1}});
    json!({"metadata": cluster(), "spec": over(spec, change)})
}

#[test]
fn slices_are_checked() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"driver": "", "pool": {"name": "", "resourceSliceCount": 0, "generation": -1}}),
            vec![
                "spec.driver: Required value",
                "spec.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.pool.name: Required value",
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            ],
        ),
        (
            json!({"nodeName": null}),
            vec![
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        ),
        (
            json!({"allNodes": true}),
            vec![
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ],
        ),
        (
            json!({"devices": [{"name": "a", "allNodes": true}, {"name": "a"}]}),
            vec![
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                "spec.devices[1]: Duplicate value: \"a\"",
            ],
        ),
        (
            json!({"devices": [{"name": "a", "attributes": {"x": {}, "y": {"int": 1, "string": "s"}, "z": {"version": "1"}, "a/b/c": {"bool": true}}}]}),
            vec![
                "spec.devices[0].attributes: Invalid value: \"a/b/c\": must not contain more than one slash",
                "spec.devices[0].attributes[x]: Invalid value: \"\": exactly one value must be specified",
                "spec.devices[0].attributes[y]: Invalid value: {\"int\":1,\"string\":\"s\"}: exactly one value must be specified",
                "spec.devices[0].attributes[z].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
            ],
        ),
        (
            json!({"devices": [{"name": "a", "taints": [{"key": "k", "effect": ""}], "bindingConditions": ["a"],
                "consumesCounters": [{"counterSet": "", "counters": {}}]}]}),
            vec![
                "spec.devices[0].taints[0].effect: Required value",
                "spec.devices[0].consumesCounters[0].counterSet: Required value",
                "spec.devices[0].consumesCounters[0].counters: Required value",
                "spec.devices[0].bindingFailureConditions: Invalid value: []: bindingFailureConditions are required to use bindingConditions",
            ],
        ),
        (
            json!({"devices": [{"name": "a", "capacity": {"mem": {"value": "10Gi", "requestPolicy": {"default": "1Gi"}}}},
                {"name": "b", "allowMultipleAllocations": true, "capacity": {"mem": {"value": "10Gi",
                    "requestPolicy": {"default": "3Gi", "validValues": ["2Gi", "1Gi", "20Gi"]}}}},
                {"name": "c", "allowMultipleAllocations": true, "capacity": {"mem": {"value": "10",
                    "requestPolicy": {"default": "4", "validRange": {"min": "1", "max": "12", "step": "2"}}}}}]}),
            vec![
                "spec.devices[0].capacity[mem].requestPolicy: Forbidden: allowMultipleAllocations must be true",
                "spec.devices[1].capacity[mem].requestPolicy.validValues[1]: Invalid value: \"1Gi\": values must be sorted in ascending order",
                "spec.devices[1].capacity[mem].requestPolicy.validValues[2]: Invalid value: \"20Gi\": option is larger than capacity value: 10Gi",
                "spec.devices[1].capacity[mem].requestPolicy.validValues: Invalid value: \"3Gi\": default value is not valid according to the requestPolicy",
                "spec.devices[2].capacity[mem].requestPolicy.validRange.max: Invalid value: \"12\": max is larger than capacity value: 10",
                "spec.devices[2].capacity[mem].requestPolicy.validRange.step: Invalid value: \"4\": value is not a multiple of a given step (2) from (1)",
                "spec.devices[2].capacity[mem].requestPolicy.validRange.step: Invalid value: \"12\": value is not a multiple of a given step (2) from (1)",
            ],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(create_errors(SLICE, slice(change.clone())), expected, "{change}");
    }
    assert_eq!(
        cells(SLICE, slice(json!({}))),
        ["x", "n1", "d.example.com", "n1", "5h"]
    );
    let (_, errors) = update(
        SLICE,
        slice(json!({})),
        slice(json!({"nodeName": "n2", "driver": "e.example.com"})),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            "spec.driver: Invalid value: \"e.example.com\": field is immutable",
            "spec.nodeName: Invalid value: \"n2\": field is immutable",
        ]
    );
}

#[test]
fn classes_and_taint_rules_are_checked() {
    let class = "resource.k8s.io/DeviceClass";
    let of = |spec: Value| json!({"metadata": cluster(), "spec": spec});
    assert_eq!(create_errors(class, of(json!({}))), [""; 0]);
    assert_eq!(
        create_errors(
            class,
            of(json!({"selectors": [{}], "config": [{}], "extendedResourceName": "cpu"}))
        ),
        [
            "spec.selectors[0].cel: Required value",
            "spec.config[0].opaque: Required value",
            "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
        ]
    );
    let rule = "resource.k8s.io/DeviceTaintRule";
    let good = of(
        json!({"deviceSelector": {"driver": "d.example.com"}, "taint": {"key": "k", "effect": "NoExecute"}}),
    );
    assert_eq!(create_errors(rule, good.clone()), [""; 0]);
    assert!(json_of(created(rule, good).as_ref())["spec"]["taint"]["timeAdded"].is_string());
    assert_eq!(
        create_errors(
            rule,
            of(
                json!({"deviceSelector": {"pool": "", "device": "a"}, "taint": {"key": "k", "effect": "Burn", "value": "v v"}})
            )
        ),
        [
            "spec.deviceSelector.pool: Required value",
            "spec.taint.value: Invalid value: \"v v\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "spec.taint.effect: Unsupported value: \"Burn\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ]
    );
}

#[test]
fn what_belongs_to_disabled_features_is_dropped() {
    let device = |name: &str| {
        json!({"name": name, "attributes": {"a": {"strings": ["x"]}, "b": {"int": 1}},
            "nodeAllocatableResources": {"cpu": {}}, "consumesCounters": [
                {"counterSet": "s", "compatibilityGroups": ["g"]}]})
    };
    let slice = |change: Value| {
        over(
            json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "nodeName": "n", "skipNodeOperations": ["Prepare"],
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [device("a")]}}),
            change,
        )
    };
    let bare = json!({"name": "a", "attributes": {"a": {}, "b": {"int": 1}},
        "consumesCounters": [{"counterSet": "s"}]});
    let made = json_of(created("resource.k8s.io/ResourceSlice", slice(json!({}))).as_ref());
    assert_eq!(made["spec"]["devices"], json!([bare]));
    assert_eq!(made["spec"].get("skipNodeOperations"), None);
    // What makes use of a feature already may go on.
    let more = slice(json!({"spec": {"devices": [device("a"), device("b")]}}));
    let (kept, _) = update(
        "resource.k8s.io/ResourceSlice",
        slice(json!({})),
        more.clone(),
        Target::Main,
    );
    assert_eq!(kept["spec"], more["spec"]);
    let exact = |change: Value| {
        let base = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": over(base, change)}]}}})
    };
    let derived = json!({"derivedAttributes": [{"name": "d"}]});
    let made = created("resource.k8s.io/ResourceClaim", exact(derived));
    assert_eq!(json_of(made.as_ref())["spec"], exact(json!({}))["spec"]);
}
