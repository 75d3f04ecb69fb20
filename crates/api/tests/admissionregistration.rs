//! Webhooks, policies and their bindings.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may; the lint knows only functions marked as one"
)]

mod support;

use serde_json::{Value, json};
use skiff_api::Target;

use support::{cells, create_errors, created, json_of, over, update};

fn metadata() -> Value {
    json!({"name": "x", "creationTimestamp": "2024-12-31T21:00:00Z"})
}

fn hook(change: Value) -> Value {
    over(
        json!({
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "n", "namespace": "s"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }),
        change,
    )
}

const VALIDATING: &str = "admissionregistration.k8s.io/ValidatingWebhookConfiguration";
const MUTATING: &str = "admissionregistration.k8s.io/MutatingWebhookConfiguration";

#[test]
fn webhooks_are_filled_in() {
    for (kind, reinvocation) in [(VALIDATING, Value::Null), (MUTATING, json!("Never"))] {
        let object = created(
            kind,
            json!({"metadata": metadata(), "webhooks": [hook(json!({}))]}),
        );
        let object = json_of(object.as_ref());
        let hook = &object["webhooks"][0];
        assert_eq!(hook["failurePolicy"], "Fail");
        assert_eq!(hook["matchPolicy"], "Equivalent");
        assert_eq!(hook["timeoutSeconds"], 10);
        assert_eq!(hook["namespaceSelector"], json!({}));
        assert_eq!(hook["objectSelector"], json!({}));
        assert_eq!(hook["clientConfig"]["service"]["port"], 443);
        assert_eq!(hook["rules"][0]["scope"], "*");
        assert_eq!(hook["reinvocationPolicy"], reinvocation);
        assert_eq!(object["metadata"]["generation"], 1);
    }
}

#[test]
fn webhooks_are_checked() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"name": "short", "sideEffects": "Some", "timeoutSeconds": 31, "failurePolicy": "Maybe", "matchPolicy": "Never"}),
            vec![
                "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
                "webhooks[0].failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
                "webhooks[0].matchPolicy: Unsupported value: \"Never\": supported values: \"Equivalent\", \"Exact\"",
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ],
        ),
        (
            json!({"name": "", "sideEffects": "", "admissionReviewVersions": [], "clientConfig": {"url": "https://h"}}),
            vec![
                "webhooks[0].name: Required value",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ],
        ),
        (
            json!({"admissionReviewVersions": ["v2", "v2"]}),
            vec![
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            json!({"rules": [{"operations": ["*", "CREATE", "FLY"], "apiGroups": ["*", "apps"], "apiVersions": ["*", ""],
                "resources": ["pods/*", "pods/status", "*", "nodes"], "scope": "Moon"}]}),
            vec![
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\",\"FLY\"]: if '*' is present, must not specify other operations",
                "webhooks[0].rules[0].operations[2]: Unsupported value: \"FLY\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                "webhooks[0].rules[0].apiGroups: Invalid value: [\"*\",\"apps\"]: if '*' is present, must not specify other API groups",
                "webhooks[0].rules[0].apiVersions: Invalid value: [\"*\",\"\"]: if '*' is present, must not specify other API versions",
                "webhooks[0].rules[0].apiVersions[1]: Required value",
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
                "webhooks[0].rules[0].resources: Invalid value: [\"pods/*\",\"pods/status\",\"*\",\"nodes\"]: if '*' is present, must not specify other resources without subresources",
                "webhooks[0].rules[0].scope: Unsupported value: \"Moon\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ],
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": " "}, {"name": "a", "expression": "true"}, {"name": "", "expression": "true"}]}),
            vec![
                "webhooks[0].matchConditions[0].expression: Required value",
                "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
                "webhooks[0].matchConditions[2].name: Required value",
            ],
        ),
    ];
    for kind in [VALIDATING, MUTATING] {
        for (change, expected) in &cases {
            let object = json!({"metadata": metadata(), "webhooks": [hook(change.clone())]});
            assert_eq!(&create_errors(kind, object), expected, "{change}");
        }
        let twice = json!({"metadata": metadata(), "webhooks": [hook(json!({})), hook(json!({}))]});
        assert_eq!(
            create_errors(kind, twice.clone()),
            ["webhooks[1].name: Duplicate value: \"a.example.com\""]
        );
        assert_eq!(cells(kind, twice), ["x", "2", "5h"]);
    }
    let object = json!({"metadata": metadata(), "webhooks": [hook(json!({"reinvocationPolicy": "Often"}))]});
    assert_eq!(
        create_errors(MUTATING, object),
        [
            "webhooks[0].reinvocationPolicy: Unsupported value: \"Often\": supported values: \"IfNeeded\", \"Never\""
        ]
    );
}

#[test]
fn a_webhooks_generation_tells_of_its_changes() {
    let old = json!({"metadata": over(metadata(), json!({"generation": 3})), "webhooks": [hook(json!({}))]});
    let (same, errors) = update(VALIDATING, old.clone(), old.clone(), Target::Main);
    assert_eq!((&same["metadata"]["generation"], errors.len()), (&json!(3), 0));
    let new = over(
        old.clone(),
        json!({"webhooks": [hook(json!({"timeoutSeconds": 5}))]}),
    );
    let (changed, _) = update(VALIDATING, old, new, Target::Main);
    assert_eq!(changed["metadata"]["generation"], 4);
}

fn constraints() -> Value {
    json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]})
}

