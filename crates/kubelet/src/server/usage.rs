//! `/metrics/resource` and `/metrics/cadvisor`: what the node, its pods and their containers use, for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use k8s_cri::v1::{Container, ContainerState, ContainerStats, UInt64Value};
use serde_json::Value;

use super::stats;
use crate::pod::labels;
use crate::shared::Shared;

/// One metric with all its values.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    /// Labels, the value, and when it was taken, in milliseconds.
    values: Vec<(String, f64, Option<i64>)>,
}

impl Family {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            values: Vec::new(),
        }
    }

    fn push(&mut self, labels: &[(&str, &str)], value: Option<f64>, at: Option<i64>) {
        let Some(value) = value else { return };
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| {
                let value = value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                format!("{name}=\"{value}\"")
            })
            .collect();
        self.values.push((labels.join(","), value, at));
    }
}

fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.values.is_empty()) {
        let name = family.name;
        let _ = writeln!(
            text,
            "# HELP {name} {}\n# TYPE {name} {}",
            family.help, family.kind
        );
        for (labels, value, at) in &family.values {
            let labels = match labels.as_str() {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let at = at.map(|at| format!(" {at}")).unwrap_or_default();
            let _ = writeln!(text, "{name}{labels} {value}{at}");
        }
    }
    text
}

fn page(families: &[Family]) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    ([(header::CONTENT_TYPE, kind)], text(families)).into_response()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
fn plain(value: Option<&UInt64Value>) -> Option<f64> {
    value.map(|value| value.value as f64)
}

