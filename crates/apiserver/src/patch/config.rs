//! The body of a server-side apply: what an applier wants to be there, and nothing else.

use serde_json::Value;
use skiff_api::KindInfo;

use crate::error::{ApiError, ApiResult};

/// A configuration, read and not yet applied.
#[derive(Debug)]
pub(crate) struct Config(pub(crate) Value);

impl Config {
    /// Reads a request's body: YAML, of which JSON is a part.
    ///
    /// # Errors
    /// 400 for what is not an object of this kind.
    pub(crate) fn parse(info: &KindInfo, body: &[u8]) -> ApiResult<Self> {
        let config = Self(read(body)?);
        let (api_version, kind) = (config.text("/apiVersion"), config.text("/kind"));
        if api_version != info.api_version() || kind != info.kind {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}",
                full(api_version, kind)
            )));
        }
        if config
            .0
            .pointer("/metadata/managedFields")
            .is_some_and(|value| !value.is_null())
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        Ok(config)
    }

    /// The text at a JSON pointer; empty when there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The configuration as an error names it: `default/web; apps/v1, Kind=Deployment`.
    pub(crate) fn shown(&self) -> String {
        format!(
            "{}/{}; {}",
            self.text("/metadata/namespace"),
            self.text("/metadata/name"),
            full(self.text("/apiVersion"), self.text("/kind"))
        )
    }
}

/// A kind as Go prints it: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
fn full(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

fn read(body: &[u8]) -> ApiResult<Value> {
    let bad = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(value) = serde_json::from_slice(body)
    {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
    match serde_saphyr::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(bad("the document is not a map".into())),
        Err(error) => Err(bad(format!("error converting YAML to JSON: yaml: {error}"))),
    }
}
