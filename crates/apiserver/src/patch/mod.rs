//! Patches: JSON patch, merge patch and strategic merge patch, from a body to the patched JSON; server-side apply.

pub(crate) mod apply;
mod config;
mod go;
mod json;
mod strategic;

use serde_json::{Map, Value};
use skiff_api::schema::Definition;

pub(crate) use config::Config;

use crate::error::{ApiError, ApiResult};
use crate::registry::{Beside, PatchType, syntax};
use crate::twice::{self, Repeated};

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

    /// The patched object.
    pub(crate) fn apply(
        &self,
        mut value: Value,
        definition: Option<&'static Definition>,
    ) -> ApiResult<Patched> {
        match &self.change {
            Change::Json(operations) => operations.apply(&mut value)?,
            Change::Merge(patch) => json_patch::merge(&mut value, patch),
            Change::Strategic(patch) => {
                let Value::Object(original) = value else {
                    return Err(ApiError::internal("a stored object is not a JSON object"));
                };
                let merged = strategic::merge(original, patch.clone(), definition)?;
                value = Value::Object(merged);
            }
        }
        Ok(Patched(value))
    }

    /// What an error shows when the patched object is not one: the strategic patch, or what another one made.
    pub(crate) fn shown(&self, patched: &[u8]) -> String {
        match &self.change {
            Change::Strategic(patch) => go::print(&Value::Object(patch.clone())),
            Change::Json(_) | Change::Merge(_) => String::from_utf8_lossy(patched).into_owned(),
        }
    }
}

/// What a patch made of an object.
#[derive(Debug)]
pub(crate) struct Patched(Value);

impl Patched {
    /// `apiVersion` or `kind`.
    pub(crate) fn type_meta(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Says what it is.
    pub(crate) fn set_type(&mut self, api_version: &str, kind: &str) {
        if let Value::Object(fields) = &mut self.0 {
            fields.insert("apiVersion".into(), api_version.into());
            fields.insert("kind".into(), kind.into());
        }
    }

    /// The JSON.
    pub(crate) fn json(&self) -> ApiResult<Vec<u8>> {
        serde_json::to_vec(&self.0).map_err(ApiError::internal)
    }
}
