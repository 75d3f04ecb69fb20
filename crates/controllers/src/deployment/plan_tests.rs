//! Tables of single steps, and whole rollouts played out against a model of the ReplicaSet controller.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::plan::{Plan, plan};
use super::{sizes, status};
use crate::replica_set::replicas as set_replicas;

fn start() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some([("app".to_string(), "web".to_string())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![Container {
                image: Some(image.into()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
    }
}

fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("d".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: DeploymentSpec {
            replicas: Some(replicas),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(2),
            selector: LabelSelector {
                match_labels: Some([("app".to_string(), "web".to_string())].into()),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            template: template("v1"),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

/// A cluster that carries plans out as the API server and the ReplicaSet controller would.
struct Cluster {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    now: Timestamp,
    events: Vec<String>,
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: BTreeMap::new(),
            now: start(),
            events: Vec::new(),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Deployment)) {
        change(&mut self.deployment);
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn pass(&mut self) -> Plan {
        self.now += SignedDuration::from_secs(1);
        let sets: Vec<_> = self.sets.values().cloned().map(Arc::new).collect();
        let with_pods: HashSet<String> = sets
            .iter()
            .filter(|set| status::actual_replicas(set) > 0)
            .filter_map(|set| set.metadata.uid.clone())
            .collect();
        let plan = plan(&self.deployment, &sets, &with_pods, self.now);
        for change in plan.create.iter().chain(&plan.update) {
            let mut set = change.set.clone();
            let name = set.metadata.name.clone().unwrap();
            set.metadata.creation_timestamp.get_or_insert(Time(self.now));
            set.metadata.uid.get_or_insert(name.clone());
            *set.metadata.generation.get_or_insert(0) += 1;
            self.events.extend(change.events.clone());
            self.sets.insert(name, set);
        }
        for set in &plan.delete {
            self.sets.remove(set.metadata.name.as_ref().unwrap());
        }
        if let Some(revision) = &plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(super::revision::REVISION.into(), revision.clone());
        }
        if let Some(status) = &plan.status {
            self.deployment.status = Some(status.clone());
        }
        plan
    }

    /// Pods follow `spec.replicas` at once; up to `ready` more of each set become available.
    fn pods_follow(&mut self, ready: i32) {
        for set in self.sets.values_mut() {
            let size = set_replicas(set);
            let generation = set.metadata.generation;
            let status = set.status.get_or_insert_default();
            status.replicas = size;
            let available = status
                .available_replicas
                .unwrap_or(0)
                .saturating_add(ready)
                .clamp(0, size);
            status.available_replicas = Some(available);
            status.ready_replicas = Some(available);
            status.observed_generation = generation;
            status.terminating_replicas = Some(0);
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let plan = self.pass();
            let idle = plan.create.is_none()
                && plan.update.is_empty()
                && plan.delete.is_empty()
                && plan.status.is_none()
                && plan.revision.is_none();
            let before = self.sets.clone();
            self.pods_follow(i32::MAX);
            if idle && before == self.sets {
                return;
            }
        }
        panic!("the deployment does not settle");
    }

    fn size_of(&self, image: &str) -> i32 {
        let of_image = self.sets.values().filter(|set| {
            let spec = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap();
            spec.containers[0].image.as_deref() == Some(image)
        });
        of_image.map(set_replicas).sum()
    }

    fn condition(&self, type_: &str) -> (String, String, String) {
        let condition = status::condition(self.deployment.status.as_ref().unwrap(), type_)
            .unwrap()
            .clone();
        (
            condition.status.unwrap(),
            condition.reason.unwrap(),
            condition.message.unwrap(),
        )
    }

    fn revision(&self) -> &str {
        self.deployment.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"].as_str()
    }
}

fn three(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.into(), reason.into(), message.into())
}

#[test]
fn a_new_deployment_makes_its_replica_set_and_says_so() {
    let mut cluster = Cluster::new(deployment(3, 1, 0));
    let plan = cluster.pass();
    let set = plan.create.unwrap().set;
    let name = set.metadata.name.clone().unwrap();
    let hash = name.strip_prefix("web-").unwrap();
    assert_eq!(set.metadata.labels.as_ref().unwrap()["pod-template-hash"], hash);
    assert_eq!(
        set.spec.selector.match_labels.as_ref().unwrap()["pod-template-hash"],
        hash
    );
    let annotations = set.metadata.annotations.unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    assert_eq!(
        cluster.events,
        [format!("Scaled up replica set {name} from 0 to 3")]
    );
    let created = format!("Created new replica set \"{name}\"");
    assert_eq!(
        cluster.condition("Progressing"),
        three("True", "NewReplicaSetCreated", &created)
    );
    assert_eq!(
        cluster.condition("Available"),
        three(
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability."
        )
    );
    cluster.pods_follow(0);
    cluster.pass();
    let progressing = format!("ReplicaSet \"{name}\" is progressing.");
    assert_eq!(
        cluster.condition("Progressing"),
        three("True", "ReplicaSetUpdated", &progressing)
    );
    cluster.settle();
    let done = format!("ReplicaSet \"{name}\" has successfully progressed.");
    assert_eq!(
        cluster.condition("Progressing"),
        three("True", "NewReplicaSetAvailable", &done)
    );
    assert_eq!(
        cluster.condition("Available"),
        three(
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability."
        )
    );
    let status = cluster.deployment.status.clone().unwrap();
    assert_eq!(status.replicas, Some(3));
    assert_eq!(status.updated_replicas, Some(3));
    assert_eq!(status.unavailable_replicas, None);
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(cluster.revision(), "1");
}

#[test]
fn going_back_to_a_template_gives_it_the_next_revision() {
    let mut cluster = Cluster::new(deployment(2, 1, 1));
    cluster.settle();
    cluster.change(|deployment| deployment.spec.template = template("v2"));
    cluster.settle();
    assert_eq!(
        (cluster.size_of("v1"), cluster.size_of("v2"), cluster.revision()),
        (0, 2, "2")
    );
    cluster.change(|deployment| deployment.spec.template = template("v1"));
    cluster.settle();
    assert_eq!(
        (cluster.size_of("v1"), cluster.size_of("v2"), cluster.revision()),
        (2, 0, "3")
    );
    assert_eq!(cluster.sets.len(), 2);
}

#[test]
fn the_history_is_limited() {
    let mut cluster = Cluster::new(deployment(1, 1, 0));
    for version in 1..=6 {
        cluster.change(|deployment| deployment.spec.template = template(&format!("v{version}")));
        cluster.settle();
    }
    let left: Vec<i32> = (1..=6)
        .filter(|v| {
            cluster.sets.values().any(|set| {
                let spec = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap();
                spec.containers[0].image == Some(format!("v{v}"))
            })
        })
        .collect();
    assert_eq!(left, [4, 5, 6]);
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let mut cluster = Cluster::new(deployment(3, 1, 0));
    cluster.deployment.spec.strategy = Some(DeploymentStrategy {
        type_: Some("Recreate".into()),
        rolling_update: None,
    });
    cluster.settle();
    cluster.change(|deployment| deployment.spec.template = template("v2"));
    cluster.pass();
    assert_eq!((cluster.size_of("v1"), cluster.size_of("v2")), (0, 0));
    cluster.pass();
    assert_eq!(cluster.sets.len(), 1, "old pods still run");
    cluster.pods_follow(i32::MAX);
    cluster.pass();
    assert_eq!(cluster.size_of("v2"), 3);
}

#[test]
fn a_paused_deployment_is_scaled_but_not_rolled() {
    let mut cluster = Cluster::new(deployment(2, 1, 0));
    cluster.settle();
    cluster.change(|deployment| {
        deployment.spec.paused = Some(true);
        deployment.spec.template = template("v2");
        deployment.spec.replicas = Some(5);
    });
    cluster.settle();
    assert_eq!((cluster.size_of("v1"), cluster.size_of("v2")), (5, 0));
    assert_eq!(
        cluster.condition("Progressing"),
        three("Unknown", "DeploymentPaused", "Deployment is paused")
    );
    cluster.change(|deployment| deployment.spec.paused = Some(false));
    cluster.pass();
    cluster.settle();
    assert_eq!((cluster.size_of("v1"), cluster.size_of("v2")), (0, 5));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() {
    let mut cluster = Cluster::new(deployment(10, 3, 2));
    cluster.settle();
    cluster.change(|deployment| deployment.spec.template = template("v2"));
    // The new pods never become ready: the rollout stops at 8 old and 5 new, as in the documentation of deployments.
    for _ in 0..6 {
        cluster.pass();
        cluster.pods_follow(0);
    }
    assert_eq!((cluster.size_of("v1"), cluster.size_of("v2")), (8, 5));
    cluster.change(|deployment| deployment.spec.replicas = Some(15));
    cluster.pass();
    assert_eq!((cluster.size_of("v1"), cluster.size_of("v2")), (11, 7));
}

#[test]
fn a_rollout_that_stands_still_is_late_after_its_deadline() {
    let mut cluster = Cluster::new(deployment(1, 1, 0));
    cluster.settle();
    cluster.change(|deployment| deployment.spec.template = template("v2"));
    let mut look_again = None;
    for _ in 0..4 {
        look_again = cluster.pass().look_again;
        cluster.pods_follow(0);
    }
    let wait = look_again.unwrap();
    assert!(
        wait <= SignedDuration::from_secs(601) && wait > SignedDuration::from_secs(590),
        "{wait:?}"
    );
    cluster.now += wait;
    let plan = cluster.pass();
    let (status, reason, message) = cluster.condition("Progressing");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ProgressDeadlineExceeded")
    );
    assert!(message.ends_with("has timed out progressing."), "{message}");
    assert_eq!(plan.look_again, None);
    cluster.settle();
    assert_eq!(cluster.condition("Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn broken_old_pods_go_before_healthy_ones() {
    let mut cluster = Cluster::new(deployment(4, 1, 1));
    cluster.settle();
    // A second version that never works, then a third: the pods of the second go first.
    cluster.change(|deployment| deployment.spec.template = template("broken"));
    for _ in 0..6 {
        cluster.pass();
        cluster.pods_follow(0);
    }
    let healthy = cluster.size_of("v1");
    assert!(cluster.size_of("broken") > 0);
    cluster.change(|deployment| deployment.spec.template = template("v3"));
    cluster.pass();
    cluster.pass();
    assert_eq!(cluster.size_of("broken"), 0);
    assert_eq!(cluster.size_of("v1"), healthy);
}

#[test]
fn a_deployment_that_is_being_deleted_only_gets_a_status() {
    let mut cluster = Cluster::new(deployment(2, 1, 0));
    cluster.deployment.metadata.deletion_timestamp = Some(Time(start()));
    let plan = cluster.pass();
    assert!(plan.create.is_none() && plan.update.is_empty());
}

proptest! {
    /// Whatever the sizes, the limits, and the speed of the pods, and whatever is changed on the way.
    #[test]
    fn a_rolling_update_keeps_its_limits_and_ends(
        replicas in 0i32..12,
        surge in 0i32..5,
        unavailable in 0i32..5,
        speeds in prop::collection::vec(0i32..4, 1..40),
        second_change_at in 0usize..40,
    ) {
        let mut cluster = Cluster::new(deployment(replicas, surge, unavailable));
        cluster.settle();
        cluster.change(|deployment| deployment.spec.template = template("v2"));
        for (step, speed) in speeds.iter().enumerate() {
            if step == second_change_at {
                cluster.change(|deployment| deployment.spec.template = template("v3"));
            }
            cluster.pass();
            let most = replicas + sizes::max_surge(&cluster.deployment);
            let least = replicas - sizes::max_unavailable(&cluster.deployment);
            let total: i32 = cluster.sets.values().map(set_replicas).sum();
            prop_assert!(total <= most, "{total} pods, {most} allowed");
            cluster.pods_follow(*speed);
            let available: i32 = cluster.sets.values().map(sizes::available).sum();
            prop_assert!(available >= least, "{available} available, {least} needed");
        }
        cluster.settle();
        let last = if second_change_at < speeds.len() { "v3" } else { "v2" };
        prop_assert_eq!(cluster.size_of(last), replicas);
        let total: i32 = cluster.sets.values().map(set_replicas).sum();
        prop_assert_eq!(total, replicas);
        prop_assert_eq!(cluster.condition("Progressing").1, "NewReplicaSetAvailable");
        prop_assert!(cluster.sets.len() <= 3);
    }

    #[test]
    fn scaling_during_a_rollout_never_passes_the_maximum(
        replicas in 1i32..20,
        scaled_to in 0i32..40,
        surge in 0i32..5,
        unavailable in 0i32..5,
        steps in 0usize..5,
    ) {
        let mut cluster = Cluster::new(deployment(replicas, surge, unavailable));
        cluster.settle();
        cluster.change(|deployment| deployment.spec.template = template("v2"));
        for _ in 0..steps {
            cluster.pass();
            cluster.pods_follow(1);
        }
        cluster.change(|deployment| deployment.spec.replicas = Some(scaled_to));
        cluster.settle();
        prop_assert_eq!(cluster.size_of("v2"), scaled_to);
        prop_assert_eq!(cluster.size_of("v1"), 0);
    }
}
