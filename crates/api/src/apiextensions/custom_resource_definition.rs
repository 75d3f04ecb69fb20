//! CustomResourceDefinition: a kind that users bring.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionVersion,
};
use serde_json::Value;

use super::{approval, conversion, formats, versions};
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target};
use crate::{meta, names};

impl Kind for CustomResourceDefinition {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            subresources: &[Subresource::Status],
            store_prefix: "apiextensions.k8s.io/customresourcedefinitions".into(),
            columns: vec![Column::object_name(), Column::created_at()],
            unconditional_update: false,
            ..KindInfo::of::<Self>("customresourcedefinition")
        }
    }

    fn default(&mut self) {
        let names = &mut self.spec.names;
        let absent = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        if absent(&names.singular) {
            names.singular = Some(names.kind.to_lowercase());
        }
        if absent(&names.list_kind) && !names.kind.is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        let conversion = self
            .spec
            .conversion
            .get_or_insert_with(|| CustomResourceConversion {
                strategy: "None".into(),
                webhook: None,
            });
        if let Some(webhook) = &mut conversion.webhook
            && let Some(config) = &mut webhook.client_config
            && let Some(service) = &mut config.service
        {
            service.port.get_or_insert(443);
        }
        self.status
            .get_or_insert_default()
            .accepted_names
            .get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        self.status = Some(Default::default());
        remember_stored_version(self);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target != Target::Main {
            self.spec.clone_from(&old.spec);
            let (new, old) = (&mut self.metadata, &old.metadata);
            new.labels.clone_from(&old.labels);
            new.annotations.clone_from(&old.annotations);
            new.owner_references.clone_from(&old.owner_references);
            new.generation = old.generation;
            return;
        }
        self.status.clone_from(&old.status);
        self.metadata.generation = meta::generation_after(&old.metadata, self.spec != old.spec);
        remember_stored_version(self);
    }

    fn validate_create(&self, errors: &mut Errors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let names = &self.spec.names;
        // That there must be one is said already.
        if !name.is_empty() && name != format!("{}.{}", names.plural, self.spec.group) {
            errors.invalid(
                &Path::new("metadata.name"),
                name,
                "must be spec.names.plural+\".\"+spec.group",
            );
        }
        validate_spec(self, None, errors);
        validate_status(self, errors);
        approval::validate(self, None, errors);
        if self.spec.preserve_unknown_fields == Some(true) {
            refuse_unknown(errors);
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            return validate_accepted(self, errors);
        }
        validate_spec(self, Some(old), errors);
        let path = Path::new("spec");
        let (new, old_spec) = (&self.spec, &old.spec);
        if is_established(old) {
            meta::immutable(&new.scope, &old_spec.scope, &path.child("scope"), errors);
            meta::immutable(
                &new.names.kind,
                &old_spec.names.kind,
                &path.child("names.kind"),
                errors,
            );
        }
        meta::immutable(&new.group, &old_spec.group, &path.child("group"), errors);
        meta::immutable(
            &new.names.plural,
            &old_spec.names.plural,
            &path.child("names.plural"),
            errors,
        );
        validate_status(self, errors);
        approval::validate(self, Some(old), errors);
        if new.preserve_unknown_fields == Some(true) && old_spec.preserve_unknown_fields != Some(true) {
            refuse_unknown(errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let unknown = |definition: &Self| {
            let mut found = Vec::new();
            let schemas = definition.spec.versions.iter();
            let schemas = schemas.filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
            schemas.for_each(|schema| formats::unknown(schema, &mut found));
            found
        };
        let before = old.map(unknown).unwrap_or_default();
        let mut found = unknown(self);
        found.retain(|format| !before.contains(format));
        found
            .iter()
            .map(|format| format!("unrecognized format {format:?}"))
            .collect()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            cell::created(&self.metadata).into(),
        ]
    }
}

fn is_established(object: &CustomResourceDefinition) -> bool {
    let conditions = object
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref());
    conditions
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

fn refuse_unknown(errors: &mut Errors) {
    errors.invalid(
        &Path::new("spec.preserveUnknownFields"),
        true,
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
    );
}

