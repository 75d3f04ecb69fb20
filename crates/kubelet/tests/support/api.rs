//! An API server for tests: it keeps objects, merges patches, and streams watches, as far as a kubelet needs it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// One change: what it was about, its kind, and the object.
type Change = (String, &'static str, Value);

#[derive(Default)]
struct State {
    /// By plural, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    log: Vec<Change>,
    uids: u64,
}

/// The server. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    revision: Arc<watch::Sender<usize>>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn json_answer(code: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn failure(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code });
    json_answer(StatusCode::from_u16(code).unwrap(), &status)
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(target), Some(changes)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            target.remove(key);
        } else if key == "conditions" {
            let list = target.entry(key.clone()).or_insert_with(|| json!([]));
            merge_conditions(list.as_array_mut().unwrap(), change.as_array().unwrap());
        } else if change.is_object() {
            merge(target.entry(key.clone()).or_insert_with(|| json!({})), change);
        } else {
            target.insert(key.clone(), change.clone());
        }
    }
}

fn merge_conditions(list: &mut Vec<Value>, changes: &[Value]) {
    for change in changes {
        match list.iter_mut().find(|old| old["type"] == change["type"]) {
            Some(old) => merge(old, change),
            None => {
                let mut new = json!({});
                merge(&mut new, change);
                list.push(new);
            }
        }
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            revision: Arc::new(watch::Sender::new(0)),
        }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    fn key(plural: &str, namespace: &str, name: &str) -> (String, String, String) {
        (plural.into(), namespace.into(), name.into())
    }

    fn store(&self, plural: &str, kind: &'static str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_string();
        let key = Self::key(plural, &meta("namespace"), &meta("name"));
        let revision = state.log.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        if object["metadata"]["uid"].is_null() {
            state.uids += 1;
            object["metadata"]["uid"] = format!("uid-{}", state.uids).into();
        }
        if kind == "DELETED" {
            state.objects.remove(&key);
        } else {
            state.objects.insert(key, object.clone());
        }
        state.log.push((plural.into(), kind, object.clone()));
        drop(state);
        self.revision.send_replace(revision);
        object
    }

    /// Puts an object there as a user would.
    pub(crate) fn create(&self, plural: &str, object: Value) -> Value {
        self.store(plural, "ADDED", object)
    }

    /// Changes an object as a user would.
    pub(crate) fn patch(&self, plural: &str, namespace: &str, name: &str, patch: &Value) {
        let mut object = self.get(plural, namespace, name).unwrap();
        merge(&mut object, patch);
        self.store(plural, "MODIFIED", object);
    }

    /// Takes an object away at once.
    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let object = self.get(plural, namespace, name).unwrap();
        self.store(plural, "DELETED", object);
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state.lock();
        state.objects.get(&Self::key(plural, namespace, name)).cloned()
    }

    /// All objects of a kind.
    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock();
        let all = state.objects.iter().filter(|((p, _, _), _)| p == plural);
        all.map(|(_, object)| object.clone()).collect()
    }

    /// Waits until something holds, and says what was there when it did not in time.
    pub(crate) async fn wait<T>(&self, what: &str, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        let mut revision = self.revision.subscribe();
        let deadline = tokio::time::sleep(std::time::Duration::from_secs(30));
        tokio::pin!(deadline);
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            tokio::select! {
                _ = revision.changed() => {}
                () = &mut deadline => panic!("waited for {what}; pods: {:#?}, events: {:#?}",
                    self.list("pods"),
                    self.list("events").iter().map(|e| e["message"].clone()).collect::<Vec<_>>()),
            }
        }
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let rest = if path[0] == "api" { &path[2..] } else { &path[3..] };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let query = parts.uri.query().unwrap_or_default();
        let bytes = body.collect().await.unwrap().to_bytes();
        let sent: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match (&parts.method, rest) {
            (&Method::GET, [plural]) if query.contains("watch=true") => self.watch(plural, query),
            (&Method::GET, [plural]) => {
                let list = json!({ "kind": "List", "apiVersion": "v1",
                    "metadata": { "resourceVersion": self.revision.borrow().to_string() },
                    "items": self.list(plural) });
                json_answer(StatusCode::OK, &list)
            }
            (&Method::POST, ["serviceaccounts", _, "token"]) => {
                let mut answer = sent;
                answer["status"] =
                    json!({ "token": "a token", "expirationTimestamp": "2999-01-01T00:00:00Z" });
                json_answer(StatusCode::CREATED, &answer)
            }
            (&Method::POST, ["subjectaccessreviews"]) => {
                // Administrators may do everything, whoever else is known may read metrics.
                let spec = &sent["spec"];
                let is_admin = spec["groups"]
                    .as_array()
                    .unwrap()
                    .contains(&"system:masters".into());
                let allowed = is_admin || spec["resourceAttributes"]["subresource"] == "metrics";
                let mut answer = sent;
                answer["status"] = json!({ "allowed": allowed });
                json_answer(StatusCode::CREATED, &answer)
            }
            (&Method::POST, ["tokenreviews"]) => {
                let mut answer = sent;
                answer["status"] = match answer["spec"]["token"] == "good" {
                    true => json!({ "authenticated": true, "user": { "username": "scraper", "groups": [] } }),
                    false => json!({ "error": "no such token" }),
                };
                json_answer(StatusCode::CREATED, &answer)
            }
            (&Method::POST, [plural]) => {
                let mut object = sent;
                if !namespace.is_empty() {
                    object["metadata"]["namespace"] = namespace.into();
                }
                let name = object["metadata"]["name"].as_str().unwrap().to_string();
                if self.get(plural, namespace, &name).is_some() {
                    return failure(409, "AlreadyExists", "already exists");
                }
                json_answer(StatusCode::CREATED, &self.create(plural, object))
            }
            (method, [plural, name, ..]) => {
                let Some(mut object) = self.get(plural, namespace, name) else {
                    return failure(404, "NotFound", &format!("{plural} {name:?} not found"));
                };
                match *method {
                    Method::GET => json_answer(StatusCode::OK, &object),
                    Method::PUT => json_answer(StatusCode::OK, &self.store(plural, "MODIFIED", sent)),
                    Method::PATCH => {
                        let uid = &sent["metadata"]["uid"];
                        if !uid.is_null() && *uid != object["metadata"]["uid"] {
                            return failure(409, "Conflict", "another uid");
                        }
                        merge(&mut object, &sent);
                        json_answer(StatusCode::OK, &self.store(plural, "MODIFIED", object))
                    }
                    Method::DELETE => json_answer(StatusCode::OK, &self.store(plural, "DELETED", object)),
                    _ => failure(405, "MethodNotAllowed", "no"),
                }
            }
            _ => failure(
                404,
                "NotFound",
                "the server could not find the requested resource",
            ),
        }
    }

    fn watch(&self, plural: &str, query: &str) -> Answer {
        let from = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="));
        let mut at: usize = from.and_then(|text| text.parse().ok()).unwrap_or(0);
        let line = |kind: &str, object: &Value| {
            let line = format!("{}\n", json!({ "type": kind, "object": object }));
            Ok::<_, Infallible>(Frame::data(Bytes::from(line)))
        };
        let mut told = Vec::new();
        if query.contains("sendInitialEvents=true") {
            let state = self.state.lock();
            at = state.log.len();
            let there = state.objects.iter().filter(|((p, _, _), _)| p == plural);
            told.extend(there.map(|(_, object)| line("ADDED", object)));
            let end = json!({ "metadata": { "resourceVersion": at.to_string(),
                "annotations": { "k8s.io/initial-events-end": "true" } } });
            told.push(line("BOOKMARK", &end));
        }
        let plural = plural.to_string();
        let start = (self.clone(), self.revision.subscribe(), at);
        let frames = stream::unfold(start, move |(api, mut revision, mut at)| {
            let plural = plural.clone();
            async move {
                loop {
                    let next = api.state.lock().log.get(at).cloned();
                    match next {
                        Some((of, kind, object)) => {
                            at += 1;
                            if of == plural {
                                return Some((line(kind, &object), (api, revision, at)));
                            }
                        }
                        None => revision.changed().await.ok()?,
                    }
                }
            }
        });
        Response::new(StreamBody::new(stream::iter(told).chain(frames)).boxed_unsync())
    }
}
