//! The namespace controller: a namespace that is being deleted is emptied, kind by kind, and then let go.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::discovery::verbs;
use parking_lot::Mutex;
use skiff_informer::{Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::discovered::{Discovered, Kinds};
use crate::worker::{Failure, Reconcile, is_not_found, unless_gone, work};

const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";
/// Deletions of a namespace's objects come in bursts; one pass follows each burst.
const SETTLE: Duration = Duration::from_millis(20);

/// Tells the controller that an object is gone from a namespace which may be waiting for just that.
#[derive(Clone, Debug)]
pub(crate) struct Vacancies {
    terminating: Arc<Mutex<HashSet<String>>>,
    queue: Arc<WorkQueue<String>>,
}

impl Vacancies {
    pub(crate) fn new(informers: &Informers) -> Self {
        Self {
            terminating: Arc::default(),
            queue: informers.queues().make("namespace"),
        }
    }

    /// An object is gone from this namespace.
    pub(crate) fn object_gone(&self, namespace: &str) {
        if self.terminating.lock().contains(namespace) {
            self.queue.add_after(namespace.to_string(), SETTLE);
        }
    }
}

struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
    queue: Arc<WorkQueue<String>>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(vacancies: Vacancies, informers: Informers, shutdown: CancellationToken) {
    let namespaces = informers.all::<Namespace>();
    let queue = vacancies.queue.clone();
    namespaces.on_change({
        let queue = queue.clone();
        move |old, new| {
            let Some(name) = new.or(old).and_then(|namespace| namespace.metadata.name.clone()) else {
                return;
            };
            if new.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
                vacancies.terminating.lock().insert(name.clone());
                queue.add(name);
            } else {
                vacancies.terminating.lock().remove(&name);
            }
        }
    });
    tokio::select! {
        () = namespaces.synced() => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        namespaces,
        queue: queue.clone(),
    };
    work("namespace", Arc::new(controller), queue, WORKERS, shutdown).await;
}

/// What is left in a namespace, and what went wrong.
#[derive(Clone, Debug, Default, PartialEq)]
struct Remains {
    /// Numbers of objects by `resource.group`.
    objects: BTreeMap<String, usize>,
    /// Numbers of objects by the finalizer that holds them.
    finalizers: BTreeMap<String, usize>,
    discovery_failure: Option<String>,
    deletion_failures: Vec<String>,
    /// The longest grace period of a pod, in seconds.
    grace: i64,
}

impl Remains {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.discovery_failure.is_none() && self.deletion_failures.is_empty()
    }

    fn count(&mut self, kind: &Discovered, objects: &[ObjectMeta]) {
        if objects.is_empty() {
            return;
        }
        let name = format!("{}.{}", kind.resource.plural, kind.resource.group);
        self.objects.insert(name, objects.len());
        for object in objects {
            for finalizer in object.finalizers.iter().flatten() {
                *self.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            if is_pods(kind) {
                self.grace = self.grace.max(object.deletion_grace_period_seconds.unwrap_or(0));
            }
        }
    }
}

fn is_pods(kind: &Discovered) -> bool {
    kind.resource.group.is_empty() && kind.resource.plural == "pods"
}

