//! JSON patch (RFC 6902), with upstream's limits and answers.

use json_patch::jsonptr::Pointer;
use json_patch::{PatchOperation, patch_unsafe};
use serde_json::Value;

use crate::error::{ApiError, ApiResult};
use crate::twice::{self, Repeated};
use skiff_api::syntax;

/// The most operations of one patch.
const MOST_OPERATIONS: usize = 10_000;
/// The most bytes that all copies of one patch may add; without it a few dozen operations fill the memory.
const MOST_COPIED: usize = 3 << 20;
/// Where an object says who owns its fields.
const OWNERS: &str = "/metadata/managedFields";

/// The fields of an operation.
const FIELDS: [&str; 4] = ["op", "path", "from", "value"];

/// The operations of a patch; `None` when one of them is not an operation.
#[derive(Debug)]
pub(crate) struct Operations(Option<Vec<PatchOperation>>);

fn undecodable(why: &str) -> ApiError {
    ApiError::bad_request(format!("error decoding patch: {why}"))
}

/// Checks what an operation is made of, as Go reads it into its struct.
fn check_types(item: &Value) -> ApiResult<()> {
    let kind = |value: &Value| syntax::value_kind(value.to_string().as_bytes());
    let Some(fields) = item.as_object() else {
        if item.is_null() {
            return Ok(());
        }
        return Err(undecodable(&format!(
            "json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp",
            kind(item)
        )));
    };
    for (name, value) in fields {
        if matches!(name.as_str(), "op" | "path" | "from") && !value.is_string() && !value.is_null() {
            return Err(undecodable(&format!(
                "json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
                kind(value)
            )));
        }
    }
    Ok(())
}

/// Whether an item names an operation that there is.
fn is_operation(item: &Value) -> bool {
    let op = item.get("op").and_then(Value::as_str);
    matches!(op, Some("add" | "remove" | "replace" | "move" | "copy" | "test"))
}

