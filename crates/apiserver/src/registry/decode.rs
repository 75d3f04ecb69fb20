//! From a request's body to an object: the type it says it has, its unknown and duplicate fields, its wrong types.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use skiff_api::schema::{self, Definition};
use skiff_api::{Catalogue, KindInfo, Object, Strategy};

use super::options::{FieldValidation, WriteOptions};
use crate::error::{ApiError, ApiResult};
use crate::twice::{self, Repeated};
use skiff_api::syntax;

/// A body, decoded.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) object: Box<dyn Object>,
    /// Who owns its fields, as the text of `managedFields`, where that is known already.
    pub(super) owners: Option<Vec<u8>>,
}

impl Decoded {
    /// An object in hand.
    pub(super) fn of(object: Box<dyn Object>) -> Self {
        Self { object, owners: None }
    }
}

/// Why a text is not an object of a kind: what stands after `cannot be handled as a Deployment: `.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// As who decodes JSON says it.
    pub(crate) decoded: String,
    /// As who makes the object of a tree says it, where that is something else.
    converted: Option<String>,
}

impl Unfit {
    fn of(why: String) -> Self {
        Self {
            decoded: why,
            converted: None,
        }
    }

    /// As a body is answered that says that it is of a kind.
    fn of_body(self, kind: &str, version: &str, info: &KindInfo) -> ApiError {
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {}",
            info.kind, self.decoded
        ))
    }

    /// As a strategic merge patch is answered, which upstream merges as trees.
    pub(crate) fn converted(self) -> String {
        self.converted.unwrap_or(self.decoded)
    }
}

/// What strict validation has to say beside what it finds in the JSON of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// As one error each.
    pub(crate) errors: Vec<String>,
    /// As warnings, which may be more.
    pub(crate) warnings: Vec<String>,
}

impl Beside {
    /// What stood twice in a YAML body.
    pub(super) fn yaml(repeated: &[Repeated]) -> Self {
        Self {
            errors: twice::yaml_error(repeated).into_iter().collect(),
            warnings: twice::yaml_lines(repeated),
        }
    }

    /// Errors that warn in the same words.
    pub(crate) fn plain(errors: Vec<String>) -> Self {
        Self {
            warnings: errors.clone(),
            errors,
        }
    }
}

#[derive(Default, Deserialize)]
struct TypeMeta<'a> {
    #[serde(borrow, default, rename = "apiVersion")]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
}

/// Decodes bodies of one kind.
#[derive(Debug)]
pub(super) struct Decoder {
    definition: Option<&'static Definition>,
}

impl Decoder {
    pub(super) fn of(strategy: &dyn Strategy) -> Self {
        let info = strategy.info();
        Self {
            definition: schema::of_kind(&info.group, &info.version, &info.kind),
        }
    }

    /// The shape of the kind, where it is known.
    pub(super) fn definition(&self) -> Option<&'static Definition> {
        self.definition
    }

    /// Decodes a request's body. What it does not say of its type is taken to be right.
    pub(super) fn body(
        &self,
        strategy: &dyn Strategy,
        catalogue: &Catalogue,
        body: &[u8],
        options: &WriteOptions,
    ) -> ApiResult<Decoded> {
        let (kind, version, body) = fitting(strategy.info(), catalogue, body)?;
        self.object(strategy, body, options, &Beside::yaml(&options.repeated))
            .map_err(|why| why.of_body(&kind, &version, strategy.info()))
    }

    /// Decodes a JSON object of which it is known that it should be of this kind.
    pub(super) fn object(
        &self,
        strategy: &dyn Strategy,
        json: &[u8],
        options: &WriteOptions,
        beside: &Beside,
    ) -> Result<Decoded, Unfit> {
        let found = checked(self.definition, json, options.field_validation, beside)?;
        // Decoding by way of a tree drops what Go takes for left out; most bodies have nothing of the kind.
        let object = if has_empty(json) {
            serde_json::from_slice(json).and_then(|tree| strategy.decode_value(tree))
        } else {
            strategy.decode(json)
        };
        let object = object.map_err(|error| Unfit::of(format!("json: {error}")))?;
        if let Some(why) = strategy.misfit(object.as_ref()) {
            return Err(Unfit::of(why));
        }
        options.warnings.extend(found);
        Ok(Decoded::of(object))
    }
}

/// Decodes a body that holds an object which is not kept.
pub(crate) fn posted<T: DeserializeOwned + k8s_openapi::Resource>(
    catalogue: &Catalogue,
    body: &[u8],
    options: &WriteOptions,
) -> ApiResult<T> {
    let info = KindInfo::of::<T>("");
    let (kind, version, body) = fitting(&info, catalogue, body)?;
    of_type(body, options, &Beside::yaml(&options.repeated))
        .map_err(|why| why.of_body(&kind, &version, &info))
}

