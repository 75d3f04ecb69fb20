//! The cgroups of pods: `kubepods[/burstable|/besteffort]/pod<uid>`, made here, filled by the runtime.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::resources::{QosClass, limits, pod_limit, pod_requests, qos_class, requests};

/// The kernel's least `cpu.shares`.
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// The period of CPU quotas, in microseconds.
const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;
/// The v1 controllers in which a pod gets a directory.
const V1: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "blkio", "freezer", "cpuset"];

/// `cpu.shares` of so many thousandths of a CPU.
pub(crate) fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu <= 0 {
        return MIN_SHARES;
    }
    (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// The quota per period of so many thousandths of a CPU; `None` for no limit.
pub(crate) fn quota(milli_cpu: i64) -> Option<i64> {
    (milli_cpu > 0).then(|| (milli_cpu.saturating_mul(PERIOD) / 1000).max(MIN_QUOTA))
}

/// `cpu.weight` of cgroup v2 for v1's shares, by runc's newer formula: a curve through (2, 1), (1024, 100) and
/// (262144, 10000).
fn weight(shares: i64) -> i64 {
    if shares <= MIN_SHARES {
        return 1;
    }
    if shares >= MAX_SHARES {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as i64
}

/// The kernel's out-of-memory adjustment of a container, by upstream's rules.
pub(crate) fn oom_score_adj(spec: &PodSpec, container: &Container, node_memory: i64) -> i64 {
    let critical = spec.priority.is_some_and(|priority| priority >= 2_000_000_000);
    match qos_class(spec) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = requests(container.resources.as_ref())
                .get("memory")
                .copied()
                .unwrap_or(0);
            let adjust = 1000 - 1000i128 * i128::from(request) / i128::from(node_memory.max(1));
            // Never as safe as a guaranteed pod, never as lost as a best-effort one.
            i64::try_from(adjust.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// A container's resources as the runtime is told them.
pub(crate) fn container_resources(
    spec: &PodSpec,
    container: &Container,
    node_memory: i64,
) -> LinuxContainerResources {
    let requests = requests(container.resources.as_ref());
    let limits = limits(container.resources.as_ref());
    let cpu_limit = limits.get("cpu").copied();
    // A limit without a request counts as one.
    let cpu_request = requests.get("cpu").copied().or(cpu_limit).unwrap_or(0);
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: cpu_limit.and_then(quota).unwrap_or(0),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: limits.get("memory").copied().unwrap_or(0),
        oom_score_adj: oom_score_adj(spec, container, node_memory),
        ..LinuxContainerResources::default()
    }
}

/// The limits of a whole pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    shares: i64,
    quota: Option<i64>,
    memory: Option<i64>,
}

/// What the pod's own cgroup is limited to.
pub(crate) fn pod_limits(spec: &PodSpec) -> Limits {
    let request = pod_requests(spec).get("cpu").copied().unwrap_or(0);
    Limits {
        shares: if qos_class(spec) == QosClass::BestEffort {
            MIN_SHARES
        } else {
            shares(request)
        },
        quota: pod_limit(spec, "cpu").and_then(quota),
        memory: pod_limit(spec, "memory").filter(|limit| *limit > 0),
    }
}

/// Where cgroups are, and who makes them.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    /// The mount point, `/sys/fs/cgroup`.
    mount: PathBuf,
    /// `/`-separated, without a leading or trailing slash; may be empty.
    root: String,
    /// systemd makes its slices itself, when the runtime asks for them.
    systemd: bool,
    unified: bool,
}

impl Cgroups {
    pub(crate) fn new(mount: &Path, root: &str, systemd: bool) -> Self {
        Self {
            mount: mount.to_path_buf(),
            root: root.trim_matches('/').to_string(),
            systemd,
            unified: mount.join("cgroup.controllers").exists(),
        }
    }

    fn qos_path(&self, qos: QosClass) -> String {
        let root = if self.root.is_empty() {
            String::new()
        } else {
            format!("/{}", self.root)
        };
        match qos {
            QosClass::Guaranteed => format!("{root}/kubepods"),
            QosClass::Burstable => format!("{root}/kubepods/burstable"),
            QosClass::BestEffort => format!("{root}/kubepods/besteffort"),
        }
    }

    /// The `cgroup_parent` of a pod, as the runtime's cgroup driver wants it.
    pub(crate) fn parent(&self, spec: &PodSpec, uid: &str) -> String {
        let qos = qos_class(spec);
        if !self.systemd {
            return format!("{}/pod{uid}", self.qos_path(qos));
        }
        let class = match qos {
            QosClass::Guaranteed => "",
            QosClass::Burstable => "-burstable",
            QosClass::BestEffort => "-besteffort",
        };
        let prefix = if self.root.is_empty() {
            String::new()
        } else {
            format!("{}-", self.root.replace('/', "-").trim_end_matches(".slice"))
        };
        format!("{prefix}kubepods{class}-pod{}.slice", uid.replace('-', "_"))
    }

    /// Makes the classes' cgroups.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        if self.systemd {
            return Ok(());
        }
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            self.make(&self.qos_path(qos))?;
        }
        let shares = Limits {
            shares: MIN_SHARES,
            ..Limits::default()
        };
        self.limit(&self.qos_path(QosClass::BestEffort), &shares)
    }

    /// Makes a pod's cgroup with its limits.
    pub(crate) fn make_pod(&self, spec: &PodSpec, uid: &str) -> io::Result<()> {
        if self.systemd {
            return Ok(());
        }
        let path = self.parent(spec, uid);
        self.make(&path)?;
        self.limit(&path, &pod_limits(spec))
    }

    /// Removes what is left of a pod's cgroup, in whatever class it was.
    pub(crate) fn remove_pod(&self, uid: &str) {
        if self.systemd {
            return;
        }
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let path = format!("{}/pod{uid}", self.qos_path(qos));
            for directory in self.directories(&path) {
                remove_tree(&directory);
            }
        }
    }

    /// The uids of the pods that have a cgroup.
    pub(crate) fn pods(&self) -> Vec<String> {
        let mut uids = Vec::new();
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for directory in self.directories(&self.qos_path(qos)) {
                let entries = fs::read_dir(directory).into_iter().flatten().flatten();
                uids.extend(entries.filter_map(|entry| {
                    entry
                        .file_name()
                        .to_str()?
                        .strip_prefix("pod")
                        .map(str::to_string)
                }));
            }
        }
        uids.sort();
        uids.dedup();
        uids
    }

    /// Shares CPU between the burstable pods as a class and the others: the class weighs what its pods request.
    pub(crate) fn weigh_burstable(&self, milli_cpu: i64) -> io::Result<()> {
        if self.systemd {
            return Ok(());
        }
        let limits = Limits {
            shares: shares(milli_cpu),
            ..Limits::default()
        };
        self.limit(&self.qos_path(QosClass::Burstable), &limits)
    }

    /// The directories of a cgroup: one on v2, one a controller on v1.
    fn directories(&self, path: &str) -> Vec<PathBuf> {
        let path = path.trim_start_matches('/');
        if self.unified {
            return vec![self.mount.join(path)];
        }
        let present = V1.iter().map(|controller| self.mount.join(controller));
        // cpu and cpuacct are often one directory under two names; making it twice does no harm.
        present
            .filter(|dir| dir.is_dir())
            .map(|dir| dir.join(path))
            .collect()
    }

    fn make(&self, path: &str) -> io::Result<()> {
        if self.unified {
            return self.make_unified(path);
        }
        for directory in self.directories(path) {
            fs::create_dir_all(&directory)?;
            if directory.starts_with(self.mount.join("cpuset")) {
                fill_cpuset(&self.mount.join("cpuset"), path)?;
            }
        }
        Ok(())
    }

    /// Controllers have to be passed on at every step of the path.
    fn make_unified(&self, path: &str) -> io::Result<()> {
        let mut directory = self.mount.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io"] {
                // One that the kernel lacks is no reason to fail.
                let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
            }
            directory.push(part);
            if !directory.is_dir() {
                fs::create_dir(&directory)?;
            }
        }
        Ok(())
    }

    fn limit(&self, path: &str, limits: &Limits) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        if self.unified {
            let directory = self.mount.join(path);
            set(&directory.join("cpu.weight"), weight(limits.shares))?;
            if let Some(quota) = limits.quota {
                set(&directory.join("cpu.max"), format!("{quota} {PERIOD}"))?;
            }
            if let Some(memory) = limits.memory {
                set(&directory.join("memory.max"), memory)?;
            }
            return Ok(());
        }
        let cpu = self.mount.join("cpu").join(path);
        set(&cpu.join("cpu.shares"), limits.shares)?;
        if let Some(quota) = limits.quota {
            set(&cpu.join("cpu.cfs_period_us"), PERIOD)?;
            set(&cpu.join("cpu.cfs_quota_us"), quota)?;
        }
        if let Some(memory) = limits.memory {
            set(
                &self.mount.join("memory").join(path).join("memory.limit_in_bytes"),
                memory,
            )?;
        }
        Ok(())
    }
}

