//! What the server is told about itself: API services, flow control.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, json_of, over, strategy, update};

const SERVICE: &str = "apiregistration.k8s.io/APIService";
const SCHEMA: &str = "flowcontrol.apiserver.k8s.io/FlowSchema";
const LEVEL: &str = "flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration";

fn named(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": "2024-12-31T21:00:00Z"}, "spec": spec})
}

#[test]
fn api_services_are_checked_and_shown() {
    let spec = |patch: Value| {
        over(
            json!({"group": "a.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}),
            patch,
        )
    };
    let cases: Vec<(&str, Value, Vec<&str>)> = vec![
        ("v1.a.io", json!({}), vec![]),
        (
            "v2.a.io",
            json!({"versionPriority": 0}),
            vec![
                "metadata.name: Invalid value: \"v2.a.io\": must be `spec.version+\".\"+spec.group`: \"v1.a.io\"",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ],
        ),
        (
            "v1.a.io",
            json!({"caBundle": "YQ==", "insecureSkipTLSVerify": true}),
            vec![
                "spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ],
        ),
        (
            "v1.a.io",
            json!({"service": {}}),
            vec![
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
            ],
        ),
    ];
    for (name, patch, expected) in cases {
        assert_eq!(
            create_errors(SERVICE, named(name, spec(patch.clone()))),
            expected,
            "{patch}"
        );
    }
    assert_eq!(
        cells(SERVICE, named("v1.a.io", spec(json!({})))),
        ["v1.a.io", "Local", "Unknown", "5h"]
    );
    let failing =
        json!({"status": {"conditions": [{"type": "Available", "status": "False", "reason": "Missing"}]}});
    let remote = named(
        "v1.a.io",
        spec(json!({"service": {"name": "s", "namespace": "n"}})),
    );
    assert_eq!(
        cells(SERVICE, over(remote, failing)),
        ["v1.a.io", "n/s", "False (Missing)", "5h"]
    );
    assert_eq!(
        strategy(SERVICE).info().store_prefix,
        "apiregistration.k8s.io/apiservices"
    );
    assert_eq!(
        strategy("apiextensions.k8s.io/CustomResourceDefinition")
            .info()
            .store_prefix,
        "apiextensions.k8s.io/customresourcedefinitions"
    );
}

#[test]
fn flow_schemas_are_checked_and_shown() {
    let rule = json!({
        "subjects": [{"kind": "User", "user": {"name": "a"}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz"]}],
    });
    let schema = |patch: Value| {
        let spec = json!({"priorityLevelConfiguration": {"name": "low"}, "rules": [rule.clone()]});
        named("a", over(spec, patch))
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": ""}}),
            vec![
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ],
        ),
        (
            json!({"rules": [{"subjects": [{"kind": "Group", "user": {"name": "a"}}]}]}),
            vec![
                "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ],
        ),
        (
            json!({"rules": [{
                "subjects": [{"kind": "User", "user": {"name": "a"}}],
                "nonResourceRules": [{"verbs": ["*", "get"], "nonResourceURLs": ["a", "/a*"]}],
            }]}),
            vec![
                "spec.rules[0].nonResourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not \
                 specify other verbs",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": wildcard can only do \
                 suffix matching",
            ],
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(create_errors(SCHEMA, schema(patch.clone())), expected, "{patch}");
    }
    let object = json_of(created(SCHEMA, schema(json!({}))).as_ref());
    assert_eq!(object["spec"]["matchingPrecedence"], 1000);
    let row = cells(
        SCHEMA,
        schema(json!({"matchingPrecedence": 5, "distinguisherMethod": {"type": "ByUser"}})),
    );
    assert_eq!(row, ["a", "low", "5", "ByUser", "5h", "?"]);
    let mut exempt = schema(json!({"matchingPrecedence": 1}));
    exempt["metadata"]["name"] = json!("exempt");
    let rules = json!([{"subjects": [{"kind": "Group", "group": {"name": "g"}}],
        "resourceRules": [{"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true}]}]);
    exempt["spec"]["rules"] = rules;
    assert_eq!(
        create_errors(SCHEMA, exempt),
        [
            "spec: Invalid value: {\"PriorityLevelConfiguration\":{\"Name\":\"low\"},\"MatchingPrecedence\":1,\
             \"DistinguisherMethod\":null,\"Rules\":[{\"Subjects\":[{\"Kind\":\"Group\",\"User\":null,\"Group\":{\"Name\":\"g\"},\
             \"ServiceAccount\":null}],\"ResourceRules\":[{\"Verbs\":[\"get\"],\"APIGroups\":[\"*\"],\"Resources\":[\"*\"],\
             \"ClusterScope\":true,\"Namespaces\":null}],\"NonResourceRules\":null}]}: spec of 'exempt' must equal the fixed \
             value"
        ]
    );
    let limited = json!({"nominalConcurrencyShares": 6, "limitResponse": {"type": "Reject"}});
    let catch_all = named("catch-all", json!({"type": "Limited", "limited": limited}));
    assert_eq!(
        create_errors(LEVEL, catch_all),
        [
            "spec: Invalid value: {\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":6,\"LimitResponse\":{\
             \"Type\":\"Reject\",\"Queuing\":null},\"LendablePercent\":0,\"BorrowingLimitPercent\":null},\"Exempt\":null}: spec \
             of 'catch-all' must equal the fixed value"
        ]
    );
}

#[test]
fn priority_levels_are_checked_and_shown() {
    let level = |limited: Value| named("a", json!({"type": "Limited", "limited": limited}));
    let queue = |queuing: Value| level(json!({"limitResponse": {"type": "Queue", "queuing": queuing}}));
    let object = json_of(created(LEVEL, queue(json!({}))).as_ref());
    assert_eq!(
        object["spec"]["limited"],
        json!({
            "nominalConcurrencyShares": 30,
            "lendablePercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"handSize": 8, "queues": 64, "queueLengthLimit": 50}},
        })
    );
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (queue(json!({})), vec![]),
        (
            named("a", json!({"type": "Exempt"})),
            vec![
                "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            ],
        ),
        (
            queue(json!({"queues": 4})),
            vec![
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)",
            ],
        ),
        (
            queue(json!({"queues": 1000})),
            vec![
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 1000 \
                 and handSize 8 should not be greater than 60",
            ],
        ),
        (
            level(json!({"lendablePercent": 101, "limitResponse": {"type": "Queue"}})),
            vec![
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is \
                 Limited",
            ],
        ),
    ];
    for (object, expected) in cases {
        assert_eq!(create_errors(LEVEL, object.clone()), expected, "{object}");
    }
    let row = cells(LEVEL, json_of(created(LEVEL, queue(json!({}))).as_ref()));
    assert_eq!(row, ["a", "Limited", "30", "64", "8", "50", "5h"]);
}

#[test]
fn a_write_of_the_status_leaves_the_rest_of_flow_control_as_it_is() {
    let schema = |label: &str| {
        over(
            named(
                "s",
                json!({"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5,
                "distinguisherMethod": {"type": "ByMood"}}),
            ),
            json!({"metadata": {"labels": {"a": label}}}),
        )
    };
    let path = Target::Subresource(Subresource::Status);
    let (object, _) = update(SCHEMA, schema("old"), schema("new"), path);
    assert_eq!(object["metadata"]["labels"]["a"], "old");
    assert_eq!(
        create_errors(SCHEMA, schema("a")),
        [
            "spec.distinguisherMethod.type: Unsupported value: {\"Type\":\"ByMood\"}: supported values: \"ByNamespace\", \"ByUser\""
        ]
    );
}

#[test]
fn tables_show_what_is_migrated() {
    let migration = |group: &str| json!({"metadata": {"name": "m"}, "spec": {"resource": {"group": group, "resource": "pods"}}});
    let kind = "storagemigration.k8s.io/StorageVersionMigration";
    assert_eq!(cells(kind, migration("")), ["m", "pods", "Unknown"]);
    assert_eq!(cells(kind, migration("x.io")), ["m", "pods.x.io", "Unknown"]);
}
