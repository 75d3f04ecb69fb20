//! Whether two values say the same, as upstream's semantic equality has it: an absent list or map is as good as an
//! empty one, an absent text as good as an empty one, an absent flag as good as `false`.

use serde::Serialize;
use serde_json::Value;

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
