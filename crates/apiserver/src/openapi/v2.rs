//! OpenAPI version 2 (Swagger), rewritten from the version 3 documents.

use serde_json::{Map, Value, json};

const JSON: [&str; 1] = ["application/json"];

/// The document of all paths and schemas.
pub(super) fn swagger(paths: Map<String, Value>, schemas: Map<String, Value>, version: &str) -> Value {
    let paths: Map<String, Value> = paths
        .into_iter()
        .map(|(path, item)| (path, path_item(item)))
        .collect();
    let definitions: Map<String, Value> = schemas
        .into_iter()
        .map(|(name, schema)| (name, rewritten(schema)))
        .collect();
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": version },
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey",
                "in": "header",
                "name": "authorization",
                "description": "Bearer Token authentication",
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

/// A schema as version 2 has it: references stand alone, though version 3 must wrap them to say more beside them, and no
/// defaults are told: readers of version 2 took them for the server's own.
fn rewritten(value: Value) -> Value {
    let Value::Object(mut fields) = value else {
        return value;
    };
    fields.remove("default");
    match fields.remove("allOf") {
        Some(Value::Array(mut wrapped)) if wrapped.len() == 1 => {
            if let Some(Value::Object(only)) = wrapped.pop() {
                fields.extend(only);
            }
        }
        Some(all) => {
            fields.insert("allOf".into(), all);
        }
        None => {}
    }
    let each = |values: Vec<Value>| values.into_iter().map(rewritten).collect::<Value>();
    fields
        .into_iter()
        .map(|(key, value)| {
            let value = match (key.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    let name = reference.rsplit('/').next().unwrap_or_default();
                    format!("#/definitions/{name}").into()
                }
                ("properties", Value::Object(properties)) => properties
                    .into_iter()
                    .map(|(name, schema)| (name, rewritten(schema)))
                    .collect::<Map<_, _>>()
                    .into(),
                ("items" | "additionalProperties", schema) => rewritten(schema),
                ("allOf" | "oneOf" | "anyOf", Value::Array(schemas)) => each(schemas),
                (_, value) => value,
            };
            (key, value)
        })
        .collect::<Map<_, _>>()
        .into()
}

fn path_item(item: Value) -> Value {
    let Value::Object(item) = item else { return item };
    item.into_iter()
        .map(|(key, value)| {
            let value = if key == "parameters" {
                parameters(value)
            } else {
                operation(value)
            };
            (key, value)
        })
        .collect::<Map<_, _>>()
        .into()
}

fn operation(value: Value) -> Value {
    let Value::Object(mut operation) = value else {
        return value;
    };
    let mut all = match operation.remove("parameters").map(parameters) {
        Some(Value::Array(parameters)) => parameters,
        _ => Vec::new(),
    };
    let mut consumes = vec![json!("*/*")];
    if let Some(body) = operation.remove("requestBody")
        && let Some(content) = body.get("content").and_then(Value::as_object)
    {
        consumes = content.keys().map(|media| json!(media)).collect();
        if let Some(schema) = content.values().next().and_then(|media| media.get("schema")) {
            all.push(json!({
                "name": "body",
                "in": "body",
                "required": true,
                "schema": rewritten(schema.clone()),
            }));
        }
    }
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            let content = response.remove("content");
            let schema = content
                .as_ref()
                .and_then(|content| content.pointer("/application~1json/schema"));
            if let Some(schema) = schema {
                response.insert("schema".into(), rewritten(schema.clone()));
            }
        }
    }
    operation.insert("parameters".into(), all.into());
    operation.insert("consumes".into(), consumes.into());
    operation.insert("produces".into(), json!(JSON));
    operation.insert("schemes".into(), json!(["https"]));
    operation.into()
}

/// Parameters with their types beside their names.
fn parameters(value: Value) -> Value {
    let Value::Array(parameters) = value else {
        return value;
    };
    parameters
        .into_iter()
        .map(|mut parameter| {
            if let Some(fields) = parameter.as_object_mut()
                && let Some(Value::Object(schema)) = fields.remove("schema")
            {
                fields.extend(schema);
            }
            parameter
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_3_is_rewritten() {
        let schema = json!({ "properties": {
            "spec": { "default": {}, "description": "d", "allOf": [{ "$ref": "#/components/schemas/a.B" }] },
            // A field may be called like what is told of it.
            "default": { "type": "string", "default": "" },
            "all": { "type": "array", "items": { "$ref": "#/components/schemas/a.B" } },
        } });
        let paths = json!({ "/x": {
            "parameters": [{ "name": "name", "in": "path", "schema": { "type": "string" } }],
            "post": {
                "requestBody": { "content": { "*/*": { "schema": { "$ref": "#/components/schemas/a.B" } } } },
                "responses": { "201": { "description": "Created", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/a.B" } } } } },
            },
        } });
        let (Value::Object(paths), schemas) = (paths, Map::from_iter([("a.A".to_string(), schema)])) else {
            unreachable!()
        };
        let document = swagger(paths, schemas, "v1");
        let reference = json!({ "$ref": "#/definitions/a.B" });
        assert_eq!(
            document["definitions"]["a.A"]["properties"],
            json!({
                "spec": { "description": "d", "$ref": "#/definitions/a.B" },
                "default": { "type": "string" },
                "all": { "type": "array", "items": { "$ref": "#/definitions/a.B" } },
            })
        );
        let item = &document["paths"]["/x"];
        assert_eq!(
            item["parameters"],
            json!([{ "name": "name", "in": "path", "type": "string" }])
        );
        assert_eq!(item["post"]["parameters"][0]["schema"], reference);
        assert_eq!(item["post"]["responses"]["201"]["schema"], reference);
    }
}
