//! The resource quota controller: counts what a namespace uses. Admission charges what is created; this controller writes
//! what a quota limits, notices what is given back, and recounts now and then.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use parking_lot::Mutex;
use skiff_api::quota::Counted;
use skiff_informer::{Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::discovered::{Discovered, Kinds};
use crate::worker::{Failure, Reconcile, unless_gone, work};
use plan::{Observed, counted_kinds, plan};

const WORKERS: usize = 5;
/// What goes often goes in bursts; one pass follows each burst.
const SETTLE: Duration = Duration::from_millis(20);
/// How often everything is counted anew (upstream's `--resource-quota-sync-period`): no event tells when a pod that cannot
/// be ended stops to count, or that what was charged was not made after all.
const RECOUNT: Duration = Duration::from_secs(5 * 60);

/// Tells the controller that an object is gone of which a quota may limit the number.
#[derive(Clone, Debug)]
pub(crate) struct Releases {
    quotas: Informer<ResourceQuota>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl Releases {
    pub(crate) fn new(informers: &Informers) -> Self {
        Self {
            quotas: informers.all(),
            queue: informers.queues().make("resourcequota_primary"),
        }
    }

    /// An object of this resource (`deployments.apps`) is gone from this namespace.
    pub(crate) fn object_gone(&self, resource: &str, namespace: &str) {
        // These are followed closer.
        if !matches!(resource, "pods" | "services" | "persistentvolumeclaims") {
            self.release(Counted::Other(resource), Some(namespace));
        }
    }

    /// Something of this sort was given back.
    fn release(&self, object: Counted<'_>, namespace: Option<&str>) {
        for quota in self.quotas.list_namespace(namespace.unwrap_or_default()) {
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            let limits = hard.is_some_and(|hard| hard.keys().any(|name| object.is_measured_by(name)));
            if limits {
                self.queue.add_after(ObjectKey::of(&quota.metadata), SETTLE);
            }
        }
    }
}

struct Controller {
    client: Client,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    claims: Informer<PersistentVolumeClaim>,
    kinds: Mutex<Kinds>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(releases: Releases, informers: Informers, shutdown: CancellationToken) {
    let quotas = releases.quotas.clone();
    let queue = releases.queue.clone();
    let pods = informers.all::<Pod>();
    let services = informers.all::<Service>();
    let claims = informers.all::<PersistentVolumeClaim>();
    quotas.on_change({
        let queue = queue.clone();
        // A changed status is admission's, or this controller's own.
        move |old, new| match (old, new) {
            (Some(old), Some(new)) if old.spec == new.spec && old.metadata.uid == new.metadata.uid => {}
            (_, Some(new)) => queue.add(ObjectKey::of(&new.metadata)),
            (_, None) => {}
        }
    });
    pods.on_change({
        let releases = releases.clone();
        move |old, new| {
            if let Some(old) = old
                && (new.is_none() || gives_back(Counted::Pod(old), new.map(|new| Counted::Pod(new))))
            {
                releases.release(Counted::Pod(old), old.metadata.namespace.as_deref());
            }
        }
    });
    services.on_change({
        let releases = releases.clone();
        move |old, new| {
            if let Some(old) = old
                && gives_back(Counted::Service(old), new.map(|new| Counted::Service(new)))
            {
                releases.release(Counted::Service(old), old.metadata.namespace.as_deref());
            }
        }
    });
    claims.on_change(move |old, new| {
        if let Some(old) = old
            && gives_back(Counted::Claim(old), new.map(|new| Counted::Claim(new)))
        {
            releases.release(Counted::Claim(old), old.metadata.namespace.as_deref());
        }
    });
    tokio::select! {
        () = async { tokio::join!(quotas.synced(), pods.synced(), services.synced(), claims.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        quotas,
        pods,
        services,
        claims,
        kinds: Mutex::default(),
        queue: queue.clone(),
    };
    work("resourcequota", Arc::new(controller), queue, WORKERS, shutdown).await;
}

/// Whether an object uses less of something than it did.
fn gives_back(old: Counted<'_>, new: Option<Counted<'_>>) -> bool {
    let Some(new) = new else { return true };
    let now = Timestamp::now();
    let after = new.usage(now);
    old.usage(now)
        .iter()
        .any(|(name, amount)| after.get(name).copied().unwrap_or_default() < *amount)
}

impl Reconcile<ObjectKey> for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(quota) = self.quotas.get(key) else {
            return Ok(());
        };
        let observed = Observed {
            pods: self.pods.list_namespace(&key.namespace),
            services: self.services.list_namespace(&key.namespace),
            claims: self.claims.list_namespace(&key.namespace),
            counts: self.count(&quota, &key.namespace).await?,
        };
        if let Some(status) = plan(&quota, &observed, Timestamp::now()) {
            let mut changed = ResourceQuota::clone(&quota);
            changed.status = Some(status);
            let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
            unless_gone(
                api.replace_status(&key.name, &PostParams::default(), &changed)
                    .await,
            )?;
        }
        self.queue.add_after(key.clone(), RECOUNT);
        Ok(())
    }
}

impl Controller {
    /// How many objects there are of the kinds of which the quota limits the number.
    async fn count(&self, quota: &ResourceQuota, namespace: &str) -> Result<BTreeMap<String, i64>, Failure> {
        let mut counts = BTreeMap::new();
        let mut asked = false;
        for resource in counted_kinds(quota) {
            let mut kind = find(&self.kinds.lock(), &resource);
            if kind.is_none() && !asked {
                asked = true;
                let kinds = Kinds::discover(&self.client).await?;
                kind = find(&kinds, &resource);
                *self.kinds.lock() = kinds;
            }
            let Some(kind) = kind.filter(|kind| kind.namespaced) else {
                continue;
            };
            // One object tells how many come after it.
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
            let page = api.list_metadata(&ListParams::default().limit(1)).await?;
            let shown = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
            let rest = page.metadata.remaining_item_count.unwrap_or(0);
            counts.insert(resource, shown.saturating_add(rest));
        }
        Ok(counts)
    }
}

/// The kind of a resource with its group, e.g. `deployments.apps`.
fn find(kinds: &Kinds, resource: &str) -> Option<Discovered> {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    kinds
        .iter()
        .find(|kind| kind.resource.plural == plural && kind.resource.group == group)
        .cloned()
}
