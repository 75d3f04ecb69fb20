//! The patch of `kubectl apply`: what was applied last, what is to be applied, and what is there, in one difference.
//!
//! A strategic merge patch: maps are merged, lists of objects with a key are merged by it, other lists are replaced.
//! What stood in the last applied configuration and no longer stands in the new one is removed.

use serde_json::{Map, Value, json};
use skiff_api::schema::{Definition, Merge, Type};

/// The patch; an empty object when there is nothing to do.
///
/// `schema` is that of the kind; without it (custom resources) the patch is a JSON merge patch, where every list is
/// replaced.
pub(crate) fn patch(
    last: &Value,
    wanted: &Value,
    live: &Value,
    schema: Option<&'static Definition>,
) -> Value {
    let shape = schema.map_or(Shape::Other(Type::Any), Shape::Fields);
    Value::Object(map_patch(object(last), object(wanted), object(live), shape))
}

/// What is known of a value's shape.
#[derive(Clone, Copy)]
enum Shape {
    /// An object with known fields.
    Fields(&'static Definition),
    /// Something else of the schema.
    Other(Type),
}

impl Shape {
    fn of(type_: Type) -> Self {
        match type_ {
            Type::Object(id) => Self::Fields(id.get()),
            other => Self::Other(other),
        }
    }

    /// The shape and the merge rule of a field.
    fn field(self, name: &str) -> (Self, Merge) {
        match self {
            Self::Fields(definition) => match definition.field(name) {
                Some(field) => (Self::of(field.type_), field.merge),
                None => (Self::Other(Type::Any), Merge::None),
            },
            Self::Other(Type::Map(value)) => (Self::of(*value), Merge::None),
            Self::Other(_) => (Self::Other(Type::Any), Merge::None),
        }
    }

    /// The shape of a list's elements.
    fn element(self) -> Self {
        match self {
            Self::Other(Type::List(element)) => Self::of(*element),
            _ => Self::Other(Type::Any),
        }
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&EMPTY)
}

fn map_patch(
    last: &Map<String, Value>,
    wanted: &Map<String, Value>,
    live: &Map<String, Value>,
    shape: Shape,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, wanted_value) in wanted {
        // A null in a manifest says nothing, as for kubectl: it is neither wanted nor removed.
        if wanted_value.is_null() {
            continue;
        }
        let Some(live_value) = live.get(name).filter(|value| !value.is_null()) else {
            patch.insert(name.clone(), wanted_value.clone());
            continue;
        };
        let last_value = last.get(name).unwrap_or(&Value::Null);
        let (inner, merge) = shape.field(name);
        match (wanted_value, live_value) {
            (Value::Object(wanted_map), Value::Object(live_map)) => {
                let mut nested = map_patch(object(last_value), wanted_map, live_map, inner);
                if !nested.is_empty() {
                    if merge == Merge::RetainKeys {
                        // What the server has added for another choice (a rolling update's limits) goes.
                        let kept = wanted_map.iter().filter(|(_, value)| !value.is_null());
                        let kept: Vec<Value> = kept.map(|(key, _)| key.as_str().into()).collect();
                        nested.insert("$retainKeys".to_string(), kept.into());
                    }
                    patch.insert(name.clone(), Value::Object(nested));
                }
            }
            (Value::Array(wanted_list), Value::Array(live_list)) => {
                let empty = Vec::new();
                let last_list = last_value.as_array().unwrap_or(&empty);
                list_patch(
                    name,
                    last_list,
                    wanted_list,
                    live_list,
                    inner.element(),
                    merge,
                    &mut patch,
                );
            }
            (wanted_value, live_value) if !same(wanted_value, live_value, inner) => {
                patch.insert(name.clone(), wanted_value.clone());
            }
            _ => {}
        }
    }
    for (name, last_value) in last {
        let wanted_no_more = wanted.get(name).is_none_or(Value::is_null);
        if wanted_no_more && !last_value.is_null() && live.get(name).is_some_and(|live| !live.is_null()) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    patch
}

fn list_patch(
    name: &str,
    last: &[Value],
    wanted: &[Value],
    live: &[Value],
    element: Shape,
    merge: Merge,
    patch: &mut Map<String, Value>,
) {
    match merge {
        Merge::Map { patch_key, .. } if !patch_key.is_empty() => {
            let keyed = |list: &[Value], key: &Value| {
                list.iter().find(|item| item.get(patch_key) == Some(key)).cloned()
            };
            let keys = |list: &[Value]| -> Vec<Value> {
                list.iter()
                    .filter_map(|item| item.get(patch_key).cloned())
                    .collect()
            };
            let mut items = Vec::new();
            for item in wanted {
                let key = item.get(patch_key).cloned().unwrap_or_default();
                match keyed(live, &key) {
                    None => items.push(item.clone()),
                    Some(live_item) => {
                        let last_item = keyed(last, &key).unwrap_or_default();
                        let mut nested =
                            map_patch(object(&last_item), object(item), object(&live_item), element);
                        if !nested.is_empty() {
                            nested.insert(patch_key.to_string(), key);
                            items.push(Value::Object(nested));
                        }
                    }
                }
            }
            let wanted_keys = keys(wanted);
            for key in keys(last) {
                if !wanted_keys.contains(&key) && keyed(live, &key).is_some() {
                    items.push(json!({ "$patch": "delete", patch_key: key }));
                }
            }
            if !items.is_empty() {
                let order: Vec<Value> = wanted_keys.iter().map(|key| json!({ patch_key: key })).collect();
                patch.insert(format!("$setElementOrder/{name}"), order.into());
                patch.insert(name.to_string(), items.into());
            }
        }
        Merge::Set => {
            let added: Vec<Value> = wanted
                .iter()
                .filter(|value| !live.contains(value))
                .cloned()
                .collect();
            let removed: Vec<Value> = last
                .iter()
                .filter(|value| !wanted.contains(value) && live.contains(value))
                .cloned()
                .collect();
            if !added.is_empty() {
                patch.insert(name.to_string(), added.into());
            }
            if !removed.is_empty() {
                patch.insert(format!("$deleteFromPrimitiveList/{name}"), removed.into());
            }
        }
        _ => {
            let equal = wanted.len() == live.len()
                && wanted
                    .iter()
                    .zip(live)
                    .all(|(wanted, live)| covers(wanted, live, element));
            if !equal {
                patch.insert(name.to_string(), wanted.to_vec().into());
            }
        }
    }
}

/// Whether two values that are neither both objects nor both lists say the same.
fn same(wanted: &Value, live: &Value, shape: Shape) -> bool {
    if wanted == live {
        return true;
    }
    // `cpu: 1` and `cpu: "1"`, `memory: 1024Mi` and `1Gi` are the same amount.
    match shape {
        Shape::Other(Type::Quantity) => amount(wanted).is_some_and(|wanted| Some(wanted) == amount(live)),
        _ => false,
    }
}

fn amount(value: &Value) -> Option<skiff_api::quantity::Quantity> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    text.parse().ok()
}

