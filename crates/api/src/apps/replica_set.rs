//! ReplicaSet: so many pods of one template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;

use crate::cell;
use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::meta;
use crate::workload::{self, non_negative};

impl Kind for ReplicaSet {
    fn info() -> KindInfo {
        let mut columns = vec![
            Column::object_name(),
            Column::of("Desired", "integer", "apps.v1.ReplicaSetSpec", "replicas"),
            Column::of("Current", "integer", "apps.v1.ReplicaSetStatus", "replicas"),
            Column::of("Ready", "integer", "apps.v1.ReplicaSetStatus", "readyReplicas"),
            Column::age(),
        ];
        columns.extend(cell::selected_template_columns("apps.v1.ReplicaSetSpec"));
        KindInfo {
            short_names: &["rs"],
            categories: &["all"],
            subresources: &[Subresource::Status, Subresource::Scale],
            columns,
            selectable_fields: &["status.replicas"],
            ..KindInfo::of::<Self>("replicaset")
        }
    }

    fn default(&mut self) {
        self.spec.replicas.get_or_insert(1);
        pod_spec::default_template(self.spec.template.get_or_insert_default());
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
        let (spec, path) = (&self.spec, Path::new("spec"));
        non_negative(spec.replicas, &path.child("replicas"), errors);
        non_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
        workload::validate_selector(
            &spec.selector,
            "empty selector is invalid for deployment",
            &path.child("selector"),
            errors,
        );
        workload::validate_template(
            spec.template.as_ref(),
            &spec.selector,
            &path.child("template"),
            errors,
        );
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Subresource(Subresource::Status) {
            // Through `scale`, too, what results must be a valid one.
            if target != Target::Main {
                self.validate(errors);
            }
            return meta::immutable(
                &self.spec.selector,
                &old.spec.selector,
                &Path::new("spec.selector"),
                errors,
            );
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
            others: &[
                ("terminatingReplicas", status.terminating_replicas.map(i64::from)),
                ("observedGeneration", status.observed_generation),
            ],
            ready_name: "readyReplicas",
        };
        workload::check_counts(&counts, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        workload::warnings(
            &self.metadata,
            self.spec.template.as_ref(),
            old.map(|old| &old.metadata),
        )
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let spec = self
            .spec
            .template
            .as_ref()
            .and_then(|template| template.spec.as_ref());
        let (names, images) =
            cell::containers(spec.map(|spec| spec.containers.as_slice()).unwrap_or_default());
        vec![
            self.metadata.name.clone().into(),
            self.spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            cell::selector(&self.spec.selector).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "status.replicas" => self
                .status
                .as_ref()
                .map_or(0, |status| status.replicas)
                .to_string(),
            _ => String::new(),
        }
    }
}
