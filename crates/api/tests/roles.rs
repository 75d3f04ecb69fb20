//! Roles and their bindings.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::Target;

use support::{cells, create_errors, defaulted, json_of, metadata, update};

const GROUP: &str = "rbac.authorization.k8s.io";

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": metadata(name), "rules": rules})
}

fn cluster(mut object: Value) -> Value {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("namespace");
    }
    object
}

fn binding(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"metadata": metadata("b"), "roleRef": {"kind": kind, "name": role}, "subjects": subjects})
}

#[test]
fn rules_say_what_they_are_about() {
    let both = json!([{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]);
    let cases = [
        (
            "rbac.authorization.k8s.io/Role",
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
            vec![],
        ),
        (
            "rbac.authorization.k8s.io/Role",
            json!([{"verbs": []}]),
            vec![
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        ),
        (
            "rbac.authorization.k8s.io/Role",
            both.clone(),
            vec![
                r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#,
                r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs"#,
            ],
        ),
        (
            "rbac.authorization.k8s.io/ClusterRole",
            both,
            vec![
                r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs"#,
            ],
        ),
    ];
    for (kind, rules, expected) in cases {
        let mut object = role("system:a.B", rules.clone());
        if kind.ends_with("ClusterRole") {
            object = cluster(object);
        }
        assert_eq!(create_errors(kind, object), expected, "{kind} {rules}");
    }
    assert_eq!(
        create_errors("rbac.authorization.k8s.io/Role", role("a/b", json!([]))),
        [r#"metadata.name: Invalid value: "a/b": may not contain '/'"#]
    );
    let mut aggregated = cluster(role("a", Value::Null));
    aggregated["aggregationRule"] = json!({});
    assert_eq!(
        create_errors("rbac.authorization.k8s.io/ClusterRole", aggregated),
        [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
        ]
    );
}

#[test]
fn bindings_are_filled_in_and_checked() {
    let subjects = json!([
        {"kind": "User", "name": "jane"},
        {"kind": "Group", "name": "dev"},
        {"kind": "ServiceAccount", "name": "default", "namespace": "x"},
    ]);
    let object = defaulted(
        "rbac.authorization.k8s.io/RoleBinding",
        binding("Role", "r", subjects),
    );
    let filled = json_of(object.as_ref());
    assert_eq!(
        filled["roleRef"],
        json!({"apiGroup": GROUP, "kind": "Role", "name": "r"})
    );
    assert_eq!(filled["subjects"][0]["apiGroup"], GROUP);
    assert_eq!(filled["subjects"][2].get("apiGroup"), None);
    let shown = cells("rbac.authorization.k8s.io/RoleBinding", filled);
    assert_eq!(shown[1], "Role/r");
    assert_eq!(shown[3..], ["jane", "dev", "x/default"]);

    let wrong = json!([
        {"kind": "User", "name": "", "apiGroup": "x"},
        {"kind": "ServiceAccount", "name": "A"},
        {"kind": "Pod", "name": "a"},
    ]);
    let errors = create_errors(
        "rbac.authorization.k8s.io/ClusterRoleBinding",
        cluster(binding("Role", "", wrong)),
    );
    let expected = [
        r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
        "roleRef.name: Required value",
        "subjects[0].name: Required value",
        r#"subjects[0].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io""#,
        r#"subjects[1].name: Invalid value: "A": "#,
        "subjects[1].namespace: Required value",
        r#"subjects[2].kind: Unsupported value: "Pod": supported values: "ServiceAccount", "User", "Group""#,
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error} / {expected}");
    }
}

#[test]
fn a_binding_keeps_its_role() {
    let (_, errors) = update(
        "rbac.authorization.k8s.io/RoleBinding",
        binding("Role", "r", json!([])),
        binding("ClusterRole", "admin", json!([])),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"admin"}: cannot change roleRef"#
        ]
    );
}
