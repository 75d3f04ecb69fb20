//! What the server is told about custom resources.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, json_of, over, update};

const CRD: &str = "apiextensions.k8s.io/CustomResourceDefinition";

fn named(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": "2024-12-31T21:00:00Z"}, "spec": spec})
}

fn crd(spec: Value) -> Value {
    let spec = over(
        json!({
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        }),
        spec,
    );
    named("boats.example.com", spec)
}

#[test]
fn definitions_are_filled_in() {
    let object = json_of(created(CRD, crd(json!({}))).as_ref());
    assert_eq!(
        object["spec"]["names"],
        json!({"plural": "boats", "kind": "Boat", "singular": "boat", "listKind": "BoatList"})
    );
    assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(object["status"]["conditions"], Value::Null, "nothing is claimed");
    assert_eq!(
        cells(CRD, crd(json!({}))),
        ["boats.example.com", "2024-12-31T21:00:00Z"]
    );
}

#[test]
fn invalid_definitions_are_refused_with_upstreams_words() {
    let version = |schema: Value| json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"group": "example", "scope": "Galaxy"}),
            vec![
                "metadata.name: Invalid value: \"boats.example.com\": must be spec.names.plural+\".\"+spec.group",
                "spec.group: Invalid value: \"example\": should be a domain with at least one dot",
                "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
            ],
        ),
        (
            json!({"versions": [{"name": "v1", "served": true, "storage": false}]}),
            vec![
                "spec.versions[0].schema.openAPIV3Schema: Required value",
                "spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\
                 \"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\
                 \"SelectableFields\":null}]: must have exactly one version marked as storage version",
                "status.storedVersions: Invalid value: null: must have at least one stored version",
            ],
        ),
        (
            json!({"versions": version(json!({}))}),
            vec!["spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"],
        ),
        (
            json!({"versions": version(json!({
                "type": "object",
                "properties": {"spec": {}, "list": {"type": "array"}, "any": {"x-kubernetes-int-or-string": true}},
            }))}),
            vec![
                "spec.validation.openAPIV3Schema.properties[list].items: Required value: must be specified",
                "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified \
                 object fields",
            ],
        ),
        (
            json!({"names": {"kind": "Boat", "listKind": "Boat"}}),
            vec!["spec.names.listKind: Invalid value: \"Boat\": kind and listKind may not be the same"],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(create_errors(CRD, crd(spec.clone())), expected, "{spec}");
    }
}

/// What is wrong with a schema, without the path to it.
fn schema_errors(schema: Value) -> Vec<String> {
    let version =
        json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
    let errors = create_errors(CRD, crd(json!({"versions": version})));
    let cut = |error: String| error.replace("spec.validation.openAPIV3Schema", "S");
    errors.into_iter().map(cut).collect()
}

