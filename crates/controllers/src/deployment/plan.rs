//! What a deployment needs next: which replica sets to make, to scale and to delete, and its status.
//!
//! The steps are upstream's (`sync.go`, `rolling.go`, `recreate.go`), taken on copies of the replica sets; the plan is
//! what has changed on the copies. A step that scales ends the pass, as upstream's do, so that the next decision is
//! made from what came of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::revision::{
    HASH_LABEL, REVISION, by_creation, desired_replicas, revision, same_template, set_annotations, set_sizes,
    template_hash,
};
use super::sizes::{
    available, is_rolling, max_unavailable, most_pods, new_set_size, proportion, replicas, total_replicas,
};
use super::status::{self, PAUSED, PROGRESSING, actual_replicas};
use crate::ownership::controller_ref;
use crate::replica_set::replicas as set_replicas;

/// A replica set to be stored, and what to tell people when it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// As it is to be.
    pub(super) set: ReplicaSet,
    /// Messages of `ScalingReplicaSet` events.
    pub(super) events: Vec<String>,
}

/// What a pass does, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The replica set of the template, if there is none yet.
    pub(super) create: Option<Change>,
    /// Replica sets that change.
    pub(super) update: Vec<Change>,
    /// Replica sets beyond the history limit.
    pub(super) delete: Vec<Arc<ReplicaSet>>,
    /// The deployment's new revision annotation.
    pub(super) revision: Option<String>,
    /// The deployment's new status.
    pub(super) status: Option<DeploymentStatus>,
    /// When to look again although nothing has happened.
    pub(super) look_again: Option<SignedDuration>,
}

/// A replica set as it is being decided about.
struct Slot {
    set: ReplicaSet,
    /// `None` if it is to be made.
    stored: Option<Arc<ReplicaSet>>,
    events: Vec<String>,
    deleted: bool,
}

struct Rollout {
    deployment: Deployment,
    slots: Vec<Slot>,
    /// The slot whose template is the deployment's.
    new: Option<usize>,
    revision: Option<String>,
    now: Timestamp,
}

/// Decides about a deployment with the replica sets that it owns. `with_pods` are the uids of those replica sets that
/// have a pod that has not ended.
pub(super) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    with_pods: &HashSet<String>,
    now: Timestamp,
) -> Plan {
    let mut rollout = Rollout::new(deployment.clone(), sets, now);
    let status = rollout.step(with_pods);
    rollout.into_plan(deployment, status)
}

impl Rollout {
    fn new(deployment: Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Self {
        let mut slots: Vec<Slot> = sets
            .iter()
            .map(|set| Slot {
                set: ReplicaSet::clone(set),
                stored: Some(set.clone()),
                events: Vec::new(),
                deleted: false,
            })
            .collect();
        slots.sort_by(|a, b| by_creation(&a.set.metadata, &b.set.metadata));
        let new = slots.iter().position(|slot| {
            let template = slot.set.spec.template.as_ref();
            template.is_some_and(|template| same_template(template, &deployment.spec.template))
        });
        Self {
            deployment,
            slots,
            new,
            revision: None,
            now,
        }
    }

    fn step(&mut self, with_pods: &HashSet<String>) -> DeploymentStatus {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return self.status();
        }
        self.note_pause();
        let paused = self.deployment.spec.paused == Some(true);
        if paused || self.is_being_scaled() {
            self.sync_new_set(false);
            self.scale();
            if paused {
                self.clean_up_history();
            }
            return self.status();
        }
        if is_rolling(&self.deployment) {
            self.roll();
        } else {
            self.recreate(with_pods);
        }
        status::of_rollout(&self.deployment, &self.sets(), self.new_set(), self.now)
    }

    fn sets(&self) -> Vec<&ReplicaSet> {
        self.slots.iter().map(|slot| &slot.set).collect()
    }

    fn new_set(&self) -> Option<&ReplicaSet> {
        self.new.and_then(|new| self.slots.get(new)).map(|slot| &slot.set)
    }

    fn status(&self) -> DeploymentStatus {
        status::calculate(&self.deployment, &self.sets(), self.new_set(), self.now)
    }

