//! The registry's contract, on a real store: what a client may rely on, verb by verb.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, future};
use parking_lot::Mutex;
use serde_json::{Value, json};
use skiff_api::{KindInfo, Object, Subresource, Target, catalogue};
use skiff_apiserver::registry::{
    Admission, AdmissionRequest, AdmitAll, DeleteOptions, Deleted, Entry, FieldValidation, Frame,
    ListOptions, Operation, PatchType, Propagation, Registry, Resource, WatchOptions, WriteOptions,
};
use skiff_apiserver::{ApiError, ApiResult, UserInfo};
use skiff_store::{
    Expect, KeyValue, LeaseId, Page, Range, Read, SqliteOptions, SqliteStore, Store, Watch, Written,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    _stop: DropGuard,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::with(Arc::new(AdmitAll), |store| store).await
    }

    async fn with(
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

    fn resource(&self, group: &str, plural: &str) -> Arc<Resource> {
        self.registry.resource(group, "v1", plural).unwrap().clone()
    }

    fn config_maps(&self) -> Arc<Resource> {
        self.resource("", "configmaps")
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

fn options() -> WriteOptions {
    WriteOptions {
        user: UserInfo::master("test"),
        ..WriteOptions::default()
    }
}

fn dry_run() -> WriteOptions {
    WriteOptions {
        dry_run: true,
        ..options()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"value": value}})
}

fn labelled(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": label}}})
}

fn read(entry: &Entry) -> Value {
    serde_json::from_slice(entry.json()).unwrap()
}

fn merge(value: Value) -> Vec<u8> {
    bytes(&value)
}

fn refused<T>(outcome: ApiResult<T>) -> (u16, String, String) {
    match outcome {
        Ok(_) => panic!("should have been refused"),
        Err(error) => (error.code(), error.reason().to_string(), error.to_string()),
    }
}

async fn create(resource: &Resource, namespace: &str, object: &Value) -> Arc<Entry> {
    resource
        .create(namespace, &bytes(object), &options())
        .await
        .unwrap()
        .entry
}

async fn names(resource: &Resource, list: &ListOptions) -> Vec<String> {
    let list = resource.list(list).await.unwrap();
    list.items
        .iter()
        .map(|entry| format!("{}/{}", entry.namespace(), entry.name()))
        .collect()
}

fn in_namespace(namespace: &str) -> ListOptions {
    ListOptions {
        namespace: Some(namespace.into()),
        ..ListOptions::default()
    }
}

async fn watch(resource: &Resource, change: impl FnOnce(&mut WatchOptions)) -> BoxStream<'static, Frame> {
    let mut options = WatchOptions::default();
    change(&mut options);
    resource.watch(options).await.unwrap()
}

