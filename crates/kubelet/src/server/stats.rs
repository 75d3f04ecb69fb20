//! `/stats/summary`: CPU and memory of the node, its pods and their containers.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use k8s_cri::v1::ContainerStats;
use serde_json::{Map, Value, json};

use crate::pod::labels;
use crate::shared::Shared;

fn time(nanos: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cpu(stats: &ContainerStats) -> Option<Value> {
    let cpu = stats.cpu.as_ref()?;
    let mut fields = Map::new();
    fields.insert("time".into(), time(cpu.timestamp).into());
    if let Some(value) = &cpu.usage_nano_cores {
        fields.insert("usageNanoCores".into(), value.value.into());
    }
    if let Some(value) = &cpu.usage_core_nano_seconds {
        fields.insert("usageCoreNanoSeconds".into(), value.value.into());
    }
    Some(Value::Object(fields))
}

fn memory(stats: &ContainerStats) -> Option<Value> {
    let memory = stats.memory.as_ref()?;
    let mut fields = Map::new();
    fields.insert("time".into(), time(memory.timestamp).into());
    let values = [
        ("availableBytes", &memory.available_bytes),
        ("usageBytes", &memory.usage_bytes),
        ("workingSetBytes", &memory.working_set_bytes),
        ("rssBytes", &memory.rss_bytes),
        ("pageFaults", &memory.page_faults),
        ("majorPageFaults", &memory.major_page_faults),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            fields.insert(name.into(), value.value.into());
        }
    }
    Some(Value::Object(fields))
}

fn sum(containers: &[Value], path: [&str; 2]) -> u64 {
    let [group, field] = path;
    let value = |container: &Value| container.get(group)?.get(field)?.as_u64();
    containers.iter().filter_map(value).sum()
}

/// The pods' part of the summary.
fn pods(stats: &[ContainerStats]) -> Vec<Value> {
    let mut by_pod: BTreeMap<[String; 3], Vec<Value>> = BTreeMap::new();
    for stats in stats {
        let Some(attributes) = &stats.attributes else {
            continue;
        };
        let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
        let pod = [
            label(labels::POD_NAMESPACE),
            label(labels::POD_NAME),
            label(labels::POD_UID),
        ];
        let mut container = Map::new();
        container.insert("name".into(), label(labels::CONTAINER_NAME).into());
        if let Some(cpu) = cpu(stats) {
            container.insert("cpu".into(), cpu);
        }
        if let Some(memory) = memory(stats) {
            container.insert("memory".into(), memory);
        }
        by_pod.entry(pod).or_default().push(Value::Object(container));
    }
    by_pod
        .into_iter()
        .map(|([namespace, name, uid], containers)| {
            let at = containers.iter().find_map(|c| c.get("cpu")?.get("time").cloned());
            json!({
                "podRef": { "name": name, "namespace": namespace, "uid": uid },
                "cpu": {
                    "time": at,
                    "usageNanoCores": sum(&containers, ["cpu", "usageNanoCores"]),
                    "usageCoreNanoSeconds": sum(&containers, ["cpu", "usageCoreNanoSeconds"]),
                },
                "memory": {
                    "time": at,
                    "usageBytes": sum(&containers, ["memory", "usageBytes"]),
                    "workingSetBytes": sum(&containers, ["memory", "workingSetBytes"]),
                    "rssBytes": sum(&containers, ["memory", "rssBytes"]),
                },
                "containers": containers,
            })
        })
        .collect()
}

/// A field of the machine's `meminfo`, in bytes.
pub(super) fn memory_info(name: &str) -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The machine's busy CPU time in nanoseconds since it booted, and its memory.
pub(super) fn node(name: &str) -> Value {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    // user to steal; guest time is in user already. A tick is a hundredth of a second on every Linux that matters.
    let busy = ticks
        .iter()
        .take(8)
        .sum::<u64>()
        .saturating_sub(idle)
        .saturating_mul(10_000_000);
    let (total, available) = (memory_info("MemTotal"), memory_info("MemAvailable"));
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "nodeName": name,
        "cpu": { "time": now, "usageCoreNanoSeconds": busy },
        "memory": {
            "time": now,
            "availableBytes": available,
            "usageBytes": total.saturating_sub(memory_info("MemFree")),
            "workingSetBytes": total.saturating_sub(available),
        },
    })
}

pub(super) async fn summary(State(shared): State<Arc<Shared>>) -> Response {
    match shared.cri.container_stats().await {
        Ok(stats) => {
            let summary = json!({ "node": node(&shared.node_name), "pods": pods(&stats) });
            ([(header::CONTENT_TYPE, "application/json")], summary.to_string()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_cri::v1::{ContainerAttributes, CpuUsage, MemoryUsage, UInt64Value};

    #[test]
    fn a_pod_is_the_sum_of_its_containers() {
        let stats = |container: &str, cores: u64| ContainerStats {
            attributes: Some(ContainerAttributes {
                labels: [
                    (labels::POD_NAME, "p"),
                    (labels::POD_NAMESPACE, "ns"),
                    (labels::POD_UID, "u"),
                    (labels::CONTAINER_NAME, container),
                ]
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
                ..ContainerAttributes::default()
            }),
            cpu: Some(CpuUsage {
                timestamp: 1_000_000_000,
                usage_nano_cores: Some(UInt64Value { value: cores }),
                usage_core_nano_seconds: None,
            }),
            memory: Some(MemoryUsage {
                working_set_bytes: Some(UInt64Value { value: 10 }),
                ..MemoryUsage::default()
            }),
            ..ContainerStats::default()
        };
        let pods = pods(&[stats("a", 5), stats("b", 7)]);
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0]["cpu"]["usageNanoCores"], 12);
        assert_eq!(pods[0]["memory"]["workingSetBytes"], 20);
        assert_eq!(pods[0]["containers"][0]["cpu"]["time"], "1970-01-01T00:00:01Z");
        assert!(node("n")["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    }
}
