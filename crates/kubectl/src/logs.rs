//! `kubectl logs`: what a container has written.

use clap::Args;
use std::io::Write as _;

use crate::cluster::{Cluster, JSON, with_query};
use crate::failure::Failure;
use crate::output;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The pod, or pod/NAME
    pod: String,
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
        let name = self
            .pod
            .strip_prefix("pod/")
            .or_else(|| self.pod.strip_prefix("pods/"))
            .unwrap_or(&self.pod);
        let pod_path = format!("/api/v1/namespaces/{}/pods/{name}", cluster.namespace);
        let container = match self.named.as_ref().or(self.container.as_ref()) {
            Some(container) => container.clone(),
            None => default_container(&cluster.get(&pod_path, JSON).await?),
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
        let mut chunks = cluster
            .stream(&with_query(&format!("{pod_path}/log"), &query), "*/*")
            .await?;
        let mut stdout = std::io::stdout();
        while let Some(chunk) = chunks.next().await? {
            stdout.write_all(&chunk)?;
            stdout.flush()?;
        }
        Ok(())
    }
}

/// The container to show when none is named: the annotated one, else the first, which the user is told of.
fn default_container(pod: &Value) -> String {
    let annotation = pod.pointer("/metadata/annotations/kubectl.kubernetes.io~1default-container");
    if let Some(name) = annotation.and_then(Value::as_str) {
        return name.to_string();
    }
    let containers = |field: &str| -> Vec<String> {
        let list = pod
            .pointer(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        list.iter()
            .filter_map(|container| Some(container.get("name")?.as_str()?.to_string()))
            .collect()
    };
    let (names, init) = (containers("/spec/containers"), containers("/spec/initContainers"));
    let first = names.first().cloned().unwrap_or_default();
    if names.len() > 1 {
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

    #[test]
    fn durations_are_seconds_minutes_or_hours() {
        assert_eq!(
            (seconds("90s"), seconds("5m"), seconds("2h")),
            (Ok(90), Ok(300), Ok(7200))
        );
        assert!(seconds("5").is_err() && seconds("m").is_err() && seconds("").is_err());
    }
}