fn seconds(nanos: Option<&UInt64Value>) -> Option<f64> {
    plain(nanos).map(|nanos| nanos / 1e9)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
fn since_epoch(nanos: i64) -> Option<f64> {
    (nanos > 0).then_some(nanos as f64 / 1e9)
}

fn millis(nanos: i64) -> Option<i64> {
    (nanos > 0).then_some(nanos / 1_000_000)
}

/// A container's own labels: its pod's namespace and name, and its name.
fn named(stats: &ContainerStats) -> Option<[&str; 3]> {
    let own = &stats.attributes.as_ref()?.labels;
    let label = |key: &str| own.get(key).map(String::as_str);
    Some([
        label(labels::POD_NAMESPACE)?,
        label(labels::POD_NAME)?,
        label(labels::CONTAINER_NAME)?,
    ])
}

fn scrape_error() -> Family {
    Family::new(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    )
}

/// What upstream's kubelet tells of resources.
fn resources(node: &Value, stats: &[ContainerStats], containers: &[Container]) -> Vec<Family> {
    let counter = |name, help| Family::new(name, "counter", help);
    let gauge = |name, help| Family::new(name, "gauge", help);
    let mut cpu = counter(
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    let mut memory = gauge(
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes",
    );
    let mut start = gauge(
        "container_start_time_seconds",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    let mut node_cpu = counter(
        "node_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    let mut node_memory = gauge(
        "node_memory_working_set_bytes",
        "[STABLE] Current working set of the node in bytes",
    );
    let mut pod_cpu = counter(
        "pod_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    let mut pod_memory = gauge(
        "pod_memory_working_set_bytes",
        "[STABLE] Current working set of the pod in bytes",
    );
    let mut error = scrape_error();
    let of_node = |path: &str| node.pointer(path).and_then(Value::as_f64);
    node_cpu.push(
        &[],
        of_node("/cpu/usageCoreNanoSeconds").map(|nanos| nanos / 1e9),
        None,
    );
    node_memory.push(&[], of_node("/memory/workingSetBytes"), None);
    error.push(&[], Some(0.0), None);
    let begun: BTreeMap<&str, i64> = containers
        .iter()
        .map(|container| (container.id.as_str(), container.created_at))
        .collect();
    let mut pods: BTreeMap<[&str; 2], (f64, f64, i64)> = BTreeMap::new();
    for stats in stats {
        let Some([namespace, pod, container]) = named(stats) else {
            continue;
        };
        let own = [("container", container), ("namespace", namespace), ("pod", pod)];
        let sum = pods.entry([namespace, pod]).or_default();
        if let Some(usage) = &stats.cpu {
            let used = seconds(usage.usage_core_nano_seconds.as_ref());
            cpu.push(&own, used, millis(usage.timestamp));
            sum.0 += used.unwrap_or_default();
            sum.2 = sum.2.max(usage.timestamp);
        }
        if let Some(usage) = &stats.memory {
            let used = plain(usage.working_set_bytes.as_ref());
            memory.push(&own, used, millis(usage.timestamp));
            sum.1 += used.unwrap_or_default();
        }
        let id = stats.attributes.as_ref().map(|its| its.id.as_str());
        let created = id.and_then(|id| begun.get(id)).copied().unwrap_or_default();
        start.push(&own, since_epoch(created), None);
    }
    for ([namespace, pod], (cores, bytes, at)) in pods {
        let own = [("namespace", namespace), ("pod", pod)];
        pod_cpu.push(&own, Some(cores), millis(at));
        pod_memory.push(&own, Some(bytes), millis(at));
    }
    vec![
        cpu,
        memory,
        start,
        node_cpu,
        node_memory,
        pod_cpu,
        pod_memory,
        error,
    ]
}

/// What cAdvisor tells of containers, as far as the runtime knows it.
fn cadvisor(
    processors: usize,
    memory_bytes: u64,
    stats: &[ContainerStats],
    containers: &[Container],
) -> Vec<Family> {
    let mut cpu = Family::new(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
    );
    let mut rss = Family::new("container_memory_rss", "gauge", "Size of RSS in bytes.");
    let mut usage = Family::new(
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    );
    let mut working_set = Family::new(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
    );
    let mut start = Family::new(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    );
    let mut cores = Family::new("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    let mut memory = Family::new(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    );
    let exact = |number: u64| plain(Some(&UInt64Value { value: number }));
    cores.push(&[], u64::try_from(processors).ok().and_then(exact), None);
    memory.push(&[], exact(memory_bytes), None);
    let by_id: BTreeMap<&str, &Container> = containers.iter().map(|its| (its.id.as_str(), its)).collect();
    for stats in stats {
        let (Some([namespace, pod, container]), Some(attributes)) = (named(stats), &stats.attributes) else {
            continue;
        };
        let listed = by_id.get(attributes.id.as_str());
        let image = listed.and_then(|its| Some(its.image.as_ref()?.image.as_str()));
        let own = [
            ("container", container),
            ("id", attributes.id.as_str()),
            ("image", image.unwrap_or_default()),
            ("name", attributes.id.as_str()),
            ("namespace", namespace),
            ("pod", pod),
        ];
        if let Some(its) = &stats.cpu {
            let [first, rest @ ..] = own;
            let mut with_cpu = vec![first, ("cpu", "total")];
            with_cpu.extend(rest);
            cpu.push(
                &with_cpu,
                seconds(its.usage_core_nano_seconds.as_ref()),
                millis(its.timestamp),
            );
        }
        if let Some(its) = &stats.memory {
            let at = millis(its.timestamp);
            rss.push(&own, plain(its.rss_bytes.as_ref()), at);
            usage.push(&own, plain(its.usage_bytes.as_ref()), at);
            working_set.push(&own, plain(its.working_set_bytes.as_ref()), at);
        }
        start.push(&own, listed.and_then(|its| since_epoch(its.created_at)), None);
    }
    vec![cpu, rss, usage, working_set, start, cores, memory]
}

/// What the runtime says of containers: what they use, and what they are. A scrape without it tells the rest.
async fn observe(shared: &Shared) -> Option<(Vec<ContainerStats>, Vec<Container>)> {
    let observed = tokio::try_join!(shared.cri.container_stats(), shared.cri.containers(None));
    let failed = |error: &crate::cri::CriError| tracing::warn!(%error, "what containers use is not known");
    let (stats, mut containers) = observed.inspect_err(failed).ok()?;
    containers.retain(|its| its.state == ContainerState::ContainerRunning as i32);
    Some((stats, containers))
}

pub(super) async fn resource(State(shared): State<Arc<Shared>>) -> Response {
    let Some((stats, containers)) = observe(&shared).await else {
        let mut error = scrape_error();
        error.push(&[], Some(1.0), None);
        return page(&[error]);
    };
    page(&resources(&stats::node(&shared.node_name), &stats, &containers))
}

pub(super) async fn containers(State(shared): State<Arc<Shared>>) -> Response {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = stats::memory_info("MemTotal");
    let (stats, containers) = observe(&shared).await.unwrap_or_default();
    page(&cadvisor(processors, memory, &stats, &containers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_cri::v1::{ContainerAttributes, CpuUsage, MemoryUsage};
    use serde_json::json;

    fn used(container: &str) -> ContainerStats {
        let own = [
            (labels::POD_NAMESPACE, "ns"),
            (labels::POD_NAME, "p"),
            (labels::CONTAINER_NAME, container),
        ];
        ContainerStats {
            attributes: Some(ContainerAttributes {
                id: format!("id-{container}"),
                labels: own.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                ..ContainerAttributes::default()
            }),
            cpu: Some(CpuUsage {
                timestamp: 2_000_000_000,
                usage_core_nano_seconds: Some(UInt64Value { value: 1_500_000_000 }),
                ..CpuUsage::default()
            }),
            memory: Some(MemoryUsage {
                timestamp: 2_000_000_000,
                working_set_bytes: Some(UInt64Value { value: 4096 }),
                ..MemoryUsage::default()
            }),
            ..ContainerStats::default()
        }
    }

    #[test]
    fn what_is_used_is_told_of_containers_pods_and_the_node() {
        let node = json!({ "cpu": { "usageCoreNanoSeconds": 7_000_000_000_u64 }, "memory": { "workingSetBytes": 5 } });
        let begun = Container {
            id: "id-a".into(),
            created_at: 1_500_000_000,
            ..Container::default()
        };
        let told = text(&resources(
            &node,
            &[used("a"), used("b")],
            std::slice::from_ref(&begun),
        ));
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"p\"} 1.5 2000",
            "container_start_time_seconds{container=\"a\",namespace=\"ns\",pod=\"p\"} 1.5",
            "node_cpu_usage_seconds_total 7",
            "node_memory_working_set_bytes 5",
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"p\"} 3 2000",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\"} 8192 2000",
            "resource_scrape_error 0",
        ] {
            assert!(told.lines().any(|its| its == line), "{line}\n{told}");
        }
        let told = text(&cadvisor(2, 1024, &[used("a")], &[begun]));
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",cpu=\"total\",id=\"id-a\",image=\"\",name=\"id-a\",\
             namespace=\"ns\",pod=\"p\"} 1.5 2000",
            "machine_cpu_cores 2",
            "machine_memory_bytes 1024",
        ] {
            assert!(told.lines().any(|its| its == line), "{line}\n{told}");
        }
        // Nothing is said of what is not known.
        assert!(!told.contains("container_memory_rss"), "{told}");
    }
}
