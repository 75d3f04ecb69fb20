//! Events (core/v1 `Event`): what a component wants people to know about an object.
//!
//! A recorder never blocks its caller and never floods the API: equal events become one with a count, many similar
//! ones are combined, and an object that causes events without end is cut off. The rules are those of client-go's
//! `EventCorrelator`; [`Correlator`] is their pure half.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Occurrences that wait for the API; more than that are dropped (client-go's `maxQueuedEvents`).
const QUEUE: usize = 1000;
/// How many different keys are remembered (client-go's `maxLruCacheEntries`).
const MEMORY: usize = 4096;
/// So many similar events with different messages are written one by one; the next are combined.
const SIMILAR: usize = 10;
/// Similar events are forgotten when the last was longer ago than this.
const SIMILAR_SECONDS: f64 = 600.0;
/// An object may cause so many events at once …
const BURST: f64 = 25.0;
/// … and one more each time this passes.
const SECONDS_PER_EVENT: f64 = 300.0;

/// An event's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Information.
    Normal,
    /// Something that may be a problem.
    Warning,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The reference by which an event names its object.
pub fn reference_to<K>(object: &K) -> ObjectReference
where
    K: kube::Resource<DynamicType = ()>,
{
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The reference by which an event names a pod, or one container of it: `spec.containers{name}`.
pub fn reference_to_pod(pod: &Pod, container: Option<&str>) -> ObjectReference {
    ObjectReference {
        field_path: container.map(|name| field_path(pod, name)),
        ..reference_to(pod)
    }
}

fn field_path(pod: &Pod, container: &str) -> String {
    let spec = pod.spec.as_ref();
    let mut init = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .into_iter()
        .flatten();
    let mut ephemeral = spec
        .and_then(|spec| spec.ephemeral_containers.as_ref())
        .into_iter()
        .flatten();
    let list = if init.any(|one| one.name == container) {
        "initContainers"
    } else if ephemeral.any(|one| one.name == container) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    format!("spec.{list}{{{container}}}")
}

/// The reference by which a node's own events name it, before it is registered as well: its uid is its name, by which
/// `kubectl describe node` finds them.
pub fn reference_to_node(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some(<Node as k8s_openapi::Resource>::KIND.to_string()),
        name: Some(name.to_string()),
        uid: Some(name.to_string()),
        ..ObjectReference::default()
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
struct Occurrence {
    object: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Records events of one component. Clones share its queue and its memory.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Occurrence>,
}

impl fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRecorder").finish_non_exhaustive()
    }
}

impl EventRecorder {
    /// A recorder whose events come from `component`, and from the node `host` if it is one's.
    ///
    /// Must be called inside a Tokio runtime; its task ends at `shutdown` or with the last clone.
    pub fn new(client: Client, component: &str, host: Option<&str>, shutdown: CancellationToken) -> Self {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let source = EventSource {
            component: Some(component.to_string()),
            host: host.map(str::to_string),
        };
        tokio::spawn(write(client, source, occurrences, shutdown));
        Self { queue }
    }

    /// Records that something happened to `object`. When too many events wait already, this one is lost.
    pub fn record(
        &self,
        object: ObjectReference,
        type_: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let occurrence = Occurrence {
            object,
            type_,
            reason: reason.to_string(),
            message: message.into(),
            at: Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(occurrence) {
            tracing::debug!(%error, "event dropped");
        }
    }
}

async fn write(
    client: Client,
    source: EventSource,
    mut occurrences: mpsc::Receiver<Occurrence>,
    shutdown: CancellationToken,
) {
    let mut correlator = Correlator::default();
    loop {
        let occurrence = tokio::select! {
            occurrence = occurrences.recv() => occurrence,
            () = shutdown.cancelled() => return,
        };
        let Some(occurrence) = occurrence else { return };
        let Some(decision) = correlator.observe(&occurrence) else {
            continue;
        };
        if let Err(error) = store(&client, &source, decision).await {
            tracing::debug!(%error, reason = occurrence.reason, "event not written");
        }
    }
}

async fn store(client: &Client, source: &EventSource, decision: Decision) -> Result<(), Error> {
    let namespace = decision
        .object
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_string());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if decision.count > 1 {
        let patch = json!({
            "count": decision.count,
            "lastTimestamp": Time(decision.last),
            "message": decision.message,
        });
        let patched = events
            .patch(&decision.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        match patched {
            // It has expired: write it anew, with the count it had reached.
            Err(Error::Api(status)) if status.code == 404 => {}
            other => return other.map(|_| ()),
        }
    }
    events
        .create(&PostParams::default(), &event(source, &namespace, decision))
        .await
        .map(|_| ())
}

fn event(source: &EventSource, namespace: &str, decision: Decision) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(decision.name),
            namespace: Some(namespace.to_string()),
            ..ObjectMeta::default()
        },
        involved_object: decision.object,
        type_: Some(decision.type_.name().to_string()),
        reason: Some(decision.reason),
        message: Some(decision.message),
        count: Some(decision.count),
        first_timestamp: Some(Time(decision.first)),
        last_timestamp: Some(Time(decision.last)),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        source: Some(source.clone()),
        ..Event::default()
    }
}

