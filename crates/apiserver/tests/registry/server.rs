//! A registry on a store in a directory of its own, and the short forms that the tests are written in.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use skiff_api::catalogue;
use skiff_apiserver::registry::{
    Admission, AdmitAll, Entry, Frame, ListOptions, Registry, Resource, WatchOptions, WriteOptions,
};
use skiff_apiserver::{ApiResult, UserInfo};
use skiff_store::{SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn Store>,
    _stop: DropGuard,
    _directory: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Arc::new(AdmitAll), |store| store).await
    }

    pub(crate) async fn with(
        admission: Arc<dyn Admission>,
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let store = wrap(Arc::new(
            SqliteStore::open(&path, SqliteOptions::default()).unwrap(),
        ));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().drop_guard();
        let registry = Registry::open(store.clone(), catalogue::builtin(), admission, shutdown)
            .await
            .unwrap();
        Self {
            registry,
            store,
            _stop: stop,
            _directory: directory,
        }
    }

    /// Another server on the same store.
    pub(crate) async fn another(&self) -> (Arc<Registry>, DropGuard) {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().drop_guard();
        let registry = Registry::open(
            self.store.clone(),
            catalogue::builtin(),
            Arc::new(AdmitAll),
            shutdown,
        );
        (registry.await.unwrap(), stop)
    }

    pub(crate) fn resource(&self, group: &str, plural: &str) -> Arc<Resource> {
        self.registry.resource(group, "v1", plural).unwrap().clone()
    }

    pub(crate) fn config_maps(&self) -> Arc<Resource> {
        self.resource("", "configmaps")
    }
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

pub(crate) fn options() -> WriteOptions {
    WriteOptions {
        user: UserInfo::master("test"),
        ..WriteOptions::default()
    }
}

pub(crate) fn dry_run() -> WriteOptions {
    WriteOptions {
        dry_run: true,
        ..options()
    }
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"value": value}})
}

pub(crate) fn labelled(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": label}}})
}

pub(crate) fn read(entry: &Entry) -> Value {
    serde_json::from_slice(entry.json()).unwrap()
}

pub(crate) fn merge(value: Value) -> Vec<u8> {
    bytes(&value)
}

pub(crate) fn refused<T>(outcome: ApiResult<T>) -> (u16, String, String) {
    match outcome {
        Ok(_) => panic!("should have been refused"),
        Err(error) => (error.code(), error.reason().to_string(), error.to_string()),
    }
}

pub(crate) async fn create(resource: &Resource, namespace: &str, object: &Value) -> Arc<Entry> {
    resource
        .create(namespace, &bytes(object), &options())
        .await
        .unwrap()
        .entry
}

pub(crate) async fn names(resource: &Resource, list: &ListOptions) -> Vec<String> {
    let list = resource.list(list).await.unwrap();
    list.items
        .iter()
        .map(|entry| format!("{}/{}", entry.namespace(), entry.name()))
        .collect()
}

pub(crate) fn in_namespace(namespace: &str) -> ListOptions {
    ListOptions {
        namespace: Some(namespace.into()),
        ..ListOptions::default()
    }
}

pub(crate) async fn watch(
    resource: &Resource,
    change: impl FnOnce(&mut WatchOptions),
) -> BoxStream<'static, Frame> {
    let mut options = WatchOptions::default();
    change(&mut options);
    resource.watch(options).await.unwrap()
}

/// `ADDED a 7`
pub(crate) fn shown(frame: &Frame) -> String {
    match frame {
        Frame::Added(entry) => format!("ADDED {} {}", entry.name(), entry.revision()),
        Frame::Modified(entry) => format!("MODIFIED {} {}", entry.name(), entry.revision()),
        Frame::Deleted(entry) => format!("DELETED {} {}", entry.name(), entry.revision()),
        Frame::Bookmark {
            revision,
            initial_events_end,
        } => {
            format!("BOOKMARK {revision} {initial_events_end}")
        }
        Frame::Error(error) => format!("ERROR {} {error}", error.code()),
    }
}

pub(crate) async fn next(frames: &mut BoxStream<'static, Frame>) -> String {
    match soon(frames.next()).await {
        Some(frame) => shown(&frame),
        None => "END".into(),
    }
}

pub(crate) fn pod(name: &str, node: Option<&str>) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "nodeName": node,
        "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "image": "i"}]
    }})
}
