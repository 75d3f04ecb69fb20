//! Patches: JSON patch, merge patch and strategic merge patch, from a body to the patched JSON; server-side apply.

pub(crate) mod apply;
mod config;
mod go;
mod json;
mod strategic;

use bytes::Bytes;
use serde_json::{Map, Value};
use skiff_api::schema::Definition;

pub(crate) use config::Config;

use crate::error::{ApiError, ApiResult};
use crate::registry::{PatchType, syntax};

/// A patch, read and not yet applied.
#[derive(Debug)]
pub(crate) enum Patch {
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
            return json::Operations::parse(body).map(Self::Json);
        }
        let bad = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
        let value: Value =
            serde_json::from_slice(body).map_err(|error| bad(syntax::message(body, &error)))?;
        match (type_, value) {
            (PatchType::Strategic, Value::Object(map)) => Ok(Self::Strategic(map)),
            (_, Value::Object(map)) => Ok(Self::Merge(Value::Object(map))),
            (_, _) => Err(bad(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                syntax::value_kind(body)
            ))),
        }
    }

    /// The patched object.
    pub(crate) fn apply(
        &self,
        current: &Bytes,
        definition: Option<&'static Definition>,
    ) -> ApiResult<Patched> {
        let mut value: Value = serde_json::from_slice(current).map_err(ApiError::internal)?;
        match self {
            Self::Json(operations) => operations.apply(&mut value)?,
            Self::Merge(patch) => json_patch::merge(&mut value, patch),
            Self::Strategic(patch) => {
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
        match self {
            Self::Strategic(patch) => go::print(&Value::Object(patch.clone())),
            Self::Json(_) | Self::Merge(_) => String::from_utf8_lossy(patched).into_owned(),
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

    /// The JSON.
    pub(crate) fn json(&self) -> ApiResult<Vec<u8>> {
        serde_json::to_vec(&self.0).map_err(ApiError::internal)
    }
}