/// What is to be written for an occurrence: a new event if `count` is 1, else a change of the one called `name`.
#[derive(Clone, Debug, PartialEq)]
struct Decision {
    name: String,
    object: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ObjectIdentity {
    api_version: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SimilarKey(ObjectIdentity, EventType, String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EqualKey(SimilarKey, Option<String>, String);

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<String>,
    last: Timestamp,
}

#[derive(Debug)]
struct Written {
    name: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    last: Timestamp,
}

/// Decides what is written for each occurrence.
#[derive(Debug, Default)]
struct Correlator {
    similar: HashMap<SimilarKey, Similar>,
    written: HashMap<EqualKey, Written>,
    buckets: HashMap<ObjectIdentity, Bucket>,
}

impl Correlator {
    /// What to write; `None` if the object has had too many events.
    fn observe(&mut self, occurrence: &Occurrence) -> Option<Decision> {
        let Occurrence {
            object,
            type_,
            reason,
            message,
            at,
        } = occurrence;
        let identity = ObjectIdentity {
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
        };
        self.forget();
        let similar = SimilarKey(identity.clone(), *type_, reason.clone());
        let (key, message) = if self.is_one_of_many(&similar, message, *at) {
            // All further ones share one event, whatever they say.
            let combined = format!("(combined from similar events): {message}");
            (EqualKey(similar, None, String::new()), combined)
        } else {
            let key = EqualKey(similar, object.field_path.clone(), message.clone());
            (key, message.clone())
        };
        let written = self.written.entry(key).or_insert_with(|| Written {
            name: event_name(object, *at),
            count: 0,
            first: *at,
            last: *at,
        });
        written.count = written.count.saturating_add(1);
        written.last = *at;
        let decision = Decision {
            name: written.name.clone(),
            object: object.clone(),
            type_: *type_,
            reason: reason.clone(),
            message,
            count: written.count,
            first: written.first,
            last: *at,
        };
        self.has_token(identity, *at).then_some(decision)
    }

    fn is_one_of_many(&mut self, key: &SimilarKey, message: &str, at: Timestamp) -> bool {
        let similar = self.similar.entry(key.clone()).or_insert_with(|| Similar {
            messages: BTreeSet::new(),
            last: at,
        });
        if seconds_between(similar.last, at) > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.last = at;
        similar.messages.insert(message.to_string());
        if similar.messages.len() < SIMILAR {
            return false;
        }
        // One is dropped, so that the set stays bounded.
        similar.messages.pop_first();
        true
    }