#[test]
fn validating_policies_are_filled_in_and_checked() {
    let kind = "admissionregistration.k8s.io/ValidatingAdmissionPolicy";
    let policy = |change: Value| {
        let spec = json!({"matchConstraints": constraints(), "validations": [{"expression": "true"}]});
        json!({"metadata": metadata(), "spec": over(spec, change)})
    };
    let object = json_of(created(kind, policy(json!({}))).as_ref());
    assert_eq!(object["spec"]["failurePolicy"], "Fail");
    assert_eq!(object["spec"]["matchConstraints"]["matchPolicy"], "Equivalent");
    assert_eq!(
        object["spec"]["matchConstraints"]["resourceRules"][0]["scope"],
        "*"
    );
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"matchConstraints": null, "validations": []}),
            vec![
                "spec.matchConstraints: Required value",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            json!({"matchConstraints": {"resourceRules": []}, "paramKind": {"apiVersion": "a/b/c", "kind": ""}}),
            vec![
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "spec.paramKind.kind: Required value",
                "spec.matchConstraints.resourceRules: Required value",
            ],
        ),
        (
            json!({"variables": [{"name": "in", "expression": ""}, {"name": " ", "expression": "1"}]}),
            vec![
                "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier",
                "spec.variables[0].expression: Required value: expression is not specified",
                "spec.variables[1].name: Required value: name is not specified",
            ],
        ),
        (
            json!({"validations": [{"expression": "", "message": "a\nb", "messageExpression": " ", "reason": "Because"}]}),
            vec![
                "spec.validations[0].expression: Required value: expression is not specified",
                "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                "spec.validations[0].reason: Unsupported value: \"Because\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
            ],
        ),
        (
            json!({"auditAnnotations": [{"key": "a", "valueExpression": ""}, {"key": "a", "valueExpression": "'x'"}]}),
            vec![
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
                "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
            ],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(create_errors(kind, policy(change.clone())), expected, "{change}");
    }
    let with = policy(json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}));
    assert_eq!(cells(kind, with), ["x", "1", "v1/ConfigMap", "5h"]);

    let status =
        json!({"status": {"typeChecking": {"expressionWarnings": [{"fieldRef": "", "warning": ""}]}}});
    let (new, errors) = update(
        kind,
        policy(json!({})),
        over(policy(json!({"failurePolicy": "Ignore"})), status),
        Target::Subresource(skiff_api::Subresource::Status),
    );
    assert_eq!(
        new["spec"]["failurePolicy"], "Fail",
        "a write of the status changes nothing else"
    );
    assert_eq!(
        errors,
        [
            "status.typeChecking.expressionWarnings[0].warning: Required value",
            "status.typeChecking.expressionWarnings[0].fieldRef: Required value",
        ]
    );
}

