//! Objects as a client sends them, taken through a kind's strategy as the registry does.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use serde_json::{Value, json};
use skiff_api::catalogue::builtin;
use skiff_api::field::Errors;
use skiff_api::{Object, Strategy, Target, meta};

/// The strategy of a built-in kind in its stored version: `Pod`, `apps/Deployment`.
pub(crate) fn strategy(kind: &str) -> Arc<dyn Strategy> {
    let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
    builtin()
        .iter()
        .filter(|strategy| strategy.conversion().is_none())
        .find(|strategy| strategy.info().group == group && strategy.info().kind == kind)
        .unwrap_or_else(|| panic!("no kind {group}/{kind}"))
        .clone()
}

/// Decoded and defaulted.
pub(crate) fn defaulted(kind: &str, value: Value) -> Box<dyn Object> {
    let strategy = strategy(kind);
    let mut object = strategy.decode_value(value).unwrap();
    strategy.default(object.as_mut());
    object
}

/// As JSON.
pub(crate) fn json_of(object: &dyn Object) -> Value {
    serde_json::from_slice(&object.encode().unwrap()).unwrap()
}

/// As it is when it has been created.
pub(crate) fn created(kind: &str, value: Value) -> Box<dyn Object> {
    let mut object = defaulted(kind, value);
    strategy(kind).prepare_for_create(object.as_mut());
    object
}

/// What is wrong with a new object.
pub(crate) fn create_errors(kind: &str, value: Value) -> Vec<String> {
    let strategy = strategy(kind);
    let object = created(kind, value);
    let mut errors = Errors::new();
    meta::validate(
        strategy.info(),
        |name, prefix| strategy.check_name(name, prefix),
        object.metadata(),
        &mut errors,
    );
    strategy.validate_create(object.as_ref(), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

/// The object after an update, and what is wrong with that.
pub(crate) fn update(kind: &str, old: Value, new: Value, target: Target) -> (Value, Vec<String>) {
    let strategy = strategy(kind);
    let mut old = defaulted(kind, old);
    let mut new = defaulted(kind, new);
    for object in [&mut old, &mut new] {
        object
            .metadata_mut()
            .resource_version
            .get_or_insert_with(|| "1".into());
    }
    strategy.prepare_for_update(new.as_mut(), old.as_ref(), target);
    let mut errors = Errors::new();
    meta::validate_update(strategy.info(), new.metadata(), old.metadata(), &mut errors);
    if target == Target::Main {
        strategy.validate_changed(new.as_ref(), old.as_ref(), &mut errors);
    }
    strategy.validate_update(new.as_ref(), old.as_ref(), target, &mut errors);
    (
        json_of(new.as_ref()),
        errors.iter().map(ToString::to_string).collect(),
    )
}

/// The cells of an object's row, as texts, two hours after 2025-01-01.
pub(crate) fn cells(kind: &str, value: Value) -> Vec<String> {
    let strategy = strategy(kind);
    let object = strategy.decode_value(value).unwrap();
    let now = "2025-01-01T02:00:00Z".parse().unwrap();
    let cells = strategy.cells(object.as_ref(), now);
    // Upstream's table of addresses has a cell more than columns.
    let columns = strategy.info().columns.len() + usize::from(strategy.info().kind == "IPAddress");
    assert_eq!(cells.len(), columns, "as many cells as columns");
    cells
        .into_iter()
        .map(|cell| match cell {
            Value::String(text) => text,
            other => other.to_string(),
        })
        .collect()
}

/// Metadata of an object made five hours before that.
pub(crate) fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "default", "creationTimestamp": "2024-12-31T21:00:00Z"})
}

/// The spec of something that makes pods of one container, labelled by their app, with more merged over it.
pub(crate) fn workload_spec(app: &str, image: &str, more: Value) -> Value {
    let base = json!({
        "selector": {"matchLabels": {"app": app}},
        "template": {
            "metadata": {"labels": {"app": app}},
            "spec": {"containers": [{"name": "a", "image": image}]},
        },
    });
    over(base, more)
}

/// Merges one JSON object over another.
pub(crate) fn over(mut base: Value, patch: Value) -> Value {
    merge(&mut base, patch);
    base
}

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch,
    }
}