/// `ADDED a 7`
fn shown(frame: &Frame) -> String {
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

async fn next(frames: &mut BoxStream<'static, Frame>) -> String {
    match soon(frames.next()).await {
        Some(frame) => shown(&frame),
        None => "END".into(),
    }
}

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = maps
        .create("ns", &bytes(&config_map("a", "1")), &options())
        .await
        .unwrap();
    assert!(made.created);
    let object = read(&made.entry);
    assert_eq!(object["apiVersion"], "v1");
    assert_eq!(object["kind"], "ConfigMap");
    assert_eq!(object["metadata"]["namespace"], "ns");
    assert_eq!(
        object["metadata"]["resourceVersion"],
        made.entry.revision().to_string()
    );
    assert_eq!(object["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert!(
        object["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );

    let got = maps.get("ns", "a").await.unwrap();
    assert_eq!(got.json(), made.entry.json());
    assert_eq!(
        got.json().as_ptr(),
        made.entry.json().as_ptr(),
        "the write's bytes are the read's"
    );

    let mut changed = object.clone();
    changed["data"]["value"] = "2".into();
    let written = maps
        .update("ns", "a", Target::Main, &bytes(&changed), &options())
        .await
        .unwrap();
    assert!(written.entry.revision() > made.entry.revision());
    let now = read(&maps.get("ns", "a").await.unwrap());
    assert_eq!(now["data"]["value"], "2");
    for kept in ["uid", "creationTimestamp"] {
        assert_eq!(now["metadata"][kept], object["metadata"][kept], "{kept}");
    }

    let deleted = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    assert!(matches!(deleted, Deleted::Removed(_)));
    assert_eq!(
        refused(maps.get("ns", "a").await),
        (404, "NotFound".into(), r#"configmaps "a" not found"#.to_string())
    );
    let again = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await;
    assert_eq!(refused(again).0, 404);
}

#[tokio::test]
async fn a_stored_value_has_no_resource_version_and_upstreams_key() {
    let server = Server::start().await;
    let entry = create(&server.config_maps(), "ns", &config_map("a", "1")).await;
    let stored = server.store.get("/registry/configmaps/ns/a").await.unwrap();
    let stored = stored.value.unwrap();
    assert_eq!(stored.mod_revision, entry.revision());
    let mut object = read(&entry);
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    assert_eq!(serde_json::from_slice::<Value>(&stored.value).unwrap(), object);
}

#[tokio::test]
async fn bad_creates_are_refused_in_upstreams_words() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let cases = [
        (
            config_map("a", "2"),
            (409, "AlreadyExists", r#"configmaps "a" already exists"#),
        ),
        (
            json!({"metadata": {"name": "b", "namespace": "other"}}),
            (
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
        ),
        (
            json!({"metadata": {"name": "b", "resourceVersion": "7"}}),
            (
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ),
        ),
        (
            json!({"metadata": {}}),
            (
                422,
                "Invalid",
                r#"ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#,
            ),
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
            (
                400,
                "BadRequest",
                "the API version in the data (apps/v1) does not match the expected API version (v1)",
            ),
        ),
    ];
    for (object, (code, reason, message)) in cases {
        let outcome = maps.create("ns", &bytes(&object), &options()).await;
        assert_eq!(
            refused(outcome),
            (code, reason.to_string(), message.to_string()),
            "{object}"
        );
    }
    assert_eq!(names(&maps, &ListOptions::default()).await, ["ns/a"]);
}

#[tokio::test]
async fn a_name_is_generated() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let object = json!({"metadata": {"generateName": "web-"}});
    let (one, other) = (
        create(&maps, "ns", &object).await,
        create(&maps, "ns", &object).await,
    );
    for entry in [&one, &other] {
        assert!(entry.name().starts_with("web-"), "{}", entry.name());
        assert_eq!(entry.name().len(), "web-".len() + 5);
    }
    assert_ne!(one.name(), other.name());
}

#[tokio::test]
async fn updates_are_refused_in_upstreams_words() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let first = create(&maps, "ns", &config_map("a", "1")).await;
    let stale = read(&first);
    let mut newer = stale.clone();
    newer["data"]["value"] = "2".into();
    maps.update("ns", "a", Target::Main, &bytes(&newer), &options())
        .await
        .unwrap();

    let uid = stale["metadata"]["uid"].as_str().unwrap();
    let mut other_uid = config_map("a", "3");
    other_uid["metadata"]["uid"] = "no-such-uid".into();
    let uid_message = format!(
        "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: \
         /registry/configmaps/ns/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: \
         no-such-uid, UID in object meta: {uid}"
    );
    let cases = [
        (
            "a",
            stale,
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
             to the latest version and try again"
                .to_string(),
        ),
        ("a", other_uid, 409, uid_message),
        (
            "a",
            config_map("b", "3"),
            400,
            "the name of the object (b) does not match the name on the URL (a)".into(),
        ),
        (
            "a",
            json!({"metadata": {}}),
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided".into(),
        ),
        (
            "x",
            config_map("x", "3"),
            404,
            r#"configmaps "x" not found"#.into(),
        ),
        (
            "a",
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request".into(),
        ),
    ];
    for (name, object, code, message) in cases {
        let outcome = maps
            .update("ns", name, Target::Main, &bytes(&object), &options())
            .await;
        let (found, _, text) = refused(outcome);
        assert_eq!((found, text), (code, message), "{object}");
    }
}

#[tokio::test]
async fn an_update_without_a_version_overwrites_and_one_without_a_change_writes_nothing() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    let body = bytes(&config_map("a", "2"));
    let first = maps
        .update("ns", "a", Target::Main, &body, &options())
        .await
        .unwrap();
    assert!(first.entry.revision() > made.revision());
    let second = maps
        .update("ns", "a", Target::Main, &body, &options())
        .await
        .unwrap();
    assert_eq!(second.entry.revision(), first.entry.revision());
    assert_eq!(server.store.revision().await.unwrap(), first.entry.revision());
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let before = create(&maps, "ns", &config_map("a", "1")).await;
    let revision = server.store.revision().await.unwrap();

    let made = maps
        .create("ns", &bytes(&config_map("b", "1")), &dry_run())
        .await
        .unwrap();
    assert!(read(&made.entry)["metadata"]["uid"].is_string());
    assert!(read(&made.entry)["metadata"]["resourceVersion"].is_null());
    let taken = maps.create("ns", &bytes(&config_map("a", "1")), &dry_run()).await;
    assert_eq!(refused(taken).0, 409);
    let changed = maps
        .update("ns", "a", Target::Main, &bytes(&config_map("a", "2")), &dry_run())
        .await
        .unwrap();
    assert_eq!(read(&changed.entry)["data"]["value"], "2");
    let patched = maps
        .patch(
            "ns",
            "a",
            Target::Main,
            PatchType::Merge,
            &merge(json!({"data": {"x": "y"}})),
            &dry_run(),
        )
        .await
        .unwrap();
    assert_eq!(read(&patched.entry)["data"]["x"], "y");
    let deleted = maps
        .delete("ns", "a", &DeleteOptions::default(), &dry_run())
        .await
        .unwrap();
    assert!(matches!(deleted, Deleted::Removed(_)));

    assert_eq!(server.store.revision().await.unwrap(), revision);
    assert_eq!(maps.get("ns", "a").await.unwrap().json(), before.json());
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let validate = |field_validation| WriteOptions {
        field_validation,
        ..options()
    };
    let body = |name: &str| bytes(&json!({"metadata": {"name": name}, "foo": 1}));
    let strict = maps
        .create("ns", &body("a"), &validate(FieldValidation::Strict))
        .await;
    assert_eq!(
        refused(strict),
        (
            400,
            "BadRequest".into(),
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo""#
                .to_string()
        )
    );
    let warned = maps
        .create("ns", &body("b"), &validate(FieldValidation::Warn))
        .await
        .unwrap();
    assert_eq!(warned.warnings, [r#"unknown field "foo""#]);
    let ignored = maps
        .create("ns", &body("c"), &validate(FieldValidation::Ignore))
        .await
        .unwrap();
    assert!(ignored.warnings.is_empty());
    assert!(read(&ignored.entry)["foo"].is_null());
    let wrong = bytes(&json!({"metadata": {"name": "d"}, "data": {"a": 1}}));
    let (code, _, message) = refused(maps.create("ns", &wrong, &options()).await);
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct \
         field ConfigMap.data of type string"
    );
}

#[tokio::test]
async fn lists_select_by_namespace_label_and_field() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for (namespace, name, label) in [
        ("a", "x", "web"),
        ("a", "y", "db"),
        ("a-b", "x", "web"),
        ("b", "x", "web"),
    ] {
        create(&maps, namespace, &labelled(name, label)).await;
    }
    let list = |namespace: Option<&str>, labels: &str, fields: &str| ListOptions {
        namespace: namespace.map(String::from),
        label_selector: labels.into(),
        field_selector: fields.into(),
        ..ListOptions::default()
    };
    let cases: [(ListOptions, &[&str]); 9] = [
        (list(None, "", ""), &["a-b/x", "a/x", "a/y", "b/x"]),
        (list(Some("a"), "", ""), &["a/x", "a/y"]),
        (list(Some("nobody"), "", ""), &[]),
        (list(None, "app=web", ""), &["a-b/x", "a/x", "b/x"]),
        (list(Some("a"), "app=web", ""), &["a/x"]),
        (list(None, "app!=web", ""), &["a/y"]),
        (list(None, "", "metadata.name=x"), &["a-b/x", "a/x", "b/x"]),
        (list(Some("b"), "", "metadata.name=x"), &["b/x"]),
        (list(None, "", "metadata.namespace=a"), &["a/x", "a/y"]),
    ];
    for (options, expected) in cases {
        assert_eq!(names(&maps, &options).await, expected, "{options:?}");
    }
    let (code, _, message) = refused(maps.list(&list(None, "", "spec.x=1")).await);
    assert_eq!(code, 400);
    assert_eq!(
        message,
        r#""spec.x" is not a known field selector: only "metadata.name", "metadata.namespace""#
    );
    assert_eq!(refused(maps.list(&list(None, "a in (", "")).await).0, 400);
}

#[tokio::test]
async fn pages_show_one_revision_whatever_is_written_between_them() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for number in 0..50 {
        let label = if number % 2 == 0 { "even" } else { "odd" };
        create(&maps, "ns", &labelled(&format!("m{number:02}"), label)).await;
    }
    for selector in ["", "app=even"] {
        let mut options = ListOptions {
            label_selector: selector.into(),
            limit: Some(7),
            ..in_namespace("ns")
        };
        let expected = names(
            &maps,
            &ListOptions {
                limit: None,
                ..options.clone()
            },
        )
        .await;
        let mut found = Vec::new();
        let mut versions = BTreeSet::new();
        for turn in 0.. {
            let page = maps.list(&options).await.unwrap();
            assert!(page.items.len() <= 7);
            found.extend(page.items.iter().map(|entry| format!("ns/{}", entry.name())));
            versions.insert(page.resource_version);
            if selector.is_empty() && page.continue_.is_some() {
                assert_eq!(
                    page.remaining,
                    Some((expected.len() - found.len()) as i64),
                    "page {turn}"
                );
            } else {
                assert_eq!(page.remaining, None);
            }
            // Between the pages some objects come and some go.
            create(
                &maps,
                "ns",
                &labelled(&format!("m{turn:02}-{selector}x").replace('=', "-"), "even"),
            )
            .await;
            let last = names(&maps, &in_namespace("ns")).await.pop().unwrap();
            maps.delete(
                "ns",
                last.strip_prefix("ns/").unwrap(),
                &DeleteOptions::default(),
                &self::options(),
            )
            .await
            .unwrap();
            match page.continue_ {
                None => break,
                token => options.continue_ = token,
            }
        }
        assert_eq!(found, expected, "{selector:?}");
        assert_eq!(versions.len(), 1, "{selector:?}");
    }
}

#[tokio::test]
async fn a_page_that_is_compacted_away_goes_on_with_the_present() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for name in ["a", "b", "c", "d"] {
        create(&maps, "ns", &config_map(name, "1")).await;
    }
    let mut options = ListOptions {
        limit: Some(2),
        ..ListOptions::default()
    };
    options.continue_ = maps.list(&options).await.unwrap().continue_;
    create(&maps, "ns", &config_map("e", "1")).await;
    let now = server.store.revision().await.unwrap();
    server.store.compact(now).await.unwrap();
    let error = maps.list(&options).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (410, "Expired"));
    assert!(
        error
            .to_string()
            .starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    options.continue_ = error.0.metadata.continue_.clone();
    options.limit = Some(10);
    assert_eq!(names(&maps, &options).await, ["ns/c", "ns/d", "ns/e"]);

    let exact = ListOptions {
        resource_version: Some((now - 1).to_string()),
        resource_version_match: Some("Exact".into()),
        ..ListOptions::default()
    };
    let (code, _, message) = refused(maps.list(&exact).await);
    assert_eq!(
        (code, message.as_str()),
        (410, "The resourceVersion for the provided list is too old.")
    );
}

