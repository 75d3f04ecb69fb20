//! What the machine is: its CPUs, memory, disk, kernel and identity.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{NodeSwapStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::eviction::{DiskLevels, EvictionThresholds, Level, Levels};
use crate::resources::{Amounts, amounts};

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

fn disk(dir: &Path) -> DiskLevels {
    let Ok(stat) = nix::sys::statvfs::statvfs(dir) else {
        return DiskLevels::default();
    };
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let bytes = |blocks: u64| number(blocks.saturating_mul(stat.fragment_size()));
    DiskLevels {
        bytes: Some(Level {
            left: bytes(stat.blocks_available()),
            whole: bytes(stat.blocks()),
        }),
        // A file system without a fixed number of inodes says 0.
        inodes: (stat.files() != 0).then(|| Level {
            left: number(stat.files_available()),
            whole: number(stat.files()),
        }),
    }
}

/// The processes and threads that run, of those that the kernel allows.
fn pids() -> Option<Level> {
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let whole: i64 = limits.iter().filter_map(|path| read(path).parse().ok()).min()?;
    let running: i64 = read("/proc/loadavg")
        .split(' ')
        .nth(3)?
        .split_once('/')?
        .1
        .parse()
        .ok()?;
    Some(Level {
        left: whole - running,
        whole,
    })
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
            disk: disk(root_dir).bytes.map_or(0, |level| level.whole),
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
    pub(crate) fn allocatable(
        &self,
        max_pods: u32,
        thresholds: &EvictionThresholds,
    ) -> BTreeMap<String, Quantity> {
        let mut list = self.capacity(max_pods);
        let huge: i64 = self.huge_pages.values().sum();
        let memory = (self.memory - thresholds.memory_kept(self.memory) - huge).max(0);
        list.insert("memory".into(), Quantity(format!("{}Ki", memory / 1024)));
        let disk = self.disk / 1024 * 1024;
        list.insert(
            "ephemeral-storage".into(),
            Quantity((disk - thresholds.disk_kept(disk)).to_string()),
        );
        list
    }

    /// What pods may request, as numbers.
    pub(crate) fn allocatable_amounts(&self, max_pods: u32, thresholds: &EvictionThresholds) -> Amounts {
        amounts(Some(&self.allocatable(max_pods, thresholds)))
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

/// What is left now. `images` is where the runtime keeps images, if it tells.
pub(crate) fn levels(root_dir: &Path, images: Option<&Path>) -> Levels {
    let node = disk(root_dir);
    Levels {
        memory: Level {
            left: meminfo("MemAvailable"),
            whole: meminfo("MemTotal"),
        },
        node,
        images: images.map_or(node, disk),
        pids: pids(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_and_keeps_something_for_itself() {
        let machine = Machine::read(Path::new("/"), "v1.37.0");
        assert!(machine.cpus > 0 && machine.memory > 100 << 20 && machine.disk > 0);
        assert!(!machine.info.boot_id.is_empty() && !machine.info.kernel_version.is_empty());
        let (capacity, allocatable) = (
            amounts(Some(&machine.capacity(110))),
            machine.allocatable_amounts(110, &EvictionThresholds::default()),
        );
        assert_eq!((capacity["pods"], capacity["cpu"]), (110, machine.cpus * 1000));
        assert!(allocatable["memory"] <= capacity["memory"] - (100 << 20));
        assert!(allocatable["ephemeral-storage"] < capacity["ephemeral-storage"]);
        let levels = levels(Path::new("/"), None);
        assert_eq!(levels.node, levels.images);
        for level in [Some(levels.memory), levels.node.bytes, levels.pids] {
            let level = level.unwrap();
            assert!(0 < level.left && level.left < level.whole, "{levels:?}");
        }
    }

    #[test]
    fn the_system_is_called_by_its_pretty_name() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(os_image(text), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(os_image(""), "Linux");
    }
}
