//! StorageClass: how volumes for claims are made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta;
use crate::names;

const MAX_PARAMETERS: usize = 512;
/// Bytes of all parameters, keys and values.
const MAX_SIZE: usize = 256 << 10;
/// The annotations that mark the class of claims that name none.
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Whether claims that name no class get this one.
pub fn is_default(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &&str| annotations.and_then(|all| all.get(*key));
    DEFAULT_CLASS
        .iter()
        .filter_map(value)
        .any(|value| value == "true")
}

impl Kind for StorageClass {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["sc"],
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::of("Provisioner", "string", "storage.v1.StorageClass", "provisioner"),
                Column::of(
                    "ReclaimPolicy",
                    "string",
                    "storage.v1.StorageClass",
                    "reclaimPolicy",
                ),
                Column::of(
                    "VolumeBindingMode",
                    "string",
                    "storage.v1.StorageClass",
                    "volumeBindingMode",
                ),
                Column::of(
                    "AllowVolumeExpansion",
                    "string",
                    "storage.v1.StorageClass",
                    "allowVolumeExpansion",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("storageclass")
        }
    }

    fn default(&mut self) {
        self.reclaim_policy.get_or_insert_with(|| "Delete".into());
        self.volume_binding_mode.get_or_insert_with(|| "Immediate".into());
    }

    fn validate(&self, errors: &mut Errors) {
        validate_provisioner(&self.provisioner, &Path::new("provisioner"), errors);
        validate_parameters(self.parameters.as_ref(), true, &Path::new("parameters"), errors);
        let policy = self.reclaim_policy.as_deref().unwrap_or_default();
        if !matches!(policy, "" | "Delete" | "Retain") {
            errors.not_supported(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        let modes = ["Immediate", "WaitForFirstConsumer"];
        match self.volume_binding_mode.as_deref() {
            None => errors.required(&Path::new("volumeBindingMode"), ""),
            Some(mode) if modes.contains(&mode) => {}
            Some(mode) => errors.not_supported(&Path::new("volumeBindingMode"), mode, &modes),
        }
        let topologies = self.allowed_topologies.as_deref().unwrap_or_default();
        validate_topologies(topologies, &Path::new("allowedTopologies"), errors);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        let parameters = |class: &Self| class.parameters.clone().unwrap_or_default();
        if parameters(self) != parameters(old) {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        if self.provisioner != old.provisioner {
            errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
        }
        if self.reclaim_policy != old.reclaim_policy {
            errors.forbidden(
                &Path::new("reclaimPolicy"),
                "updates to reclaimPolicy are forbidden.",
            );
        }
        meta::immutable(
            &self.volume_binding_mode,
            &old.volume_binding_mode,
            &Path::new("volumeBindingMode"),
            errors,
        );
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, term) in self.allowed_topologies.iter().flatten().enumerate() {
            let path = Path::new("allowedTopologies").index(index);
            for (index, expression) in term.match_label_expressions.iter().flatten().enumerate() {
                if let Some(message) = pod_spec::renamed(&expression.key) {
                    let at = path.child("matchLabelExpressions").index(index).child("key");
                    warnings.push(format!("{at}: {message}"));
                }
            }
        }
        warnings
    }

    /// Of several that claim to be the default, the one that claims get is marked: the youngest, or the first by name.
    fn list_rows(
        objects: &mut dyn Iterator<Item = Self>,
        now: Timestamp,
    ) -> Option<Vec<(usize, Vec<Value>)>> {
        let all: Vec<Self> = objects.collect();
        let default = all
            .iter()
            .filter(|class| is_default(class.metadata.annotations.as_ref()))
            .min_by_key(|class| {
                let created = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (std::cmp::Reverse(created), class.metadata.name.clone())
            });
        let row = |class: &Self| {
            let mut cells = class.cells(now);
            if default.is_some_and(|default| default.metadata.name == class.metadata.name)
                && let Some(name) = cells.first_mut()
            {
                *name = format!("{} (default)", class.metadata.name.as_deref().unwrap_or_default()).into();
            }
            cells
        };
        Some(all.iter().map(row).enumerate().collect())
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let text =
            |value: &Option<String>, otherwise: &str| value.clone().unwrap_or_else(|| otherwise.into());
        vec![
            self.metadata.name.clone().into(),
            self.provisioner.clone().into(),
            text(&self.reclaim_policy, "Delete").into(),
            text(&self.volume_binding_mode, "Immediate").into(),
            self.allow_volume_expansion.unwrap_or(false).into(),
            age(&self.metadata, now),
        ]
    }
}

/// Checks the name of who makes volumes. It is looked at, and shown, in small letters.
pub(super) fn validate_provisioner(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let name = name.to_lowercase();
    errors.invalid_each(path, &name, names::qualified_name(&name));
}

/// Checks the parameters of a class.
pub(super) fn validate_parameters(
    parameters: Option<&BTreeMap<String, String>>,
    may_be_empty: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let empty = BTreeMap::new();
    let parameters = parameters.unwrap_or(&empty);
    if parameters.len() > MAX_PARAMETERS {
        return errors.too_long(path, MAX_PARAMETERS);
    }
    let mut size = 0;
    for (key, value) in parameters {
        if key.is_empty() {
            errors.invalid(path, key, "field can not be empty.");
        }
        size += key.len() + value.len();
    }
    if size > MAX_SIZE {
        errors.too_long(path, MAX_SIZE);
    }
    if !may_be_empty && parameters.is_empty() {
        errors.required(path, "must contain at least one key/value pair");
    }
}

/// What a term selects: the values of each key.
type Selected<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn validate_topologies(terms: &[TopologySelectorTerm], path: &Path, errors: &mut Errors) {
    // Upstream compares with as many empty terms besides: one that selects nothing repeats each of them.
    let mut earlier: Vec<Selected<'_>> = vec![Selected::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let at = path.index(index).child("matchLabelExpressions");
        let selected = validate_topology(term, &at, errors);
        for _ in earlier.iter().filter(|other| **other == selected) {
            errors.duplicate(&at, "");
        }
        earlier.push(selected);
    }
}

fn validate_topology<'a>(term: &'a TopologySelectorTerm, path: &Path, errors: &mut Errors) -> Selected<'a> {
    let mut selected = Selected::new();
    let expressions = term.match_label_expressions.iter().flatten().enumerate();
    for (index, expression) in expressions {
        let path = path.index(index);
        if expression.values.is_empty() {
            errors.required(&path.child("values"), "");
        }
        let mut values = BTreeSet::new();
        for (index, value) in expression.values.iter().enumerate() {
            if !values.insert(value.as_str()) {
                errors.duplicate(&path.child("values").index(index), value);
            }
        }
        meta::validate_label_name(&expression.key, &path.child("key"), errors);
        if selected.insert(expression.key.as_str(), values).is_some() {
            errors.duplicate(&path.child("key"), &expression.key);
        }
    }
    selected
}