/// Whether an element of a replaced list is what was wanted: exactly, for the list is one value.
fn covers(wanted: &Value, live: &Value, shape: Shape) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.len() == live.len()
                && wanted.iter().all(|(name, value)| {
                    live.get(name)
                        .is_some_and(|live| covers(value, live, shape.field(name).0))
                })
        }
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len()
                && wanted
                    .iter()
                    .zip(live)
                    .all(|(wanted, live)| covers(wanted, live, shape.element()))
        }
        (wanted, live) => same(wanted, live, shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skiff_api::schema;

    fn deployment() -> Option<&'static Definition> {
        schema::of_kind("apps", "v1", "Deployment")
    }

    fn containers(list: Value) -> Value {
        json!({ "spec": { "template": { "spec": { "containers": list } } } })
    }

    #[test]
    fn what_the_server_added_is_left_alone() {
        let wanted = json!({"spec": {"replicas": 3}});
        let live = json!({"spec": {"replicas": 3, "revisionHistoryLimit": 10}, "status": {"replicas": 3}});
        assert_eq!(patch(&wanted, &wanted, &live, deployment()), json!({}));
    }

    #[test]
    fn what_is_wanted_no_more_is_removed_and_what_others_set_stays() {
        let last = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        let wanted = json!({"metadata": {"labels": {"a": "1"}}});
        let live = json!({"metadata": {"labels": {"a": "1", "b": "2", "c": "other's"}}});
        assert_eq!(
            patch(&last, &wanted, &live, deployment()),
            json!({"metadata": {"labels": {"b": null}}})
        );
    }

    #[test]
    fn containers_are_merged_by_name() {
        let last = containers(json!([{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]));
        let wanted = containers(json!([{"name": "a", "image": "x:2"}]));
        let live = containers(json!([
            {"name": "a", "image": "x:1", "imagePullPolicy": "Always"}, {"name": "b", "image": "y"},
            {"name": "injected", "image": "z"}]));
        let expected = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "x:2"}, {"name": "b", "$patch": "delete"}],
        }}}});
        assert_eq!(patch(&last, &wanted, &live, deployment()), expected);
    }

    #[test]
    fn an_atomic_list_is_replaced_as_a_whole() {
        let wanted = containers(json!([{"name": "a", "command": ["x", "y"]}]));
        let live = containers(json!([{"name": "a", "command": ["x"]}]));
        let patch = patch(&live, &wanted, &live, deployment());
        assert_eq!(
            patch["spec"]["template"]["spec"]["containers"][0]["command"],
            json!(["x", "y"])
        );
    }

    #[test]
    fn another_strategy_takes_the_fields_of_the_old_one_away() {
        let wanted = json!({"spec": {"strategy": {"type": "Recreate"}}});
        let live =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}}});
        let expected = json!({"spec": {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}});
        assert_eq!(patch(&json!({}), &wanted, &live, deployment()), expected);
    }

    #[test]
    fn equal_amounts_are_no_change() {
        let wanted =
            containers(json!([{"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}]));
        let live = containers(json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]));
        assert_eq!(patch(&wanted, &wanted, &live, deployment()), json!({}));
    }

    proptest! {
        #[test]
        fn applying_what_is_there_changes_nothing(
            labels in proptest::collection::btree_map("[a-c]", "[x-z]", 0..4),
            names in proptest::collection::btree_set("[a-d]", 0..4),
        ) {
            let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "x"})).collect();
            let mut manifest = containers(list.into());
            manifest["metadata"] = json!({ "labels": labels });
            prop_assert_eq!(patch(&manifest, &manifest, &manifest, deployment()), json!({}));
        }
    }
}