    fn size(&self, index: usize) -> i32 {
        self.slots.get(index).map_or(0, |slot| set_replicas(&slot.set))
    }

    /// The old replica sets with pods to be, oldest first.
    fn active_old(&self) -> Vec<usize> {
        (0..self.slots.len())
            .filter(|index| Some(*index) != self.new && self.size(*index) > 0)
            .collect()
    }

    /// A pause stops the clock of the progress deadline; going on restarts it.
    fn note_pause(&mut self) {
        let status = self.deployment.status.get_or_insert_default();
        let reason = status::progress_reason(status).to_string();
        let has_deadline = self
            .deployment
            .spec
            .progress_deadline_seconds
            .is_some_and(|seconds| seconds != i32::MAX);
        if !has_deadline || reason == status::TIMED_OUT {
            return;
        }
        let paused = self.deployment.spec.paused == Some(true);
        let condition = match (paused, reason == PAUSED) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let condition = status::new_condition(PROGRESSING, "Unknown", condition.0, condition.1, self.now);
        status::set_condition(status, condition);
    }

    /// Whether `spec.replicas` has changed since the replica sets were scaled last.
    fn is_being_scaled(&self) -> bool {
        let wanted = replicas(&self.deployment);
        self.slots.iter().any(|slot| {
            set_replicas(&slot.set) > 0
                && desired_replicas(&slot.set).is_some_and(|desired| desired != wanted)
        })
    }

