//! Strategic merge patch against upstream's rules: a table of cases, and the laws.

use proptest::prelude::*;
use serde_json::json;
use skiff_api::schema;

use super::*;

fn apply(kind: (&str, &str, &str), original: Value, patch: Value) -> Result<Value> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        panic!("a case is not of objects");
    };
    let definition = schema::of_kind(kind.0, kind.1, kind.2).expect("a kind with a schema");
    merge(original, patch, Some(definition)).map(Value::Object)
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

struct Case {
    name: &'static str,
    kind: (&'static str, &'static str, &'static str),
    original: Value,
    patch: Value,
    expected: Result<Value>,
}

fn pod(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn patches_merge_as_upstream_merges_them() {
    let cases = [
        Case {
            name: "an object that is replaced as a whole loses what the patch does not name",
            kind: ("policy", "v1", "PodDisruptionBudget"),
            original: json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}),
            patch: json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}}),
            expected: Ok(json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"c": "d"}}}})),
        },
        Case {
            name: "scalars are replaced, nulls delete, absent fields stay",
            kind: POD,
            original: json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "spec": {"nodeName": "n"}}),
            patch: json!({"metadata": {"labels": {"x": null, "z": "3"}}, "spec": {"priority": 7}}),
            expected: Ok(json!({
                "metadata": {"name": "a", "labels": {"y": "2", "z": "3"}},
                "spec": {"nodeName": "n", "priority": 7}
            })),
        },
        Case {
            name: "a list map is merged by its key; what is new comes first",
            kind: POD,
            original: pod(json!([{"name": "a", "image": "i1", "tty": true}, {"name": "b", "image": "i2"}])),
            patch: pod(json!([{"name": "c", "image": "i3"}, {"name": "a", "image": "i9"}])),
            expected: Ok(pod(json!([
                {"name": "c", "image": "i3"},
                {"name": "a", "image": "i9", "tty": true},
                {"name": "b", "image": "i2"}
            ]))),
        },
        Case {
            name: "list maps nest",
            kind: POD,
            original: pod(
                json!([{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]),
            ),
            patch: pod(json!([{"name": "a", "env": [{"name": "Y", "value": "9"}]}])),
            expected: Ok(pod(json!([{
                "name": "a",
                "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "9"}]
            }]))),
        },
        Case {
            name: "an element is deleted by its key",
            kind: POD,
            original: pod(json!([{"name": "a"}, {"name": "b"}])),
            patch: pod(json!([{"$patch": "delete", "name": "a"}])),
            expected: Ok(pod(json!([{"name": "b"}]))),
        },
        Case {
            name: "an element that is not there is deleted without an effect",
            kind: POD,
            original: pod(json!([{"name": "a"}])),
            patch: pod(json!([{"$patch": "delete", "name": "x"}])),
            expected: Ok(pod(json!([{"name": "a"}]))),
        },
        Case {
            name: "a list is replaced when it says so",
            kind: POD,
            original: pod(json!([{"name": "a"}, {"name": "b"}])),
            patch: pod(json!([{"name": "c"}, {"$patch": "replace"}])),
            expected: Ok(pod(json!([{"name": "c"}]))),
        },
        Case {
            name: "an object is replaced when it says so",
            kind: POD,
            original: json!({"metadata": {"labels": {"x": "1"}}, "spec": {"nodeName": "n"}}),
            patch: json!({"metadata": {"labels": {"$patch": "replace", "y": "2"}}}),
            expected: Ok(json!({"metadata": {"labels": {"y": "2"}}, "spec": {"nodeName": "n"}})),
        },
        Case {
            name: "an object is emptied when it says so",
            kind: POD,
            original: json!({"metadata": {"labels": {"x": "1"}}}),
            patch: json!({"metadata": {"labels": {"$patch": "delete"}}}),
            expected: Ok(json!({"metadata": {"labels": {}}})),
        },
        Case {
            name: "a list without a key is replaced",
            kind: POD,
            original: pod(json!([{"name": "a", "command": ["x", "y"]}])),
            patch: pod(json!([{"name": "a", "command": ["z"]}])),
            expected: Ok(pod(json!([{"name": "a", "command": ["z"]}]))),
        },
        Case {
            name: "finalizers are united",
            kind: POD,
            original: json!({"metadata": {"finalizers": ["a", "b"]}}),
            patch: json!({"metadata": {"finalizers": ["b", "c"]}}),
            expected: Ok(json!({"metadata": {"finalizers": ["a", "b", "c"]}})),
        },
        Case {
            name: "values leave a set",
            kind: POD,
            original: json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            patch: json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "x"]}}),
            expected: Ok(json!({"metadata": {"finalizers": ["a", "c"]}})),
        },
        Case {
            name: "elements are put in order, others between them where they were",
            kind: POD,
            original: pod(json!([{"name": "a"}, {"name": "server"}, {"name": "b"}, {"name": "c"}])),
            patch: json!({"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
                "containers": [{"name": "c", "image": "new"}]
            }}),
            // `server` stands after `c` in the patch's order, but must come before `b`: the first place where it fits.
            expected: Ok(pod(json!([
                {"name": "server"}, {"name": "c", "image": "new"}, {"name": "a"}, {"name": "b"}
            ]))),
        },
        Case {
            name: "an order alone reorders",
            kind: POD,
            original: pod(json!([{"name": "a"}, {"name": "b"}])),
            patch: json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            expected: Ok(pod(json!([{"name": "b"}, {"name": "a"}]))),
        },
        Case {
            name: "what kubectl sends when it removes one env variable of two",
            kind: DEPLOYMENT,
            original: json!({"spec": {"template": {"spec": {"containers": [{
                "name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]
            }]}}}}),
            patch: json!({"spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "a"}],
                "containers": [{
                    "$setElementOrder/env": [{"name": "X"}],
                    "name": "a",
                    "env": [{"$patch": "delete", "name": "Y"}]
                }]
            }}}}),
            expected: Ok(json!({"spec": {"template": {"spec": {"containers": [{
                "name": "a", "env": [{"name": "X", "value": "1"}]
            }]}}}})),
        },
        Case {
            name: "only the retained keys stay",
            kind: DEPLOYMENT,
            original: json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            patch: json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            expected: Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})),
        },
        Case {
            name: "a patch that sets what it does not retain is refused",
            kind: DEPLOYMENT,
            original: json!({"spec": {"strategy": {"type": "RollingUpdate"}}}),
            patch: json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}}),
            expected: Err(PatchError::BadRetainKeys),
        },
        Case {
            name: "an element without its key is refused",
            kind: POD,
            original: pod(json!([{"name": "a"}])),
            patch: pod(json!([{"image": "x"}])),
            expected: Err(PatchError::NoMergeKey("map[image:x]".into(), "name".into())),
        },
        Case {
            name: "an unknown directive is refused",
            kind: POD,
            original: json!({"spec": {"nodeSelector": {"a": "b"}}}),
            patch: json!({"spec": {"nodeSelector": {"$patch": "mix", "c": "d"}}}),
            expected: Err(PatchError::BadDirective(
                "mix".into(),
                "map[$patch:mix c:d]".into(),
            )),
        },
        Case {
            name: "an order that contradicts the list is refused",
            kind: POD,
            original: pod(json!([{"name": "a"}, {"name": "b"}])),
            patch: json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                "containers": [{"name": "b", "image": "x"}, {"name": "a", "image": "y"}]
            }}),
            expected: Err(PatchError::OrderMismatch(
                "[map[image:x name:b] map[image:y name:a]]".into(),
                "[map[name:a] map[name:b]]".into(),
            )),
        },
        Case {
            name: "what was not there is taken without directives and nulls",
            kind: POD,
            original: json!({}),
            patch: pod(json!([
                {"name": "a", "image": null, "$setElementOrder/env": [{"name": "X"}], "env": [{"name": "X"}]},
                {"$patch": "delete", "name": "b"}
            ])),
            expected: Ok(pod(json!([{"name": "a", "env": [{"name": "X"}]}]))),
        },
        Case {
            name: "another type replaces",
            kind: POD,
            original: json!({"spec": {"nodeSelector": {"a": "b"}}}),
            patch: json!({"spec": {"nodeSelector": "x"}}),
            expected: Ok(json!({"spec": {"nodeSelector": "x"}})),
        },
        Case {
            name: "conditions are merged by their type",
            kind: POD,
            original: json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "r"}]}}),
            patch: json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            expected: Ok(
                json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "r"}]}}),
            ),
        },
        Case {
            name: "a service's ports are told apart by their number",
            kind: ("", "v1", "Service"),
            original: json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}),
            patch: json!({"spec": {"ports": [{"port": 81, "targetPort": 8081}]}}),
            expected: Ok(json!({"spec": {"ports": [
                {"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 8081}
            ]}})),
        },
    ];
    for case in cases {
        assert_eq!(
            apply(case.kind, case.original, case.patch),
            case.expected,
            "{}",
            case.name
        );
    }
}

