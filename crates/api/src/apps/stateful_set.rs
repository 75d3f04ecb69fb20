//! StatefulSet: pods with names and storage of their own, one after the other.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::cell;
use crate::core::persistent_volume_claim;
use crate::core::pod_spec;
use crate::field::{Errors, Internal, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::meta;
use crate::names;
use crate::same::same;
use crate::selector::LabelSelector;
use crate::workload::{self, non_negative};

const RETAIN: &str = "Retain";

impl Kind for StatefulSet {
    fn info() -> KindInfo {
        let [containers, images] = cell::template_columns();
        KindInfo {
            short_names: &["sts"],
            categories: &["all"],
            subresources: &[Subresource::Status, Subresource::Scale],
            columns: vec![
                Column::object_name(),
                Column::new("Ready", "string", "Number of the pod with ready state"),
                Column::age(),
                containers,
                images,
            ],
            ..KindInfo::of::<Self>("statefulset")
        }
    }

    fn default(&mut self) {
        let spec = &mut self.spec;
        if spec
            .pod_management_policy
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        {
            spec.pod_management_policy = Some("OrderedReady".into());
        }
        let strategy = spec.update_strategy.get_or_insert_default();
        // Only who names no type is told how the updates roll.
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            strategy.type_ = Some("RollingUpdate".into());
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_.as_deref() == Some("RollingUpdate")
            && let Some(rolling) = &mut strategy.rolling_update
        {
            rolling.partition.get_or_insert(0);
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        }
        let retention = spec
            .persistent_volume_claim_retention_policy
            .get_or_insert_default();
        for policy in [&mut retention.when_deleted, &mut retention.when_scaled] {
            if policy.as_deref().unwrap_or_default().is_empty() {
                *policy = Some(RETAIN.into());
            }
        }
        spec.service_name.get_or_insert_default();
        if let Some(ordinals) = &mut spec.ordinals {
            ordinals.start.get_or_insert_default();
        }
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            persistent_volume_claim::fill_in(claim);
        }
        pod_spec::default_template(&mut spec.template);
        let status = self.status.get_or_insert_default();
        status.available_replicas.get_or_insert_default();
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

    fn validate_create(&self, errors: &mut Errors) {
        validate_spec(&self.spec, None, errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Subresource(Subresource::Status) {
            return validate_status(self, old, errors);
        }
        // Through `scale`, too, what results must be a valid one.
        validate_spec(&self.spec, Some(&old.spec), errors);
        let mut kept = self.spec.clone();
        kept.replicas = old.spec.replicas;
        kept.ordinals.clone_from(&old.spec.ordinals);
        kept.template.clone_from(&old.spec.template);
        kept.update_strategy.clone_from(&old.spec.update_strategy);
        kept.revision_history_limit = old.spec.revision_history_limit;
        kept.persistent_volume_claim_retention_policy
            .clone_from(&old.spec.persistent_volume_claim_retention_policy);
        kept.min_ready_seconds = old.spec.min_ready_seconds;
        if !same(&kept, &old.spec) {
            errors.forbidden(
                &Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
            );
        }
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let template = Some(&self.spec.template);
        let before = old.map(|old| &old.metadata);
        let mut warnings = workload::template_warnings(template, "spec.template", &self.metadata, before);
        let claims = self.spec.volume_claim_templates.iter().flatten().enumerate();
        for (index, claim) in claims {
            let path = Path::new("spec.volumeClaimTemplates").index(index);
            // Upstream's paths differ between a new set and a changed one.
            let path = if old.is_some() { path.child("Spec") } else { path };
            if let Some(spec) = &claim.spec {
                persistent_volume_claim::warn(spec, &path, &mut warnings);
            }
        }
        if self.spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            warnings
                .push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ready = self.status.as_ref().and_then(|status| status.ready_replicas);
        let (names, images) = cell::template(Some(&self.spec.template));
        vec![
            self.metadata.name.clone().into(),
            format!("{}/{}", ready.unwrap_or(0), self.spec.replicas.unwrap_or(0)).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
        ]
    }
}

fn validate_strategy(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let rolling = path.child("rollingUpdate");
    match (
        strategy.type_.as_deref().unwrap_or_default(),
        &strategy.rolling_update,
    ) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(update)) => {
            errors.invalid(
                &rolling,
                internal(update),
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => validate_rolling(update, &rolling, errors),
        (type_, rolling) => {
            let shown = Internal::fields([
                ("Type", Internal::plain(&type_)),
                (
                    "RollingUpdate",
                    Internal::optional(rolling.as_ref().map(internal)),
                ),
            ]);
            errors.invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn internal(update: &RollingUpdateStatefulSetStrategy) -> Internal {
    Internal::fields([
        ("Partition", Internal::plain(&update.partition.unwrap_or(0))),
        ("MaxUnavailable", Internal::plain(&update.max_unavailable)),
    ])
}

fn validate_rolling(update: &RollingUpdateStatefulSetStrategy, path: &Path, errors: &mut Errors) {
    non_negative(update.partition, &path.child("partition"), errors);
    let Some(unavailable) = &update.max_unavailable else {
        return;
    };
    let path = path.child("maxUnavailable");
    workload::check_count_or_percent(unavailable, &path, errors);
    if workload::amount(unavailable) == 0 {
        errors.invalid(&path, unavailable, "cannot be 0");
    }
    workload::check_not_more_than_all(unavailable, &path, errors);
}

fn validate_spec(spec: &StatefulSetSpec, old: Option<&StatefulSetSpec>, errors: &mut Errors) {
    let path = Path::new("spec");
    match spec.pod_management_policy.as_deref().unwrap_or_default() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        other => errors.invalid(
            &path.child("podManagementPolicy"),
            other,
            "must be 'OrderedReady' or 'Parallel'",
        ),
    }
    validate_strategy(spec, &path.child("updateStrategy"), errors);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for (field, policy) in [
            ("whenDeleted", &policy.when_deleted),
            ("whenScaled", &policy.when_scaled),
        ] {
            let policy = policy.as_deref().unwrap_or_default();
            if !matches!(policy, RETAIN | "Delete") {
                errors.not_supported(&path.child(field), policy, &[RETAIN, "Delete"]);
            }
        }
    }
    // What cannot be changed is not asked again.
    let claims = spec.volume_claim_templates.iter().flatten().enumerate();
    for (index, claim) in claims.filter(|_| old.is_none()) {
        let path = path.child("volumeClaimTemplates").index(index).child("spec");
        let spec = claim.spec.clone().unwrap_or_default();
        persistent_volume_claim::validate_spec(&spec, &path, errors);
    }
    non_negative(spec.replicas, &path.child("replicas"), errors);
    non_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    if let Some(ordinals) = &spec.ordinals {
        non_negative(ordinals.start, &path.child("ordinals.start"), errors);
    }
    workload::validate_selector(
        &spec.selector,
        "empty selector is invalid for statefulset",
        &path.child("selector"),
        errors,
    );
    let was_wrong = old.is_some_and(|old| {
        let mut before = Errors::new();
        validate_pods(old, &Path::default(), &mut before);
        !before.is_empty()
    });
    validate_template(spec, was_wrong, &path, errors);
    let service = spec.service_name.as_deref().unwrap_or_default();
    if old.is_none() && !service.is_empty() {
        let wrong = names::dns_label(service, false);
        errors.invalid_each(&path.child("serviceName"), service, wrong);
    }
}

/// Checks the template; of one that was wrong before only what has always been checked.
fn validate_template(spec: &StatefulSetSpec, was_wrong: bool, path: &Path, errors: &mut Errors) {
    let (template, path) = (&spec.template, path.child("template"));
    let metadata = template.metadata.clone().unwrap_or_default();
    match LabelSelector::of((spec.selector != Default::default()).then_some(&spec.selector)) {
        Err(_) => errors.invalid(&Path::new("spec.selector"), &spec.selector, ""),
        Ok(selector) => {
            if !selector.is_everything() && !selector.matches(&metadata.labels) {
                errors.invalid(
                    &path.child("metadata").child("labels"),
                    &metadata.labels,
                    "`selector` does not match template `labels`",
                );
            }
            if was_wrong {
                let labels = metadata.labels.as_ref();
                meta::validate_labels(labels, &path.child("labels"), errors);
                let annotations = metadata.annotations.as_ref();
                meta::validate_annotations(annotations, &path.child("annotations"), errors);
            } else {
                validate_pods(spec, &path, errors);
            }
        }
    }
    workload::check_runs_for_ever(template, "StatefulSet", &path, errors);
}

/// Checks the pods as they will be made: with the volumes of the claims in place of those of the same names, and with
/// names of hosts of their own.
fn validate_pods(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let mut template = spec.template.clone();
    let pod = template.spec.get_or_insert_default();
    pod.hostname = None;
    pod.subdomain = None;
    for claim in spec.volume_claim_templates.iter().flatten() {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let volume = Volume {
            name: name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: Some(false),
            }),
            ..Volume::default()
        };
        let volumes = pod.volumes.get_or_insert_default();
        match volumes.iter_mut().find(|volume| volume.name == name) {
            Some(place) => *place = volume,
            None => volumes.push(volume),
        }
    }
    pod_spec::validate_template(&template, path, errors);
}

fn validate_status(new: &StatefulSet, old: &StatefulSet, errors: &mut Errors) {
    let status = new.status.clone().unwrap_or_default();
    let counts = workload::Counts {
        all: status.replicas,
        ready: status.ready_replicas,
        available: status.available_replicas,
        parts: &[
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
        ],
        others: &[
            ("observedGeneration", status.observed_generation),
            ("collisionCount", status.collision_count.map(i64::from)),
        ],
        ready_name: "status.readyReplicas",
    };
    workload::check_counts(&counts, errors);
    workload::check_collisions(
        status.collision_count,
        old.status.as_ref().and_then(|status| status.collision_count),
        errors,
    );
}