    /// Brings the new replica set's annotations up to date, or makes it.
    fn sync_new_set(&mut self, create: bool) {
        let old = self
            .slots
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != self.new);
        let next_revision = old.map(|(_, slot)| revision(&slot.set)).max().unwrap_or(0) + 1;
        let Some(slot) = self.new.and_then(|new| self.slots.get_mut(new)) else {
            if create {
                self.create_new_set(next_revision);
            }
            return;
        };
        set_annotations(&mut slot.set, &self.deployment, next_revision);
        slot.set.spec.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        let name = slot.set.metadata.name.clone().unwrap_or_default();
        self.revision = Some(revision(&slot.set).to_string());
        self.note_new_set(
            "FoundNewReplicaSet",
            format!("Found new replica set \"{name}\""),
            false,
        );
    }

    fn note_new_set(&mut self, reason: &str, message: String, replace: bool) {
        let has_deadline = status::progress_deadline(&self.deployment).is_some();
        let now = self.now;
        let status = self.deployment.status.get_or_insert_default();
        if has_deadline && (replace || status::condition(status, PROGRESSING).is_none()) {
            let condition = status::new_condition(PROGRESSING, "True", reason, message, now);
            status::set_condition(status, condition);
        }
    }

    fn create_new_set(&mut self, revision: i64) {
        let deployment = &self.deployment;
        let collisions = deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count);
        let hash = template_hash(&deployment.spec.template, collisions);
        let mut template = deployment.spec.template.clone();
        let labels = template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default();
        labels.insert(HASH_LABEL.to_string(), hash.clone());
        let labels = labels.clone();
        let mut selector = deployment.spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_string(), hash.clone());
        let name = set_name(deployment.metadata.name.as_deref().unwrap_or_default(), &hash);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: deployment.metadata.namespace.clone(),
                owner_references: Some(vec![controller_ref(deployment)]),
                labels: Some(labels),
                annotations: Some(BTreeMap::new()),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(new_set_size(deployment, total_replicas(self.sets()), 0)),
                min_ready_seconds: deployment.spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        set_annotations(&mut set, deployment, revision);
        set_sizes(&mut set, replicas(deployment), most_pods(deployment));
        let size = set_replicas(&set);
        let events = if size > 0 {
            vec![format!("Scaled up replica set {name} from 0 to {size}")]
        } else {
            vec![]
        };
        self.new = Some(self.slots.len());
        self.slots.push(Slot {
            set,
            stored: None,
            events,
            deleted: false,
        });
        self.revision = Some(revision.to_string());
        self.note_new_set(
            "NewReplicaSetCreated",
            format!("Created new replica set \"{name}\""),
            true,
        );
    }

    /// Gives a replica set a new size; whether that is another than it had.
    fn resize(&mut self, index: usize, size: i32) -> bool {
        let (desired, max) = (replicas(&self.deployment), most_pods(&self.deployment));
        let Some(slot) = self.slots.get_mut(index) else {
            return false;
        };
        let old = set_replicas(&slot.set);
        set_sizes(&mut slot.set, desired, max);
        if old == size {
            return false;
        }
        slot.set.spec.replicas = Some(size);
        let name = slot.set.metadata.name.as_deref().unwrap_or_default();
        let direction = if size > old { "up" } else { "down" };
        slot.events.push(format!(
            "Scaled {direction} replica set {name} from {old} to {size}"
        ));
        true
    }

    /// Follows a change of `spec.replicas`: all of it goes to the one active replica set, or each gets its share.
    fn scale(&mut self) {
        let wanted = replicas(&self.deployment);
        let old = self.active_old();
        let mut active = old.clone();
        active.extend(self.new.filter(|new| self.size(*new) > 0));
        let only = match active.as_slice() {
            [one] => Some(*one),
            [] => self.new.or_else(|| self.slots.len().checked_sub(1)),
            _ => None,
        };
        if let Some(only) = only {
            // Even if it has that size already: the size that it records must become the deployment's, or the
            // deployment would count as being scaled for ever.
            self.resize(only, wanted);
            return;
        }
        if self.is_saturated() {
            for index in old {
                self.resize(index, 0);
            }
            return;
        }
        if is_rolling(&self.deployment) {
            self.scale_in_proportion(active);
        }
    }

    /// Whether the new replica set has all pods and they are available.
    fn is_saturated(&self) -> bool {
        let wanted = replicas(&self.deployment);
        self.new_set().is_some_and(|set| {
            set_replicas(set) == wanted && desired_replicas(set) == Some(wanted) && available(set) == wanted
        })
    }

    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let wanted = replicas(&self.deployment);
        let allowed = if wanted > 0 {
            most_pods(&self.deployment)
        } else {
            0
        };
        let total = active
            .iter()
            .map(|index| self.size(*index))
            .fold(0, i32::saturating_add);
        let to_add = allowed.saturating_sub(total);
        // Larger ones first; of equal ones the newer grows first, the older shrinks first.
        active.sort_by(|a, b| {
            let by_age = match (self.slots.get(*a), self.slots.get(*b)) {
                (Some(a), Some(b)) => by_creation(&a.set.metadata, &b.set.metadata),
                _ => std::cmp::Ordering::Equal,
            };
            let by_age = if to_add > 0 { by_age.reverse() } else { by_age };
            self.size(*b).cmp(&self.size(*a)).then(by_age)
        });
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for index in &active {
            let share = match self.slots.get(*index) {
                Some(slot) if to_add != 0 => proportion(&slot.set, &self.deployment, to_add, added),
                _ => 0,
            };
            added += share;
            sizes.push((*index, self.size(*index) + share));
        }
        // What rounding has left goes to the first.
        if let Some((_, size)) = sizes.first_mut().filter(|_| to_add != 0) {
            *size = (*size + to_add - added).max(0);
        }
        for (index, size) in sizes {
            self.resize(index, size);
        }
    }

    fn roll(&mut self) {
        self.sync_new_set(true);
        if self.grow_new_set() || self.shrink_old_sets() {
            return;
        }
        self.clean_up_when_complete();
    }

    fn grow_new_set(&mut self) -> bool {
        let Some(new) = self.new else { return false };
        let (size, wanted) = (self.size(new), replicas(&self.deployment));
        if size == wanted {
            return false;
        }
        if size > wanted {
            return self.resize(new, wanted);
        }
        let room = new_set_size(&self.deployment, total_replicas(self.sets()), size);
        room != size && self.resize(new, room)
    }

    fn shrink_old_sets(&mut self) -> bool {
        let old = self.active_old();
        if old.is_empty() {
            return false;
        }
        let least = replicas(&self.deployment) - max_unavailable(&self.deployment);
        let new_unavailable = self.new_set().map_or(0, |set| set_replicas(set) - available(set));
        let may_go = total_replicas(self.sets()) - least - new_unavailable;
        if may_go <= 0 {
            return false;
        }
        let unhealthy = self.shrink(&old, may_go, |set| set_replicas(set) - available(set));
        let total_available = self
            .slots
            .iter()
            .map(|slot| available(&slot.set))
            .fold(0, i32::saturating_add);
        let healthy = self.shrink(&old, total_available - least, set_replicas);
        unhealthy + healthy > 0
    }

    /// Takes pods from old replica sets, oldest first: from each as many as `surplus` says, `limit` in all.
    fn shrink(&mut self, old: &[usize], limit: i32, surplus: impl Fn(&ReplicaSet) -> i32) -> i32 {
        let mut taken = 0;
        for index in old {
            let of_this = self.slots.get(*index).map_or(0, |slot| surplus(&slot.set));
            let count = of_this.min(limit - taken).min(self.size(*index));
            if count > 0 && self.resize(*index, self.size(*index) - count) {
                taken += count;
            }
        }
        taken
    }

    fn recreate(&mut self, with_pods: &HashSet<String>) {
        self.sync_new_set(false);
        let active = self.active_old();
        if !active.is_empty() {
            active.into_iter().for_each(|index| {
                self.resize(index, 0);
            });
            return;
        }
        let old_pods_run = self.slots.iter().enumerate().any(|(index, slot)| {
            let uid = slot.set.metadata.uid.as_deref().unwrap_or_default();
            Some(index) != self.new && (actual_replicas(&slot.set) > 0 || with_pods.contains(uid))
        });
        if old_pods_run {
            return;
        }
        if self.new.is_none() {
            self.sync_new_set(true);
        }
        if let Some(new) = self.new
            && self.size(new) != replicas(&self.deployment)
        {
            self.resize(new, replicas(&self.deployment));
        }
        self.clean_up_when_complete();
    }

    fn clean_up_when_complete(&mut self) {
        let status = self.deployment.status.clone().unwrap_or_default();
        if status::is_complete(&self.deployment, &status) {
            self.clean_up_history();
        }
    }

    /// Marks the oldest revisions beyond `spec.revisionHistoryLimit`, except those that still have pods.
    fn clean_up_history(&mut self) {
        let Some(limit) = self
            .deployment
            .spec
            .revision_history_limit
            .filter(|limit| *limit != i32::MAX)
        else {
            return;
        };
        let new = self.new;
        let mut old: Vec<&mut Slot> = self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(index, slot)| Some(*index) != new && slot.set.metadata.deletion_timestamp.is_none())
            .map(|(_, slot)| slot)
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|slot| revision(&slot.set));
        for slot in old.into_iter().take(surplus) {
            let observed = slot
                .set
                .status
                .as_ref()
                .and_then(|status| status.observed_generation);
            slot.deleted = set_replicas(&slot.set) == 0
                && actual_replicas(&slot.set) == 0
                && slot.set.metadata.generation.unwrap_or(0) <= observed.unwrap_or(0);
        }
    }

    fn into_plan(self, stored: &Deployment, status: DeploymentStatus) -> Plan {
        let mut plan = Plan {
            look_again: status::next_check(&self.deployment, &status, self.now),
            ..Plan::default()
        };
        let stored_revision = stored
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(REVISION));
        plan.revision = self.revision.filter(|revision| Some(revision) != stored_revision);
        if stored.status.as_ref() != Some(&status) {
            plan.status = Some(status);
        }
        for slot in self.slots {
            match slot.stored {
                None => {
                    plan.create = Some(Change {
                        set: slot.set,
                        events: slot.events,
                    })
                }
                Some(stored) if slot.deleted => plan.delete.push(stored),
                Some(stored) if *stored != slot.set => {
                    plan.update.push(Change {
                        set: slot.set,
                        events: slot.events,
                    });
                }
                Some(_) => {}
            }
        }
        plan
    }
}

/// `deployment-hash`, with the deployment's name cut if both are too long for a name together.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253usize.saturating_sub(hash.len() + 1);
    let prefix: String = deployment.chars().take(room).collect();
    format!("{prefix}-{hash}")
}