    fn has_token(&mut self, identity: ObjectIdentity, at: Timestamp) -> bool {
        let bucket = self.buckets.entry(identity).or_insert_with(|| Bucket {
            tokens: BURST,
            last: at,
        });
        let refill = seconds_between(bucket.last, at).max(0.0) / SECONDS_PER_EVENT;
        bucket.tokens = (bucket.tokens + refill).min(BURST);
        bucket.last = at;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn forget(&mut self) {
        forget_oldest(&mut self.similar, |similar| similar.last);
        forget_oldest(&mut self.written, |written| written.last);
        forget_oldest(&mut self.buckets, |bucket| bucket.last);
    }
}

/// Halves a full memory; once in every [`MEMORY`] / 2 new keys, so it costs nothing on average.
fn forget_oldest<K: Eq + Hash, V>(memory: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    if memory.len() < MEMORY {
        return;
    }
    let mut times: Vec<Timestamp> = memory.values().map(&last).collect();
    times.sort_unstable();
    if let Some(middle) = times.get(times.len() / 2).copied() {
        memory.retain(|_, value| last(value) > middle);
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// `name.hexadecimal nanoseconds`, as client-go names events.
fn event_name(object: &ObjectReference, at: Timestamp) -> String {
    let name = object.name.as_deref().unwrap_or_default();
    format!("{name}.{:x}", at.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(name: &str, message: &str, second: i64) -> Occurrence {
        Occurrence {
            object: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("default".into()),
                name: Some(name.into()),
                uid: Some(name.into()),
                ..ObjectReference::default()
            },
            type_: EventType::Warning,
            reason: "BackOff".into(),
            message: message.into(),
            at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        }
    }

    #[test]
    fn equal_events_are_one_event_with_a_count() {
        let mut correlator = Correlator::default();
        let first = correlator.observe(&occurrence("a", "m", 0)).unwrap();
        let second = correlator.observe(&occurrence("a", "m", 7)).unwrap();
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(first.name, "a.17979cfe362a0000");
        assert_eq!(second.name, first.name);
        assert_eq!(second.first, first.first);
        assert_eq!(seconds_between(second.first, second.last), 7.0);
        let other = correlator.observe(&occurrence("b", "m", 7)).unwrap();
        assert_eq!(other.count, 1);
    }

    #[test]
    fn two_containers_of_a_pod_have_an_event_each() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "namespace": "default", "name": "a", "uid": "u", "resourceVersion": "7" },
            "spec": {
                "containers": [{ "name": "main" }],
                "initContainers": [{ "name": "first" }],
                "ephemeralContainers": [{ "name": "debugger" }],
            },
        }))
        .unwrap();
        let mut correlator = Correlator::default();
        let cases = [
            (None, None),
            (Some("main"), Some("spec.containers{main}")),
            (Some("first"), Some("spec.initContainers{first}")),
            (Some("debugger"), Some("spec.ephemeralContainers{debugger}")),
        ];
        for (at, (container, path)) in cases.into_iter().enumerate() {
            let mut occurrence = occurrence("a", "m", i64::try_from(at).unwrap());
            occurrence.object = reference_to_pod(&pod, container);
            let decision = correlator.observe(&occurrence).unwrap();
            assert_eq!(decision.count, 1, "{container:?}");
            assert_eq!(decision.object.field_path.as_deref(), path);
            assert_eq!(decision.object.uid.as_deref(), Some("u"));
            assert_eq!(decision.object.resource_version.as_deref(), Some("7"));
        }
    }

    #[test]
    fn a_node_s_own_event_names_the_node_by_its_name_and_says_where_it_comes_from() {
        let mut occurrence = occurrence("n1", "Starting kubelet.", 0);
        occurrence.object = reference_to_node("n1");
        let decision = Correlator::default().observe(&occurrence).unwrap();
        let source = EventSource {
            component: Some("kubelet".into()),
            host: Some("n1".into()),
        };
        let event = serde_json::to_value(event(&source, "default", decision)).unwrap();
        assert_eq!(
            event["involvedObject"],
            json!({ "kind": "Node", "name": "n1", "uid": "n1" })
        );
        assert_eq!(event["source"], json!({ "component": "kubelet", "host": "n1" }));
        assert_eq!(event["reportingComponent"], "kubelet");
        assert_eq!(event["reportingInstance"], "n1");
        assert_eq!(event["type"], "Warning");
    }

    #[test]
    fn the_tenth_similar_message_and_the_next_are_combined() {
        let mut correlator = Correlator::default();
        let decisions: Vec<_> = (0..12)
            .map(|n| {
                correlator
                    .observe(&occurrence("a", &format!("m{n:02}"), n))
                    .unwrap()
            })
            .collect();
        assert!(decisions[..9].iter().all(|d| d.count == 1));
        assert_eq!(
            decisions[9].message,
            "(combined from similar events): m09".to_string()
        );
        assert_eq!((decisions[9].count, decisions[11].count), (1, 3));
        assert_eq!(decisions[11].name, decisions[9].name);
        let later = correlator.observe(&occurrence("a", "late", 700)).unwrap();
        assert_eq!((later.message.as_str(), later.count), ("late", 1));
    }

    #[test]
    fn an_object_that_never_stops_is_cut_off_and_comes_back_with_time() {
        let mut correlator = Correlator::default();
        let written = (0..100)
            .filter(|_| correlator.observe(&occurrence("a", "m", 0)).is_some())
            .count();
        assert_eq!(written, 25);
        assert!(correlator.observe(&occurrence("a", "m", 299)).is_none());
        assert!(correlator.observe(&occurrence("a", "m", 301)).is_some());
        assert!(correlator.observe(&occurrence("b", "m", 301)).is_some());
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..3 * MEMORY {
            correlator.observe(&occurrence(&n.to_string(), "m", n as i64));
        }
        assert!(correlator.written.len() <= MEMORY);
        assert!(correlator.similar.len() <= MEMORY);
        assert!(correlator.buckets.len() <= MEMORY);
    }
}