#[tokio::test]
async fn a_list_can_be_of_a_past_revision_and_waits_for_none_in_the_future() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let first = create(&maps, "ns", &config_map("a", "1")).await;
    create(&maps, "ns", &config_map("b", "1")).await;
    let at = |version: i64, match_: &str| ListOptions {
        resource_version: Some(version.to_string()),
        resource_version_match: Some(match_.into()),
        ..ListOptions::default()
    };
    let past = maps.list(&at(first.revision(), "Exact")).await.unwrap();
    assert_eq!(past.resource_version, first.revision());
    assert_eq!(past.items.len(), 1);
    assert_eq!(past.items[0].json(), first.json());
    assert_eq!(
        names(&maps, &at(first.revision(), "NotOlderThan")).await,
        ["ns/a", "ns/b"]
    );
    for match_ in ["Exact", "NotOlderThan"] {
        let error = maps.list(&at(9999, match_)).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (504, "Timeout"), "{match_}");
        assert!(
            error
                .to_string()
                .starts_with("Timeout: Too large resource version: 9999, current: "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_each_change() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    let mut frames = watch(&maps, |_| {}).await;
    assert_eq!(next(&mut frames).await, format!("ADDED a {}", made.revision()));
    let changed = maps
        .update("ns", "a", Target::Main, &bytes(&config_map("a", "2")), &options())
        .await
        .unwrap();
    assert_eq!(
        next(&mut frames).await,
        format!("MODIFIED a {}", changed.entry.revision())
    );
    maps.delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    let frame = soon(frames.next()).await.unwrap();
    let gone = server.store.revision().await.unwrap();
    assert_eq!(shown(&frame), format!("DELETED a {gone}"));
    let line: Value = serde_json::from_slice(&frame.line(maps.info())).unwrap();
    assert_eq!(line["type"], "DELETED");
    assert_eq!(line["object"]["data"]["value"], "2", "the last state");
    assert_eq!(line["object"]["metadata"]["resourceVersion"], gone.to_string());

    // From a version on: only what came after it.
    let mut frames = watch(&maps, |options| {
        options.resource_version = Some(made.revision().to_string());
    })
    .await;
    assert_eq!(
        next(&mut frames).await,
        format!("MODIFIED a {}", changed.entry.revision())
    );
    assert_eq!(next(&mut frames).await, format!("DELETED a {gone}"));
}

#[tokio::test]
async fn watches_share_the_line_of_an_event() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(watch(&maps, |_| {}).await);
    }
    create(&maps, "ns", &config_map("a", "1")).await;
    let mut lines = Vec::new();
    for frames in &mut watches {
        lines.push(soon(frames.next()).await.unwrap().line(maps.info()));
    }
    assert!(
        lines[0]
            .starts_with(br#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"#)
    );
    assert!(lines[0].ends_with(b"}\n"));
    assert!(lines.iter().all(|line| line.as_ptr() == lines[0].as_ptr()));
}