#[test]
fn schemas_are_structural() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (
            object(json!({
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": either, "pattern": "^a"},
                "size": {"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": either}, {"maxLength": 3}]},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "a": {"type": "string"},
                "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "x-kubernetes-preserve-unknown-fields": true},
            })),
            vec![],
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"b": {"minimum": 1}, "a": {"type": "string"}}}],
                "properties": {"a": {"type": "string"}}, "oneOf": [{"description": "x", "nullable": true}],
                "not": {"additionalProperties": {}, "default": 1, "properties": {"metadata": {}}}}),
            vec![
                "S.anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
                "S.not.additionalProperties: Forbidden: must be undefined to be structural",
                "S.not.default: Forbidden: must be undefined to be structural",
                "S.not.properties[metadata]: Forbidden: must not be specified in a nested context",
                "S.oneOf[0].description: Forbidden: must be empty to be structural",
                "S.oneOf[0].nullable: Forbidden: must be false to be structural",
                "S.properties[b]: Required value: because it is defined in S.anyOf[0].properties[b]",
                "S.properties[metadata]: Required value: because it is defined in S.not.properties[metadata]",
                "S.not.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "string", "additionalProperties": {"type": "string"}}),
            vec![
                "S.additionalProperties: Forbidden: must not be used at the root",
                "S.type: Invalid value: \"string\": must be object at the root",
            ],
        ),
        (
            object(json!({
                "kind": {"type": "integer"},
                "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
                "a": {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true},
                "b": {"x-kubernetes-embedded-resource": true, "type": "object"},
                "c": {"x-kubernetes-embedded-resource": true},
            })),
            vec![
                "S.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
                "S.properties[b].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                "S.properties[c].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                "S.properties[c].type: Required value: must be object if x-kubernetes-embedded-resource is true",
                "S.properties[kind].type: Invalid value: \"integer\": must be string",
                "S.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            object(json!({"list": {"type": "array", "items": {}}})),
            vec![
                "S.properties[list].items.type: Required value: must not be empty for specified array items",
            ],
        ),
        (
            json!({"type": "object", "$schema": "x"}),
            vec!["S: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"],
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(schema_errors(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn what_a_schema_cannot_say_is_refused() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let list = |change: Value| {
        let base = json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object",
            "required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "object"}}}});
        object(json!({"l": over(base, change)}))
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (
            json!({"type": "object", "id": "x", "$ref": "#/a", "nullable": true, "uniqueItems": true,
                "patternProperties": {"a": {}}, "definitions": {"a": {}}, "dependencies": {"a": ["b"]}, "additionalItems": true}),
            vec![
                "S.nullable: Forbidden: nullable cannot be true at the root",
                "S.id: Forbidden: id is not supported",
                "S.additionalItems: Forbidden: additionalItems is not supported",
                "S.patternProperties: Forbidden: patternProperties is not supported",
                "S.definitions: Forbidden: definitions is not supported",
                "S.dependencies: Forbidden: dependencies is not supported",
                "S.$ref: Forbidden: $ref is not supported",
                "S.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            object(json!({
                "kind": {"type": "string", "default": "Boat"},
                "a": {"type": "null"},
                "b": {"type": "array", "items": [{"type": "string"}]},
                "c": {"type": "object", "properties": {"d": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            })),
            vec![
                "S.properties[a].type: Unsupported value: \"null\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
                "S.properties[a].type: Forbidden: type cannot be set to null, use nullable as an alternative",
                "S.properties[b].items: Forbidden: items must be a schema object and not an array",
                "S.properties[c].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
                "S.properties[kind].default: Forbidden: must not be set in top-level kind",
            ],
        ),
        (
            object(json!({
                "m": {"type": "string", "x-kubernetes-map-type": "odd"},
                "l": {"type": "string", "x-kubernetes-list-type": "odd", "x-kubernetes-list-map-keys": ["a"]},
                "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "nullable": true}},
            })),
            vec![
                "S.properties[l].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
                "S.properties[l].x-kubernetes-list-type: Unsupported value: \"odd\": supported values: \"atomic\", \"set\", \"map\"",
                "S.properties[l].x-kubernetes-list-type: Invalid value: \"odd\": must be map if x-kubernetes-list-map-keys is non-empty",
                "S.properties[m].type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
                "S.properties[m].x-kubernetes-map-type: Unsupported value: \"odd\": supported values: \"atomic\", \"granular\"",
                "S.properties[s].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
                "S.properties[s].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set",
            ],
        ),
        (list(json!({"x-kubernetes-list-map-keys": ["a"]})), vec![]),
        (
            list(json!({"x-kubernetes-list-map-keys": ["b", "c", "d", "b"]})),
            vec![
                "S.properties[l].items.properties[c].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
                "S.properties[l].x-kubernetes-list-map-keys: Invalid value: [\"b\",\"c\",\"d\",\"b\"]: entries must all be names of item properties",
                "S.properties[l].x-kubernetes-list-map-keys: Invalid value: [\"b\",\"c\",\"d\",\"b\"]: must not contain duplicate entries",
                "S.properties[l].items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                "S.properties[l].items.properties[c].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                "S.properties[l].items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            list(json!({"items": {"type": "string", "properties": null, "required": null}})),
            vec![
                "S.properties[l].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
                "S.properties[l].items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map",
            ],
        ),
        (
            over(
                object(json!({"a": {"type": "string"}})),
                json!({"x-kubernetes-validations": [
                    {"rule": "self.a == 'x'", "messageExpression": "'not ' + self.a", "fieldPath": ".a"},
                    {"rule": " "},
                    {"rule": "true", "message": " "},
                    {"rule": "true &&\n true"},
                    {"rule": "true", "message": "a\nb", "reason": "Odd", "fieldPath": ".b", "messageExpression": " "},
                ]}),
            ),
            vec![
                "S.x-kubernetes-validations[1].rule: Required value: rule is not specified",
                "S.x-kubernetes-validations[2].message: Invalid value: \" \": must be non-empty if specified",
                "S.x-kubernetes-validations[3].message: Required value: message must be specified if rule contains line breaks",
                "S.x-kubernetes-validations[4].message: Invalid value: \"a\\nb\": must not contain line breaks",
                "S.x-kubernetes-validations[4].messageExpression: Required value: messageExpression must be non-empty if specified",
                "S.x-kubernetes-validations[4].reason: Unsupported value: \"Odd\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
                "S.x-kubernetes-validations[4].fieldPath: Invalid value: \".b\": must be a valid path",
            ],
        ),
        (
            object(json!({"a": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self b"}, {"rule": "true", "messageExpression": "'a' b"}]}})),
            vec![
                "S.properties[a].x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self b\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:6: Syntax error: extraneous input 'b' expecting <EOF>\n | self b\n | .....^",
                "S.properties[a].x-kubernetes-validations[1].messageExpression: Invalid value: {\"Rule\":\"true\",\"Message\":\"\",\"MessageExpression\":\"'a' b\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: messageExpression compilation failed: ERROR: <input>:1:5: Syntax error: extraneous input 'b' expecting <EOF>\n | 'a' b\n | ....^",
            ],
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(schema_errors(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn versions_of_a_definition_are_checked_one_by_one() {
    let version = |change: Value| {
        let base = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {
                "size": {"type": "integer"}, "parts": {"type": "object"}}}}}}});
        json!({"versions": [over(base, change)]})
    };
    let webhook = |webhook: Value| json!({"conversion": {"strategy": "Webhook", "webhook": webhook}});
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (
            version(
                json!({"subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]}),
            ),
            vec![],
        ),
        (
            version(
                json!({"subresources": {"scale": {"specReplicasPath": "spec", "statusReplicasPath": ".spec.size",
                "labelSelectorPath": ".a"}}}),
            ),
            vec![
                "spec.subresources.scale.specReplicasPath: Invalid value: \"spec\": must be a simple json path starting with .",
                "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.size\": should be a json path under .status",
                "spec.subresources.scale.labelSelectorPath: Invalid value: \".a\": should be a json path under either .spec or .status",
            ],
        ),
        (
            version(
                json!({"selectableFields": [{"jsonPath": ""}, {"jsonPath": ".spec.none"}, {"jsonPath": ".spec.parts"},
                {"jsonPath": ".spec.size"}, {"jsonPath": ".spec.size"}, {"jsonPath": ".spec['size']"}]}),
            ),
            vec![
                "spec.selectableFields[0].jsonPath: Required value",
                "spec.selectableFields[1].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to a valid field",
                "spec.selectableFields[2].jsonPath: Invalid value: \".spec.parts\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                "spec.selectableFields[4].jsonPath: Duplicate value: \".spec.size\"",
                "spec.selectableFields[5].jsonPath: Invalid value: \".spec['size']\": is an invalid path: array notation is not allowed",
            ],
        ),
        (
            version(
                json!({"additionalPrinterColumns": [{"name": "", "type": "text", "format": "odd", "jsonPath": "x"}]}),
            ),
            vec![
                "spec.additionalPrinterColumns[0].name: Required value",
                "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
                "spec.additionalPrinterColumns[0].format: Invalid value: \"odd\": must be one of byte,date,date-time,double,float,int32,int64,password",
                "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"x\": must be a simple json path starting with .",
            ],
        ),
        (
            version(json!({"deprecationWarning": "x"})),
            vec![
                "spec.versions[0].deprecationWarning: Invalid value: \"x\": can only be set for deprecated versions",
            ],
        ),
        (
            version(json!({"deprecated": true, "deprecationWarning": "a\u{7}"})),
            vec![
                "spec.versions[0].deprecationWarning: Invalid value: \"a\\a\": must only contain printable UTF-8 characters; non-printable character found at index 1",
            ],
        ),
        (
            webhook(
                json!({"clientConfig": {"url": "https://h"}, "conversionReviewVersions": ["v1", "v1", "V"]}),
            ),
            vec![
                "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
                "spec.conversion.conversionReviewVersions[2]: Invalid value: \"V\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            webhook(json!({"conversionReviewVersions": ["v2"]})),
            vec![
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            webhook(json!({"clientConfig": {}, "conversionReviewVersions": []})),
            vec![
                "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
                "spec.conversion.conversionReviewVersions: Required value",
            ],
        ),
        (
            json!({"conversion": {"strategy": "None", "webhook": {"clientConfig": {"url": "https://h"},
                "conversionReviewVersions": ["v1"]}}}),
            vec![
                "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
                "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
            ],
        ),
        (
            json!({"preserveUnknownFields": true}),
            vec![
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(create_errors(CRD, crd(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn what_versions_do_not_agree_upon_is_theirs() {
    let version = |name: &str, storage: bool, type_: &str| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": type_}}});
    let versions = json!([version("v1", true, "object"), version("v2", false, "string")]);
    assert_eq!(
        create_errors(CRD, crd(json!({"versions": versions}))),
        [
            "spec.versions[1].schema.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root"
        ]
    );
    let mut status = version("v1", true, "object");
    status["subresources"] = json!({"status": {}});
    status["schema"]["openAPIV3Schema"]["default"] = json!({});
    let errors = create_errors(CRD, crd(json!({"versions": [status]})));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0]
            .contains("fields are allowed at the root of the schema if the status subresource is enabled"),
        "{errors:?}"
    );
}

#[test]
fn kubernetes_own_groups_ask_for_an_approval() {
    let annotation = "api-approved.kubernetes.io";
    let definition = |group: &str, approval: Value| {
        over(
            crd(json!({"group": group})),
            json!({"metadata": {"name": format!("boats.{group}"), "annotations": {annotation: approval}}}),
        )
    };
    let must = "protected groups must have approval annotation \"api-approved.kubernetes.io\"";
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    for (group, approval, expected) in [
        ("example.com", "", vec![]),
        ("my-k8s.io", "", vec![]),
        (
            "x.k8s.io",
            "https://github.com/kubernetes/kubernetes/pull/1",
            vec![],
        ),
        ("x.k8s.io", "unapproved, a test", vec![]),
        (
            "x.kubernetes.io",
            "",
            vec![format!(
                "metadata.annotations[{annotation}]: Required value: {must}, {see}"
            )],
        ),
        (
            "x.k8s.io",
            "yes",
            vec![format!(
                "metadata.annotations[{annotation}]: Invalid value: \"yes\": {must} with either a URL or a reason \
                 starting with \"unapproved\", {see}"
            )],
        ),
    ] {
        let object = definition(group, json!(approval));
        assert_eq!(create_errors(CRD, object.clone()), expected, "{group} {approval}");
        let (_, errors) = update(CRD, created_json(&object), created_json(&object), Target::Main);
        assert_eq!(errors, Vec::<String>::new(), "what was accepted stays");
    }
}

fn created_json(object: &Value) -> Value {
    json_of(created(CRD, object.clone()).as_ref())
}

#[test]
fn what_a_definition_is_called_stays_and_stored_versions_are_remembered() {
    let old = over(crd(json!({})), json!({"status": {"storedVersions": ["v1"]}}));
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let next = json!([
        {"name": "v1", "served": true, "storage": false, "schema": schema},
        {"name": "v2", "served": true, "storage": true, "schema": schema},
    ]);
    let (new, errors) = update(CRD, old.clone(), crd(json!({"versions": next})), Target::Main);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(new["metadata"]["generation"], 1);
    let lost = json!([{"name": "v2", "served": true, "storage": true, "schema": schema}]);
    let (_, errors) = update(CRD, old.clone(), crd(json!({"versions": lost})), Target::Main);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with(
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was"
        )
    );
    let (_, errors) = update(
        CRD,
        over(
            old.clone(),
            json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}}),
        ),
        crd(json!({"scope": "Cluster"})),
        Target::Main,
    );
    assert_eq!(
        errors,
        ["spec.scope: Invalid value: \"Cluster\": field is immutable"]
    );
    let (new, _) = update(
        CRD,
        old,
        over(
            crd(json!({"scope": "Cluster"})),
            json!({"status": {"storedVersions": ["v1"]}}),
        ),
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(new["spec"]["scope"], "Namespaced");
}

#[test]
fn defaults_are_what_their_schemas_ask_for() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let a = |schema: Value| object(json!({"a": schema}));
    let parts = json!({"b": {"type": "integer", "minimum": 2}, "c": {"type": "string", "maxLength": 3, "minLength": 2}});
    let deep = |default: Value| {
        a(json!({"type": "object", "default": default, "properties": parts, "required": ["b"]}))
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (a(json!({"type": "string", "default": "x"})), vec![]),
        (a(json!({"type": "number", "default": 1})), vec![]),
        (a(json!({"type": "integer", "default": 1.0})), vec![]),
        (
            a(json!({"x-kubernetes-int-or-string": true, "default": "1%"})),
            vec![],
        ),
        (
            a(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "default": {"b": 1}})),
            vec![],
        ),
        (
            a(json!({"type": "object", "additionalProperties": {"type": "string"}, "default": {"b": "c"}})),
            vec![],
        ),
        (
            a(json!({"type": "string", "default": true})),
            vec![
                "S.properties[a].default: Invalid value: \"boolean\":  in body must be of type string: \"boolean\"",
            ],
        ),
        (
            a(json!({"x-kubernetes-int-or-string": true, "default": []})),
            vec![
                "S.properties[a].default: Invalid value: \"array\":  in body must be of type integer,string: \"array\"",
            ],
        ),
        (
            a(json!({"type": "string", "enum": ["x", "y"], "default": "z"})),
            vec!["S.properties[a].default: Unsupported value: \"z\": supported values: \"x\", \"y\""],
        ),
        (
            deep(json!({"c": "long enough", "d": 1})),
            vec![
                "S.properties[a].default: Invalid value: {\"c\":\"long enough\",\"d\":1}: must not have unknown fields",
                "S.properties[a].default.b: Required value",
                "S.properties[a].default.c: Too long: may not be more than 3 bytes",
            ],
        ),
        (
            deep(json!({"b": 1, "c": "x"})),
            vec![
                "S.properties[a].default.b: Invalid value: 1: b in body should be greater than or equal to 2",
                "S.properties[a].default.c: Invalid value: \"x\": c in body should be at least 2 chars long",
            ],
        ),
        (
            deep(json!({"b": "2", "c": null})),
            vec![
                "S.properties[a].default.b: Invalid value: \"string\": b in body must be of type integer: \"string\"",
                "S.properties[a].default.c: Invalid value: \"null\": c in body must be of type string: \"null\"",
            ],
        ),
        (
            a(
                json!({"type": "array", "default": [1, "x", 9], "items": {"type": "integer", "maximum": 9,
                "exclusiveMaximum": true}, "maxItems": 2}),
            ),
            vec![
                "S.properties[a].default.[1]: Invalid value: \"string\": [1] in body must be of type integer: \"string\"",
                "S.properties[a].default.[2]: Invalid value: 9: [2] in body should be less than 9",
                "S.properties[a].default: Too many: 3: must have at most 2 items",
            ],
        ),
        (
            a(
                json!({"type": "array", "minItems": 1, "items": {"type": "string", "default": 1}, "default": []}),
            ),
            vec![
                "S.properties[a].default: Invalid value: 0:  in body should have at least 1 items",
                "S.properties[a].items.default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ],
        ),
        (
            a(json!({"type": "string", "pattern": "^a+$", "format": "ipv4", "default": "b"})),
            vec![
                "S.properties[a].default: Invalid value: \"b\":  in body should match '^a+$'",
                "S.properties[a].default: Invalid value: \"b\":  in body must be of type ipv4: \"b\"",
            ],
        ),
        (
            a(json!({"type": "string", "format": "date-time", "default": "2024-01-01T00:00:00Z"})),
            vec![],
        ),
        (
            a(json!({"type": "integer", "multipleOf": 2, "default": 3})),
            vec!["S.properties[a].default: Invalid value: 3:  in body should be a multiple of 2"],
        ),
        (
            a(
                json!({"type": "object", "default": {"b": "x", "c": "y"}, "maxProperties": 1, "minProperties": 3,
                "additionalProperties": {"type": "string"}}),
            ),
            vec![
                "S.properties[a].default: Invalid value: 2:  in body should have at least 3 properties",
                "S.properties[a].default: Too many: 2: must have at most 1 item",
            ],
        ),
        (
            a(json!({"type": "integer", "default": 5, "anyOf": [{"minimum": 9}, {"maximum": 1}]})),
            vec![
                "S.properties[a].default: Invalid value: \"\": \"\" must validate at least one schema (anyOf)",
                "S.properties[a].default: Invalid value: 5:  in body should be greater than or equal to 9",
            ],
        ),
        (
            a(json!({"type": "integer", "default": 5, "oneOf": [{"minimum": 1}, {"maximum": 9}]})),
            vec![
                "S.properties[a].default: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). \
                 Found 2 valid alternatives",
            ],
        ),
        (
            a(json!({"type": "integer", "default": 5, "oneOf": [{"minimum": 9}]})),
            vec![
                "S.properties[a].default: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). \
                 Found none valid",
                "S.properties[a].default: Invalid value: 5:  in body should be greater than or equal to 9",
            ],
        ),
        (
            a(
                json!({"type": "integer", "default": 5, "allOf": [{"minimum": 1}, {"maximum": 4}], "not": {"minimum": 2}}),
            ),
            vec![
                "S.properties[a].default: Invalid value: 5:  in body should be less than or equal to 4",
                "S.properties[a].default: Invalid value: \"\": \"\" must validate all the schemas (allOf)",
                "S.properties[a].default: Invalid value: \"\": \"\" must not validate the schema (not)",
            ],
        ),
        (
            a(json!({"type": "object", "properties": parts, "default": {"b": 3},
                "anyOf": [{"properties": {"b": {"enum": [1]}}}, {"required": ["b"]}]})),
            vec![],
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(schema_errors(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn patterns_are_expressions_that_go_could_compile() {
    let a = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    let text = "must be a valid regular expression, but isn't: error parsing regexp";
    let cases = [
        (
            a(json!({"type": "string", "pattern": r"^[a-z]+(\.\d{1,3})*$"})),
            vec![],
        ),
        (
            a(json!({"type": "string", "pattern": "+"})),
            vec![format!(
                "S.properties[a].pattern: Invalid value: \"+\": {text}: missing argument to repetition operator: `+`"
            )],
        ),
        (
            a(json!({"type": "string", "allOf": [{"pattern": "(?!x)"}]})),
            vec![format!(
                "S.properties[a].allOf[0].pattern: Invalid value: \"(?!x)\": {text}: invalid or unsupported Perl \
                 syntax: `(?!`"
            )],
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(schema_errors(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn formats_that_nobody_knows_are_warned_of() {
    let strategy = support::strategy(CRD);
    let with = |format: &str, other: &str| {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "format": format},
            "b": {"type": "array", "items": {"type": "string", "format": other}},
            "c": {"type": "string", "anyOf": [{"format": "odd"}]}, "d": {"type": "number", "format": "odd"}}});
        created(
            CRD,
            over(
                crd(json!({})),
                json!({"spec": {"versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}}),
            ),
        )
    };
    let warnings = |new: &dyn skiff_api::Object, old| strategy.warnings(new, old);
    let new = with("my-own", "another");
    assert_eq!(
        warnings(new.as_ref(), None),
        [
            "unrecognized format \"my-own\"",
            "unrecognized format \"another\""
        ]
    );
    let old = with("my-own", "date-time");
    assert_eq!(warnings(old.as_ref(), None), ["unrecognized format \"my-own\""]);
    assert_eq!(
        warnings(new.as_ref(), Some(old.as_ref())),
        ["unrecognized format \"another\""]
    );
    assert_eq!(
        warnings(with("int64", "uuid").as_ref(), None),
        ["unrecognized format \"int64\""],
        "of a text"
    );
}
