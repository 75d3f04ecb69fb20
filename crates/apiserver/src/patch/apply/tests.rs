//! The rules of ownership, case by case, and the laws that hold for all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_api::{Subresource, Target, catalogue, schema};

use super::managed::Operation;
use super::*;

fn rules(group: &str, plural: &str, target: Target) -> Rules {
    let catalogue = catalogue::builtin();
    let strategy = catalogue.resource(group, "v1", plural).unwrap();
    let info = strategy.info();
    Rules::new(info, schema::of_kind(group, "v1", &info.kind), target)
}

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).unwrap())
}

fn live(object: Value) -> Value {
    let mut object = object;
    object["metadata"]["uid"] = "u".into();
    object
}

/// The owners as an object has them.
fn entries(managed: &Managed) -> Vec<ManagedFieldsEntry> {
    match managed.clone().print().as_slice() {
        [] => Vec::new(),
        text => serde_json::from_slice(text).unwrap(),
    }
}

/// What each manager owns, in the order that is written.
fn owned(managed: &Managed) -> Vec<(String, Value)> {
    entries(managed)
        .into_iter()
        .map(|entry| (entry.manager.unwrap(), entry.fields_v1.unwrap().0))
        .collect()
}

fn updated(rules: &Rules, [old, new]: [&Value; 2], managed: Managed, name: &str, second: i64) -> Managed {
    let (old, new) = (old.to_string(), new.to_string());
    let (old, new) = (Text::of(old.as_bytes()), Text::of(new.as_bytes()));
    rules.update(old, new, managed, name, &at(second))
}

fn apply_to(
    rules: &Rules,
    [live, config]: [&Value; 2],
    managed: Managed,
    name: &str,
    force: bool,
    second: i64,
) -> Result<Applied, Refusal> {
    let live = live.to_string();
    let now = &at(second);
    let applying = Applying { config, name, now };
    let applied = rules.apply(Text::of(live.as_bytes()), applying, managed, force)?;
    assert_eq!(applied.json, applied.object.to_string());
    Ok(applied)
}

fn created(rules: &Rules, object: &Value, name: &str) -> Managed {
    updated(rules, [&json!({}), object], Managed::default(), name, 1)
}

#[test]
fn a_create_owns_what_the_object_has() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "args": ["x"]}]}}},
        "status": {"replicas": 3}});
    let rules = rules("apps", "deployments", Target::Main);
    let managed = created(&rules, &deployment, "kubectl-create");
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:replicas": {}, "f:selector": {},
            "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:ports": {".": {},
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}}});
    assert_eq!(owned(&managed), [("kubectl-create".to_string(), expected)]);
}

#[test]
fn an_update_owns_what_it_changed_and_others_lose_it() {
    let rules = rules("", "configmaps", Target::Main);
    let first = live(json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "1", "z": "1"}}));
    let managed = created(&rules, &first, "one");
    let second = live(json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}}));
    let managed = updated(&rules, [&first, &second], managed, "two", 2);
    assert_eq!(
        owned(&managed),
        [
            ("one".to_string(), json!({"f:data": {".": {}, "f:x": {}}})),
            ("two".to_string(), json!({"f:data": {"f:y": {}}})),
        ]
    );
    // Who changes nothing owns nothing, and no time changes.
    let before = managed.clone().print();
    let after = updated(&rules, [&second, &second], managed, "three", 3).print();
    assert_eq!(after, before);
}

#[test]
fn what_is_not_tracked_stays_so_until_it_is_applied() {
    let rules = rules("", "configmaps", Target::Main);
    let old = live(json!({"metadata": {"name": "a"}, "data": {"x": "1"}}));
    let new = live(json!({"metadata": {"name": "a"}, "data": {"x": "2"}}));
    assert!(
        updated(&rules, [&old, &new], Managed::default(), "m", 1)
            .0
            .is_empty()
    );
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"y": "1"}});
    let applied = apply_to(&rules, [&new, &config], Managed::default(), "m", false, 2).unwrap();
    assert_eq!(
        owned(&applied.managed),
        [
            ("m".to_string(), json!({"f:data": {"f:y": {}}})),
            (
                "before-first-apply".to_string(),
                json!({"f:data": {".": {}, "f:x": {}}})
            ),
        ]
    );
}

