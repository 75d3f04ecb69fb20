//! Whether two values say the same, as upstream's semantic equality has it: an absent list or map is as good as an
//! empty one, an absent text as good as an empty one, an absent flag as good as `false`.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// Whether two values say the same.
pub(crate) fn same<T: PartialEq + Serialize>(a: &T, b: &T) -> bool {
    a == b || matches!((plain(a), plain(b)), (Some(a), Some(b)) if a == b)
}

fn plain(value: &impl Serialize) -> Option<Value> {
    let mut value = serde_json::to_value(value).ok()?;
    prune(&mut value);
    Some(value)
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::String(text) => !text.is_empty(),
                Value::Bool(flag) => *flag,
                Value::Number(_) => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The fields in which two values differ, one a line: what was, and what is wanted.
pub(crate) fn difference(kind: &str, old: &impl Serialize, new: &impl Serialize) -> String {
    let mut lines = Vec::new();
    if let (Some(old), Some(new)) = (plain(old), plain(new)) {
        collect("", &old, &new, &mut lines);
    }
    format!("  core.{kind}{{\n{}\n  }}\n", lines.join("\n"))
}

fn collect(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let get = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                collect(&path, &get(a), &get(b), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                collect(&format!("{path}[{index}]"), a, b, lines);
            }
        }
        (old, new) => {
            for (sign, value) in [('-', old), ('+', new)] {
                if !value.is_null() {
                    lines.push(format!("{sign} \t{path}: {value},"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_empty_is_as_good_as_absent() {
        assert!(same(&json!({"a": [], "b": {"c": ""}, "d": 1}), &json!({"d": 1})));
        assert!(!same(&json!({"a": [1]}), &json!({})));
        assert!(same(&json!({"a": false}), &json!({})));
    }
}