fn containers() -> impl Strategy<Value = Value> {
    let container = ("[a-e]", prop::option::of("[x-z]"), prop::bool::ANY).prop_map(|(name, image, tty)| {
        let mut map = Map::new();
        map.insert("name".into(), name.into());
        if let Some(image) = image {
            map.insert("image".into(), image.into());
        }
        if tty {
            map.insert("tty".into(), true.into());
        }
        Value::Object(map)
    });
    prop::collection::vec(container, 0..5).prop_map(|mut all: Vec<Value>| {
        let mut seen = Vec::new();
        all.retain(|item| {
            let name = item["name"].clone();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        });
        Value::Array(all)
    })
}

fn object() -> impl Strategy<Value = Value> {
    (
        containers(),
        prop::collection::btree_map("[a-c]", "[0-9]", 0..4),
        prop::option::of(0..9_i32),
        prop::collection::btree_set("[f-i]", 0..3),
    )
        .prop_map(|(containers, labels, priority, finalizers)| {
            let mut value = json!({
                "metadata": {"labels": labels, "finalizers": finalizers},
                "spec": {"containers": containers}
            });
            if let Some(priority) = priority {
                value["spec"]["priority"] = priority.into();
            }
            value
        })
}

fn names(value: &Value) -> Vec<String> {
    value["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_string())
        .collect()
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(original in object()) {
        prop_assert_eq!(apply(POD, original.clone(), json!({})).unwrap(), original);
    }

    #[test]
    fn an_object_patched_with_itself_stays_as_it_is(original in object()) {
        prop_assert_eq!(apply(POD, original.clone(), original.clone()).unwrap(), original);
    }

    #[test]
    fn a_patch_applied_twice_does_what_it_does_once(original in object(), patch in object()) {
        let once = apply(POD, original, patch.clone()).unwrap();
        prop_assert_eq!(apply(POD, once.clone(), patch).unwrap(), once);
    }

    #[test]
    fn a_merged_list_map_has_every_key_once(original in object(), patch in object()) {
        let merged = apply(POD, original.clone(), patch.clone()).unwrap();
        let mut expected = [names(&original), names(&patch)].concat();
        expected.sort();
        expected.dedup();
        let mut found = names(&merged);
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_patchs_elements_keep_their_order(original in object(), patch in object()) {
        let merged = apply(POD, original, patch.clone()).unwrap();
        let wanted = names(&patch);
        let found: Vec<String> = names(&merged).into_iter().filter(|name| wanted.contains(name)).collect();
        prop_assert_eq!(found, wanted);
    }
}
