//! Continue tokens: where a page of a list ended, and which revision the list shows (upstream's
//! `storage.EncodeContinue`).

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine, alphabet};
use serde::Serialize;
use serde_json::Value;

use crate::error::{ApiError, ApiResult};
use skiff_api::syntax;

const VERSION: &str = "meta.k8s.io/v1";

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Continuation {
    /// The revision that all pages show; `None` to go on with the present state.
    pub(super) revision: Option<i64>,
    /// The key of the page's last object, below the list's prefix.
    pub(super) after: String,
}

/// As Go reads it: the last character may hold more bits than are needed.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// What Go says of a text that is not base64.
fn corrupt(error: &DecodeError) -> String {
    let at = match error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => *at,
        DecodeError::InvalidLength(length) => length.saturating_sub(1),
        DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

#[derive(Default, Serialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Token {
    /// Reads a token as Go reads one into its struct: what is missing or null is empty, and the first value of another
    /// type is told.
    fn read(value: &Value) -> Result<Self, String> {
        let misfit = |value: &Value, place: &str| {
            let shown = match value {
                Value::Null => "null".into(),
                Value::Bool(_) => "bool".into(),
                Value::Number(number) if place.ends_with("int64") => format!("number {number}"),
                Value::Number(_) => "number".into(),
                Value::String(_) => "string".into(),
                Value::Array(_) => "array".into(),
                Value::Object(_) => "object".into(),
            };
            format!("json: cannot unmarshal {shown} into Go {place}")
        };
        let fields = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            other => return Err(misfit(other, "value of type storage.continueToken")),
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(misfit(
                other,
                &format!("struct field continueToken.{name} of type string"),
            )),
        };
        let revision = match fields.get("rv") {
            None | Some(Value::Null) => 0,
            Some(value) => value
                .as_i64()
                .ok_or_else(|| misfit(value, "struct field continueToken.rv of type int64"))?,
        };
        Ok(Self {
            v: text("v")?,
            rv: revision,
            start: text("start")?,
        })
    }
}

impl Continuation {
    pub(super) fn encode(&self) -> String {
        let token = Token {
            v: VERSION.into(),
            rv: self.revision.unwrap_or(-1),
            // The first key after it.
            start: format!("{}\0", self.after),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub(super) fn decode(token: &str) -> ApiResult<Self> {
        let invalid = |why: &str| {
            ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = LENIENT.decode(token).map_err(|error| invalid(&corrupt(&error)))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| invalid(&syntax::message(&bytes, &error)))?;
        let token = Token::read(&value).map_err(|why| invalid(&why))?;
        if token.v != VERSION {
            return Err(invalid(&format!(
                "server does not recognize this encoded version {}",
                token.v
            )));
        }
        if token.rv == 0 {
            return Err(invalid(&format!(
                "incorrect encoded start resourceVersion (version {VERSION})"
            )));
        }
        let after = token.start.strip_suffix('\0').unwrap_or(&token.start);
        if after.is_empty() {
            return Err(invalid(&format!("encoded start key empty (version {VERSION})")));
        }
        if after.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(&token.start));
        }
        Ok(Self {
            revision: (token.rv > 0).then_some(token.rv),
            after: after.to_string(),
        })
    }

    /// 410 for a page whose revision is gone, with a token that goes on at the present state.
    pub(super) fn expired(&self) -> ApiError {
        let mut error = ApiError::gone(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        );
        let inconsistent = Self {
            revision: None,
            after: self.after.clone(),
        };
        error.0.metadata.continue_ = Some(inconsistent.encode());
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        for revision in [Some(7), None] {
            let after = "ns/name".to_string();
            let token = Continuation { revision, after };
            assert_eq!(Continuation::decode(&token.encode()).unwrap(), token);
        }
    }

    #[test]
    fn a_bad_token_is_refused_in_upstreams_words() {
        let token = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let cases = [
            (
                token(r#"{"v":"v9","rv":1,"start":"a"}"#),
                "server does not recognize this encoded version v9",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/x"}"#),
                "../secrets/x",
            ),
            ("ab%d".into(), "illegal base64 data at input byte 2"),
            ("x".into(), "illegal base64 data at input byte 0"),
            (
                token("nothing"),
                "invalid character 'o' in literal null (expecting 'u')",
            ),
            (token("{"), "unexpected end of JSON input"),
        ];
        for (token, expected) in cases {
            let error = Continuation::decode(&token).unwrap_err();
            let expected = format!("invalid continue token: continue key is not valid: {expected}");
            assert_eq!((error.code(), error.to_string()), (400, expected));
        }
    }
}
