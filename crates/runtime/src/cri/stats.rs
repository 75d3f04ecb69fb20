//! What containers and pods use, in CRI's words.

use std::fs;
use std::path::Path;

use k8s_cri::v1;

use crate::cgroup::Usage;
use crate::container::ContainerEntry;
use crate::runtime::{Runtime, now};
use crate::sandbox::{Phase, SandboxEntry};

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(usage: &Usage, timestamp: i64) -> v1::CpuUsage {
    // The rate follows from two of these; CRI allows to leave it to the reader.
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(usage.cpu_nanoseconds),
        usage_nano_cores: None,
    }
}

fn memory(usage: &Usage, timestamp: i64) -> v1::MemoryUsage {
    let available = usage
        .memory_limit
        .map(|limit| limit.saturating_sub(usage.working_set));
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.working_set),
        available_bytes: value(available.unwrap_or(0)),
        usage_bytes: value(usage.memory),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
    }
}

impl Runtime {
    /// What a container uses; only what it is when it doesn't run.
    pub(crate) fn container_stats(&self, entry: &ContainerEntry) -> v1::ContainerStats {
        let record = entry.record.lock().clone();
        let timestamp = now();
        let usage = self.layout.usage(&record.cgroup);
        let upper = self.container_paths(&entry.id).upper;
        let (used, inodes) = tree_size(&upper);
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: record.id.clone(),
                metadata: Some(v1::ContainerMetadata {
                    name: record.name.clone(),
                    attempt: record.attempt,
                }),
                labels: record.labels.clone(),
                annotations: record.annotations.clone(),
            }),
            cpu: usage.as_ref().map(|u| cpu(u, timestamp)),
            memory: usage.as_ref().map(|u| memory(u, timestamp)),
            writable_layer: Some(v1::FilesystemUsage {
                timestamp,
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: self.config.state_dir.display().to_string(),
                }),
                used_bytes: value(used),
                inodes_used: value(inodes),
            }),
            swap: usage.as_ref().map(|u| v1::SwapUsage {
                timestamp,
                swap_available_bytes: None,
                swap_usage_bytes: value(u.swap),
            }),
        }
    }

    /// What a pod uses.
    pub(crate) fn sandbox_stats(&self, entry: &SandboxEntry) -> v1::PodSandboxStats {
        let record = entry.record.lock().clone();
        let timestamp = now();
        let usage = Some(record.cgroup_parent.as_str()).filter(|p| !p.is_empty());
        let usage = usage.and_then(|p| self.layout.usage(p));
        let running = self
            .containers_of(&entry.id)
            .into_iter()
            .filter(|c| c.run.borrow().running());
        let network = (record.phase == Phase::Ready && !record.host_network()).then(|| {
            network_usage(
                Path::new(&format!("/proc/{}/net/dev", record.shim_pid)),
                timestamp,
            )
        });
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: record.id.clone(),
                metadata: Some(v1::PodSandboxMetadata {
                    name: record.name.clone(),
                    uid: record.uid.clone(),
                    namespace: record.namespace.clone(),
                    attempt: record.attempt,
                }),
                labels: record.labels.clone(),
                annotations: record.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: usage.as_ref().map(|u| cpu(u, timestamp)),
                memory: usage.as_ref().map(|u| memory(u, timestamp)),
                network: network.flatten(),
                process: usage.as_ref().map(|u| v1::ProcessUsage {
                    timestamp,
                    process_count: value(u.processes),
                }),
                containers: running.map(|c| self.container_stats(&c)).collect(),
            }),
            windows: None,
        }
    }
}

/// Bytes in whole blocks, and inodes, of a tree.
fn tree_size(folder: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    entries
        .filter_map(|e| e.metadata().ok())
        .fold((0, 0), |(bytes, inodes), m| {
            (bytes + m.blocks() * 512, inodes + 1)
        })
}

fn network_usage(file: &Path, timestamp: i64) -> Option<v1::NetworkUsage> {
    let interfaces = parse_interfaces(&fs::read_to_string(file).ok()?);
    Some(v1::NetworkUsage {
        timestamp,
        default_interface: interfaces.iter().find(|i| i.name == "eth0").cloned(),
        interfaces: interfaces.into_iter().filter(|i| i.name != "eth0").collect(),
    })
}

fn parse_interfaces(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let parse = |line: &str| -> Option<v1::NetworkInterfaceUsage> {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let at = |index: usize| numbers.get(index).map(|n| v1::UInt64Value { value: *n });
        let name = name.trim().to_owned();
        (name != "lo").then(|| v1::NetworkInterfaceUsage {
            name,
            rx_bytes: at(0),
            rx_errors: at(2),
            tx_bytes: at(8),
            tx_errors: at(10),
        })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0    0\n  \
                    eth0:    2000      20    3    0    0     0          0         0     4000      40    5    0\n";
        let found = parse_interfaces(text);
        let [eth0] = &found[..] else { panic!("{found:?}") };
        let number = |v: &Option<v1::UInt64Value>| v.as_ref().map(|v| v.value);
        assert_eq!(eth0.name, "eth0");
        assert_eq!(number(&eth0.rx_bytes), Some(2000));
        assert_eq!(number(&eth0.rx_errors), Some(3));
        assert_eq!(number(&eth0.tx_bytes), Some(4000));
        assert_eq!(number(&eth0.tx_errors), Some(5));
    }
}
