//! Schemas and their rules as upstream's internal types hold them, which errors show.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, ValidationRule};
use serde_json::Value;

use crate::field::Internal;

/// What a field of a schema holds.
#[derive(Clone, Copy)]
enum Holds {
    /// A text; none is empty.
    Text,
    /// A flag; none is false.
    Flag,
    /// Anything; none is null.
    Any,
    /// A number; none is null.
    Number,
    /// A schema.
    Schema,
    Schemas,
    ByName,
    /// A schema, or a list of them.
    SchemaOrList,
    /// A schema, or whether there may be anything.
    SchemaOrFlag,
    /// By name a schema or a list of names.
    Dependencies,
    Documentation,
    Rules,
}

/// The fields, as JSON and as Go name them, in Go's order.
const FIELDS: [(&str, &str, Holds); 44] = [
    ("id", "ID", Holds::Text),
    ("$schema", "Schema", Holds::Text),
    ("$ref", "Ref", Holds::Any),
    ("description", "Description", Holds::Text),
    ("type", "Type", Holds::Text),
    ("nullable", "Nullable", Holds::Flag),
    ("format", "Format", Holds::Text),
    ("title", "Title", Holds::Text),
    ("default", "Default", Holds::Any),
    ("maximum", "Maximum", Holds::Number),
    ("exclusiveMaximum", "ExclusiveMaximum", Holds::Flag),
    ("minimum", "Minimum", Holds::Number),
    ("exclusiveMinimum", "ExclusiveMinimum", Holds::Flag),
    ("maxLength", "MaxLength", Holds::Any),
    ("minLength", "MinLength", Holds::Any),
    ("pattern", "Pattern", Holds::Text),
    ("maxItems", "MaxItems", Holds::Any),
    ("minItems", "MinItems", Holds::Any),
    ("uniqueItems", "UniqueItems", Holds::Flag),
    ("multipleOf", "MultipleOf", Holds::Number),
    ("enum", "Enum", Holds::Any),
    ("maxProperties", "MaxProperties", Holds::Any),
    ("minProperties", "MinProperties", Holds::Any),
    ("required", "Required", Holds::Any),
    ("items", "Items", Holds::SchemaOrList),
    ("allOf", "AllOf", Holds::Schemas),
    ("oneOf", "OneOf", Holds::Schemas),
    ("anyOf", "AnyOf", Holds::Schemas),
    ("not", "Not", Holds::Schema),
    ("properties", "Properties", Holds::ByName),
    (
        "additionalProperties",
        "AdditionalProperties",
        Holds::SchemaOrFlag,
    ),
    ("patternProperties", "PatternProperties", Holds::ByName),
    ("dependencies", "Dependencies", Holds::Dependencies),
    ("additionalItems", "AdditionalItems", Holds::SchemaOrFlag),
    ("definitions", "Definitions", Holds::ByName),
    ("externalDocs", "ExternalDocs", Holds::Documentation),
    ("example", "Example", Holds::Any),
    (
        "x-kubernetes-preserve-unknown-fields",
        "XPreserveUnknownFields",
        Holds::Any,
    ),
    ("x-kubernetes-embedded-resource", "XEmbeddedResource", Holds::Flag),
    ("x-kubernetes-int-or-string", "XIntOrString", Holds::Flag),
    ("x-kubernetes-list-map-keys", "XListMapKeys", Holds::Any),
    ("x-kubernetes-list-type", "XListType", Holds::Any),
    ("x-kubernetes-map-type", "XMapType", Holds::Any),
    ("x-kubernetes-validations", "XValidations", Holds::Rules),
];

/// A schema.
pub(super) fn schema(schema: &JSONSchemaProps) -> Internal {
    whole(&serde_json::to_value(schema).unwrap_or_default())
}

/// A rule.
pub(super) fn rule(rule: &ValidationRule) -> Internal {
    rule_of(&serde_json::to_value(rule).unwrap_or_default())
}

fn null() -> Internal {
    Internal::Plain(Value::Null)
}

fn text(value: Option<&Value>) -> Internal {
    Internal::Plain(value.cloned().unwrap_or_else(|| "".into()))
}

fn plain(value: Option<&Value>) -> Internal {
    Internal::Plain(value.cloned().unwrap_or_default())
}

