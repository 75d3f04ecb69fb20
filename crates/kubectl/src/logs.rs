//! `kubectl logs`: what a container has written.

use std::cmp::Reverse;
use std::io::Write as _;

use clap::Args;
use serde_json::Value;

use crate::cluster::{Cluster, JSON, with_query};
use crate::describe::selector_query;
use crate::discovery::Discovery;
use crate::failure::Failure;
use crate::fields::{integer, list, map, name, text};
use crate::output;

const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required \
                     argument for the logs command\nSee 'kubectl logs -h' for help and examples";

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The pod, or TYPE/NAME of what has pods
    target: Option<String>,
    /// The container
    container: Option<String>,
    /// Print the logs of this container
    #[arg(long = "container", short = 'c')]
    named: Option<String>,
    /// Specify if the logs should be streamed
    #[arg(long, short)]
    follow: bool,
    /// Print the logs for the previous instance of the container
    #[arg(long, short)]
    previous: bool,
    /// Include timestamps on each line
    #[arg(long)]
    timestamps: bool,
    /// Lines of recent log file to display
    #[arg(long, allow_negative_numbers = true, default_value_t = -1)]
    tail: i64,
    /// Only return logs newer than a relative duration in seconds, like 90s, or in minutes or hours, like 5m or 2h
    #[arg(long, value_parser = seconds)]
    since: Option<u64>,
    /// Maximum bytes of logs to return
    #[arg(long)]
    limit_bytes: Option<u64>,
}

/// A duration such as `90s`, `5m` or `2h`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(format!("invalid duration {text:?}")),
    };
    let number: u64 = text
        .trim_end_matches(['s', 'm', 'h'])
        .parse()
        .map_err(|_| format!("invalid duration {text:?}"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("invalid duration {text:?}"))
}

impl Logs {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        let Some(target) = &self.target else {
            return Err(Failure::usage(USAGE));
        };
        let pod = pod(cluster, target).await?;
        let container = match self.named.as_ref().or(self.container.as_ref()) {
            Some(container) => container.clone(),
            None => default_container(&pod),
        };
        let (tail, since) = (self.tail.to_string(), self.since.map(|since| since.to_string()));
        let limit = self.limit_bytes.map(|limit| limit.to_string());
        let flag = |set: bool| if set { "true" } else { "" };
        let query = [
            ("container", container.as_str()),
            ("follow", flag(self.follow)),
            ("previous", flag(self.previous)),
            ("timestamps", flag(self.timestamps)),
            ("tailLines", if self.tail >= 0 { tail.as_str() } else { "" }),
            ("sinceSeconds", since.as_deref().unwrap_or_default()),
            ("limitBytes", limit.as_deref().unwrap_or_default()),
        ];
        let path = format!("/api/v1/namespaces/{}/pods/{}/log", cluster.namespace, name(&pod));
        let mut chunks = cluster.stream(&with_query(&path, &query), "*/*").await?;
        let mut stdout = std::io::stdout();
        while let Some(chunk) = chunks.next().await? {
            stdout.write_all(&chunk)?;
            stdout.flush()?;
        }
        Ok(())
    }
}

/// The pod of that name, or the best one of what has pods.
async fn pod(cluster: &Cluster, target: &str) -> Result<Value, Failure> {
    let pods = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
    let missing = |failure: Failure| match failure.missing() {
        Some(message) => Failure::usage(format!(
            "error from server (NotFound): {message} in namespace \"{}\"",
            cluster.namespace
        )),
        None => failure,
    };
    let (kind, object) = target.split_once('/').unwrap_or(("pod", target));
    if ["pod", "pods", "po"].contains(&kind) {
        let pod = cluster.get(&format!("{pods}/{object}"), JSON).await;
        return pod.map_err(missing);
    }
    let resource = Discovery::load(cluster).await?.one(kind)?;
    let path = resource.object(&cluster.namespace, object);
    let owner = cluster.get(&path, JSON).await.map_err(missing)?;
    let selector = match owner.pointer("/spec/selector") {
        Some(selector) if resource.kind == "Service" => crate::describe::pairs(map(selector, "")),
        Some(selector) => selector_query(selector),
        None => String::new(),
    };
    if selector.is_empty() {
        return Err(Failure::usage(format!(
            "cannot get the logs from {}: no selector",
            resource.kind
        )));
    }
    let mut found = cluster.list(&pods, &[("labelSelector", &selector)]).await?;
    found.sort_by_cached_key(rank);
    let count = found.len();
    let Some(first) = found.into_iter().next() else {
        return Err(Failure::usage("timed out waiting for the condition"));
    };
    if count > 1 {
        output::error(&format!("Found {count} pods, using pod/{}", name(&first)));
    }
    Ok(first)
}

/// The lower, the likelier is a pod to have something to say (`podutils.ByLogging`).
fn rank(pod: &Value) -> (bool, u8, bool, Reverse<i64>, String) {
    let phase = match text(pod, "/status/phase") {
        "Unknown" => 1,
        "Pending" => 2,
        _ => 0,
    };
    let ready = list(pod, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True");
    let restarts = list(pod, "/status/containerStatuses")
        .iter()
        .map(|status| integer(status, "/restartCount"))
        .max();
    (
        text(pod, "/spec/nodeName").is_empty(),
        phase,
        !ready,
        Reverse(restarts.unwrap_or(0)),
        text(pod, "/metadata/creationTimestamp").to_string(),
    )
}

/// The container to show when none is named: the annotated one, else the first, which the user is told of.
fn default_container(pod: &Value) -> String {
    let annotated = text(
        pod,
        "/metadata/annotations/kubectl.kubernetes.io~1default-container",
    );
    if !annotated.is_empty() {
        return annotated.to_string();
    }
    let containers = |field: &str| -> Vec<String> {
        let names = list(pod, field).iter().map(|container| text(container, "/name"));
        names.map(str::to_string).collect()
    };
    let (names, init) = (containers("/spec/containers"), containers("/spec/initContainers"));
    let first = names.first().cloned().unwrap_or_default();
    if names.len().saturating_add(init.len()) > 1 {
        let all = names
            .into_iter()
            .chain(init.into_iter().map(|name| format!("{name} (init)")));
        let all = all.collect::<Vec<_>>().join(", ");
        output::error(&format!("Defaulted container \"{first}\" out of: {all}"));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_seconds_minutes_or_hours() {
        assert_eq!(
            (seconds("90s"), seconds("5m"), seconds("2h")),
            (Ok(90), Ok(300), Ok(7200))
        );
        assert!(seconds("5").is_err() && seconds("m").is_err() && seconds("").is_err());
    }

    #[test]
    fn a_pod_that_runs_comes_before_one_that_waits() {
        let pod = |name: &str, phase: &str, ready: &str, created: &str| {
            json!({
                "metadata": {"name": name, "creationTimestamp": created}, "spec": {"nodeName": "n"},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut pods = [
            pod("pending", "Pending", "False", "2026-01-01T00:00:00Z"),
            pod("new", "Running", "True", "2026-01-03T00:00:00Z"),
            pod("broken", "Running", "False", "2026-01-01T00:00:00Z"),
            pod("old", "Running", "True", "2026-01-02T00:00:00Z"),
        ];
        pods.sort_by_cached_key(rank);
        let names: Vec<&str> = pods.iter().map(name).collect();
        assert_eq!(names, ["old", "new", "broken", "pending"]);
    }

    #[test]
    fn the_first_container_is_the_default_unless_another_is_annotated() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(default_container(&pod), "a");
        pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "b"});
        assert_eq!(default_container(&pod), "b");
    }
}