#[test]
fn mutating_policies_say_how_they_change_what() {
    let kind = "admissionregistration.k8s.io/MutatingAdmissionPolicy";
    let policy = |change: Value| {
        let spec = json!({"matchConstraints": constraints(), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]});
        json!({"metadata": metadata(), "spec": over(spec, change)})
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"mutations": [], "reinvocationPolicy": null}),
            vec![
                "spec.mutations: Required value: mutations must contain at least one item",
                "spec.reinvocationPolicy: Required value",
            ],
        ),
        (
            json!({"mutations": [{"patchType": ""}, {"patchType": "Guess"}, {"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": " "}}]}),
            vec![
                "spec.mutations[0].patchType: Required value",
                "spec.mutations[1].patchType: Unsupported value: \"Guess\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
                "spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                "spec.mutations[2].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
                "spec.mutations[3].applyConfiguration.expression: Required value",
            ],
        ),
        (
            json!({"matchConstraints": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}}),
            vec![
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CREATE\", \"UPDATE\"",
            ],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(create_errors(kind, policy(change.clone())), expected, "{change}");
    }
    assert_eq!(cells(kind, policy(json!({}))), ["x", "1", "<unset>", "5h"]);
}

#[test]
fn bindings_name_a_policy_and_its_parameters() {
    let binding = |spec: Value| json!({"metadata": metadata(), "spec": spec});
    let validating = "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding";
    let mutating = "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding";
    let good = json!({"policyName": "p.example.com", "validationActions": ["Deny", "Audit"],
        "paramRef": {"name": "c", "namespace": "n", "parameterNotFoundAction": "Deny"}});
    assert_eq!(create_errors(validating, binding(good.clone())), [""; 0]);
    assert_eq!(
        cells(validating, binding(good)),
        ["x", "p.example.com", "n/c", "5h"]
    );
    let cases: Vec<(&str, Value, Vec<&str>)> = vec![
        (
            validating,
            json!({"validationActions": ["Deny", "Warn", "Deny", "Shout"], "paramRef": {"name": "c", "selector": {}}}),
            vec![
                "spec.policyName: Required value",
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions[3]: Unsupported value: \"Shout\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\",\"Shout\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            ],
        ),
        (
            validating,
            json!({"policyName": "p", "paramRef": {"parameterNotFoundAction": "Guess"}}),
            vec![
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Guess\": supported values: \"Deny\", \"Allow\"",
                "spec.validationActions: Required value: at least one validation action is required",
            ],
        ),
        (mutating, json!({"policyName": "p"}), vec![]),
        (mutating, json!({}), vec!["spec.policyName: Required value"]),
    ];
    for (kind, spec, expected) in cases {
        assert_eq!(create_errors(kind, binding(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn expressions_can_be_read() {
    let wrong = "Invalid value: \"a b\": compilation failed: ERROR: <input>:1:3: Syntax error: extraneous input 'b' \
                 expecting <EOF>\n | a b\n | ..^";
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
        "matchConditions": [{"name": "c", "expression": "a b"}],
        "variables": [{"name": "v", "expression": "a b"}],
        "validations": [{"expression": "a b", "messageExpression": "a b"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "a b"}],
    }});
    let at = |path: &str| format!("spec.{path}: {wrong}");
    assert_eq!(
        create_errors("admissionregistration.k8s.io/ValidatingAdmissionPolicy", policy),
        [
            at("matchConditions[0].expression"),
            at("variables[0].expression"),
            at("validations[0].expression"),
            at("validations[0].messageExpression"),
            at("auditAnnotations[0].valueExpression"),
        ]
    );
    let class = json!({"metadata": {"name": "c"}, "spec": {"selectors": [{"cel": {"expression": "a b"}}]}});
    assert_eq!(
        create_errors("resource.k8s.io/DeviceClass", class),
        [at("selectors[0].cel.expression")]
    );
}