fn rule_of(rule: &Value) -> Internal {
    Internal::fields([
        ("Rule", text(rule.get("rule"))),
        ("Message", text(rule.get("message"))),
        ("MessageExpression", text(rule.get("messageExpression"))),
        ("Reason", plain(rule.get("reason"))),
        ("FieldPath", text(rule.get("fieldPath"))),
        ("OptionalOldSelf", plain(rule.get("optionalOldSelf"))),
    ])
}

fn whole(schema: &Value) -> Internal {
    let fields = FIELDS
        .iter()
        .map(|(name, shown, holds)| (*shown, held(*holds, schema.get(name))));
    Internal::Fields(fields.collect())
}

fn held(holds: Holds, value: Option<&Value>) -> Internal {
    match holds {
        Holds::Text => return text(value),
        Holds::Flag => return Internal::Plain(value.cloned().unwrap_or(Value::Bool(false))),
        Holds::Any => return plain(value),
        _ => {}
    }
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return null();
    };
    let items = |each: fn(&Value) -> Internal| {
        Internal::Items(value.as_array().into_iter().flatten().map(each).collect())
    };
    let by_name = |each: fn(&Value) -> Internal| {
        let fields = value.as_object().into_iter().flatten();
        Internal::Map(fields.map(|(name, value)| (name.clone(), each(value))).collect())
    };
    match holds {
        Holds::Number => Internal::Plain(number(value)),
        Holds::Schemas => items(whole),
        Holds::Rules => items(rule_of),
        Holds::ByName => by_name(whole),
        Holds::Dependencies => by_name(|value| match value {
            Value::Array(_) => Internal::fields([("Schema", null()), ("Property", plain(Some(value)))]),
            schema => Internal::fields([("Schema", whole(schema)), ("Property", null())]),
        }),
        Holds::SchemaOrList => match value {
            Value::Array(_) => Internal::fields([("Schema", null()), ("JSONSchemas", items(whole))]),
            schema => Internal::fields([("Schema", whole(schema)), ("JSONSchemas", null())]),
        },
        Holds::SchemaOrFlag => match value {
            Value::Bool(_) => Internal::fields([("Allows", plain(Some(value))), ("Schema", null())]),
            schema => Internal::fields([
                ("Allows", Internal::Plain(true.into())),
                ("Schema", whole(schema)),
            ]),
        },
        Holds::Documentation => Internal::fields([
            ("Description", text(value.get("description"))),
            ("URL", text(value.get("url"))),
        ]),
        _ => whole(value),
    }
}

/// A number as Go writes one: without a point where nothing comes after it.
fn number(value: &Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
        Some(whole) if whole.fract() == 0.0 && whole.abs() < EXACT => Value::from(whole as i64),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_shown_with_all_that_it_does_not_say() {
        let given = json!({
            "type": "object", "maxProperties": 3, "maximum": 5.0, "minimum": 0.5,
            "items": { "type": "string" }, "additionalProperties": false,
            "dependencies": { "a": ["b"], "c": {} }, "externalDocs": { "url": "u" },
            "properties": { "b": {}, "a": {} },
            "x-kubernetes-validations": [{ "rule": "true" }],
        });
        let props: JSONSchemaProps = serde_json::from_value(given).unwrap();
        let shown = serde_json::to_string(&schema(&props)).unwrap();
        let nothing = serde_json::to_string(&schema(&JSONSchemaProps::default())).unwrap();
        assert!(
            shown.starts_with(
                r#"{"ID":"","Schema":"","Ref":null,"Description":"","Type":"object","Nullable":false,"Format":"","Title":"","Default":null,"Maximum":5,"ExclusiveMaximum":false,"Minimum":0.5,"#
            ),
            "{shown}"
        );
        for part in [
            r#""MaxProperties":3,"MinProperties":null,"Required":null,"Items":{"Schema":{"ID":"","#,
            &format!(
                r#""Properties":{{"a":{nothing},"b":{nothing}}},"AdditionalProperties":{{"Allows":false,"Schema":null}}"#
            ),
            &format!(
                r#""Dependencies":{{"a":{{"Schema":null,"Property":["b"]}},"c":{{"Schema":{nothing},"Property":null}}}}"#
            ),
            r#""ExternalDocs":{"Description":"","URL":"u"}"#,
            r#""XValidations":[{"Rule":"true","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}]}"#,
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