#[tokio::test]
async fn a_watch_with_a_selector_shows_objects_begin_and_cease_to_match() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &labelled("a", "web")).await;
    create(&maps, "ns", &labelled("b", "db")).await;
    create(&maps, "other", &labelled("c", "web")).await;
    let mut frames = watch(&maps, |options| {
        options.namespace = Some("ns".into());
        options.label_selector = "app=web".into();
    })
    .await;
    let relabel = async |name: &str, label: &str| {
        let body = bytes(&labelled(name, label));
        let written = maps.update("ns", name, Target::Main, &body, &options()).await;
        written.unwrap().entry.revision()
    };
    assert!(next(&mut frames).await.starts_with("ADDED a "));
    let revision = relabel("a", "db").await;
    let frame = soon(frames.next()).await.unwrap();
    assert_eq!(shown(&frame), format!("DELETED a {revision}"));
    let Frame::Deleted(entry) = frame else { panic!() };
    assert_eq!(
        read(&entry)["metadata"]["labels"]["app"],
        "web",
        "the state in which it matched"
    );
    let revision = relabel("b", "web").await;
    assert_eq!(next(&mut frames).await, format!("ADDED b {revision}"));
    relabel("a", "x").await;
    create(&maps, "other", &labelled("d", "web")).await;
    let revision = relabel("a", "web").await;
    assert_eq!(
        next(&mut frames).await,
        format!("ADDED a {revision}"),
        "nothing in between was shown"
    );
}

#[tokio::test]
async fn a_streamed_list_is_marked_at_its_end() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    let mut frames = watch(&maps, |options| {
        options.send_initial_events = Some(true);
        options.resource_version_match = Some("NotOlderThan".into());
        options.allow_bookmarks = true;
    })
    .await;
    assert_eq!(next(&mut frames).await, format!("ADDED a {}", made.revision()));
    let frame = soon(frames.next()).await.unwrap();
    assert_eq!(shown(&frame), format!("BOOKMARK {} true", made.revision()));
    let line: Value = serde_json::from_slice(&frame.line(maps.info())).unwrap();
    assert_eq!(
        line,
        json!({"type": "BOOKMARK", "object": {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {
            "resourceVersion": made.revision().to_string(),
            "creationTimestamp": null,
            "annotations": {"k8s.io/initial-events-end": "true"}
        }}})
    );
}

#[tokio::test]
async fn a_watch_ends_in_time_and_is_told_before_how_far_it_is() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    create(
        &server.resource("", "secrets"),
        "ns",
        &json!({"metadata": {"name": "s"}}),
    )
    .await;
    let now = server.store.revision().await.unwrap();
    server.registry.ready().await.unwrap();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut frames = watch(&maps, |options| {
        options.resource_version = Some((now - 1).to_string());
        options.allow_bookmarks = true;
        options.timeout = Duration::from_secs(90);
    })
    .await;
    let bookmark = format!("BOOKMARK {now} false");
    let mut at = Vec::new();
    while let Some(frame) = frames.next().await {
        assert_eq!(
            shown(&frame),
            bookmark,
            "the secret's revision, though nothing of ours changed"
        );
        at.push(start.elapsed().as_secs());
    }
    assert_eq!(at, [60, 88]);
    assert_eq!(start.elapsed().as_secs(), 90);
}

#[tokio::test]
async fn a_watch_from_before_what_is_kept_is_told_to_list_again() {
    let server = Server::start().await;
    create(&server.config_maps(), "ns", &config_map("a", "1")).await;
    let now = server.store.revision().await.unwrap();
    // Another server on the same store knows nothing of what was before it.
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let second = Registry::open(
        server.store.clone(),
        catalogue::builtin(),
        Arc::new(AdmitAll),
        stop,
    )
    .await
    .unwrap();
    let maps = second.resource("", "v1", "configmaps").unwrap();
    assert_eq!(names(maps, &ListOptions::default()).await, ["ns/a"]);
    let mut frames = watch(maps, |options| options.resource_version = Some("1".into())).await;
    assert_eq!(
        next(&mut frames).await,
        format!("ERROR 410 too old resource version: 1 ({now})")
    );
    assert_eq!(next(&mut frames).await, "END");
    let mut frames = watch(maps, |options| options.resource_version = Some(now.to_string())).await;
    let made = create(&server.config_maps(), "ns", &config_map("b", "1")).await;
    assert_eq!(next(&mut frames).await, format!("ADDED b {}", made.revision()));
}