impl Operations {
    /// The operations, and what strict field validation has to say of them.
    pub(super) fn parse(body: &[u8]) -> ApiResult<(Self, Vec<String>)> {
        let (value, repeated) =
            twice::json(body).map_err(|error| undecodable(&syntax::message(body, &error)))?;
        let Value::Array(items) = value else {
            // To Go, `null` is a list without items.
            if value.is_null() {
                return Ok((Self(Some(Vec::new())), Vec::new()));
            }
            return Err(undecodable(&format!(
                "json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
                syntax::value_kind(body)
            )));
        };
        for item in &items {
            check_types(item)?;
        }
        if let Some(wrong) = items.iter().find(|item| !is_operation(item)) {
            return Err(ApiError::bad_request(format!(
                "invalid operation {wrong}: unsupported operation"
            )));
        }
        if items.len() > MOST_OPERATIONS {
            return Err(ApiError::too_large(format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
                items.len()
            )));
        }
        let mut strict: Vec<String> = repeated.iter().map(Repeated::field).collect();
        for (index, item) in items.iter().enumerate() {
            let fields = item.as_object().into_iter().flat_map(serde_json::Map::keys);
            let unknown = fields.filter(|field| !FIELDS.contains(&field.as_str()));
            strict.extend(unknown.map(|field| format!("unknown field {:?}", format!("[{index}].{field}"))));
        }
        let strict = strict
            .into_iter()
            .map(|finding| format!("json patch {finding}"))
            .collect();
        let operations = items.into_iter().map(serde_json::from_value).collect();
        Ok((Self(Result::ok(operations)), strict))
    }

    /// Whether an operation reads or writes `metadata.managedFields`, by itself or with all around it.
    pub(super) fn reach_owners(&self) -> bool {
        let reaches =
            |place: &Pointer| OWNERS.starts_with(place.as_str()) || place.as_str().starts_with(OWNERS);
        self.0.iter().flatten().any(|operation| {
            let from = match operation {
                PatchOperation::Copy(copy) => Some(&copy.from),
                PatchOperation::Move(move_) => Some(&move_.from),
                _ => None,
            };
            reaches(operation.path()) || from.is_some_and(|from| reaches(from))
        })
    }

    pub(super) fn apply(&self, value: &mut Value) -> ApiResult<()> {
        let operations = self.0.as_ref().ok_or_else(ApiError::unprocessable)?;
        let mut copied = 0;
        for operation in operations {
            if let PatchOperation::Copy(copy) = operation {
                let size = copy
                    .from
                    .resolve(value)
                    .map_or(0, |source| source.to_string().len());
                copied += size;
                if copied > MOST_COPIED {
                    return Err(ApiError::unprocessable());
                }
            }
            // What a failed operation leaves behind is thrown away with the value.
            patch_unsafe(value, std::slice::from_ref(operation)).map_err(|_| ApiError::unprocessable())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(patch: &str, mut value: Value) -> Result<Value, (u16, String)> {
        Operations::parse(patch.as_bytes())
            .and_then(|(operations, _)| operations.apply(&mut value))
            .map(|()| value)
            .map_err(|error| (error.code(), error.to_string()))
    }

    #[test]
    fn operations_are_applied_or_refused_as_upstream_does() {
        let start = || json!({"a": {"b/c": [1, 2]}});
        let rejected = || {
            Err((
                422,
                "the server rejected our request due to an error in our request".to_string(),
            ))
        };
        let bad = |text: &str| Err((400, text.to_string()));
        let cases = [
            ("[]", Ok(start())),
            (
                r#"[{"op":"add","path":"/a/b~1c/-","value":3}]"#,
                Ok(json!({"a": {"b/c": [1, 2, 3]}})),
            ),
            (
                r#"[{"op":"replace","path":"/a/b~1c/0","value":9},{"op":"remove","path":"/a/b~1c/1"}]"#,
                Ok(json!({"a": {"b/c": [9]}})),
            ),
            (r#"[{"op":"test","path":"/a/x","value":1}]"#, rejected()),
            (r#"[{"op":"remove","path":"/x"}]"#, rejected()),
            (r#"[{"op":"add","path":"/x/y","value":1}]"#, rejected()),
            (
                r#"[{"op":"jump","path":"/x"}]"#,
                bad(r#"invalid operation {"op":"jump","path":"/x"}: unsupported operation"#),
            ),
            (
                "{}",
                bad(
                    "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
                ),
            ),
            (
                "[1]",
                bad(
                    "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
                ),
            ),
            (
                r#"[{"op":1}]"#,
                bad(
                    "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
                ),
            ),
            ("[", bad("error decoding patch: unexpected end of JSON input")),
        ];
        for (patch, expected) in cases {
            assert_eq!(apply(patch, start()), expected, "{patch}");
        }
    }

    #[test]
    fn copies_cannot_fill_the_memory() {
        let copy = r#"{"op":"copy","from":"/a","path":"/a/x"},{"op":"copy","from":"/a","path":"/a/y"}"#;
        let patch = format!("[{}]", vec![copy; 200].join(","));
        assert_eq!(apply(&patch, json!({"a": {}})).unwrap_err().0, 422);
    }

    #[test]
    fn a_patch_has_a_limit_of_operations() {
        let patch = format!(
            "[{}]",
            vec![r#"{"op":"test","path":"/a","value":1}"#; 10_001].join(",")
        );
        let (code, message) = apply(&patch, json!({"a": 1})).unwrap_err();
        assert_eq!(code, 413);
        assert_eq!(
            message,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
        );
    }

    #[test]
    fn what_reaches_the_owners_is_known() {
        for (patch, expected) in [
            (
                r#"[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]"#,
                true,
            ),
            (r#"[{"op":"remove","path":"/metadata/managedFields/0"}]"#, true),
            (r#"[{"op":"test","path":"/metadata","value":{}}]"#, true),
            (r#"[{"op":"add","path":"","value":{}}]"#, true),
            (
                r#"[{"op":"copy","from":"/metadata/managedFields","path":"/data"}]"#,
                true,
            ),
            (r#"[{"op":"add","path":"/metadata/labels","value":{}}]"#, false),
            (r#"[{"op":"move","from":"/a","path":"/b"}]"#, false),
            (r#"[]"#, false),
        ] {
            assert_eq!(
                Operations::parse(patch.as_bytes()).unwrap().0.reach_owners(),
                expected,
                "{patch}"
            );
        }
    }
}
