//! A live copy of every object of a kind, and the callbacks that hear of its changes.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use kube::Client;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::feed::{Feed, Hearer, Told};
use crate::figures::Queues;
use crate::unowned;

/// An object's namespace and name; the namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// The key of the object with this namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key in an object's metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Which objects of a kind a watch is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// A field selector such as `spec.nodeName=n1`; `None` for all.
    pub fields: Option<String>,
    /// A label selector; `None` for all.
    pub labels: Option<String>,
}

/// What [`Informer`] needs of a kind; every `k8s-openapi` object has it.
pub trait Watched:
    Resource + Metadata<Ty = ObjectMeta> + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource + Metadata<Ty = ObjectMeta> + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static
{
}

type Callback<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

struct Shared<K> {
    objects: RwLock<BTreeMap<ObjectKey, Arc<K>>>,
    /// Also held while callbacks run, so that each callback sees the changes in their order.
    callbacks: Mutex<Vec<Callback<K>>>,
    synced: watch::Sender<bool>,
}

/// A live copy of the objects of one kind. Clones share it.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<K> fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer")
            .field("objects", &self.shared.objects.read().len())
            .finish()
    }
}

impl<K: Watched> Default for Informer<K> {
    /// An informer that no watch feeds; tests put objects into it with [`Informer::apply`].
    fn default() -> Self {
        let shared = Shared {
            objects: RwLock::new(BTreeMap::new()),
            callbacks: Mutex::new(Vec::new()),
            synced: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl<K: Watched> Informer<K> {
    /// The object with this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.objects.read().get(key).cloned()
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.objects.read().values().cloned().collect()
    }

    /// The objects of one namespace, in the order of their names.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.shared.objects.read();
        objects
            .range(ObjectKey::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.objects.read().len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls back with the old and the new state of every object that changes, and at once with all that are there.
    ///
    /// The callback runs on the watch's task: it must be quick, must not block, and must not call `on_change`.
    pub fn on_change(&self, callback: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static) {
        let mut callbacks = self.shared.callbacks.lock();
        let present = self.list();
        for object in &present {
            callback(None, Some(object));
        }
        callbacks.push(Box::new(callback));
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Puts an object in, as if the watch had brought it. A watch brings no managed fields.
    pub fn apply(&self, object: K) {
        let key = ObjectKey::of(object.metadata());
        let new = Arc::new(object);
        let callbacks = self.shared.callbacks.lock();
        let old = self.shared.objects.write().insert(key, new.clone());
        let unchanged = old.as_ref().is_some_and(|old| {
            old.metadata().resource_version.is_some() && same_version(old.metadata(), new.metadata())
        });
        if !unchanged {
            callbacks
                .iter()
                .for_each(|callback| callback(old.as_ref(), Some(&new)));
        }
    }

    /// Takes an object out, as if the watch had said that it is deleted.
    pub fn delete(&self, key: &ObjectKey) {
        let callbacks = self.shared.callbacks.lock();
        let old = self.shared.objects.write().remove(key);
        if old.is_some() {
            callbacks.iter().for_each(|callback| callback(old.as_ref(), None));
        }
    }

    fn mark_synced(&self) {
        self.shared.synced.send_replace(true);
    }

    async fn run(self, feed: Feed, trim: Option<Trim<K>>, shutdown: CancellationToken) {
        let mut keeping = Keeping {
            informer: self,
            trim,
            told: Told::default(),
        };
        tokio::select! {
            () = feed.tell(&mut keeping) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// What an informer does with what it hears.
struct Keeping<K> {
    informer: Informer<K>,
    trim: Option<Trim<K>>,
    told: Told,
}

impl<K: Watched> Hearer for Keeping<K> {
    fn begin(&mut self) {
        self.told.begin();
    }

    fn applied(&mut self, json: &[u8]) -> Result<String, serde_json::Error> {
        let mut object: K = unowned::read(json)?;
        self.told.applied(object.metadata());
        if let Some(trim) = &self.trim {
            trim(&mut object);
        }
        let version = object.metadata().resource_version.clone();
        self.informer.apply(object);
        Ok(version.unwrap_or_default())
    }

    fn deleted(&mut self, json: &[u8]) -> Result<String, serde_json::Error> {
        let object: K = unowned::read(json)?;
        let key = ObjectKey::of(object.metadata());
        self.told.deleted(&key);
        self.informer.delete(&key);
        Ok(object.metadata().resource_version.clone().unwrap_or_default())
    }

    fn complete(&mut self) {
        let told = self.told.complete();
        let gone: Vec<ObjectKey> = {
            let objects = self.informer.shared.objects.read();
            objects
                .keys()
                .filter(|key| !told.contains(*key))
                .cloned()
                .collect()
        };
        gone.iter().for_each(|key| self.informer.delete(key));
        self.informer.mark_synced();
    }
}

fn same_version(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.resource_version == new.resource_version && old.uid == new.uid
}

/// An `Informer<K>` by the type id of `K` and what it selects.
type Started = HashMap<(TypeId, Selection), Box<dyn Any + Send + Sync>>;

/// Takes out of an object what nobody reads.
type Trim<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// A `Trim<K>` by the type id of `K`.
type Trims = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

/// The informers of a process; each is started when it is first asked for.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    shutdown: CancellationToken,
    started: Arc<Mutex<Started>>,
    queues: Queues,
    trims: Arc<Mutex<Trims>>,
}

impl fmt::Debug for Informers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informers")
            .field("started", &self.started.lock().len())
            .finish_non_exhaustive()
    }
}

impl Informers {
    /// Informers that read through `client` until `shutdown`.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self {
            client,
            shutdown,
            started: Arc::default(),
            queues: Queues::default(),
            trims: Arc::default(),
        }
    }

    /// Informers of their own that read through the same client and leave out the same, until another `shutdown`. Their
    /// queues are told with the others.
    #[must_use]
    pub fn afresh(&self, shutdown: CancellationToken) -> Self {
        Self {
            client: self.client.clone(),
            shutdown,
            started: Arc::default(),
            queues: self.queues.clone(),
            trims: self.trims.clone(),
        }
    }

    /// The work queues behind the informers.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Takes out of every object of a kind, before it is kept, what nobody who shares these informers reads. Concerns the
    /// informers that are started afterwards.
    pub fn trim<K: Watched>(&self, trim: impl Fn(&mut K) + Send + Sync + 'static) {
        let trim: Trim<K> = Arc::new(trim);
        self.trims.lock().insert(TypeId::of::<K>(), Box::new(trim));
    }

    /// The client that the informers read through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of all objects of a kind, in every namespace.
    pub fn all<K>(&self) -> Informer<K>
    where
        K: Watched + kube::Resource<DynamicType = ()>,
    {
        self.select(Selection::default())
    }

    /// The informer of the objects that a selection names. A second call with an equal selection gives the same one.
    ///
    /// Must be called inside a Tokio runtime.
    pub fn select<K>(&self, selection: Selection) -> Informer<K>
    where
        K: Watched + kube::Resource<DynamicType = ()>,
    {
        let mut started = self.started.lock();
        let slot = (TypeId::of::<K>(), selection.clone());
        if let Some(informer) = started
            .get(&slot)
            .and_then(|any| any.downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let informer = Informer::<K>::default();
        started.insert(slot, Box::new(informer.clone()));
        let trims = self.trims.lock();
        let trim = trims
            .get(&TypeId::of::<K>())
            .and_then(|any| any.downcast_ref::<Trim<K>>());
        let feed = Feed::new(self.client.clone(), K::url_path(&(), None), selection);
        tokio::spawn(informer.clone().run(feed, trim.cloned(), self.shutdown.clone()));
        informer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;
    use tower::{BoxError, service_fn};

    fn config_map(namespace: &str, name: &str, version: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        ConfigMap {
            metadata,
            ..ConfigMap::default()
        }
    }

    #[test]
    fn a_callback_hears_of_what_is_there_and_of_each_change_once() {
        let informer = Informer::default();
        informer.apply(config_map("a", "x", "1"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        informer.on_change(move |old: Option<&Arc<ConfigMap>>, new| {
            let version =
                |object: Option<&Arc<ConfigMap>>| object.and_then(|o| o.metadata.resource_version.clone());
            sink.lock().push((version(old), version(new)));
        });
        informer.apply(config_map("a", "x", "2"));
        informer.apply(config_map("a", "x", "2"));
        informer.delete(&ObjectKey::new("a", "x"));
        informer.delete(&ObjectKey::new("a", "x"));
        let version = |text: &str| Some(text.to_string());
        assert_eq!(
            *heard.lock(),
            [
                (None, version("1")),
                (version("1"), version("2")),
                (version("2"), None)
            ]
        );
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_kept() {
        let mut object = config_map("a", "x", "1");
        object.data = Some(BTreeMap::from([("k".into(), "v".into())]));
        let (object, end) = (
            serde_json::json!({ "type": "ADDED", "object": object }),
            serde_json::json!({ "type": "BOOKMARK", "object": { "metadata": { "resourceVersion": "1",
                "annotations": { "k8s.io/initial-events-end": "true" } } } }),
        );
        let told = format!("{object}\n{end}\n");
        let server = service_fn(move |request: Request<Body>| {
            let told = told.clone();
            async move {
                if !request.uri().to_string().contains("sendInitialEvents") {
                    std::future::pending::<()>().await;
                }
                Ok::<_, BoxError>(Response::new(Body::from(told.into_bytes())))
            }
        });
        let informers = Informers::new(Client::new(server, "default"), CancellationToken::new());
        informers.trim(|object: &mut ConfigMap| object.data = None);
        let kept = informers.all::<ConfigMap>();
        kept.synced().await;
        assert_eq!(kept.list(), [Arc::new(config_map("a", "x", "1"))]);
    }

    #[test]
    fn what_is_not_told_again_is_gone() {
        let informer = Informer::<ConfigMap>::default();
        let mut keeping = Keeping {
            informer: informer.clone(),
            trim: None,
            told: Told::default(),
        };
        let json = |name: &str| serde_json::to_vec(&config_map("a", name, "1")).unwrap();
        let names = || -> Vec<String> {
            informer
                .list()
                .iter()
                .filter_map(|o| o.metadata.name.clone())
                .collect()
        };
        keeping.begin();
        for name in ["x", "y", "z"] {
            keeping.applied(&json(name)).unwrap();
        }
        assert!(!informer.is_synced());
        keeping.complete();
        assert!(informer.is_synced());
        keeping.applied(&json("w")).unwrap();
        keeping.begin();
        keeping.applied(&json("y")).unwrap();
        keeping.applied(&json("z")).unwrap();
        keeping.deleted(&json("z")).unwrap();
        // Until all is told nobody knows what is gone.
        assert_eq!(names(), ["w", "x", "y"]);
        keeping.complete();
        assert_eq!(names(), ["y"]);
    }

    #[test]
    fn a_namespace_is_listed_without_its_neighbours() {
        let informer = Informer::default();
        for namespace in ["a", "a-b", "b"] {
            informer.apply(config_map(namespace, "x", "1"));
            informer.apply(config_map(namespace, "y", "1"));
        }
        let names: Vec<_> = informer
            .list_namespace("a")
            .iter()
            .map(|o| ObjectKey::of(&o.metadata).to_string())
            .collect();
        assert_eq!(names, ["a/x", "a/y"]);
    }
}
