//! ReplicationController: so many pods of one template, as it was before replica sets.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::Value;

use super::pod_spec;
use crate::cell;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Column, Dependents, Kind, KindInfo, Subresource, Target, age};
use crate::selector::LabelSelector;
use crate::workload::{self, non_negative};

impl Kind for ReplicationController {
    fn info() -> KindInfo {
        let mut columns = vec![
            Column::object_name(),
            Column::of(
                "Desired",
                "integer",
                "core.v1.ReplicationControllerSpec",
                "replicas",
            ),
            Column::of(
                "Current",
                "integer",
                "core.v1.ReplicationControllerStatus",
                "replicas",
            ),
            Column::of(
                "Ready",
                "integer",
                "core.v1.ReplicationControllerStatus",
                "readyReplicas",
            ),
            Column::age(),
        ];
        columns.extend(cell::selected_template_columns(
            "core.v1.ReplicationControllerSpec",
        ));
        KindInfo {
            short_names: &["rc"],
            categories: &["all"],
            subresources: &[Subresource::Status, Subresource::Scale],
            columns,
            selectable_fields: &["status.replicas"],
            store_prefix: "controllers".into(),
            dependents: Dependents::Orphaned(""),
            ..KindInfo::of::<Self>("replicationcontroller")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let labels = spec
            .template
            .as_ref()
            .and_then(|template| template.metadata.as_ref())
            .and_then(|metadata| metadata.labels.clone())
            .filter(|labels| !labels.is_empty());
        if labels.is_some() {
            if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
                spec.selector.clone_from(&labels);
            }
            if self.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
                self.metadata.labels = labels;
            }
        }
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            pod_spec::default_template(template);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = self.spec.clone().unwrap_or_default();
        non_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
        let selector = spec.selector.unwrap_or_default();
        if selector.is_empty() {
            errors.required(&path.child("selector"), "");
        }
        non_negative(spec.replicas, &path.child("replicas"), errors);
        let at = path.child("template");
        let Some(template) = &spec.template else {
            return errors.required(&at, "");
        };
        let labels = template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref());
        if !selector.is_empty() && !LabelSelector::of_map(&selector).matches(&labels) {
            errors.invalid(
                &at.child("metadata.labels"),
                labels,
                "`selector` does not match template `labels`",
            );
        }
        pod_spec::validate_template(template, &at, errors);
        workload::check_runs_for_ever(template, "ReplicationController", &at, errors);
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        match target {
            Target::Main => return,
            Target::Subresource(Subresource::Status) => {}
            Target::Subresource(_) => return self.validate(errors),
        }
        let status = self.status.clone().unwrap_or_default();
        let counts = workload::Counts {
            all: status.replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            parts: &[
                ("fullyLabeledReplicas", status.fully_labeled_replicas),
                ("readyReplicas", status.ready_replicas),
                ("availableReplicas", status.available_replicas),
            ],
            others: &[("observedGeneration", status.observed_generation)],
            ready_name: "readyReplicas",
        };
        workload::check_counts(&counts, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        // Upstream looks at the template that was, when there was one.
        let spec = old.unwrap_or(self).spec.as_ref();
        let template = spec.and_then(|spec| spec.template.as_ref());
        workload::warnings(&self.metadata, template, old.map(|old| &old.metadata))
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = cell::template(spec.template.as_ref());
        vec![
            self.metadata.name.clone().into(),
            spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            cell::labels(spec.selector.as_ref()).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "status.replicas" => {
                let replicas = self.status.as_ref().map_or(0, |status| status.replicas);
                replicas.to_string()
            }
            _ => String::new(),
        }
    }
}
