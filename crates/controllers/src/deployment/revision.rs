//! A deployment's replica sets by template and revision, and the annotations that record them
//! (`deployment_util.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::names;

/// The label that tells the pods of one template from another's.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// The annotation that numbers a deployment's templates.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a template had before it was rolled back to.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's size when the replica set was last scaled.
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods that the deployment could have when the replica set was last scaled.
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a deployment that are not its replica sets'.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// The history annotation is cut at the front beyond this length.
const MAX_HISTORY: usize = 2000;

/// The hash of a pod template: FNV-1a over its JSON, whose keys are sorted, and over the number of collisions so far.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // Through a `Value`, whose maps are sorted: the same whatever the order of fields in the type.
    let canonical = serde_json::to_value(template).unwrap_or_default().to_string();
    let mut hash = fnv1a(FNV_OFFSET, canonical.as_bytes());
    if let Some(collisions) = collisions {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    names::safe_encode(&hash.to_string())
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

fn fnv1a(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Whether two templates are the same but for the hash label.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let normal = |template: &PodTemplateSpec| {
        let mut meta = template.metadata.clone().unwrap_or_default();
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels.take_if(|labels| labels.is_empty());
        meta.annotations.take_if(|annotations| annotations.is_empty());
        meta.creation_timestamp = None;
        meta
    };
    a.spec == b.spec && normal(a) == normal(b)
}

/// The order of two replica sets by creation, then by name.
pub(super) fn by_creation(a: &ObjectMeta, b: &ObjectMeta) -> std::cmp::Ordering {
    let time = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|time| time.0);
    time(a).cmp(&time(b)).then_with(|| a.name.cmp(&b.name))
}

/// The number in an annotation.
fn number(meta: &ObjectMeta, annotation: &str) -> Option<i64> {
    meta.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// A replica set's revision; 0 if it has none.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    number(&set.metadata, REVISION).unwrap_or(0)
}

/// The deployment's size when the replica set was last scaled.
pub(super) fn desired_replicas(set: &ReplicaSet) -> Option<i32> {
    number(&set.metadata, DESIRED_REPLICAS).and_then(|n| i32::try_from(n).ok())
}

/// The most pods that the deployment could have when the replica set was last scaled.
pub(super) fn max_replicas(set: &ReplicaSet) -> Option<i32> {
    number(&set.metadata, MAX_REPLICAS).and_then(|n| i32::try_from(n).ok())
}

/// Records the deployment's size in a replica set's annotations.
pub(super) fn set_sizes(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.to_string(), desired.to_string());
    annotations.insert(MAX_REPLICAS.to_string(), max.to_string());
}

/// Brings the annotations of the deployment's new replica set up to date: the deployment's own, and the revision,
/// which only grows; what it was before goes into the history.
pub(super) fn set_annotations(set: &mut ReplicaSet, deployment: &Deployment, new_revision: i64) {
    let empty = BTreeMap::new();
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.as_ref().unwrap_or(&empty) {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_revision = match old.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            // Not ours to repair.
            Err(_) => return,
        },
    };
    if old_revision >= new_revision {
        return;
    }
    annotations.insert(REVISION.to_string(), new_revision.to_string());
    if let Some(old) = old {
        let history = annotations
            .get(REVISION_HISTORY)
            .map(String::as_str)
            .unwrap_or_default();
        let history = add_to_history(history, &old);
        annotations.insert(REVISION_HISTORY.to_string(), history);
    }
}

fn add_to_history(history: &str, revision: &str) -> String {
    if history.is_empty() {
        return revision.to_string();
    }
    let mut rest = history;
    while rest.len() + 1 + revision.len() > MAX_HISTORY {
        match rest.split_once(',') {
            Some((_, later)) => rest = later,
            None => return revision.to_string(),
        }
    }
    format!("{rest},{revision}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    fn template(image: &str) -> PodTemplateSpec {
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some([("app".to_string(), "web".to_string())].into()),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                containers: vec![Container {
                    name: "c".into(),
                    image: Some(image.into()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
        }
    }

    #[test]
    fn fnv1a_is_the_published_one() {
        assert_eq!(fnv1a(FNV_OFFSET, b""), 0x811c_9dc5);
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn the_hash_is_of_template_and_collisions() {
        let hash = template_hash(&template("a"), None);
        assert_eq!(hash, template_hash(&template("a"), None));
        assert_ne!(hash, template_hash(&template("b"), None));
        assert_ne!(hash, template_hash(&template("a"), Some(1)));
        assert_ne!(
            template_hash(&template("a"), Some(2)),
            template_hash(&template("a"), Some(1))
        );
        assert!(names::label_value(&hash).is_empty() && hash.len() <= 10, "{hash}");
    }

    #[test]
    fn templates_are_compared_without_the_hash_label() {
        let mut hashed = template("a");
        let labels = hashed.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), "x".into());
        assert!(same_template(&template("a"), &hashed));
        assert!(!same_template(&template("b"), &hashed));
        let mut annotated = template("a");
        annotated.metadata.as_mut().unwrap().annotations = Some(BTreeMap::new());
        assert!(same_template(&template("a"), &annotated));
        annotated.metadata.as_mut().unwrap().annotations = Some([("k".to_string(), "v".to_string())].into());
        assert!(!same_template(&template("a"), &annotated));
    }

    #[test]
    fn a_template_that_comes_back_gets_a_new_revision_and_keeps_its_history() {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations = Some(
            [("team", "blue"), (REVISION, "7"), (NOT_COPIED[0], "{}")]
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .into(),
        );
        let mut set = ReplicaSet::default();
        let annotation = |set: &ReplicaSet, key: &str| set.metadata.annotations.as_ref()?.get(key).cloned();
        set_annotations(&mut set, &deployment, 1);
        assert_eq!(annotation(&set, REVISION).as_deref(), Some("1"));
        assert_eq!(annotation(&set, REVISION_HISTORY), None);
        assert_eq!(annotation(&set, "team").as_deref(), Some("blue"));
        assert_eq!(annotation(&set, NOT_COPIED[0]), None);
        for (revision, history) in [(3, Some("1")), (3, Some("1")), (2, Some("1")), (5, Some("1,3"))] {
            set_annotations(&mut set, &deployment, revision);
            assert_eq!(annotation(&set, REVISION_HISTORY).as_deref(), history);
        }
        assert_eq!(revision(&set), 5);
    }

    #[test]
    fn the_history_is_cut_at_the_front() {
        let long = (0..700).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let cut = add_to_history(&long, "700");
        assert!(cut.len() <= MAX_HISTORY && cut.ends_with(",699,700") && !cut.starts_with(','));
        assert_eq!(add_to_history(&"9".repeat(3000), "1"), "1");
    }
}
