//! What the machine is: its CPUs, memory, disk, kernel and identity.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{NodeSwapStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resources::{Amounts, amounts};

/// Upstream keeps so much memory from pods: the hard eviction threshold.
const MEMORY_KEPT: i64 = 100 << 20;

/// What does not change while the kubelet runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Machine {
    pub(crate) cpus: i64,
    pub(crate) memory: i64,
    pub(crate) swap: i64,
    /// Bytes of the file system that holds pods.
    pub(crate) disk: i64,
    /// By page size in KiB: how many bytes of huge pages.
    pub(crate) huge_pages: BTreeMap<u64, i64>,
    pub(crate) info: NodeSystemInfo,
}

/// What is used up, for the pressure conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) memory: i64,
    /// Free share of the disk and of its inodes, in percent.
    pub(crate) disk_percent: i64,
    pub(crate) inodes_percent: i64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn meminfo(field: &str) -> i64 {
    let text = read("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The `PRETTY_NAME` of an os-release file.
fn os_image(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches(['"', '\'']).to_string()
}

fn huge_pages() -> BTreeMap<u64, i64> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let size = |name: &str| {
        name.strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse::<u64>()
            .ok()
    };
    entries
        .filter_map(|entry| {
            let kib = size(entry.file_name().to_str()?)?;
            let count: i64 = fs::read_to_string(entry.path().join("nr_hugepages"))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            Some((kib, count * i64::try_from(kib).ok()? * 1024))
        })
        .collect()
}

/// The architecture as Go names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn disk(dir: &Path) -> (i64, Left) {
    let Ok(stat) = nix::sys::statvfs::statvfs(dir) else {
        return (0, Left::default());
    };
    let percent = |part: u64, whole: u64| {
        i64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
    };
    let bytes = stat.blocks().saturating_mul(stat.fragment_size());
    let left = Left {
        memory: 0,
        disk_percent: percent(stat.blocks_available(), stat.blocks()),
        // A file system without a fixed number of inodes says 0.
        inodes_percent: if stat.files() == 0 {
            100
        } else {
            percent(stat.files_available(), stat.files())
        },
    };
    (i64::try_from(bytes).unwrap_or(i64::MAX), left)
}

impl Machine {
    /// Reads the machine. `version` is the kubelet's.
    pub(crate) fn read(root_dir: &Path, version: &str) -> Self {
        let machine_id = [read("/etc/machine-id"), read("/var/lib/dbus/machine-id")]
            .into_iter()
            .find(|id| !id.is_empty())
            .unwrap_or_default();
        let uuid = read("/sys/class/dmi/id/product_uuid");
        let swap = meminfo("SwapTotal");
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory: meminfo("MemTotal"),
            swap,
            disk: disk(root_dir).0,
            huge_pages: huge_pages(),
            info: NodeSystemInfo {
                architecture: architecture().into(),
                boot_id: read("/proc/sys/kernel/random/boot_id"),
                kernel_version: read("/proc/sys/kernel/osrelease"),
                kubelet_version: version.into(),
                operating_system: "linux".into(),
                os_image: os_image(&[read("/etc/os-release"), read("/usr/lib/os-release")].join("\n")),
                system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
                machine_id,
                swap: (swap > 0).then_some(NodeSwapStatus { capacity: Some(swap) }),
                ..NodeSystemInfo::default()
            },
        }
    }

    /// `status.capacity`.
    pub(crate) fn capacity(&self, max_pods: u32) -> BTreeMap<String, Quantity> {
        let kib = |bytes: i64| Quantity(format!("{}Ki", bytes / 1024));
        let mut list = self.huge(max_pods);
        list.insert("cpu".into(), Quantity(self.cpus.to_string()));
        list.insert("memory".into(), kib(self.memory));
        list.insert("ephemeral-storage".into(), kib(self.disk));
        list
    }

    /// `status.allocatable`: capacity less what the node keeps for itself.
    pub(crate) fn allocatable(&self, max_pods: u32) -> BTreeMap<String, Quantity> {
        let mut list = self.capacity(max_pods);
        let huge: i64 = self.huge_pages.values().sum();
        let memory = (self.memory - MEMORY_KEPT - huge).max(0);
        list.insert("memory".into(), Quantity(format!("{}Ki", memory / 1024)));
        let disk = self.disk / 1024 * 1024;
        list.insert(
            "ephemeral-storage".into(),
            Quantity((disk - disk / 10).to_string()),
        );
        list
    }

    /// What pods may request, as numbers.
    pub(crate) fn allocatable_amounts(&self, max_pods: u32) -> Amounts {
        amounts(Some(&self.allocatable(max_pods)))
    }

    fn huge(&self, max_pods: u32) -> BTreeMap<String, Quantity> {
        let mut list: BTreeMap<String, Quantity> = [("pods".into(), Quantity(max_pods.to_string()))].into();
        for (kib, bytes) in &self.huge_pages {
            let size = if kib % (1 << 20) == 0 {
                format!("{}Gi", kib >> 20)
            } else {
                format!("{}Mi", kib >> 10)
            };
            let text = if *bytes == 0 {
                "0".to_string()
            } else {
                format!("{}Mi", bytes >> 20)
            };
            list.insert(format!("hugepages-{size}"), Quantity(text));
        }
        list
    }
}

/// What is left now.
pub(crate) fn left(root_dir: &Path) -> Left {
    Left {
        memory: meminfo("MemAvailable"),
        ..disk(root_dir).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_and_keeps_something_for_itself() {
        let machine = Machine::read(Path::new("/"), "v1.37.0");
        assert!(machine.cpus > 0 && machine.memory > MEMORY_KEPT && machine.disk > 0);
        assert!(!machine.info.boot_id.is_empty() && !machine.info.kernel_version.is_empty());
        let (capacity, allocatable) = (
            amounts(Some(&machine.capacity(110))),
            machine.allocatable_amounts(110),
        );
        assert_eq!((capacity["pods"], capacity["cpu"]), (110, machine.cpus * 1000));
        assert!(allocatable["memory"] <= capacity["memory"] - MEMORY_KEPT);
        assert!(allocatable["ephemeral-storage"] < capacity["ephemeral-storage"]);
        assert!(left(Path::new("/")).memory > 0);
    }

    #[test]
    fn the_system_is_called_by_its_pretty_name() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(os_image(text), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(os_image(""), "Linux");
    }
}