/// Follows a watch from a list on, until it sees an object.
async fn follow(resource: &Resource, until: &str) -> BTreeMap<String, Bytes> {
    let list = resource.list(&ListOptions::default()).await.unwrap();
    let mut state: BTreeMap<String, Bytes> = list
        .items
        .iter()
        .map(|entry| (entry.name().to_string(), entry.json().clone()))
        .collect();
    let mut frames = watch(resource, |options| {
        options.resource_version = Some(list.resource_version.to_string());
    })
    .await;
    let mut last = list.resource_version;
    loop {
        let frame = soon(frames.next()).await.expect("the watch goes on");
        let (entry, before) = match &frame {
            Frame::Added(entry) => (entry, state.insert(entry.name().into(), entry.json().clone())),
            Frame::Modified(entry) => {
                let before = state.insert(entry.name().into(), entry.json().clone());
                assert!(before.is_some(), "{} of what was not there", shown(&frame));
                (entry, None)
            }
            Frame::Deleted(entry) => {
                assert!(state.remove(entry.name()).is_some(), "{} twice", shown(&frame));
                (entry, None)
            }
            other => panic!("{}", shown(other)),
        };
        assert!(before.is_none(), "{} of what was there", shown(&frame));
        assert!(entry.revision() > last, "in order");
        last = entry.revision();
        if entry.name() == until {
            return state;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_and_the_changes_after_it_make_the_final_list_under_concurrent_writes() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let maps = maps.clone();
            tokio::spawn(async move {
                for turn in 0..60_u32 {
                    let name = format!("m{}", (turn * 7 + writer) % 10);
                    let body = bytes(&config_map(&name, &format!("{writer}-{turn}")));
                    // Each of these may be refused because another writer was quicker.
                    match turn % 3 {
                        0 => drop(maps.create("ns", &body, &options()).await),
                        1 => drop(maps.update("ns", &name, Target::Main, &body, &options()).await),
                        _ if turn % 2 == 0 => {
                            drop(
                                maps.delete("ns", &name, &DeleteOptions::default(), &options())
                                    .await,
                            );
                        }
                        _ => {
                            let patch = merge(json!({"data": {"patched": writer.to_string()}}));
                            drop(
                                maps.patch("ns", &name, Target::Main, PatchType::Merge, &patch, &options())
                                    .await,
                            );
                        }
                    }
                }
            })
        })
        .collect();
    let followers: Vec<_> = (0..6)
        .map(|_| {
            let maps = maps.clone();
            tokio::spawn(async move { follow(&maps, "the-end").await })
        })
        .collect();
    for done in future::join_all(writers).await {
        done.unwrap();
    }
    create(&maps, "ns", &config_map("the-end", "")).await;
    let expected: BTreeMap<String, Bytes> = maps
        .list(&ListOptions::default())
        .await
        .unwrap()
        .items
        .iter()
        .map(|entry| (entry.name().to_string(), entry.json().clone()))
        .collect();
    for follower in followers {
        assert_eq!(follower.await.unwrap(), expected);
    }
    // And the store says the same.
    let stored = server
        .store
        .range(Range {
            prefix: "/registry/configmaps/".into(),
            ..Range::default()
        })
        .await
        .unwrap();
    let stored: Vec<(String, i64)> = stored
        .items
        .iter()
        .map(|item| {
            (
                item.key.rsplit('/').next().unwrap().to_string(),
                item.mod_revision,
            )
        })
        .collect();
    let listed: Vec<(String, i64)> = maps
        .list(&ListOptions::default())
        .await
        .unwrap()
        .items
        .iter()
        .map(|entry| (entry.name().to_string(), entry.revision()))
        .collect();
    assert_eq!(stored, listed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_gets_every_change() {
    const WATCHERS: usize = 100;
    const CHANGES: usize = 500;
    let server = Server::start().await;
    let maps = server.config_maps();
    let mut tasks = Vec::new();
    for _ in 0..WATCHERS {
        let frames = watch(&maps, |_| {}).await;
        tasks.push(tokio::spawn(async move {
            let frames: Vec<Frame> = frames.take(CHANGES).collect().await;
            frames
                .iter()
                .filter(|frame| matches!(frame, Frame::Added(_)))
                .count()
        }));
    }
    let names: Vec<String> = (0..CHANGES).map(|number| format!("m{number}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(64, async |name| {
            create(&maps, "ns", &config_map(name, "1")).await;
        })
        .await;
    for task in tasks {
        assert_eq!(soon(task).await.unwrap(), CHANGES);
    }
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_the_last_is_gone() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(
        &maps,
        "ns",
        &json!({"metadata": {"name": "a", "finalizers": ["example.com/one", "example.com/two"]}}),
    )
    .await;
    let deleted = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    let Deleted::Marked(marked) = deleted else {
        panic!("{deleted:?}")
    };
    let meta = &read(&marked)["metadata"];
    assert!(meta["deletionTimestamp"].is_string());
    assert_eq!(meta["deletionGracePeriodSeconds"], 0);

    // Again: nothing new.
    let again = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    assert!(matches!(&again, Deleted::Marked(entry) if entry.revision() == marked.revision()));
    let taken = maps.create("ns", &bytes(&config_map("a", "1")), &options()).await;
    assert_eq!(
        refused(taken).2,
        r#"object is being deleted: configmaps "a" already exists"#
    );
    let finalize = async |finalizers: Value| {
        let patch = merge(json!({"metadata": {"finalizers": finalizers}}));
        maps.patch("ns", "a", Target::Main, PatchType::Merge, &patch, &options())
            .await
    };
    let (code, _, message) = refused(finalize(json!(["example.com/one", "example.com/new"])).await);
    assert_eq!(code, 422);
    assert!(
        message.contains("no new finalizers can be added if the object is being deleted"),
        "{message}"
    );
    finalize(json!(["example.com/two"])).await.unwrap();
    assert!(maps.get("ns", "a").await.is_ok());
    let mut frames = watch(&maps, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED a "));
    finalize(Value::Null).await.unwrap();
    assert!(next(&mut frames).await.starts_with("DELETED a "));
    assert_eq!(refused(maps.get("ns", "a").await).0, 404);
}

#[tokio::test]
async fn a_propagation_policy_is_a_finalizer() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let cases = [
        (Some(Propagation::Foreground), None, Some("foregroundDeletion")),
        (Some(Propagation::Orphan), None, Some("orphan")),
        (Some(Propagation::Background), None, None),
        (None, Some(true), Some("orphan")),
        (None, Some(false), None),
    ];
    for (propagation, orphan_dependents, finalizer) in cases {
        create(&maps, "ns", &config_map("a", "1")).await;
        let delete = DeleteOptions {
            propagation,
            orphan_dependents,
            ..DeleteOptions::default()
        };
        let deleted = maps.delete("ns", "a", &delete, &options()).await.unwrap();
        match (finalizer, deleted) {
            (None, Deleted::Removed(_)) => {}
            (Some(finalizer), Deleted::Marked(entry)) => {
                assert_eq!(read(&entry)["metadata"]["finalizers"], json!([finalizer]));
                let background = DeleteOptions {
                    propagation: Some(Propagation::Background),
                    ..DeleteOptions::default()
                };
                maps.delete("ns", "a", &background, &options()).await.unwrap();
                assert_eq!(
                    refused(maps.get("ns", "a").await).0,
                    404,
                    "another policy releases it"
                );
            }
            (expected, deleted) => panic!("{expected:?} {deleted:?}"),
        }
    }
    let both = DeleteOptions {
        propagation: Some(Propagation::Orphan),
        orphan_dependents: Some(true),
        ..DeleteOptions::default()
    };
    assert_eq!(
        refused(maps.delete("ns", "a", &both, &options()).await).2,
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and \
         deletionPropagation cannot be both set"
    );
    assert_eq!(
        Propagation::parse("Sideways").unwrap_err().to_string(),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported \
         values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
    );
}

#[tokio::test]
async fn a_delete_holds_to_its_preconditions() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let entry = create(&maps, "ns", &config_map("a", "1")).await;
    let uid = read(&entry)["metadata"]["uid"].as_str().unwrap().to_string();
    let other_uid = DeleteOptions {
        uid: Some("other".into()),
        ..DeleteOptions::default()
    };
    assert_eq!(
        refused(maps.delete("ns", "a", &other_uid, &options()).await),
        (
            409,
            "Conflict".into(),
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match \
                 the UID in record ({uid}). The object might have been deleted and then recreated"
            )
        )
    );
    let other_version = DeleteOptions {
        resource_version: Some("1".into()),
        ..DeleteOptions::default()
    };
    assert_eq!(
        refused(maps.delete("ns", "a", &other_version, &options()).await).0,
        409
    );
    let right = DeleteOptions {
        uid: Some(uid),
        resource_version: Some(entry.revision().to_string()),
        ..DeleteOptions::default()
    };
    maps.delete("ns", "a", &right, &options()).await.unwrap();
}

