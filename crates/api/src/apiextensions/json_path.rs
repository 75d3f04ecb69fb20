//! Paths into custom resources: `.spec.replicas`, `.metadata['labels']`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrBool,
};

use crate::field::{Errors, Path};

const NO_FIELD: &str = "does not refer to a valid field";
const TOO_SHORT: &str = "unexpected end of JSON path";

/// Checks that a path begins as one.
pub(super) fn validate_simple(text: &str, path: &Path, errors: &mut Errors) -> bool {
    let valid = text.starts_with('.');
    if !valid {
        errors.invalid(path, text, "must be a simple json path starting with .");
    }
    valid
}

/// Where a path leads.
pub(super) struct Place<'a> {
    /// The first step.
    pub(super) root: String,
    /// All steps, in one way of writing them.
    pub(super) path: Path,
    /// What is there; `None` where everything may be.
    pub(super) schema: Option<&'a JSONSchemaProps>,
}

/// Follows a path through a schema.
///
/// # Errors
/// What is wrong with the path.
pub(super) fn follow<'a>(
    text: &str,
    schema: &'a JSONSchemaProps,
    brackets: bool,
) -> Result<Place<'a>, String> {
    let mut place = Place {
        root: String::new(),
        path: Path::default(),
        schema: Some(schema),
    };
    let mut tokens = tokens(text).into_iter();
    while let Some(token) = tokens.next() {
        match token {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or(TOO_SHORT)?;
                let name = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = name.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                step(&mut place, &unescape(name)?)?;
                let end = tokens.next().ok_or(TOO_SHORT)?;
                if end != "]" {
                    return Err(format!("expected ] but got {end}"));
                }
            }
            "." => {
                let name = tokens.next().ok_or(TOO_SHORT)?;
                step(&mut place, name)?;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(place)
}

fn step(place: &mut Place<'_>, name: &str) -> Result<(), String> {
    let schema = place.schema.ok_or(NO_FIELD)?;
    match (&schema.properties, &schema.additional_properties) {
        (Some(properties), _) if !properties.is_empty() => {
            place.schema = Some(properties.get(name).ok_or(NO_FIELD)?);
            if place.root.is_empty() {
                place.root = name.into();
            }
            place.path = place.path.child(name);
        }
        (_, Some(additional)) => {
            place.schema = match additional {
                JSONSchemaPropsOrBool::Schema(schema) => Some(schema),
                JSONSchemaPropsOrBool::Bool(_) => None,
            };
            place.path = place.path.key(name);
        }
        _ => return Err(NO_FIELD.into()),
    }
    Ok(())
}

/// The delimiters, each by itself, and what is between them; what is in single quotes is one.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = if rest.starts_with('\'') {
            quoted_length(rest)
        } else if rest.starts_with(['.', '[', ']']) {
            1
        } else {
            rest.find(['.', '[', ']']).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        found.push(token);
        rest = after;
    }
    found
}

fn quoted_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let ends = |&index: &usize| {
        bytes.get(index) == Some(&b'\'') && index.checked_sub(1).and_then(|at| bytes.get(at)) != Some(&b'\\')
    };
    (1..bytes.len()).find(ends).map_or(text.len(), |index| index + 1)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        plain.push(match letters.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some(same @ ('\'' | '\\')) => same,
            Some(other) => {
                return Err(format!("invalid string literal: invalid escape char \\{other}"));
            }
            None => '\\',
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields_or_nowhere() {
        let schema: JSONSchemaProps = serde_json::from_value(json!({"properties": {
            "spec": {"properties": {"size": {"type": "integer"}}},
            "labels": {"additionalProperties": {"type": "string"}},
        }}))
        .unwrap();
        for (text, brackets, expected) in [
            (".spec.size", false, Ok("spec.size")),
            (".labels.a", true, Ok("labels[a]")),
            (".labels['a.b\\'c']", true, Ok("labels[a.b'c]")),
            (".labels['a']", false, Err("array notation is not allowed")),
            (".spec.none", false, Err(NO_FIELD)),
            (".spec.size.x", false, Err(NO_FIELD)),
            ("spec", false, Err("expected [ or . but got: spec")),
            (".", false, Err(TOO_SHORT)),
            (".labels[a]", true, Err("expected single quoted string but got a")),
            (".labels['a'", true, Err(TOO_SHORT)),
            (".labels['a'.", true, Err("expected ] but got .")),
            (
                ".labels['\\x']",
                true,
                Err("invalid string literal: invalid escape char \\x"),
            ),
        ] {
            let found = follow(text, &schema, brackets).map(|place| place.path.to_string());
            assert_eq!(found, expected.map(String::from).map_err(String::from), "{text}");
        }
    }
}