/// Decodes a JSON object of which it is known that it should be of this type.
pub(crate) fn of_type<T: DeserializeOwned + k8s_openapi::Resource>(
    json: &[u8],
    options: &WriteOptions,
    beside: &Beside,
) -> Result<T, Unfit> {
    let definition = schema::of_kind(T::GROUP, T::VERSION, T::KIND);
    let found = checked(definition, json, options.field_validation, beside)?;
    let object = serde_json::from_slice(json).map_err(|error| Unfit::of(format!("json: {error}")))?;
    options.warnings.extend(found);
    Ok(object)
}

/// Why an object that says to be of a kind cannot become one of another; `None` where it is the same, in whatever version.
pub(super) fn other_kind(
    info: &KindInfo,
    catalogue: &Catalogue,
    api_version: &str,
    kind: &str,
) -> Option<String> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let is_kind = |kind: &str| catalogue.kind(group, version, kind).is_some();
    let is_known = is_kind(kind) || kind.strip_suffix("List").is_some_and(is_kind);
    // Upstream reads versions that are served no more.
    let may_be_past = !group.is_empty()
        && ["v1alpha", "v1beta", "v2alpha", "v2beta"]
            .iter()
            .any(|past| version.starts_with(past));
    if (is_known || may_be_past) && kind == info.kind && group == info.group {
        return None;
    }
    Some(if is_known {
        format!(
            "converting ({version}.{kind}) to ({}): unknown conversion",
            internal_type(info)
        )
    } else {
        format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\""
        )
    })
}

/// What upstream's errors call the type that it keeps objects of a kind in: `core.ConfigMap`.
pub(crate) fn internal_type(info: &KindInfo) -> String {
    let package = match info.group.split('.').next() {
        Some("") | None => "core",
        Some(first) => first,
    };
    format!("{package}.{}", info.kind)
}

/// Checks that a body says that it is of a kind, or does not say: the kind and version that errors name, and the object.
fn fitting<'b>(
    info: &KindInfo,
    catalogue: &Catalogue,
    body: &'b [u8],
) -> ApiResult<(String, String, &'b [u8])> {
    let expected = info.api_version();
    let (meta, body) = match type_meta(body) {
        Ok(meta) if syntax::value_kind(body) == "null" => (Ok(meta), b"{}".as_slice()),
        meta => (meta, body),
    };
    let meta = meta.map_err(|why| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             {why} ({})",
            info.kind,
            summary(body)
        ))
    })?;
    let text = |value: &Option<Cow<'_, str>>| value.as_deref().unwrap_or_default().to_string();
    let (mut api_version, mut kind) = (text(&meta.api_version), text(&meta.kind));
    if kind.is_empty() {
        kind = info.kind.to_string();
    }
    if api_version.is_empty() {
        api_version.clone_from(&expected);
    }
    if api_version.matches('/').count() > 1 {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): unexpected GroupVersion string: {api_version} ({})",
            info.kind,
            summary(body)
        )));
    }
    let version = api_version
        .rsplit_once('/')
        .map_or(api_version.as_str(), |(_, version)| version);
    let unfit = |why: &str| {
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            info.kind
        ))
    };
    if (kind != info.kind || api_version != expected)
        && let Some(why) = other_kind(info, catalogue, &api_version, &kind)
    {
        return Err(unfit(&why));
    }
    if api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    let version = version.to_string();
    Ok((kind, version, body))
}

/// What to warn of in the JSON of an object of a kind.
fn checked(
    definition: Option<&'static Definition>,
    json: &[u8],
    validation: FieldValidation,
    beside: &Beside,
) -> Result<Vec<String>, Unfit> {
    let mut warnings = Vec::new();
    if let Some(definition) = definition {
        let findings =
            schema::check(definition, json).map_err(|error| Unfit::of(syntax::message(json, &error)))?;
        if let Some(wrong) = findings.wrong_type {
            return Err(Unfit {
                decoded: wrong.decoded,
                converted: Some(wrong.converted),
            });
        }
        let found = [findings.duplicate, findings.unknown].concat();
        match validation {
            FieldValidation::Strict if !(found.is_empty() && beside.errors.is_empty()) => {
                let strict = [beside.errors.clone(), found].concat();
                return Err(Unfit::of(format!("strict decoding error: {}", strict.join(", "))));
            }
            FieldValidation::Warn => {
                warnings.extend(beside.warnings.iter().cloned());
                warnings.extend(found);
            }
            _ => {}
        }
    }
    Ok(warnings)
}

