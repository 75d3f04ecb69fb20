//! `/containerLogs`: a container's log, as the API server's `log` subresource passes it on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use skiff_informer::ObjectKey;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::logs::read::{self, Options};
use crate::pod::identity::uid;
use crate::pod::runtime::{Run, RuntimePod, State as RunState};
use crate::shared::Shared;

/// Pieces that wait for a slow client; the reader stops beyond.
const PIECES: usize = 8;
/// How often a followed container is looked at: its log does not tell that it has ended.
const STILL_RUNNING: Duration = Duration::from_secs(1);

/// The options of a query.
///
/// # Errors
/// What is wrong with it.
fn options(query: &BTreeMap<String, String>, now: Timestamp) -> Result<(Options, bool), String> {
    let flag = |name: &str| match query.get(name).map(String::as_str) {
        None | Some("false" | "0" | "") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(format!("invalid value {other:?} for {name}")),
    };
    let number = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("invalid value {text:?} for {name}")),
    };
    let since = match (
        number("sinceSeconds")?,
        query.get("sinceTime").filter(|text| !text.is_empty()),
    ) {
        (Some(_), Some(_)) => {
            return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".into());
        }
        (Some(seconds), None) => {
            let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.checked_sub(seconds).ok()
        }
        (None, Some(text)) => Some(
            text.parse()
                .map_err(|_| format!("invalid value {text:?} for sinceTime"))?,
        ),
        (None, None) => None,
    };
    let stream = match query.get("stream").map(String::as_str) {
        None | Some("" | "All") => None,
        Some("Stdout" | "stdout") => Some("stdout"),
        Some("Stderr" | "stderr") => Some("stderr"),
        Some(other) => return Err(format!("invalid value {other:?} for stream")),
    };
    let options = Options {
        follow: flag("follow")?,
        tail_lines: number("tailLines")?,
        since,
        timestamps: flag("timestamps")?,
        limit_bytes: number("limitBytes")?,
        stream,
    };
    Ok((options, flag("previous")?))
}

fn named<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == name)
}

fn status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == name)
}

/// The run whose log is asked for.
///
/// # Errors
/// Upstream's text: why there is none.
fn choose<'a>(runtime: &'a RuntimePod, pod: &Pod, name: &str, previous: bool) -> Result<&'a Run, String> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let run = if previous {
        // A container that waits for its next start has just ended its previous one.
        let waits = status(pod, name)
            .and_then(|s| s.state.as_ref())
            .is_some_and(|s| s.waiting.is_some());
        match runtime.latest(name) {
            Some(run) if waits && run.state == RunState::Exited => Some(run),
            _ => runtime.previous(name),
        }
    } else {
        runtime.latest(name)
    };
    if let Some(run) = run.filter(|run| !run.log_path.is_empty()) {
        return Ok(run);
    }
    if previous {
        return Err(format!(
            "previous terminated container {name:?} in pod {pod_name:?} not found"
        ));
    }
    let waiting = status(pod, name).and_then(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    Err(match waiting.as_deref() {
        Some("ErrImagePull") => {
            format!("container {name:?} in pod {pod_name:?} is waiting to start: image can't be pulled")
        }
        Some("ImagePullBackOff") => {
            format!(
                "container {name:?} in pod {pod_name:?} is waiting to start: trying and failing to pull image"
            )
        }
        Some(reason) => format!("container {name:?} in pod {pod_name:?} is waiting to start: {reason}"),
        None => format!("container {name:?} in pod {pod_name:?} is not available"),
    })
}

fn failure(code: StatusCode, message: impl Into<String>) -> Response {
    (code, message.into()).into_response()
}

pub(super) async fn container_logs(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let (options, previous) = match options(&query, Timestamp::now()) {
        Ok(options) => options,
        Err(message) => return failure(StatusCode::BAD_REQUEST, message),
    };
    let Some(pod) = shared.pods.get(&ObjectKey::new(namespace, name.clone())) else {
        return failure(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    };
    if named(&pod, &container).is_none() {
        let message = format!("container {container:?} not found in pod {name:?}");
        return failure(StatusCode::NOT_FOUND, message);
    }
    let runtime = match RuntimePod::observe(&shared.cri, uid(&pod)).await {
        Ok(runtime) => runtime,
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let run = match choose(&runtime, &pod, &container, previous) {
        Ok(run) => run,
        Err(message) => return failure(StatusCode::BAD_REQUEST, message),
    };
    let path = PathBuf::from(&run.log_path);
    if !path.exists() {
        let message = format!(
            "failed to try resolving symlinks in path {path:?}: lstat {}: no such file or directory",
            path.display()
        );
        return failure(StatusCode::INTERNAL_SERVER_ERROR, message);
    }
    let (sender, receiver) = mpsc::channel(PIECES);
    let ended = ended(shared, run.id.clone());
    tokio::spawn(async move {
        let errors = sender.clone();
        if let Err(error) = read::read(path, options, sender, ended).await {
            let _ = errors.send(Err(error)).await;
        }
    });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Ready when the container does not run any more.
async fn ended(shared: Arc<Shared>, id: String) {
    let running = k8s_cri::v1::ContainerState::ContainerRunning as i32;
    while let Ok(status) = shared.cri.container_status(&id).await
        && status.state == running
    {
        tokio::time::sleep(STILL_RUNNING).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures::{at, pod, run, runtime};
    use serde_json::json;

    #[test]
    fn a_query_becomes_options() {
        let parsed = |text: &str| {
            let query = text.split('&').filter_map(|pair| pair.split_once('='));
            options(
                &query.map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                at(1000),
            )
        };
        let (options, previous) =
            parsed("follow=true&tailLines=5&sinceSeconds=10&stream=Stderr&previous=true").unwrap();
        assert!(options.follow && previous);
        assert_eq!(
            (options.tail_lines, options.since, options.stream),
            (Some(5), Some(at(990)), Some("stderr"))
        );
        assert_eq!(parsed(""), Ok((Options::default(), false)));
        for bad in [
            "tailLines=-1",
            "follow=maybe",
            "stream=x",
            "sinceTime=now",
            "sinceSeconds=1&sinceTime=1970-01-01T00:00:00Z",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_right_run_is_shown() {
        let log = |name: &str, id: &str, state| Run {
            id: id.into(),
            log_path: format!("/{id}"),
            ..run(name, state)
        };
        let spec = json!({ "containers": [{ "name": "c" }] });
        let mut subject = pod(spec);
        let two = runtime(vec![
            log("c", "new", RunState::Running),
            log("c", "old", RunState::Exited),
        ]);
        let id = |chosen: Result<&Run, String>| chosen.map(|run| run.id.clone());
        assert_eq!(id(choose(&two, &subject, "c", false)), Ok("new".into()));
        assert_eq!(id(choose(&two, &subject, "c", true)), Ok("old".into()));
        let none = RuntimePod::default();
        assert_eq!(
            id(choose(&none, &subject, "c", true)),
            Err("previous terminated container \"c\" in pod \"p\" not found".into())
        );
        subject.status = serde_json::from_value(
            json!({ "containerStatuses": [{ "name": "c", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": { "waiting": { "reason": "ErrImagePull" } } }] }),
        )
        .unwrap();
        assert_eq!(
            id(choose(&none, &subject, "c", false)),
            Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled".into())
        );
    }
}
