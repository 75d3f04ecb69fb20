//! CustomResourceDefinition: a kind that users bring.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
};
use serde_json::Value;

use super::versions;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target};
use crate::webhook::{self, Client, Service};
use crate::{meta, names};

impl Kind for CustomResourceDefinition {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            subresources: &[Subresource::Status],
            store_prefix: "apiextensions.k8s.io/customresourcedefinitions".into(),
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Created At",
                    "date",
                    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
                ),
            ],
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
            return;
        }
        self.status.clone_from(&old.status);
        self.metadata.generation = meta::generation_after(&old.metadata, self.spec != old.spec);
        remember_stored_version(self);
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name != format!("{}.{}", spec.names.plural, spec.group) {
            errors.invalid(
                &Path::new("metadata.name"),
                name,
                "must be spec.names.plural+\".\"+spec.group",
            );
        }
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
        match spec.scope.as_str() {
            "" => errors.required(&path.child("scope"), ""),
            "Cluster" | "Namespaced" => {}
            other => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"]),
        }
        if spec.preserve_unknown_fields == Some(true) {
            errors.invalid(
                &path.child("preserveUnknownFields"),
                true,
                "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            );
        }
        versions::validate(spec, &path, errors);
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
        validate_conversion(spec.conversion.as_ref(), &path.child("conversion"), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            let names = self.status.clone().unwrap_or_default().accepted_names;
            return validate_names(
                &names.unwrap_or_default(),
                &Path::new("status.acceptedNames"),
                errors,
            );
        }
        let path = Path::new("spec");
        let (new, old_spec) = (&self.spec, &old.spec);
        let conditions = old.status.iter().filter_map(|status| status.conditions.as_ref());
        let established = conditions
            .flatten()
            .any(|condition| condition.type_ == "Established" && condition.status == "True");
        if established {
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
        let stored = self.status.clone().unwrap_or_default().stored_versions;
        for (index, version) in stored.iter().flatten().enumerate() {
            if !new.versions.iter().any(|found| found.name == *version) {
                errors.invalid(
                    &Path::new("status.storedVersions").index(index),
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

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let created = self.metadata.creation_timestamp.as_ref();
        vec![
            self.metadata.name.clone().into(),
            created
                .map_or(cell::UNKNOWN.into(), |created| created.0.to_string())
                .into(),
        ]
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

fn validate_conversion(conversion: Option<&CustomResourceConversion>, path: &Path, errors: &mut Errors) {
    let Some(conversion) = conversion else { return };
    match (conversion.strategy.as_str(), &conversion.webhook) {
        ("None", None) => {}
        ("None", Some(_)) => errors.forbidden(
            &path.child("webhookClientConfig"),
            "should not be set when strategy is not set to Webhook",
        ),
        ("Webhook", webhook) => {
            let config = webhook
                .as_ref()
                .and_then(|webhook| webhook.client_config.as_ref());
            match config {
                None => errors.required(
                    &path.child("webhookClientConfig"),
                    "required when strategy is set to Webhook",
                ),
                Some(config) => {
                    let client = Client {
                        url: config.url.as_deref(),
                        service: config.service.as_ref().map(|service| Service {
                            name: &service.name,
                            namespace: &service.namespace,
                            path: service.path.as_deref(),
                            port: service.port.unwrap_or(0),
                        }),
                    };
                    webhook::validate(&client, &path.child("webhookClientConfig"), errors);
                }
            }
        }
        ("", _) => errors.required(&path.child("strategy"), ""),
        (other, _) => errors.not_supported(&path.child("strategy"), other, &["None", "Webhook"]),
    }
}