/// Whether a text may hold an empty list or object, or a member that is zero; it may be wrong about what is inside of
/// strings.
fn has_empty(json: &[u8]) -> bool {
    let mut before = 0;
    for (place, byte) in json.iter().enumerate() {
        match (before, byte) {
            (b'[', b']') | (b'{', b'}') | (b':', b'0' | b'-' | b'f') => return true,
            (b':', b'"') if json.get(place + 1) == Some(&b'"') => return true,
            (_, b' ' | b'\n' | b'\r' | b'\t') => {}
            (_, byte) => before = *byte,
        }
    }
    false
}

/// What a body says of its type: version and kind, empty where it does not.
///
/// # Errors
/// Why it cannot be read, in Go's words.
pub(crate) fn type_of(body: &[u8]) -> Result<(String, String), String> {
    let meta = type_meta(body)?;
    let text = |value: Option<Cow<'_, str>>| value.unwrap_or_default().into_owned();
    Ok((text(meta.api_version), text(meta.kind)))
}

fn type_meta(body: &[u8]) -> Result<TypeMeta<'_>, String> {
    let kind = syntax::value_kind(body);
    // To Go, `null` says nothing of what it is decoded into.
    if kind != "object" && kind != "null" {
        return Err(match serde_json::from_slice::<IgnoredAny>(body) {
            Err(error) => syntax::message(body, &error),
            Ok(_) => format!(
                "json: cannot unmarshal {kind} into Go value of type struct {{ APIVersion string \
                 \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
            ),
        });
    }
    if kind == "null" {
        return match serde_json::from_slice::<()>(body) {
            Ok(()) => Ok(TypeMeta::default()),
            Err(error) => Err(syntax::message(body, &error)),
        };
    }
    let read = serde_json::from_slice::<TypeMeta<'_>>(body);
    read.or_else(|error| {
        // A struct does not take a field twice; a tree takes the last one, as Go does.
        let Ok(tree) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Err(error);
        };
        let text = |field: &str| match tree.get(field) {
            None | Some(serde_json::Value::Null) => Some(None),
            Some(value) => value.as_str().map(|text| Some(Cow::Owned(text.to_string()))),
        };
        match (text("apiVersion"), text("kind")) {
            (Some(api_version), Some(kind)) => Ok(TypeMeta { api_version, kind }),
            _ => Err(error),
        }
    })
    .map_err(|error| {
        if !error.is_data() {
            return syntax::message(body, &error);
        }
        let whole: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let wrong = ["apiVersion", "kind"].into_iter().find_map(|field| {
            let value = whole.get(field)?;
            let kind = syntax::value_kind(value.to_string().as_bytes());
            (!value.is_string() && !value.is_null()).then_some((field, kind))
        });
        match wrong {
            Some((field, kind)) => {
                format!("json: cannot unmarshal {kind} into Go struct field .{field} of type string")
            }
            None => error.to_string(),
        }
    })
}

/// The beginning of a body, as an error shows it.
pub(crate) fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let begin = body.get(..MOST);
    let shown = begin.unwrap_or(body);
    let more = if begin.is_some_and(|begin| begin.len() < body.len()) {
        " ..."
    } else {
        ""
    };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_api::catalogue;

    fn decode(body: &str) -> Result<Decoded, (u16, String)> {
        let catalogue = catalogue::builtin();
        let strategy = catalogue.resource("", "v1", "configmaps").unwrap();
        Decoder::of(strategy.as_ref())
            .body(
                strategy.as_ref(),
                &catalogue,
                body.as_bytes(),
                &WriteOptions {
                    field_validation: FieldValidation::Strict,
                    ..WriteOptions::default()
                },
            )
            .map_err(|error| (error.code(), error.to_string()))
    }

    #[test]
    fn a_body_may_leave_out_its_type() {
        let decoded = decode(r#"{"metadata":{"name":"a"}}"#).unwrap();
        assert_eq!(decoded.object.metadata().name.as_deref(), Some("a"));
    }

    #[test]
    fn a_body_of_another_type_is_refused_in_upstreams_words() {
        let cases = [
            (
                "",
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
                 error: unexpected end of JSON input (<empty>)",
            ),
            (
                "hello",
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
                 error: invalid character 'h' looking for beginning of value (68656c6c6f)",
            ),
            (
                "[]",
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
                 error: json: cannot unmarshal array into Go value of type struct { APIVersion string \
                 \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
            ),
            (
                r#"{"kind":7}"#,
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
                 error: json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\":7})",
            ),
            (
                r#"{"apiVersion":"v2","kind":"ConfigMap"}"#,
                "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            ),
            (
                r#"{"apiVersion":"example.com/v1","kind":"Foo"}"#,
                r#"Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "example.com/v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
            ),
        ];
        for (body, expected) in cases {
            let (code, message) = decode(body).unwrap_err();
            assert_eq!((code, message.as_str()), (400, expected), "{body}");
        }
    }
}
