//! The pods of the node, each with its worker, and what wakes them: the API's watch and the runtime's events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1::ContainerEventResponse;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_stream::StreamExt;

use super::identity::uid;
use super::labels;
use super::runtime::Snapshot;
use super::stop::Failed;
use super::worker::{Desired, Worker};
use crate::resources::{QosClass, pod_requests, qos_class};
use crate::shared::Shared;

/// How often everything is listed although the runtime sends events: the net under them.
const RELIST: Duration = Duration::from_secs(60);
/// How often when it sends none, as upstream's generic PLEG.
const RELIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// The wait before the runtime's event stream is opened again.
const REOPEN: Duration = Duration::from_secs(5);

struct Entry {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    /// The worker has nothing more to do; the API just has not said so yet.
    finished: bool,
}

/// All workers, by pod uid.
pub(crate) struct PodSet {
    shared: Arc<Shared>,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl PodSet {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            entries: Mutex::default(),
        })
    }

    /// Follows the pods of the node from now on.
    pub(crate) fn follow(self: &Arc<Self>) {
        let set = Arc::downgrade(self);
        self.shared.pods.on_change(move |old, new| {
            let Some(set) = set.upgrade() else { return };
            match (old, new) {
                (old, Some(new)) => {
                    // Deleted and made anew under the same name between two events.
                    if let Some(old) = old.filter(|old| uid(old) != uid(new)) {
                        set.gone(old);
                    }
                    set.want(new);
                }
                (Some(old), None) => set.gone(old),
                (None, None) => {}
            }
        });
    }

    fn want(self: &Arc<Self>, pod: &Arc<Pod>) {
        let mut entries = self.entries.lock();
        match entries.get(uid(pod)) {
            Some(entry) => {
                entry.desired.send_replace(Desired::Pod(pod.clone()));
            }
            None => self.spawn(&mut entries, Desired::Pod(pod.clone())),
        }
    }

    fn gone(self: &Arc<Self>, pod: &Arc<Pod>) {
        let mut entries = self.entries.lock();
        match entries.get(uid(pod)) {
            Some(entry) if entry.finished => {
                entries.remove(uid(pod));
            }
            Some(entry) => {
                entry.desired.send_replace(Desired::Gone(pod.clone()));
            }
            None => {}
        }
    }

    fn spawn(self: &Arc<Self>, entries: &mut BTreeMap<String, Entry>, desired: Desired) {
        let pod_uid = uid(desired.pod()).to_string();
        let (sender, receiver) = watch::channel(desired);
        let failed = Failed::default();
        let entry = Entry {
            desired: sender,
            wake: failed.wake.clone(),
            finished: false,
        };
        entries.insert(pod_uid.clone(), entry);
        let set = self.clone();
        tokio::spawn(async move {
            let done = Worker::new(set.shared.clone(), receiver, failed).run().await;
            if done {
                set.finished(&pod_uid);
            }
        });
    }

    fn finished(&self, pod_uid: &str) {
        let mut entries = self.entries.lock();
        let is_gone = |entry: &Entry| matches!(*entry.desired.borrow(), Desired::Gone(_));
        if entries.get(pod_uid).is_some_and(is_gone) {
            entries.remove(pod_uid);
        } else if let Some(entry) = entries.get_mut(pod_uid) {
            entry.finished = true;
        }
    }

    fn wake(&self, pod_uid: &str) -> bool {
        let entries = self.entries.lock();
        let Some(entry) = entries.get(pod_uid) else {
            return false;
        };
        entry.wake.notify_one();
        true
    }

    /// Ends a pod that the runtime has but the API has not.
    fn end_orphan(self: &Arc<Self>, pod_uid: &str, namespace: &str, name: &str) {
        let mut entries = self.entries.lock();
        if entries.contains_key(pod_uid) {
            return;
        }
        tracing::info!(
            pod = name,
            namespace,
            uid = pod_uid,
            "ending a pod that is no longer wanted"
        );
        let pod = Pod {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(name.into()),
                uid: Some(pod_uid.into()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        self.spawn(&mut entries, Desired::Gone(Arc::new(pod)));
    }

    fn heard(&self, event: &ContainerEventResponse) -> bool {
        let of_sandbox = event.pod_sandbox_status.as_ref();
        let by_sandbox = of_sandbox
            .and_then(|status| status.metadata.as_ref())
            .map(|metadata| metadata.uid.clone());
        let by_label = || {
            let labels = event.containers_statuses.iter().map(|status| &status.labels);
            labels.filter_map(|l| l.get(labels::POD_UID)).next().cloned()
        };
        by_sandbox
            .filter(|uid| !uid.is_empty())
            .or_else(by_label)
            .is_some_and(|uid| self.wake(&uid))
    }

    /// Wakes workers by the runtime's events, and by lists beside them, until shutdown.
    pub(crate) async fn watch_runtime(self: Arc<Self>) {
        let relist = Notify::new();
        let has_events = watch::Sender::new(false);
        tokio::select! {
            () = self.hear_events(&relist, &has_events) => {}
            () = self.relist(&relist, has_events.subscribe()) => {}
            () = self.shared.shutdown.cancelled() => {}
        }
    }

    async fn hear_events(&self, relist: &Notify, has_events: &watch::Sender<bool>) {
        loop {
            match self.shared.cri.events().await {
                Ok(mut events) => {
                    has_events.send_replace(true);
                    // What happened before the stream was open.
                    relist.notify_one();
                    while let Some(Ok(event)) = events.next().await {
                        if !self.heard(&event) {
                            relist.notify_one();
                        }
                    }
                }
                Err(error) if error.code == tonic::Code::Unimplemented => {
                    tracing::info!("the runtime sends no events; listing every second instead");
                    return std::future::pending().await;
                }
                Err(error) => tracing::debug!(%error, "no events from the runtime"),
            }
            has_events.send_replace(false);
            relist.notify_one();
            // A runtime that is away does not say when it is back.
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn relist(self: &Arc<Self>, now: &Notify, mut has_events: watch::Receiver<bool>) {
        self.shared.pods.synced().await;
        let mut before = Snapshot::default();
        loop {
            match Snapshot::take(&self.shared.cri).await {
                Ok(snapshot) => {
                    for pod_uid in snapshot.changed_since(&before) {
                        let name = snapshot.names.get(&pod_uid);
                        if !self.wake(&pod_uid)
                            && let Some((namespace, name)) = name
                        {
                            self.end_orphan(&pod_uid, namespace, name);
                        }
                    }
                    self.clean(&snapshot).await;
                    before = snapshot;
                }
                Err(error) => tracing::debug!(%error, "the runtime cannot be listed"),
            }
            let period = if *has_events.borrow_and_update() {
                RELIST
            } else {
                RELIST_WITHOUT_EVENTS
            };
            tokio::select! {
                () = now.notified() => {}
                () = tokio::time::sleep(period) => {}
                _ = has_events.changed() => {}
            }
        }
    }

    /// Removes directories and cgroups of pods that neither the API nor the runtime knows.
    async fn clean(&self, snapshot: &Snapshot) {
        let (directories, cgroups) = (self.shared.volumes.pods(), self.shared.cgroups.pods());
        // Only now: what a new pod makes after this must not be taken for an orphan's.
        let known: BTreeSet<String> = self.entries.lock().keys().cloned().collect();
        let is_orphan = |uid: &String| !known.contains(uid) && !snapshot.pods.contains_key(uid);
        for pod_uid in directories.into_iter().filter(is_orphan) {
            if let Err(error) = self.shared.volumes.tear_down(&pod_uid).await {
                tracing::warn!(uid = pod_uid, %error, "orphaned pod directory not removed");
            }
        }
        for pod_uid in cgroups.into_iter().filter(is_orphan) {
            self.shared.cgroups.remove_pod(&pod_uid);
        }
        if let Err(error) = self.shared.cgroups.weigh_burstable(self.burstable_cpu()) {
            tracing::debug!(%error, "burstable pods not weighed");
        }
    }

    fn burstable_cpu(&self) -> i64 {
        let pods = self.shared.pods.list();
        let specs = pods
            .iter()
            .filter(|pod| !skiff_api::pod::is_terminal(pod))
            .filter_map(|pod| pod.spec.as_ref());
        specs
            .filter(|spec| qos_class(spec) == QosClass::Burstable)
            .filter_map(|spec| pod_requests(spec).get("cpu").copied())
            .fold(0, i64::saturating_add)
    }
}
