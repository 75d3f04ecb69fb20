//! Patches: JSON patch, merge patch and strategic merge patch, from a body to the patched JSON; server-side apply.

pub(crate) mod apply;
mod config;
mod json;
mod strategic;
mod text;

use std::borrow::Cow;

use serde_json::{Map, Value};
use skiff_api::schema::Definition;

pub(crate) use config::Config;
pub(crate) use text::Text;

use crate::error::{ApiError, ApiResult};
use crate::go;
use crate::registry::{Beside, PatchType};
use crate::twice::{self, Repeated};
use skiff_api::syntax;

/// A patch, read and not yet applied.
#[derive(Debug)]
pub(crate) struct Patch {
    change: Change,
    /// What strict field validation has to say of the patch itself.
    pub(crate) beside: Beside,
}

#[derive(Debug)]
enum Change {
    /// RFC 6902.
    Json(json::Operations),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own.
    Strategic(Map<String, Value>),
}

impl Patch {
    /// Reads a request's body.
    pub(crate) fn parse(type_: PatchType, body: &[u8]) -> ApiResult<Self> {
        if type_ == PatchType::Json {
            let (operations, beside) = json::Operations::parse(body)?;
            return Ok(Self {
                change: Change::Json(operations),
                beside: Beside::plain(beside),
            });
        }
        let bad = |why: String| {
            ApiError::bad_request(match type_ {
                PatchType::Strategic => why,
                _ => format!("error decoding patch: {why}"),
            })
        };
        let (value, repeated) = twice::json(body).map_err(|error| bad(syntax::message(body, &error)))?;
        let change = match (type_, value) {
            (PatchType::Strategic, Value::Object(map)) => Change::Strategic(map),
            // To Go, `null` is a map without entries; a merge patch would say that nothing is to be left.
            (PatchType::Strategic, Value::Null) => Change::Strategic(Map::new()),
            (_, Value::Null) => return Err(ApiError::bad_request("Invalid JSON Patch")),
            (_, Value::Object(map)) => Change::Merge(Value::Object(map)),
            (_, _) => {
                return Err(bad(format!(
                    "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                    syntax::value_kind(body)
                )));
            }
        };
        let beside = Beside::plain(repeated.iter().map(Repeated::field).collect());
        Ok(Self { change, beside })
    }

    /// Whether the patch needs to see who owns the object's fields. Of one that does not, they are left out.
    pub(crate) fn reaches_owners(&self) -> bool {
        let names = |patch: &Map<String, Value>| {
            patch
                .get("metadata")
                .and_then(Value::as_object)
                .is_some_and(|meta| meta.contains_key("managedFields"))
        };
        match &self.change {
            Change::Json(operations) => operations.reach_owners(),
            Change::Merge(patch) => patch.as_object().is_some_and(names),
            Change::Strategic(patch) => names(patch),
        }
    }

    /// The patched object, of the object's JSON.
    pub(crate) fn apply<'a>(
        &self,
        json: &'a [u8],
        definition: Option<&'static Definition>,
    ) -> ApiResult<Patched<'a>> {
        let object = Text::of(json);
        Ok(match &self.change {
            Change::Json(operations) => {
                let mut value = object.tree();
                operations.apply(&mut value)?;
                Patched {
                    value,
                    untouched: Vec::new(),
                }
            }
            Change::Merge(patch) => {
                let (original, untouched) = reached(object, patch.as_object());
                let mut value = Value::Object(original);
                json_patch::merge(&mut value, patch);
                Patched { value, untouched }
            }
            Change::Strategic(patch) => {
                let (original, untouched) = reached(object, Some(patch));
                let merged = strategic::merge(original, patch.clone(), definition)?;
                let value = Value::Object(merged);
                Patched { value, untouched }
            }
        })
    }

    /// What an error shows when the patched object is not one: the strategic patch, or what another one made.
    pub(crate) fn shown(&self, patched: &[u8]) -> String {
        match &self.change {
            Change::Strategic(patch) => go::print(&Value::Object(patch.clone())),
            Change::Json(_) | Change::Merge(_) => Text::of(patched).tree().to_string(),
        }
    }
}

