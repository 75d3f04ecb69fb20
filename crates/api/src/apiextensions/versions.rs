//! What the versions of a custom resource must say.
//!
//! What all versions agree upon is checked once, under the name that it had before there were versions: upstream keeps
//! definitions in that form.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresourceScale, CustomResourceSubresources, CustomResourceValidation, SelectableField,
};

use super::{json_path, schema, shown};
use crate::field::{Errors, Internal, Path};
use crate::names;

const FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const MAX_WARNING: usize = 256;
const MAX_SELECTABLE: usize = 8;

/// What a version says by itself, or all versions say alike.
struct Said<'a> {
    schema: Option<&'a CustomResourceValidation>,
    subresources: Option<&'a CustomResourceSubresources>,
    columns: &'a [CustomResourceColumnDefinition],
}

/// The parts that all versions agree upon.
#[derive(Clone, Copy)]
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    fields: bool,
}

impl Shared {
    fn of(versions: &[CustomResourceDefinitionVersion]) -> Self {
        fn same<T: PartialEq>(
            versions: &[CustomResourceDefinitionVersion],
            part: impl Fn(&CustomResourceDefinitionVersion) -> &T,
        ) -> bool {
            let mut parts = versions.iter().map(part);
            parts.next().is_none_or(|first| parts.all(|other| other == first))
        }
        Self {
            schema: same(versions, |version| &version.schema),
            subresources: same(versions, |version| &version.subresources),
            columns: same(versions, |version| &version.additional_printer_columns),
            fields: same(versions, |version| &version.selectable_fields),
        }
    }

    /// Whether all versions have the same selectable fields, and these mean the same.
    fn selectable(self) -> bool {
        self.schema && self.fields
    }
}

fn has_status(subresources: Option<&CustomResourceSubresources>) -> bool {
    subresources.is_some_and(|subresources| subresources.status.is_some())
}

/// Checks the versions one by one.
pub(super) fn validate(
    spec: &CustomResourceDefinitionSpec,
    all_had_schemas: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let versions = &spec.versions;
    let at = path.child("versions");
    for (index, version) in versions.iter().enumerate() {
        let schema = version.schema.as_ref();
        if schema.is_some_and(|schema| schema.open_api_v3_schema.is_some()) {
            continue;
        }
        let at = at.index(index).child("schema.openAPIV3Schema");
        if all_had_schemas {
            errors.required(&at, "");
        } else if version.served {
            errors.required(&at, "because otherwise all fields are pruned");
        }
    }
    let shared = Shared::of(versions);
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        let wrong = names::dns_1035_label(&version.name, false);
        if !wrong.is_empty() {
            errors.invalid(&at.child("name"), &version.name, wrong.join(","));
        }
        check_warning(version, &at.child("deprecationWarning"), errors);
        let said = Said {
            schema: version.schema.as_ref().filter(|_| !shared.schema),
            subresources: version.subresources.as_ref().filter(|_| !shared.subresources),
            columns: list(&version.additional_printer_columns, !shared.columns),
        };
        let status = has_status(version.subresources.as_ref());
        let schema_at = at.child("schema");
        validate_said(&said, status, (&schema_at, &at), errors);
        let selectable = list(&version.selectable_fields, !shared.selectable());
        check_selectable(selectable, version, &at.child("selectableFields"), errors);
        seen.insert(&version.name);
    }
    let shown = || {
        versions
            .iter()
            .map(|version| internal(version, shared))
            .collect::<Vec<_>>()
    };
    if seen.len() < versions.len() {
        errors.invalid(&at, shown(), "must contain unique version names");
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        errors.invalid(
            &at,
            shown(),
            "must have exactly one version marked as storage version",
        );
    }
}

