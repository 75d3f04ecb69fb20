//! The flow schemas and priority levels that every server has (`k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`).

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use serde_json::{Value, json};

/// Says whether the server keeps an object's specification as it makes it.
pub(super) const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

/// Whether no server may be without a level.
pub(super) fn is_mandatory_level(level: &PriorityLevelConfiguration) -> bool {
    matches!(level.metadata.name.as_deref(), Some(EXEMPT | CATCH_ALL))
}

/// Whether no server may be without a schema.
pub(super) fn is_mandatory_schema(schema: &FlowSchema) -> bool {
    matches!(schema.metadata.name.as_deref(), Some(EXEMPT | CATCH_ALL))
}

fn metadata(name: &str) -> Value {
    json!({ "name": name, "annotations": { AUTOUPDATE: "true" } })
}

/// The priority levels.
pub(super) fn levels() -> Vec<PriorityLevelConfiguration> {
    let queued = |name: &str, shares: u32, lendable: u32, queues: u32, hand: u32| {
        json!({ "metadata": metadata(name), "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": shares,
                "lendablePercent": lendable,
                "limitResponse": {
                    "type": "Queue",
                    "queuing": { "queues": queues, "handSize": hand, "queueLengthLimit": 50 },
                },
            },
        } })
    };
    let all = [
        json!({ "metadata": metadata(EXEMPT), "spec": {
            "type": "Exempt",
            "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 },
        } }),
        json!({ "metadata": metadata(CATCH_ALL), "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5,
                "lendablePercent": 0,
                "limitResponse": { "type": "Reject" },
            },
        } }),
        queued("system", 30, 33, 64, 6),
        queued("node-high", 40, 25, 64, 6),
        queued("leader-election", 10, 0, 16, 4),
        queued("workload-high", 40, 50, 128, 6),
        queued("workload-low", 100, 90, 128, 6),
        queued("global-default", 20, 50, 128, 6),
    ];
    all.into_iter()
        .filter_map(|level| serde_json::from_value(level).ok())
        .collect()
}

fn groups<const N: usize>(names: [&str; N]) -> Vec<Value> {
    let group = |name: &str| json!({ "kind": "Group", "group": { "name": name } });
    names.into_iter().map(group).collect()
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "user": { "name": name } })
}

fn account(name: &str) -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "name": name, "namespace": "kube-system" } })
}

/// A rule about some resources in every namespace.
fn about(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule =
        json!({ "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"] });
    if cluster_scope && let Some(rule) = rule.as_object_mut() {
        rule.insert("clusterScope".into(), true.into());
    }
    rule
}

/// Whatever these want.
fn anything(subjects: Vec<Value>) -> Value {
    json!([{
        "subjects": subjects,
        "resourceRules": [about(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
    }])
}

/// The flow schemas.
pub(super) fn schemas() -> Vec<FlowSchema> {
    const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];
    const MANAGER: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    const WRITE: [&str; 3] = ["get", "create", "update"];
    const LEASES: (&str, &[&str]) = ("coordination.k8s.io", &["leases"]);
    let schema = |name: &str, level: &str, precedence: u32, by: &str, rules: Value| {
        let mut spec = json!({
            "priorityLevelConfiguration": { "name": level },
            "matchingPrecedence": precedence,
            "rules": rules,
        });
        if !by.is_empty()
            && let Some(spec) = spec.as_object_mut()
        {
            spec.insert("distinguisherMethod".into(), json!({ "type": by }));
        }
        json!({ "metadata": metadata(name), "spec": spec })
    };
    let rules = |subjects: Vec<Value>, resources: Vec<Value>| json!([{ "subjects": subjects, "resourceRules": resources }]);
    let leases = || about(&WRITE, LEASES.0, LEASES.1, false);
    let probes = json!([{
        "subjects": groups(EVERYBODY),
        "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] }],
    }]);
    let (user_flow, namespace_flow) = ("ByUser", "ByNamespace");
    let all = [
        schema(EXEMPT, EXEMPT, 1, "", anything(groups(["system:masters"]))),
        schema("probes", EXEMPT, 2, "", probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            user_flow,
            rules(vec![user(MANAGER), user(SCHEDULER), account("*")], vec![leases()]),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            user_flow,
            rules(
                vec![
                    user(MANAGER),
                    account("endpoint-controller"),
                    account("endpointslicemirroring-controller"),
                ],
                vec![about(&WRITE, "", &["endpoints"], false)],
            ),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            user_flow,
            rules(
                vec![account("*")],
                vec![about(&WRITE, "", &["endpoints", "configmaps"], false), leases()],
            ),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            user_flow,
            rules(
                groups(["system:nodes"]),
                vec![
                    about(&["*"], "", &["nodes", "nodes/status"], true),
                    about(&["*"], LEASES.0, LEASES.1, false),
                ],
            ),
        ),
        schema(
            "system-nodes",
            "system",
            500,
            user_flow,
            anything(groups(["system:nodes"])),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            namespace_flow,
            anything(vec![user(MANAGER)]),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            namespace_flow,
            anything(vec![user(SCHEDULER)]),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            namespace_flow,
            anything(vec![account("*")]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            user_flow,
            anything(groups(["system:serviceaccounts"])),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            user_flow,
            anything(groups(EVERYBODY)),
        ),
        schema(
            CATCH_ALL,
            CATCH_ALL,
            10_000,
            user_flow,
            anything(groups(EVERYBODY)),
        ),
    ];
    all.into_iter()
        .filter_map(|schema| serde_json::from_value(schema).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_api::field::Errors;
    use skiff_api::kind::Kind;

    #[test]
    fn every_object_is_valid_and_needs_no_default() {
        fn check<K: Kind + Clone + PartialEq>(object: &K) {
            let mut errors = Errors::new();
            object.validate(&mut errors);
            assert!(
                errors.is_empty(),
                "{:?}",
                errors.iter().map(ToString::to_string).collect::<Vec<_>>()
            );
        }
        let (levels, schemas) = (levels(), schemas());
        assert_eq!((levels.len(), schemas.len()), (8, 13));
        for level in &levels {
            check(level);
            let mut defaulted = level.clone();
            Kind::default(&mut defaulted);
            assert_eq!(defaulted.spec, level.spec);
        }
        for schema in &schemas {
            check(schema);
            let mut defaulted = schema.clone();
            Kind::default(&mut defaulted);
            assert_eq!(defaulted.spec, schema.spec);
        }
    }
}
