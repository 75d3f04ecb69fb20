//! Events: what happened to an object, for people to read. The same event again only counts up.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What waits to be sent; more is dropped, as events may be.
const QUEUE: usize = 1024;
/// How many events are remembered to be counted up.
const REMEMBERED: usize = 4096;
/// An object may send this many events at once, and then one every [`REFILL`] (client-go's spam filter).
const BURST: f64 = 25.0;
const REFILL: f64 = 300.0;
/// After so many alike but for their text, they become one (client-go's aggregator).
const ALIKE: u32 = 10;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    uid: String,
    field_path: String,
    severity: Severity,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct Occurrence {
    object: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Records events; clones share the queue. Recording never waits.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// A recorder whose events come from `component` on `host`, and its sending until `shutdown`.
    pub(crate) fn new(
        client: Client,
        component: &str,
        host: &str,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let sender = Sender {
            client,
            component: component.into(),
            host: host.into(),
            sent: HashMap::new(),
            budgets: HashMap::new(),
            alike: HashMap::new(),
        };
        (Self { queue }, sender.run(inbox, shutdown))
    }

    /// Records an event about any object.
    pub(crate) fn about(
        &self,
        object: ObjectReference,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let occurrence = Occurrence {
            object,
            severity,
            reason,
            message: message.into(),
            at: Timestamp::now(),
        };
        if self.queue.try_send(occurrence).is_err() {
            tracing::debug!(reason, "event dropped: too many wait");
        }
    }

    /// Records an event about a pod, or about one container of it.
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.about(pod_reference(pod, container), severity, reason, message);
    }

    /// Records an event about the node. Its uid is its name, as upstream's.
    pub(crate) fn node(
        &self,
        name: &str,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let object = ObjectReference {
            kind: Some(<Node as k8s_openapi::Resource>::KIND.into()),
            name: Some(name.into()),
            uid: Some(name.into()),
            ..ObjectReference::default()
        };
        self.about(object, severity, reason, message);
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        let is_init = init.into_iter().flatten().any(|c| c.name == name);
        let list = if is_init { "initContainers" } else { "containers" };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

struct Sender {
    client: Client,
    component: Arc<str>,
    host: Arc<str>,
    /// The event's name and count.
    sent: HashMap<Key, (String, i32)>,
    /// Tokens left and when they were counted, by object.
    budgets: HashMap<String, (f64, Timestamp)>,
    /// How many different texts an object has had under one reason.
    alike: HashMap<(String, &'static str), u32>,
}

impl Sender {
    async fn run(mut self, mut inbox: mpsc::Receiver<Occurrence>, shutdown: CancellationToken) {
        loop {
            let occurrence = tokio::select! {
                occurrence = inbox.recv() => occurrence,
                () = shutdown.cancelled() => return,
            };
            let Some(occurrence) = occurrence else { return };
            if let Err(error) = self.send(occurrence).await {
                tracing::debug!(%error, "event not recorded");
            }
        }
    }

    fn may_send(&mut self, uid: &str, now: Timestamp) -> bool {
        if self.budgets.len() > REMEMBERED {
            self.budgets.clear();
        }
        let (tokens, at) = self.budgets.entry(uid.into()).or_insert((BURST, now));
        let passed = now.duration_since(*at).as_secs_f64();
        *tokens = (*tokens + passed / REFILL).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    async fn send(&mut self, occurrence: Occurrence) -> Result<(), kube::Error> {
        let uid = occurrence.object.uid.clone().unwrap_or_default();
        if !self.may_send(&uid, occurrence.at) {
            return Ok(());
        }
        let namespace = occurrence
            .object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let mut key = Key {
            namespace: namespace.clone(),
            uid: uid.clone(),
            field_path: occurrence.object.field_path.clone().unwrap_or_default(),
            severity: occurrence.severity,
            reason: occurrence.reason.into(),
            message: occurrence.message.clone(),
        };
        if self.sent.len() > REMEMBERED {
            self.sent.clear();
            self.alike.clear();
        }
        if !self.sent.contains_key(&key) {
            let texts = self.alike.entry((uid, occurrence.reason)).or_insert(0);
            *texts += 1;
            if *texts > ALIKE {
                key.message = format!("(combined from similar events): {}", occurrence.message);
            }
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Some((name, count)) = self.sent.get_mut(&key) {
            let patch =
                json!({ "count": *count + 1, "lastTimestamp": Time(occurrence.at), "message": key.message });
            match api
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(_) => {
                    *count += 1;
                    return Ok(());
                }
                // It has expired: begin anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.event(&occurrence, &namespace, &key.message);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.sent.insert(key, (name, 1));
        Ok(())
    }

    fn event(&self, occurrence: &Occurrence, namespace: &str, message: &str) -> Event {
        let name = occurrence.object.name.clone().unwrap_or_default();
        let severity = match occurrence.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", occurrence.at.as_nanosecond())),
                namespace: Some(namespace.into()),
                ..ObjectMeta::default()
            },
            involved_object: occurrence.object.clone(),
            reason: Some(occurrence.reason.into()),
            message: Some(message.into()),
            type_: Some(severity.into()),
            count: Some(1),
            first_timestamp: Some(Time(occurrence.at)),
            last_timestamp: Some(Time(occurrence.at)),
            source: Some(EventSource {
                component: Some(self.component.to_string()),
                host: Some(self.host.to_string()),
            }),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: Some(self.host.to_string()),
            ..Event::default()
        }
    }
}