/// The conditions that tell how the deletion goes, in upstream's words.
fn conditions(old: &[NamespaceCondition], remains: &Remains, now: Timestamp) -> Vec<NamespaceCondition> {
    let listed = |counts: &BTreeMap<String, usize>, words: fn(&String, &usize) -> String| {
        let texts: Vec<String> = counts.iter().map(|(name, count)| words(name, count)).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    let failures = (!remains.deletion_failures.is_empty()).then(|| {
        let count = remains.deletion_failures.len();
        format!(
            "Failed to delete all resource types, {count} remaining: {}",
            remains.deletion_failures.join(", ")
        )
    });
    let objects = listed(&remains.objects, |name, count| {
        format!("{name} has {count} resource instances")
    })
    .map(|text| format!("Some resources are remaining: {text}"));
    let finalizers = listed(&remains.finalizers, |name, count| {
        format!("{name} in {count} resource instances")
    })
    .map(|text| format!("Some content in the namespace has finalizers remaining: {text}"));
    let facts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            remains
                .discovery_failure
                .clone()
                .map(|text| ("DiscoveryFailed", text)),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            failures.map(|text| ("ContentDeletionFailed", text)),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            objects.map(|text| ("SomeResourcesRemain", text)),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            finalizers.map(|text| ("SomeFinalizersRemain", text)),
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ];
    let mut conditions = old.to_vec();
    for (type_, problem, (fine_reason, fine_message)) in facts {
        let (status, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", fine_reason, fine_message.to_string()),
        };
        let before = conditions.iter().position(|condition| condition.type_ == type_);
        let since = before
            .and_then(|at| conditions.get(at))
            .filter(|condition| condition.status == status)
            .and_then(|condition| condition.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: type_.to_string(),
            status: status.to_string(),
            reason: Some(reason.to_string()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match before.and_then(|at| conditions.get_mut(at)) {
            Some(slot) => *slot = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        if self.namespaces.get(&ObjectKey::new("", name)).is_none() {
            return Ok(());
        }
        // What follows cannot be undone, so it is decided on what the API says, not on what the informer remembers.
        let Some(mut namespace) = api.get_opt(name).await? else {
            return Ok(());
        };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        let status = namespace.status.get_or_insert_default();
        if status.phase.as_deref() != Some("Terminating") {
            status.phase = Some("Terminating".to_string());
            namespace = api
                .replace_status(name, &PostParams::default(), &namespace)
                .await?;
        }
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.clone())
            .unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(());
        }
        let remains = self.empty(name).await;
        let status = namespace.status.get_or_insert_default();
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let told = conditions(status.conditions.as_deref().unwrap_or_default(), &remains, now);
        if status.conditions.as_ref() != Some(&told) {
            status.conditions = Some(told);
            match api.replace_status(name, &PostParams::default(), &namespace).await {
                Ok(stored) => namespace = stored,
                Err(error) if is_not_found(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if remains.is_empty() {
            let spec = namespace.spec.get_or_insert_default();
            spec.finalizers = Some(
                finalizers
                    .into_iter()
                    .filter(|finalizer| finalizer != FINALIZER)
                    .collect(),
            );
            let done = api
                .replace_subresource("finalize", name, &PostParams::default(), &namespace)
                .await;
            unless_gone(done)?;
            return Ok(());
        }
        if !remains.deletion_failures.is_empty() || remains.discovery_failure.is_some() {
            return Err(Failure::NotYet(format!("namespace {name} could not be emptied")));
        }
        // Each object that goes brings another pass; this is for kinds that cannot be watched.
        let delay = u64::try_from(remains.grace / 2 + 1).unwrap_or(1);
        self.queue
            .add_after(name.clone(), Duration::from_secs(delay.max(5)));
        Ok(())
    }
}

impl Controller {
    /// Asks for the deletion of everything, and finds out what is still there. Pods go first: what they use stays
    /// until they have ended.
    async fn empty(&self, namespace: &str) -> Remains {
        let mut remains = Remains::default();
        let kinds = match Kinds::discover(&self.client).await {
            Ok(kinds) => kinds,
            Err(error) => {
                remains.discovery_failure = Some(error.to_string());
                return remains;
            }
        };
        let deletable = || kinds.iter().filter(|kind| kind.namespaced && kind.is_deletable());
        for pods in [true, false] {
            for kind in deletable().filter(|kind| is_pods(kind) == pods) {
                match self.delete_all(kind, namespace).await {
                    Ok(left) => remains.count(kind, &left),
                    Err(error) => remains.deletion_failures.push(error.to_string()),
                }
            }
            if !remains.is_empty() {
                break;
            }
        }
        remains
    }

    /// Deletes all objects of a kind; what is left then.
    async fn delete_all(&self, kind: &Discovered, namespace: &str) -> Result<Vec<ObjectMeta>, kube::Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let everything = ListParams::default();
        let list = || async {
            let list = api.list_metadata(&everything).await?;
            Ok::<_, kube::Error>(
                list.items
                    .into_iter()
                    .map(|object| object.metadata)
                    .collect::<Vec<_>>(),
            )
        };
        let present = list().await?;
        let to_delete: Vec<&ObjectMeta> = present
            .iter()
            .filter(|object| object.deletion_timestamp.is_none())
            .collect();
        if to_delete.is_empty() {
            return Ok(present);
        }
        let background = DeleteParams::background();
        if kind.supports(&[verbs::DELETE_COLLECTION]) {
            unless_gone(api.delete_collection(&background, &everything).await)?;
        } else {
            for object in to_delete {
                let name = object.name.as_deref().unwrap_or_default();
                unless_gone(api.delete(name, &background).await)?;
            }
        }
        list().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::discovery::ApiResource;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn kind(group: &str, plural: &str) -> Discovered {
        let resource = ApiResource {
            group: group.into(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: "K".into(),
            plural: plural.into(),
        };
        Discovered::for_tests(resource)
    }

    fn summary(conditions: &[NamespaceCondition]) -> Vec<(&str, &str, &str)> {
        conditions
            .iter()
            .map(|c| {
                (
                    c.status.as_str(),
                    c.reason.as_deref().unwrap(),
                    c.message.as_deref().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn what_is_left_is_told_in_conditions() {
        let mut remains = Remains::default();
        let held = |finalizers: &[&str]| ObjectMeta {
            finalizers: Some(finalizers.iter().map(|name| name.to_string()).collect()),
            deletion_grace_period_seconds: Some(30),
            ..ObjectMeta::default()
        };
        remains.count(&kind("", "pods"), &[held(&[]), held(&["a/b"])]);
        remains.count(&kind("apps", "deployments"), &[held(&["a/b", "c/d"])]);
        remains.count(&kind("", "secrets"), &[]);
        assert_eq!(remains.grace, 30);
        let told = conditions(&[], &remains, now());
        assert_eq!(
            summary(&told),
            [
                (
                    "False",
                    "ResourcesDiscovered",
                    "All resources successfully discovered"
                ),
                (
                    "False",
                    "ParsedGroupVersions",
                    "All legacy kube types successfully parsed"
                ),
                (
                    "False",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization"
                ),
                (
                    "True",
                    "SomeResourcesRemain",
                    "Some resources are remaining: deployments.apps has 1 resource instances, \
                     pods. has 2 resource instances"
                ),
                (
                    "True",
                    "SomeFinalizersRemain",
                    "Some content in the namespace has finalizers remaining: a/b in 2 resource instances, \
                     c/d in 1 resource instances"
                ),
            ]
        );
        let later = now() + jiff::SignedDuration::from_secs(9);
        assert_eq!(conditions(&told, &remains, later), told, "nothing new is told");
        let done = conditions(&told, &Remains::default(), later);
        assert_eq!(done[3].reason.as_deref(), Some("ContentRemoved"));
        assert_eq!(done[3].last_transition_time, Some(Time(later)));
        assert_eq!(done[0], told[0]);
    }

    #[test]
    fn failures_are_told_and_keep_the_namespace() {
        let remains = Remains {
            deletion_failures: vec!["boom".into()],
            ..Remains::default()
        };
        assert!(!remains.is_empty());
        let told = conditions(&[], &remains, now());
        assert_eq!(
            told[2].message.as_deref(),
            Some("Failed to delete all resource types, 1 remaining: boom")
        );
        let remains = Remains {
            discovery_failure: Some("down".into()),
            ..Remains::default()
        };
        assert!(!remains.is_empty());
        assert_eq!(
            conditions(&[], &remains, now())[0].reason.as_deref(),
            Some("DiscoveryFailed")
        );
    }
}