fn pod(name: &str, node: Option<&str>) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "nodeName": node,
        "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "image": "i"}]
    }})
}

#[tokio::test]
async fn a_pod_is_given_its_grace_period() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    let delete = async |name: &str, grace_period: Option<i64>| {
        let delete = DeleteOptions {
            grace_period,
            ..DeleteOptions::default()
        };
        pods.delete("ns", name, &delete, &options()).await.unwrap()
    };
    let grace = |deleted: &Deleted| match deleted {
        Deleted::Marked(entry) => read(entry)["metadata"]["deletionGracePeriodSeconds"].as_i64(),
        Deleted::Removed(_) => None,
    };
    create(&pods, "ns", &pod("a", Some("n"))).await;
    let first = delete("a", None).await;
    assert_eq!(grace(&first), Some(30));
    // A longer one changes nothing, a shorter one does, from the same beginning.
    assert_eq!(grace(&delete("a", Some(60)).await), Some(30));
    assert_eq!(grace(&delete("a", None).await), Some(30));
    let shorter = delete("a", Some(10)).await;
    assert_eq!(grace(&shorter), Some(10));
    let deadline = |deleted: &Deleted| {
        let object = read(deleted.entry());
        object["metadata"]["deletionTimestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_second()
    };
    assert_eq!(deadline(&first) - deadline(&shorter), 20);
    assert!(matches!(delete("a", Some(0)).await, Deleted::Removed(_)));
    assert_eq!(refused(pods.get("ns", "a").await).0, 404);

    create(&pods, "ns", &pod("unscheduled", None)).await;
    assert!(matches!(delete("unscheduled", None).await, Deleted::Removed(_)));
    assert_eq!(refused(pods.get("ns", "unscheduled").await).0, 404);
}

#[tokio::test]
async fn pods_are_selected_by_their_node() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    create(&pods, "ns", &pod("a", Some("n1"))).await;
    create(&pods, "ns", &pod("b", Some("n2"))).await;
    create(&pods, "ns", &pod("c", None)).await;
    let on = |node: &str| ListOptions {
        field_selector: format!("spec.nodeName={node}"),
        ..ListOptions::default()
    };
    assert_eq!(names(&pods, &on("n1")).await, ["ns/a"]);
    assert_eq!(names(&pods, &on("")).await, ["ns/c"]);
    let mut frames = watch(&pods, |options| {
        options.field_selector = "spec.nodeName=n2".into();
    })
    .await;
    assert!(next(&mut frames).await.starts_with("ADDED b "));
    let (code, _, message) = refused(
        pods.list(&ListOptions {
            field_selector: "spec.x=1".into(),
            ..ListOptions::default()
        })
        .await,
    );
    assert_eq!(
        (code, message.as_str()),
        (400, "field label not supported: spec.x")
    );
}