fn validate_spec(
    object: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
    errors: &mut Errors,
) {
    let (spec, path) = (&object.spec, Path::new("spec"));
    let at = path.child("group");
    if spec.group.is_empty() {
        errors.required(&at, "");
    } else {
        let wrong = names::dns_subdomain(&spec.group, false);
        if !wrong.is_empty() {
            errors.invalid(&at, &spec.group, wrong.join(","));
        } else if !spec.group.contains('.') {
            errors.invalid(&at, &spec.group, "should be a domain with at least one dot");
        }
    }
    errors.one_of(
        &path.child("scope"),
        Some(&spec.scope),
        &["Cluster", "Namespaced"],
    );
    let has_schema = |version: &CustomResourceDefinitionVersion| {
        let schema = version.schema.as_ref();
        schema.is_some_and(|schema| schema.open_api_v3_schema.is_some())
    };
    // What is stored already may be less strict.
    let all_had_schemas = old.is_none_or(|old| old.spec.versions.iter().all(has_schema));
    versions::validate(spec, all_had_schemas, &path, errors);
    let at = path.child("names");
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    for (field, value) in [
        ("plural", spec.names.plural.clone()),
        ("singular", text(&spec.names.singular)),
        ("kind", spec.names.kind.clone()),
        ("listKind", text(&spec.names.list_kind)),
    ] {
        if value.is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    validate_names(&spec.names, &at, errors);
    versions::validate_shared(spec, &path, errors);
    let before = old.and_then(|old| old.spec.conversion.as_ref());
    conversion::validate(
        spec.conversion.as_ref(),
        before,
        &path.child("conversion"),
        errors,
    );
}

fn validate_accepted(object: &CustomResourceDefinition, errors: &mut Errors) {
    let names = object.status.clone().unwrap_or_default().accepted_names;
    validate_names(
        &names.unwrap_or_default(),
        &Path::new("status.acceptedNames"),
        errors,
    );
}

fn validate_status(object: &CustomResourceDefinition, errors: &mut Errors) {
    validate_accepted(object, errors);
    let path = Path::new("status.storedVersions");
    let stored = object.status.clone().unwrap_or_default().stored_versions;
    let stored = stored.unwrap_or_default();
    let versions = &object.spec.versions;
    if stored.is_empty() {
        return errors.invalid(&path, Value::Null, "must have at least one stored version");
    }
    for version in versions.iter().filter(|version| version.storage) {
        if !stored.contains(&version.name) {
            let detail = format!("must have the storage version {}", version.name);
            errors.invalid(&path, &stored, detail);
        }
    }
    for (index, version) in stored.iter().enumerate() {
        if !versions.iter().any(|found| found.name == *version) {
            errors.invalid(
                &path.index(index),
                version,
                format!(
                    "missing from spec.versions; {version} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {version} and \
                     removes {version} from status.storedVersions"
                ),
            );
        }
    }
}

/// The version that objects are stored in is remembered: some may still be stored in it when another has become that.
fn remember_stored_version(object: &mut CustomResourceDefinition) {
    let Some(version) = object.spec.versions.iter().find(|version| version.storage) else {
        return;
    };
    let status = object.status.get_or_insert_default();
    status.accepted_names.get_or_insert_default();
    let stored = status.stored_versions.get_or_insert_default();
    if !stored.contains(&version.name) {
        stored.push(version.name.clone());
    }
}

fn validate_names(given: &CustomResourceDefinitionNames, path: &Path, errors: &mut Errors) {
    let list_kind = given.list_kind.as_deref().unwrap_or_default();
    for (field, value) in [
        ("plural", given.plural.as_str()),
        ("singular", given.singular.as_deref().unwrap_or_default()),
    ] {
        let wrong = names::dns_1035_label(value, false);
        if !value.is_empty() && !wrong.is_empty() {
            errors.invalid(&path.child(field), value, wrong.join(","));
        }
    }
    for (field, value) in [("kind", given.kind.as_str()), ("listKind", list_kind)] {
        let wrong = names::dns_1035_label(&value.to_lowercase(), false);
        if !value.is_empty() && !wrong.is_empty() {
            errors.invalid(
                &path.child(field),
                value,
                format!(
                    "may have mixed case, but should otherwise match: {}",
                    wrong.join(",")
                ),
            );
        }
    }
    let check_list = |field: &str, list: &Option<Vec<String>>, errors: &mut Errors| {
        for (index, value) in list.iter().flatten().enumerate() {
            let wrong = names::dns_1035_label(value, false);
            if !wrong.is_empty() {
                errors.invalid(&path.child(field).index(index), value, wrong.join(","));
            }
        }
    };
    check_list("shortNames", &given.short_names, errors);
    if !given.kind.is_empty() && given.kind == list_kind {
        errors.invalid(
            &path.child("listKind"),
            list_kind,
            "kind and listKind may not be the same",
        );
    }
    check_list("categories", &given.categories, errors);
}