/// Checks what all versions say alike.
pub(super) fn validate_shared(spec: &CustomResourceDefinitionSpec, path: &Path, errors: &mut Errors) {
    let shared = Shared::of(&spec.versions);
    let Some(first) = spec.versions.first() else {
        return;
    };
    let said = Said {
        schema: first.schema.as_ref().filter(|_| shared.schema),
        subresources: first.subresources.as_ref().filter(|_| shared.subresources),
        columns: list(&first.additional_printer_columns, shared.columns),
    };
    let mut versions = spec.versions.iter();
    let status = versions.any(|version| has_status(version.subresources.as_ref()));
    validate_said(&said, status, (&path.child("validation"), path), errors);
    let selectable = list(&first.selectable_fields, shared.selectable());
    check_selectable(selectable, first, &path.child("selectableFields"), errors);
}

fn list<T>(list: &Option<Vec<T>>, counts: bool) -> &[T] {
    list.as_deref().filter(|_| counts).unwrap_or_default()
}

/// A version as upstream shows it, without what all versions say.
fn internal(version: &CustomResourceDefinitionVersion, shared: Shared) -> Internal {
    fn own<T>(part: &Option<T>, shared: bool, shown: impl Fn(&T) -> Internal) -> Internal {
        Internal::optional(part.as_ref().filter(|_| !shared).map(shown))
    }
    Internal::fields([
        ("Name", Internal::plain(&version.name)),
        ("Served", Internal::plain(&version.served)),
        ("Storage", Internal::plain(&version.storage)),
        ("Deprecated", Internal::plain(&(version.deprecated == Some(true)))),
        (
            "DeprecationWarning",
            Internal::plain(&version.deprecation_warning),
        ),
        ("Schema", own(&version.schema, shared.schema, validation)),
        (
            "Subresources",
            own(&version.subresources, shared.subresources, subresources),
        ),
        (
            "AdditionalPrinterColumns",
            own(&version.additional_printer_columns, shared.columns, |columns| {
                Internal::Items(columns.iter().map(column).collect())
            }),
        ),
        (
            "SelectableFields",
            own(&version.selectable_fields, shared.fields, |fields| {
                let shown = |field: &SelectableField| {
                    Internal::fields([("JSONPath", Internal::plain(&field.json_path))])
                };
                Internal::Items(fields.iter().map(shown).collect())
            }),
        ),
    ])
}

fn validation(validation: &CustomResourceValidation) -> Internal {
    let schema = validation.open_api_v3_schema.as_ref().map(shown::schema);
    Internal::fields([("OpenAPIV3Schema", Internal::optional(schema))])
}

fn subresources(subresources: &CustomResourceSubresources) -> Internal {
    let scale = subresources.scale.as_ref().map(|scale| {
        Internal::fields([
            ("SpecReplicasPath", Internal::plain(&scale.spec_replicas_path)),
            ("StatusReplicasPath", Internal::plain(&scale.status_replicas_path)),
            ("LabelSelectorPath", Internal::plain(&scale.label_selector_path)),
        ])
    });
    let status = subresources.status.as_ref().map(|_| Internal::fields([]));
    Internal::fields([
        ("Status", Internal::optional(status)),
        ("Scale", Internal::optional(scale)),
    ])
}

fn column(column: &CustomResourceColumnDefinition) -> Internal {
    let text = |text: &Option<String>| Internal::plain(&text.clone().unwrap_or_default());
    Internal::fields([
        ("Name", Internal::plain(&column.name)),
        ("Type", Internal::plain(&column.type_)),
        ("Format", text(&column.format)),
        ("Description", text(&column.description)),
        ("Priority", Internal::plain(&column.priority.unwrap_or(0))),
        ("JSONPath", Internal::plain(&column.json_path)),
    ])
}

fn check_warning(version: &CustomResourceDefinitionVersion, path: &Path, errors: &mut Errors) {
    let Some(warning) = &version.deprecation_warning else {
        return;
    };
    if version.deprecated != Some(true) {
        return errors.invalid(path, warning, "can only be set for deprecated versions");
    }
    if warning.len() > MAX_WARNING {
        errors.invalid(path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(path, warning, "must not be an empty string");
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, letter)| letter.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        );
        errors.invalid(path, warning, detail);
    }
}