#[tokio::test]
async fn a_namespace_is_held_by_its_own_finalizers() {
    let server = Server::start().await;
    let namespaces = server.resource("", "namespaces");
    create(&namespaces, "", &json!({"metadata": {"name": "a"}})).await;
    let deleted = namespaces
        .delete("", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    let Deleted::Marked(entry) = deleted else {
        panic!("{deleted:?}")
    };
    let object = read(&entry);
    assert_eq!(object["status"]["phase"], "Terminating");
    assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
    let mut finalized = object.clone();
    finalized["spec"]["finalizers"] = json!([]);
    namespaces
        .update(
            "",
            "a",
            Target::Subresource(Subresource::Finalize),
            &bytes(&finalized),
            &options(),
        )
        .await
        .unwrap();
    assert_eq!(refused(namespaces.get("", "a").await).0, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for (name, label) in [("a", "web"), ("b", "db"), ("c", "web")] {
        create(&maps, "ns", &labelled(name, label)).await;
    }
    create(&maps, "other", &labelled("a", "web")).await;
    let selected = ListOptions {
        label_selector: "app=web".into(),
        ..in_namespace("ns")
    };
    let gone = maps
        .delete_collection(&selected, &DeleteOptions::default(), &options())
        .await
        .unwrap();
    assert_eq!(gone.items.len(), 2);
    assert_eq!(names(&maps, &ListOptions::default()).await, ["ns/b", "other/a"]);
}

#[tokio::test]
async fn patches_of_each_type_change_an_object() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let patch = async |type_, body: Value| {
        let body = bytes(&body);
        let written = maps
            .patch("ns", "a", Target::Main, type_, &body, &options())
            .await?;
        ApiResult::Ok(read(&written.entry)["data"].clone())
    };
    assert_eq!(
        patch(PatchType::Merge, json!({"data": {"x": "1"}}))
            .await
            .unwrap(),
        json!({"value": "1", "x": "1"})
    );
    assert_eq!(
        patch(PatchType::Strategic, json!({"data": {"x": null, "y": "2"}}))
            .await
            .unwrap(),
        json!({"value": "1", "y": "2"})
    );
    assert_eq!(
        patch(PatchType::Json, json!([{"op": "remove", "path": "/data/y"}]))
            .await
            .unwrap(),
        json!({"value": "1"})
    );
    let cases = [
        (
            PatchType::Json,
            json!([{"op": "test", "path": "/data/value", "value": "x"}]),
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            PatchType::Merge,
            json!([]),
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            PatchType::Strategic,
            json!({"data": {"$patch": "jump"}}),
            400,
            "unknown patch type: jump in map: map[]",
        ),
        (
            PatchType::Merge,
            json!({"metadata": {"resourceVersion": "1"}}),
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
             to the latest version and try again",
        ),
        (
            PatchType::Merge,
            json!({"metadata": {"name": "b"}}),
            422,
            r#"ConfigMap "a" is invalid: metadata.name: Invalid value: "b": field is immutable"#,
        ),
        (
            PatchType::Merge,
            json!({"apiVersion": "v2"}),
            400,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
    ];
    for (type_, body, code, message) in cases {
        let (found, _, text) = refused(patch(type_, body.clone()).await);
        assert_eq!((found, text.as_str()), (code, message), "{body}");
    }
    let missing = maps
        .patch("ns", "x", Target::Main, PatchType::Merge, b"{}", &options())
        .await;
    assert_eq!(refused(missing).0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_patches_all_count() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let maps = maps.clone();
            tokio::spawn(async move {
                let patch = merge(json!({"data": {format!("k{number}"): "v"}}));
                maps.patch("ns", "a", Target::Main, PatchType::Merge, &patch, &options())
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    let data = read(&maps.get("ns", "a").await.unwrap())["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 41);
}

#[tokio::test]
async fn status_is_written_apart_from_the_rest() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    create(&pods, "ns", &pod("a", Some("n"))).await;
    let status = Target::Subresource(Subresource::Status);
    let patch = json!({
        "metadata": {"labels": {"x": "y"}},
        "spec": {"nodeName": "elsewhere"},
        "status": {"phase": "Running"}
    });
    let written = pods
        .patch(
            "ns",
            "a",
            status,
            PatchType::Strategic,
            &bytes(&patch),
            &options(),
        )
        .await
        .unwrap();
    let object = read(&written.entry);
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(object["spec"]["nodeName"], "n");
    let mut changed = object.clone();
    changed["status"]["phase"] = "Failed".into();
    changed["metadata"]["labels"] = json!({"a": "b"});
    let written = pods
        .update("ns", "a", Target::Main, &bytes(&changed), &options())
        .await
        .unwrap();
    let object = read(&written.entry);
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(object["metadata"]["labels"], json!({"a": "b"}));
}

#[tokio::test]
async fn an_object_is_modified_in_place() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let written = maps
        .modify("ns", "a", Target::Main, &options(), |object| {
            let annotations = object.metadata_mut().annotations.get_or_insert_default();
            annotations.insert("x".into(), "y".into());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(read(&written.entry)["metadata"]["annotations"]["x"], "y");
    let refusal = maps
        .modify("ns", "a", Target::Main, &options(), |_| {
            Err(ApiError::bad_request("no"))
        })
        .await;
    assert_eq!(refused(refusal).2, "no");
}

#[tokio::test]
async fn events_hang_on_a_lease_that_they_share() {
    let server = Server::start().await;
    let events = server.resource("", "events");
    for name in ["a", "b"] {
        let event = json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}
        });
        create(&events, "ns", &event).await;
    }
    let lease = async |name: &str| {
        let key = format!("/registry/events/ns/{name}");
        server.store.get(&key).await.unwrap().value.unwrap().lease
    };
    let shared = lease("a").await.expect("a lease");
    assert_eq!(lease("b").await, Some(shared));
    let mut frames = watch(&events, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED a"));
    assert!(next(&mut frames).await.starts_with("ADDED b"));
    server.store.lease_revoke(shared).await.unwrap();
    assert!(next(&mut frames).await.starts_with("DELETED "));
    assert!(next(&mut frames).await.starts_with("DELETED "));
    // A lease that has ended is not used again.
    let event = json!({
        "metadata": {"name": "c"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}
    });
    create(&events, "ns", &event).await;
    assert!(lease("c").await.is_some_and(|lease| lease != shared));
}

/// Remembers what it was asked, and refuses objects that are called `refused`.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

#[async_trait]
impl Admission for Recorder {
    async fn admit(&self, request: &AdmissionRequest<'_>, object: &mut dyn Object) -> ApiResult<()> {
        let verb = match request.operation {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
        };
        let old = if request.old.is_some() { " over old" } else { "" };
        self.0.lock().push(format!(
            "{verb} {}/{}{old} by {}",
            request.namespace, request.name, request.user.name
        ));
        if request.name == "refused" {
            return Err(ApiError::forbidden(request.info, request.name, "by test"));
        }
        let labels = object.metadata_mut().labels.get_or_insert_default();
        labels.insert("admitted".into(), "yes".into());
        Ok(())
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        self.0.lock().push(format!("delete {}", request.name));
        if request.name == "kept" {
            return Err(ApiError::forbidden(request.info, request.name, "by test"));
        }
        Ok(())
    }

    async fn released(&self, _: &KindInfo, object: &dyn Object) {
        let name = object.metadata().name.clone().unwrap_or_default();
        self.0.lock().push(format!("released {name}"));
    }
}

#[tokio::test]
async fn admission_sees_every_write_and_what_came_of_it() {
    let admission = Arc::new(Recorder::default());
    let server = Server::with(admission.clone(), |store| store).await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    assert_eq!(read(&made)["metadata"]["labels"]["admitted"], "yes");
    let taken = maps.create("ns", &bytes(&config_map("a", "1")), &options()).await;
    assert_eq!(refused(taken).0, 409);
    let refusal = maps
        .create("ns", &bytes(&config_map("refused", "1")), &options())
        .await;
    assert_eq!(
        refused(refusal).2,
        r#"configmaps "refused" is forbidden: by test"#
    );
    maps.update("ns", "a", Target::Main, &bytes(&config_map("a", "2")), &options())
        .await
        .unwrap();
    maps.delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    create(&maps, "ns", &config_map("kept", "1")).await;
    let kept = maps
        .delete("ns", "kept", &DeleteOptions::default(), &options())
        .await;
    assert_eq!(refused(kept).0, 403);
    // A write that the cache was too old for asks again.
    let mut asked = std::mem::take(&mut *admission.0.lock());
    asked.dedup();
    assert_eq!(
        asked,
        [
            "create ns/a by test",
            "released a",
            "create ns/refused by test",
            "update ns/a over old by test",
            "delete a",
            "released a",
            "create ns/kept by test",
            "delete kept",
        ]
    );
}

/// A store whose watches can be cut.
struct Cuttable {
    store: Arc<dyn Store>,
    cut: watch::Sender<u64>,
    is_down: AtomicBool,
}

#[async_trait]
impl Store for Cuttable {
    async fn revision(&self) -> skiff_store::Result<i64> {
        self.store.revision().await
    }
    async fn get(&self, key: &str) -> skiff_store::Result<Read<Option<KeyValue>>> {
        self.store.get(key).await
    }
    async fn range(&self, range: Range) -> skiff_store::Result<Page> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(skiff_store::Error::Unavailable("cut".into()));
        }
        self.store.range(range).await
    }
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> skiff_store::Result<Written> {
        self.store.put(key, value, expect, lease).await
    }
    async fn delete(&self, key: &str, expect: Expect) -> skiff_store::Result<Written> {
        self.store.delete(key, expect).await
    }
    async fn watch(&self, prefix: &str, after: i64) -> skiff_store::Result<Watch> {
        let mut cut = self.cut.subscribe();
        let changes = self.store.watch(prefix, after).await?;
        Ok(changes.take_until(async move { cut.changed().await }).boxed())
    }
    async fn compact(&self, revision: i64) -> skiff_store::Result<()> {
        self.store.compact(revision).await
    }
    async fn lease_grant(&self, ttl: Duration) -> skiff_store::Result<LeaseId> {
        self.store.lease_grant(ttl).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> skiff_store::Result<()> {
        self.store.lease_keep_alive(lease).await
    }
    async fn lease_revoke(&self, lease: LeaseId) -> skiff_store::Result<()> {
        self.store.lease_revoke(lease).await
    }
}

#[tokio::test]
async fn a_store_that_was_out_of_reach_is_listed_anew() {
    let mut cuttable = None;
    let server = Server::with(Arc::new(AdmitAll), |store| {
        let store = Arc::new(Cuttable {
            store,
            cut: watch::Sender::new(0),
            is_down: AtomicBool::new(false),
        });
        cuttable = Some(store.clone());
        store
    })
    .await;
    let cuttable = cuttable.unwrap();
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let mut frames = watch(&maps, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED a "));

    cuttable.is_down.store(true, Ordering::SeqCst);
    cuttable.cut.send_modify(|cuts| *cuts += 1);
    // Written behind the server's back.
    let value = server
        .store
        .get("/registry/configmaps/ns/a")
        .await
        .unwrap()
        .value
        .unwrap();
    let text = String::from_utf8(value.value.to_vec())
        .unwrap()
        .replace(r#""a""#, r#""b""#);
    server
        .store
        .put("/registry/configmaps/ns/b", text.into(), Expect::Absent, None)
        .await
        .unwrap();
    server
        .store
        .delete("/registry/configmaps/ns/a", Expect::Any)
        .await
        .unwrap();
    cuttable.is_down.store(false, Ordering::SeqCst);

    assert_eq!(
        soon(names(&maps, &ListOptions::default())).await,
        ["ns/b"],
        "a list waits for the store's present revision"
    );
    let ended = next(&mut frames).await;
    assert!(ended.starts_with("ERROR 410 too old resource version"), "{ended}");
    assert_eq!(next(&mut frames).await, "END");
    let mut frames = watch(&maps, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED b "));
    create(&maps, "ns", &config_map("c", "1")).await;
    assert!(next(&mut frames).await.starts_with("ADDED c "));
}