/// Writes a value if the file is there: a kernel without the controller has none.
fn set(file: &Path, value: impl ToString) -> io::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    fs::write(file, value.to_string())
}

/// A cpuset of v1 begins empty, and nothing can run in it until it has CPUs and memory nodes.
fn fill_cpuset(mount: &Path, path: &str) -> io::Result<()> {
    let mut directory = mount.to_path_buf();
    let mut inherited: Vec<(&str, String)> = Vec::new();
    for name in ["cpuset.cpus", "cpuset.mems"] {
        inherited.push((name, fs::read_to_string(directory.join(name)).unwrap_or_default()));
    }
    for part in path.split('/').filter(|part| !part.is_empty()) {
        directory.push(part);
        for (name, value) in &mut inherited {
            let file = directory.join(*name);
            let own = fs::read_to_string(&file).unwrap_or_default();
            if own.trim().is_empty() && !value.trim().is_empty() {
                fs::write(&file, value.trim())?;
            } else {
                *value = own;
            }
        }
    }
    Ok(())
}

/// Cgroups are removed from the leaves; one with processes stays.
fn remove_tree(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    if let Err(error) = fs::remove_dir(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %directory.display(), %error, "cgroup not removed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cpu_becomes_shares_weight_and_quota() {
        for (milli, expected) in [
            (0, 2),
            (1, 2),
            (100, 102),
            (1000, 1024),
            (2500, 2560),
            (1_000_000_000, MAX_SHARES),
        ] {
            assert_eq!(shares(milli), expected, "{milli}m");
        }
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        for (milli, expected) in [
            (0, None),
            (5, Some(1000)),
            (500, Some(50_000)),
            (2000, Some(200_000)),
        ] {
            assert_eq!(quota(milli), expected, "{milli}m");
        }
    }

    fn spec(resources: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": [{ "name": "c", "resources": resources }] })).unwrap()
    }

    #[test]
    fn the_class_decides_who_is_killed_first() {
        let amounts = json!({ "cpu": "1", "memory": "1Gi" });
        let full = json!({ "requests": amounts, "limits": amounts });
        let cases = [
            (json!({}), 1000),
            (full, -997),
            (json!({ "requests": { "memory": "1Gi" } }), 750),
            (json!({ "requests": { "memory": "64Gi" } }), 3),
            (json!({ "requests": { "cpu": "1" } }), 999),
        ];
        for (resources, expected) in cases {
            let spec = spec(resources.clone());
            assert_eq!(
                oom_score_adj(&spec, &spec.containers[0], 4 << 30),
                expected,
                "{resources}"
            );
        }
    }

    #[test]
    fn a_pods_cgroup_is_named_as_the_driver_wants_it() {
        let mount = tempfile::tempdir().unwrap();
        let burstable = spec(json!({ "requests": { "cpu": "1" } }));
        let cases = [
            ("/", false, "/kubepods/burstable/poda-b"),
            ("/skiff-1/", false, "/skiff-1/kubepods/burstable/poda-b"),
            ("/", true, "kubepods-burstable-poda_b.slice"),
        ];
        for (root, systemd, expected) in cases {
            let cgroups = Cgroups::new(mount.path(), root, systemd);
            assert_eq!(cgroups.parent(&burstable, "a-b"), expected);
        }
    }

    #[test]
    fn a_pods_cgroup_is_made_limited_listed_and_removed() {
        let mount = tempfile::tempdir().unwrap();
        for controller in ["cpu", "memory"] {
            fs::create_dir(mount.path().join(controller)).unwrap();
        }
        let cgroups = Cgroups::new(mount.path(), "/x", false);
        cgroups.prepare().unwrap();
        let amounts = json!({ "cpu": "500m", "memory": "64Mi" });
        let guaranteed = spec(json!({ "requests": amounts, "limits": amounts }));
        let cpu = mount.path().join("cpu/x/kubepods/podu1");
        fs::create_dir_all(&cpu).unwrap();
        fs::write(cpu.join("cpu.shares"), "").unwrap();
        fs::write(cpu.join("cpu.cfs_quota_us"), "").unwrap();
        cgroups.make_pod(&guaranteed, "u1").unwrap();
        assert_eq!(fs::read_to_string(cpu.join("cpu.shares")).unwrap(), "512");
        assert_eq!(fs::read_to_string(cpu.join("cpu.cfs_quota_us")).unwrap(), "50000");
        assert_eq!(cgroups.pods(), ["u1"]);
        // A real cgroup's files go with it.
        fs::remove_file(cpu.join("cpu.shares")).unwrap();
        fs::remove_file(cpu.join("cpu.cfs_quota_us")).unwrap();
        cgroups.remove_pod("u1");
        assert!(cgroups.pods().is_empty());
    }
}