fn validate_said(said: &Said<'_>, has_status: bool, paths: (&Path, &Path), errors: &mut Errors) {
    let (schema_path, path) = paths;
    if let Some(schema) = said.schema.and_then(|schema| schema.open_api_v3_schema.as_ref()) {
        schema::validate(schema, has_status, &schema_path.child("openAPIV3Schema"), errors);
    }
    if let Some(scale) = said
        .subresources
        .and_then(|subresources| subresources.scale.as_ref())
    {
        validate_scale(scale, &path.child("subresources"), errors);
    }
    for (index, column) in said.columns.iter().enumerate() {
        let at = path.child("additionalPrinterColumns").index(index);
        validate_column(column, &at, errors);
    }
}

fn validate_column(column: &CustomResourceColumnDefinition, path: &Path, errors: &mut Errors) {
    if column.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let known = format!("must be one of {}", COLUMN_TYPES.join(","));
    match column.type_.as_str() {
        "" => errors.required(&path.child("type"), &known),
        type_ if COLUMN_TYPES.contains(&type_) => {}
        other => errors.invalid(&path.child("type"), other, known),
    }
    if let Some(format) = column.format.as_deref().filter(|format| !format.is_empty())
        && !FORMATS.contains(&format)
    {
        let known = format!("must be one of {}", FORMATS.join(","));
        errors.invalid(&path.child("format"), format, known);
    }
    let at = path.child("JSONPath");
    if column.json_path.is_empty() {
        errors.required(&at, "");
    } else {
        json_path::validate_simple(&column.json_path, &at, errors);
    }
}

fn validate_scale(scale: &CustomResourceSubresourceScale, path: &Path, errors: &mut Errors) {
    let paths = [
        ("specReplicasPath", &scale.spec_replicas_path, ".spec"),
        ("statusReplicasPath", &scale.status_replicas_path, ".status"),
    ];
    for (field, text, below) in paths {
        let at = path.child("scale").child(field);
        if text.is_empty() {
            errors.required(&at, "");
        } else if json_path::validate_simple(text, &at, errors) && !text.starts_with(&format!("{below}.")) {
            errors.invalid(&at, text, format!("should be a json path under {below}"));
        }
    }
    let at = path.child("scale.labelSelectorPath");
    if let Some(text) = scale
        .label_selector_path
        .as_deref()
        .filter(|text| !text.is_empty())
        && json_path::validate_simple(text, &at, errors)
        && !text.starts_with(".spec.")
        && !text.starts_with(".status.")
    {
        errors.invalid(&at, text, "should be a json path under either .spec or .status");
    }
}

/// Checks the fields that objects can be selected by, against the schema of a version.
fn check_selectable(
    fields: &[SelectableField],
    version: &CustomResourceDefinitionVersion,
    path: &Path,
    errors: &mut Errors,
) {
    if fields.is_empty() {
        return;
    }
    let schema = version.schema.as_ref();
    let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
        let detail = "selectableFields may only be set when version.schema.openAPIV3Schema is not included";
        return errors.invalid(path, "", detail);
    };
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let (text, at) = (&field.json_path, path.index(index).child("jsonPath"));
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let place = match json_path::follow(text, schema, false) {
            Ok(place) => place,
            Err(why) => {
                errors.invalid(&at, text, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if place.root == "metadata" {
            errors.invalid(&at, text, "must not point to fields in metadata");
        }
        let type_ = place.schema.and_then(|schema| schema.type_.as_deref());
        if !matches!(type_, Some("string" | "boolean" | "integer")) {
            errors.invalid(
                &at,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if !seen.insert(place.path.to_string()) {
            errors.duplicate(&at, text);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.too_many(path, seen.len(), MAX_SELECTABLE);
    }
}