/// An object's members, by name.
type Members<'a> = Vec<(Cow<'a, str>, Text<'a>)>;

/// The members of an object that a patch may change or an error may tell of, as trees, and the others as they are.
fn reached<'a>(object: Text<'a>, patch: Option<&Map<String, Value>>) -> (Map<String, Value>, Members<'a>) {
    // A directive is about all members.
    let is_directed = patch.is_none_or(|patch| patch.keys().any(|name| name.starts_with('$')));
    let is_reached = |name: &str| {
        is_directed
            || matches!(name, "apiVersion" | "kind")
            || patch.is_some_and(|patch| patch.contains_key(name))
    };
    let (reached, untouched): (Members<'a>, Members<'a>) = object
        .members()
        .into_iter()
        .partition(|(name, _)| is_reached(name));
    let reached = reached
        .into_iter()
        .map(|(name, value)| (name.into(), value.tree()));
    (reached.collect(), untouched)
}

/// What a patch made of an object.
#[derive(Debug)]
pub(crate) struct Patched<'a> {
    /// What it reached, or the whole object.
    value: Value,
    untouched: Members<'a>,
}

impl Patched<'_> {
    /// `apiVersion` or `kind`.
    pub(crate) fn type_meta(&self, field: &str) -> &str {
        self.value.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Says what it is.
    pub(crate) fn set_type(&mut self, api_version: &str, kind: &str) {
        if let Value::Object(fields) = &mut self.value {
            fields.insert("apiVersion".into(), api_version.into());
            fields.insert("kind".into(), kind.into());
        }
    }

    /// The JSON.
    pub(crate) fn json(&self) -> ApiResult<Vec<u8>> {
        let mut json = serde_json::to_vec(&self.value).map_err(ApiError::internal)?;
        let mut is_empty = json == b"{}";
        for (name, value) in &self.untouched {
            // The end of the object comes after the last member.
            json.pop();
            if !std::mem::take(&mut is_empty) {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, name).map_err(ApiError::internal)?;
            json.push(b':');
            json.extend_from_slice(value.json());
            json.push(b'}');
        }
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_of_some_members_leaves_the_others_as_they_are() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "\u{1}"}},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running", "reason": "r"}});
        let text = object.to_string();
        for (patch, path, value) in [
            (
                json!({"status": {"phase": "Failed"}}),
                "/status",
                json!({"phase": "Failed", "reason": "r"}),
            ),
            (json!({"status": null}), "/status", Value::Null),
            (
                json!({"metadata": {"labels": null}, "new": 1}),
                "/metadata",
                json!({"name": "a"}),
            ),
            (json!({}), "/spec", json!({"nodeName": "n"})),
        ] {
            for type_ in [PatchType::Merge, PatchType::Strategic] {
                let parsed = Patch::parse(type_, patch.to_string().as_bytes()).unwrap();
                let patched = parsed.apply(text.as_bytes(), None).unwrap();
                assert_eq!(
                    (patched.type_meta("apiVersion"), patched.type_meta("kind")),
                    ("v1", "Pod")
                );
                let made: Value = serde_json::from_slice(&patched.json().unwrap()).unwrap();
                let mut whole = object.clone();
                json_patch::merge(&mut whole, &patch);
                assert_eq!(made, whole, "{patch}");
                assert_eq!(*made.pointer(path).unwrap_or(&Value::Null), value);
            }
        }
        let replaced = Patch::parse(PatchType::Strategic, br#"{"$patch":"replace","kind":"X"}"#).unwrap();
        let replaced = replaced.apply(text.as_bytes(), None).unwrap();
        assert_eq!(replaced.json().unwrap(), br#"{"kind":"X"}"#);
    }
}