#[test]
fn the_status_is_tracked_by_itself() {
    let main = rules("apps", "deployments", Target::Main);
    let status = rules("apps", "deployments", Target::Subresource(Subresource::Status));
    let old = live(json!({"metadata": {"name": "d"}, "spec": {"replicas": 1}, "status": {}}));
    let managed = created(&main, &old, "user");
    let new = live(
        json!({"metadata": {"name": "d"}, "spec": {"replicas": 2}, "status": {"replicas": 1,
        "conditions": [{"type": "Available", "status": "True"}]}}),
    );
    let managed = updated(&status, [&old, &new], managed, "controller", 2);
    let entries = entries(&managed);
    assert_eq!(entries[1].subresource.as_deref(), Some("status"));
    assert_eq!(
        owned(&managed)[1].1,
        json!({"f:status": {"f:replicas": {}, "f:conditions": {".": {},
            "k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}}}})
    );
    assert_eq!(owned(&managed)[0].1, json!({"f:spec": {"f:replicas": {}}}));
}

fn deployment(replicas: i64, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": replicas,
        "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[test]
fn conflicts_name_the_other_manager_and_the_field() {
    let rules = rules("apps", "deployments", Target::Main);
    let object = live(deployment(1, "i"));
    let managed = created(&rules, &object, "kubectl-client-side-apply");
    let apply = |config: &Value, force| apply_to(&rules, [&object, config], managed.clone(), "me", force, 2);
    let Err(Refusal::Conflicts(one)) = apply(&deployment(2, "i"), false) else {
        panic!("no conflict")
    };
    assert_eq!(
        one.message(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let Err(Refusal::Conflicts(two)) = apply(&deployment(2, "j"), false) else {
        panic!("no conflict")
    };
    assert_eq!(
        two.message(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"c\"].image"
    );
    let forced = apply(&deployment(2, "i"), true).unwrap();
    assert_eq!(forced.object["spec"]["replicas"], 2);
    let owned = owned(&forced.managed);
    assert_eq!(owned[0].0, "me");
    assert!(owned[0].1["f:spec"].get("f:replicas").is_some());
    assert!(owned[1].1["f:spec"].get("f:replicas").is_none());
    // The same value is no conflict: both own it.
    assert_eq!(apply(&deployment(1, "i"), false).unwrap().managed.0.len(), 2);
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let rules = rules("apps", "deployments", Target::Main);
    let config = |containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let first = config(json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]));
    let applied = apply_to(&rules, [&json!({}), &first], Managed::default(), "one", false, 1).unwrap();
    // The server defaults what nobody applied.
    let mut object = live(applied.object);
    for container in object
        .pointer_mut("/spec/template/spec/containers")
        .unwrap()
        .as_array_mut()
        .unwrap()
    {
        container["imagePullPolicy"] = "Always".into();
    }
    let only_a = config(json!([{"name": "a", "image": "i"}]));
    let alone = apply_to(
        &rules,
        [&object, &only_a],
        applied.managed.clone(),
        "one",
        false,
        2,
    )
    .unwrap();
    assert_eq!(
        alone.object.pointer("/spec/template/spec/containers"),
        Some(&json!([{"name": "a", "image": "i", "imagePullPolicy": "Always"}]))
    );
    let both = config(json!([{"name": "b", "image": "i"}]));
    let shared = apply_to(&rules, [&object, &both], applied.managed, "two", false, 2).unwrap();
    let left = apply_to(&rules, [&object, &only_a], shared.managed, "one", false, 3).unwrap();
    assert_eq!(left.object, object);
}

#[test]
fn lists_keep_the_order_of_the_configuration_and_the_places_of_others() {
    let rules = rules("", "pods", Target::Main);
    let pod = |names: &[&str]| {
        let gates: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"volumes": gates}})
    };
    for (present, config, merged) in [
        (&["a", "b"][..], &["b", "a"][..], &["b", "a"][..]),
        (&["x", "a", "b"], &["a", "n", "b"], &["x", "a", "n", "b"]),
        (&["a", "x", "b"], &["b"], &["a", "x", "b"]),
        (&["a"], &["n", "a"], &["n", "a"]),
        (&["a", "b"], &["c"], &["a", "b", "c"]),
        (&[], &["c", "a"], &["c", "a"]),
    ] {
        let applied = apply_to(
            &rules,
            [&live(pod(present)), &pod(config)],
            Managed::default(),
            "m",
            false,
            1,
        )
        .unwrap();
        let expected = pod(merged);
        assert_eq!(
            applied.object["spec"], expected["spec"],
            "{present:?} + {config:?}"
        );
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_refused() {
    let rules = rules("apps", "deployments", Target::Main);
    for (spec, message) in [
        (json!({"foo": 1}), ".spec.foo: field not declared in schema"),
        (
            json!({"replicas": "x"}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (json!({"template": []}), ".spec.template: expected map, got &{[]}"),
        (
            json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"a": 1, "b": 1}),
            "errors:\n  .spec.a: field not declared in schema\n  .spec.b: field not declared in schema",
        ),
    ] {
        let outcome = apply_to(
            &rules,
            [&json!({}), &json!({ "spec": spec })],
            Managed::default(),
            "m",
            false,
            1,
        );
        let Err(Refusal::Misfit(found)) = outcome else {
            panic!("{spec}")
        };
        assert_eq!(found, message);
    }
}

#[test]
fn kubectl_takes_over_what_its_annotation_says_that_it_applied() {
    let rules = rules("apps", "deployments", Target::Main);
    let mut object = live(deployment(1, "i"));
    let annotation = deployment(1, "i").to_string();
    object["metadata"]["annotations"] = json!({ LAST_APPLIED: annotation });
    let managed = created(&rules, &object, "kubectl-client-side-apply");
    let apply = |object: &Value, name| {
        apply_to(
            &rules,
            [object, &deployment(2, "i")],
            managed.clone(),
            name,
            false,
            2,
        )
    };
    let taken = apply(&object, "kubectl").unwrap();
    let text = taken.object["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), deployment(2, "i"));
    assert!(matches!(apply(&object, "another"), Err(Refusal::Conflicts(_))));
    // Somebody else changed it since.
    object["spec"]["replicas"] = 5.into();
    assert!(matches!(apply(&object, "kubectl"), Err(Refusal::Conflicts(_))));
}

fn any_config() -> impl Strategy<Value = Value> {
    let values = proptest::collection::btree_map("[a-d]", "[x-z]", 0..4);
    let labels = proptest::collection::btree_map("[a-d]", "[x-z]", 0..4);
    let finalizers = proptest::collection::btree_set("[a-c]", 0..3);
    (values, labels, finalizers).prop_map(|(values, labels, finalizers)| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": values,
            "metadata": {"name": "c", "labels": labels, "finalizers": finalizers}})
    })
}

/// Pods with maps, keyed lists and sets. Unless they are `orderly`, items lack their keys or stand twice.
fn any_pod(orderly: bool) -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let port = (0..2_i32, proptest::bool::weighted(0.2)).prop_map(move |(port, lacks)| {
        if lacks && !orderly {
            json!({"name": "p"})
        } else {
            json!({"containerPort": port})
        }
    });
    let single = move |mut items: Vec<Value>| {
        if orderly {
            let mut seen = std::collections::BTreeSet::new();
            items.retain(|item| seen.insert(item.get("name").unwrap_or(item).to_string()));
        }
        items
    };
    let ports = proptest::option::of(proptest::collection::vec(port, 0..3).prop_map(single));
    let container = ("[a-c]", "[i-j]", ports).prop_map(|(name, image, ports)| match ports {
        Some(ports) => json!({"name": name, "image": image, "ports": ports}),
        None => json!({"name": name, "image": image}),
    });
    let containers = proptest::collection::vec(container, 0..3).prop_map(single);
    let finalizers = proptest::collection::vec("[a-b]".prop_map(Value::from), 0..3).prop_map(single);
    (labels, containers, finalizers, any::<bool>()).prop_map(|(labels, containers, finalizers, host)| {
        json!({"metadata": {"labels": labels, "finalizers": finalizers},
            "spec": {"containers": containers, "hostNetwork": host, "securityContext": {}}})
    })
}

fn bare() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(start in any_config(), config in any_config()) {
        let rules = rules("", "configmaps", Target::Main);
        let managed = created(&rules, &start, "starter");
        let once = apply_to(&rules, [&live(start), &config], managed, "m", true, 2).unwrap();
        let twice = apply_to(&rules, [&once.object, &config], once.managed.clone(), "m", false, 3).unwrap();
        prop_assert_eq!(&twice.object, &once.object);
        prop_assert_eq!(twice.managed.print(), once.managed.print());
    }

    #[test]
    fn what_was_applied_alone_goes_when_nothing_is_applied(config in any_config()) {
        let rules = rules("", "configmaps", Target::Main);
        let applied = apply_to(&rules, [&json!({}), &config], Managed::default(), "m", false, 1).unwrap();
        let gone = apply_to(&rules, [&live(applied.object), &bare()], applied.managed, "m", false, 2).unwrap();
        let void = |pointer: &str| gone.object.pointer(pointer).is_none_or(|value| {
            value.as_object().is_none_or(|map| map.is_empty()) && value.as_array().is_none_or(|list| list.is_empty())
        });
        prop_assert!(void("/data") && void("/metadata/labels") && void("/metadata/finalizers"), "{}", gone.object);
        prop_assert!(owned(&gone.managed).is_empty());
    }

    #[test]
    fn what_comes_is_what_goes_the_other_way(one in any_pod(false), two in any_pod(false)) {
        let rules = rules("", "pods", Target::Main);
        let (one, two) = (one.to_string(), two.to_string());
        let (one, two) = (Text::of(one.as_bytes()), Text::of(two.as_bytes()));
        let there = Change::between(one, two, rules.shape);
        let back = Change::between(two, one, rules.shape);
        prop_assert_eq!(there.added, back.removed);
        prop_assert_eq!(there.removed, back.added);
        prop_assert_eq!(there.modified, back.modified);
    }

    #[test]
    fn an_object_has_what_stays_and_what_comes(one in any_pod(true), two in any_pod(true)) {
        let rules = rules("", "pods", Target::Main);
        let (one, two) = (one.to_string(), two.to_string());
        let (one, two) = (Text::of(one.as_bytes()), Text::of(two.as_bytes()));
        let change = Change::between(one, two, rules.shape);
        let nothing = Text::of(b"{}");
        let [mut of_one, of_two] = [one, two].map(|object| Change::between(nothing, object, rules.shape).added);
        of_one.subtract(&change.removed);
        of_one.unite(change.added);
        prop_assert_eq!(of_one, of_two);
    }

    #[test]
    fn nobody_owns_what_another_changed(start in any_config(), one in any_config(), two in any_config()) {
        let rules = rules("", "configmaps", Target::Main);
        let managed = created(&rules, &start, "starter");
        let first = updated(&rules, [&live(start.clone()), &live(one.clone())], managed, "one", 2);
        let (old, new) = (live(one.clone()).to_string(), live(two.clone()).to_string());
        let change = Change::between(Text::of(old.as_bytes()), Text::of(new.as_bytes()), rules.shape);
        let second = updated(&rules, [&live(one), &live(two)], first, "two", 3);
        for owner in &second.0 {
            prop_assert!(owner.manager.operation == Operation::Update);
            if owner.manager.name != "two" {
                prop_assert!(owner.set.intersection(&change.set()).is_empty());
                prop_assert!(owner.set.intersection(&change.removed).is_empty());
            }
        }
    }
}
