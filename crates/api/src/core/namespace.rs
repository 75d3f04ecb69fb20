//! Namespace: where names of objects are unique.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::names;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that holds a namespace until its contents are gone.
const KUBERNETES: &str = "kubernetes";

fn label(namespace: &mut Namespace) {
    if let Some(name) = namespace.metadata.name.clone().filter(|name| !name.is_empty()) {
        let labels = namespace.metadata.labels.get_or_insert_default();
        labels.insert(NAME_LABEL.into(), name);
    }
}

/// Checks what holds the namespace; each is reported at its place or, when the namespace is made, at the list's.
fn validate_finalizers(namespace: &Namespace, at: impl Fn(&Path, usize) -> Path, errors: &mut Errors) {
    let path = Path::new("spec.finalizers");
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    for (index, finalizer) in finalizers.into_iter().flatten().enumerate() {
        let path = at(&path, index);
        errors.invalid_each(&path, finalizer, names::qualified_name(finalizer));
        let standard = matches!(finalizer.as_str(), KUBERNETES | "orphan" | "foregroundDeletion");
        if !finalizer.contains('/') && !standard {
            errors.invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

impl Kind for Namespace {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["ns"],
            scope: Scope::Cluster,
            subresources: &[Subresource::Status, Subresource::Finalize],
            // A collection of namespaces cannot be deleted in one request.
            verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
            columns: vec![
                Column::object_name(),
                Column::new("Status", "string", "The status of the namespace"),
                Column::age(),
            ],
            selectable_fields: &["status.phase", "name"],
            ..KindInfo::of::<Self>("namespace")
        }
    }

    fn default(&mut self) {
        label(self);
        self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        if status.phase.as_deref().unwrap_or_default().is_empty() {
            status.phase = Some("Active".into());
        }
    }

    fn prepare_for_create(&mut self) {
        label(self);
        self.status = Some(Default::default());
        Kind::default(self);
        let finalizers = self
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == KUBERNETES) {
            finalizers.push(KUBERNETES.into());
        }
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        label(self);
        match target {
            Target::Subresource(Subresource::Status) => self.spec.clone_from(&old.spec),
            Target::Subresource(_) => self.status.clone_from(&old.status),
            Target::Main => {
                self.spec.clone_from(&old.spec);
                self.status.clone_from(&old.status);
            }
        }
    }

    fn begin_deletion(&mut self) {
        self.status.get_or_insert_default().phase = Some("Terminating".into());
        // Upstream deletes namespaces in a way of their own, which has no grace period.
        self.metadata.deletion_grace_period_seconds = None;
    }

    fn is_held(&self) -> bool {
        let finalizers = self.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        finalizers.is_some_and(|finalizers| !finalizers.is_empty())
    }

    fn validate(&self, errors: &mut Errors) {
        validate_finalizers(self, |path, _| path.clone(), errors);
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        match target {
            Target::Main => {}
            Target::Subresource(Subresource::Finalize) => validate_finalizers(self, Path::index, errors),
            Target::Subresource(_) => {
                let path = Path::new("status.Phase");
                let phase = self
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref())
                    .unwrap_or_default();
                if self.metadata.deletion_timestamp.is_none() {
                    if phase != "Active" {
                        errors.invalid(
                            &path,
                            phase,
                            "may only be 'Active' if `deletionTimestamp` is empty",
                        );
                    }
                } else if phase != "Terminating" {
                    errors.invalid(
                        &path,
                        phase,
                        "may only be 'Terminating' if `deletionTimestamp` is not empty",
                    );
                }
            }
        }
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.field("status.phase").into(),
            age(&self.metadata, now),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "status.phase" => self.status.as_ref().and_then(|status| status.phase.clone()),
            "name" => self.metadata.name.clone(),
            _ => None,
        }
        .unwrap_or_default()
    }
}
