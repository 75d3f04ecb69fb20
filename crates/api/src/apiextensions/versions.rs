//! What the versions of a custom resource must say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionSpec, CustomResourceSubresourceScale,
};

use super::structure;
use crate::field::{Errors, Path};
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

/// Checks the versions.
pub(super) fn validate(spec: &CustomResourceDefinitionSpec, path: &Path, errors: &mut Errors) {
    let versions = &spec.versions;
    let at = path.child("versions");
    let mut seen = std::collections::BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = at.index(index);
        let wrong = names::dns_1035_label(&version.name, false);
        if !wrong.is_empty() {
            errors.invalid(&path.child("name"), &version.name, wrong.join(","));
        }
        if version.deprecated != Some(true)
            && let Some(warning) = &version.deprecation_warning
        {
            errors.invalid(
                &path.child("deprecationWarning"),
                warning,
                "can only be set for deprecated versions",
            );
        }
        let schema = version.schema.as_ref();
        if schema.is_none_or(|schema| schema.open_api_v3_schema.is_none()) {
            errors.required(&path.child("schema.openAPIV3Schema"), "schemas are required");
        }
        seen.insert(&version.name);
    }
    if seen.len() < versions.len() {
        errors.invalid(&at, versions, "must contain unique version names");
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        errors.invalid(
            &at,
            versions,
            "must have exactly one version marked as storage version",
        );
    }
    // What all versions agree upon is checked once, under the name that it had before there were versions.
    let same = |differs: fn(&CustomResourceDefinitionSpec, usize) -> bool| {
        !(1..versions.len()).any(|index| differs(spec, index))
    };
    let same_schema = same(|spec, index| {
        spec.versions.get(index).map(|version| &version.schema)
            != spec.versions.first().map(|version| &version.schema)
    });
    let same_columns = same(|spec, index| {
        spec.versions
            .get(index)
            .map(|version| &version.additional_printer_columns)
            != spec
                .versions
                .first()
                .map(|version| &version.additional_printer_columns)
    });
    let same_subresources = same(|spec, index| {
        spec.versions.get(index).map(|version| &version.subresources)
            != spec.versions.first().map(|version| &version.subresources)
    });
    for (index, version) in versions.iter().enumerate() {
        let own = at.index(index);
        if index == 0 || !same_schema {
            let path = if same_schema {
                path.child("validation")
            } else {
                own.child("schema")
            };
            let schema = version.schema.as_ref();
            if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_ref()) {
                structure::validate(schema, &path.child("openAPIV3Schema"), errors);
            }
        }
        if index == 0 || !same_columns {
            let path = if same_columns { path } else { &own }.child("additionalPrinterColumns");
            for (index, column) in version.additional_printer_columns.iter().flatten().enumerate() {
                validate_column(column, &path.index(index), errors);
            }
        }
        if index == 0 || !same_subresources {
            let path = if same_subresources { path } else { &own }.child("subresources.scale");
            let subresources = version.subresources.as_ref();
            if let Some(scale) = subresources.and_then(|subresources| subresources.scale.as_ref()) {
                validate_scale(scale, &path, errors);
            }
        }
    }
}

fn validate_column(column: &CustomResourceColumnDefinition, path: &Path, errors: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    if column.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match column.type_.as_str() {
        "" => errors.required(
            &path.child("type"),
            &format!("must be one of {}", TYPES.join(",")),
        ),
        type_ if TYPES.contains(&type_) => {}
        other => errors.invalid(
            &path.child("type"),
            other,
            format!("must be one of {}", TYPES.join(",")),
        ),
    }
    if let Some(format) = column.format.as_deref().filter(|format| !format.is_empty())
        && !FORMATS.contains(&format)
    {
        errors.invalid(
            &path.child("format"),
            format,
            format!("must be one of {}", FORMATS.join(",")),
        );
    }
    if column.json_path.is_empty() {
        errors.required(&path.child("JSONPath"), "");
    }
}

fn validate_scale(scale: &CustomResourceSubresourceScale, path: &Path, errors: &mut Errors) {
    let paths = [
        ("specReplicasPath", &scale.spec_replicas_path, ".spec"),
        ("statusReplicasPath", &scale.status_replicas_path, ".status"),
    ];
    for (field, json_path, below) in paths {
        let at = path.child(field);
        if json_path.is_empty() {
            errors.required(&at, "");
        } else if !json_path.starts_with(&format!("{below}.")) {
            errors.invalid(&at, json_path, format!("should be a json path under {below}"));
        }
    }
    if let Some(json_path) = scale
        .label_selector_path
        .as_deref()
        .filter(|path| !path.is_empty())
        && !json_path.starts_with(".spec.")
        && !json_path.starts_with(".status.")
    {
        errors.invalid(
            &path.child("labelSelectorPath"),
            json_path,
            "should be a json path under either .spec or .status",
        );
    }
}
