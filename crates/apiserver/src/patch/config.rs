//! The body of a server-side apply: what an applier wants to be there, and nothing else.

use serde_json::Value;
use skiff_api::KindInfo;

use crate::error::{ApiError, ApiResult};
use crate::twice::{self, Repeated};
use skiff_api::syntax;

/// A configuration, read and not yet applied.
#[derive(Debug)]
pub(crate) struct Config {
    /// What is wanted.
    pub(crate) wanted: Value,
    /// The keys that stood twice in the body.
    pub(crate) repeated: Vec<Repeated>,
}

impl Config {
    /// Reads a request's body: YAML, of which JSON is a part.
    ///
    /// # Errors
    /// 400 for what is not an object of this kind.
    pub(crate) fn parse(info: &KindInfo, body: &[u8]) -> ApiResult<Self> {
        let config = read(body)?;
        let (api_version, kind) = (config.text("/apiVersion"), config.text("/kind"));
        if api_version != info.api_version() || kind != info.kind {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}",
                full(api_version, kind)
            )));
        }
        if config
            .wanted
            .pointer("/metadata/managedFields")
            .is_some_and(|value| !value.is_null())
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        Ok(config)
    }

    /// The text at a JSON pointer; empty when there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.wanted
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

fn read(body: &[u8]) -> ApiResult<Config> {
    let bad = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && let Ok((wanted, repeated)) = twice::json(body)
        // The lines are told by the other reader.
        && repeated.is_empty()
    {
        return Ok(Config { wanted, repeated });
    }
    let (wanted, repeated) =
        twice::yaml(body).map_err(|error| bad(format!("error converting YAML to JSON: yaml: {error}")))?;
    match wanted {
        // To Go, nothing is a map without entries.
        Value::Object(_) | Value::Null => Ok(Config { wanted, repeated }),
        other => Err(bad(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type \
             map[string]interface {{}}",
            syntax::value_kind(other.to_string().as_bytes())
        ))),
    }
}
