//! Control groups, by the files themselves, whichever layout the machine has.
//!
//! libcontainer places and limits a container's first process; everything around that is here: where shims live, what
//! was used, who was killed for want of memory, changed limits, and removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

/// How control groups are mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One hierarchy.
    Unified(PathBuf),
    /// One hierarchy a controller, or a few. Hybrid machines have a unified hierarchy too, without controllers: there
    /// service managers keep book of who belongs to which service.
    Legacy(Vec<Hierarchy>),
}

/// One hierarchy of the first version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    controllers: Vec<String>,
}

/// New limits; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub cpu_shares: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    /// Bytes; −1 for none.
    pub memory: Option<i64>,
    /// Memory and swap together, in bytes; −1 for none.
    pub memory_and_swap: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Files of the second version, by name.
    pub unified: Vec<(String, String)>,
}

/// What the processes of a cgroup have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub cpu_nanoseconds: u64,
    /// Bytes, page cache included.
    pub memory: u64,
    /// Bytes, without the page cache that could go.
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// Bytes; `None` when unlimited.
    pub memory_limit: Option<u64>,
    pub swap: u64,
    pub processes: u64,
}

impl Layout {
    /// Looks at the machine.
    pub(crate) fn detect() -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        if statfs(root)?.filesystem_type() == CGROUP2_SUPER_MAGIC {
            return Ok(Layout::Unified(root.to_owned()));
        }
        Ok(Layout::Legacy(parse_mountinfo(&fs::read_to_string(
            "/proc/self/mountinfo",
        )?)))
    }

    fn folders(&self, path: &str) -> Vec<PathBuf> {
        let path = path.trim_start_matches('/');
        match self {
            Layout::Unified(root) => vec![root.join(path)],
            Layout::Legacy(all) => all.iter().map(|h| h.mount.join(path)).collect(),
        }
    }

    fn folder(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let path = path.trim_start_matches('/');
        match self {
            Layout::Unified(root) => Some(root.join(path)),
            Layout::Legacy(all) => all
                .iter()
                .find(|h| h.controllers.iter().any(|c| c == controller))
                .map(|h| h.mount.join(path)),
        }
    }

    /// Makes the cgroup, in every hierarchy, and its parents.
    pub(crate) fn create(&self, path: &str) -> io::Result<()> {
        for folder in self.folders(path) {
            fs::create_dir_all(&folder)?;
        }
        if let Layout::Legacy(_) = self
            && let Some(folder) = self.folder("cpuset", path)
        {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit_cpuset(&folder, file)?;
            }
        }
        Ok(())
    }

    /// Moves a process into the cgroup.
    pub(crate) fn enter(&self, path: &str, pid: Pid) -> io::Result<()> {
        for folder in self.folders(path) {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// The processes in the cgroup and below it.
    pub(crate) fn processes(&self, path: &str) -> Vec<Pid> {
        // Every hierarchy that libcontainer uses holds all processes; `memory` and `pids` are always among them.
        let folder = ["memory", "pids", "devices"]
            .iter()
            .find_map(|c| self.folder(c, path));
        let mut found = Vec::new();
        if let Some(folder) = folder {
            collect_processes(&folder, &mut found);
        }
        found
    }

    /// Sends a signal to every process of the cgroup.
    pub(crate) fn signal(&self, path: &str, signal: Signal) {
        if let (Layout::Unified(_), Signal::SIGKILL, Some(folder)) = (self, signal, self.folder("", path))
            && fs::write(folder.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for pid in self.processes(path) {
            let _ = kill(pid, signal);
        }
    }

    /// Kills until nobody is left who could fork; gives up after a number of rounds that only a fork bomb survives.
    pub(crate) fn kill_all(&self, path: &str) {
        for _ in 0..64 {
            self.signal(path, Signal::SIGKILL);
            if self.processes(path).is_empty() {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Removes the cgroup and what is below it; a process that still lives in it keeps it.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        let mut result = Ok(());
        for folder in self.folders(path) {
            if let Err(error) = remove_tree(&folder) {
                result = Err(error);
            }
        }
        result
    }

    /// How many processes the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self, path: &str) -> u64 {
        let file = match self {
            Layout::Unified(_) => "memory.events",
            Layout::Legacy(_) => "memory.oom_control",
        };
        let Some(folder) = self.folder("memory", path) else {
            return 0;
        };
        flat_value(
            &fs::read_to_string(folder.join(file)).unwrap_or_default(),
            "oom_kill",
        )
        .unwrap_or(0)
    }

    /// Whether the kernel can limit swap here: the first version only when told to account for it.
    pub(crate) fn limits_swap(&self) -> bool {
        match self {
            Layout::Unified(_) => true,
            Layout::Legacy(_) => self
                .folder("memory", "")
                .is_some_and(|root| root.join("memory.memsw.limit_in_bytes").exists()),
        }
    }

    /// What has been used; `None` when the cgroup is gone.
    pub(crate) fn usage(&self, path: &str) -> Option<Usage> {
        let memory = self.folder("memory", path)?;
        let stat = fs::read_to_string(memory.join("memory.stat")).ok()?;
        let value = |key: &str| flat_value(&stat, key).unwrap_or(0);
        let number = |folder: &Path, file: &str| -> Option<u64> {
            fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
        };
        let mut usage = Usage::default();
        if let Some(pids) = self.folder("pids", path) {
            usage.processes = number(&pids, "pids.current").unwrap_or(0);
        }
        match self {
            Layout::Unified(_) => {
                let cpu = fs::read_to_string(memory.join("cpu.stat")).unwrap_or_default();
                usage.cpu_nanoseconds = flat_value(&cpu, "usage_usec").unwrap_or(0).saturating_mul(1000);
                usage.memory = number(&memory, "memory.current").unwrap_or(0);
                usage.memory_limit = number(&memory, "memory.max");
                usage.swap = number(&memory, "memory.swap.current").unwrap_or(0);
                usage.working_set = usage.memory.saturating_sub(value("inactive_file"));
                usage.rss = value("anon");
                usage.page_faults = value("pgfault");
                usage.major_page_faults = value("pgmajfault");
            }
            Layout::Legacy(_) => {
                let cpu = self
                    .folder("cpuacct", path)
                    .and_then(|f| number(&f, "cpuacct.usage"));
                usage.cpu_nanoseconds = cpu.unwrap_or(0);
                usage.memory = number(&memory, "memory.usage_in_bytes").unwrap_or(0);
                // "No limit" is the largest whole number of pages.
                usage.memory_limit =
                    number(&memory, "memory.limit_in_bytes").filter(|limit| *limit < i64::MAX as u64 / 2);
                usage.swap = value("total_swap");
                usage.working_set = usage.memory.saturating_sub(value("total_inactive_file"));
                usage.rss = value("total_rss");
                usage.page_faults = value("total_pgfault");
                usage.major_page_faults = value("total_pgmajfault");
            }
        }
        Some(usage)
    }

    /// Changes limits.
    pub(crate) fn update(&self, path: &str, limits: &Limits) -> io::Result<()> {
        let write = |controller: &str, file: &str, value: String| -> io::Result<()> {
            let folder = self.folder(controller, path).ok_or(io::ErrorKind::NotFound)?;
            let file = folder.join(file);
            fs::write(&file, value).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))
        };
        let mut writes = self.writes(limits);
        // Memory alone may never exceed memory and swap together, so one that grows has to wait for the other.
        if let Layout::Legacy(_) = self
            && let Some(memory) = limits.memory.filter(|m| *m != 0)
            && self.limits_swap()
        {
            let total = limits.memory_and_swap.filter(|t| *t != 0).unwrap_or(memory);
            let total = (
                "memory",
                "memory.memsw.limit_in_bytes".to_owned(),
                total.to_string(),
            );
            let folder = self.folder("memory", path).ok_or(io::ErrorKind::NotFound)?;
            let current = fs::read_to_string(folder.join("memory.limit_in_bytes"))?;
            let grows = memory < 0
                || current
                    .trim()
                    .parse::<i64>()
                    .is_ok_and(|current| memory > current);
            writes.insert(if grows { 0 } else { writes.len() }, total);
        }
        for (controller, file, value) in writes {
            write(controller, &file, value)?;
        }
        Ok(())
    }

    fn writes(&self, limits: &Limits) -> Vec<(&'static str, String, String)> {
        let mut writes: Vec<(&'static str, String, String)> = Vec::new();
        let mut add =
            |controller, file: &str, value: String| writes.push((controller, file.to_owned(), value));
        match self {
            Layout::Unified(_) => {
                if let Some(shares) = limits.cpu_shares.filter(|s| *s > 0) {
                    add("cpu", "cpu.weight", weight_of_shares(shares).to_string());
                }
                if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
                    let quota = limits
                        .cpu_quota
                        .filter(|q| *q > 0)
                        .map_or("max".to_owned(), |q| q.to_string());
                    let period = limits.cpu_period.filter(|p| *p > 0).unwrap_or(100_000);
                    add("cpu", "cpu.max", format!("{quota} {period}"));
                }
                if let Some(memory) = limits.memory.filter(|m| *m != 0) {
                    add(
                        "memory",
                        "memory.max",
                        if memory < 0 {
                            "max".to_owned()
                        } else {
                            memory.to_string()
                        },
                    );
                }
            }
            Layout::Legacy(_) => {
                if let Some(shares) = limits.cpu_shares.filter(|s| *s > 0) {
                    add("cpu", "cpu.shares", shares.to_string());
                }
                if let Some(period) = limits.cpu_period.filter(|p| *p > 0) {
                    add("cpu", "cpu.cfs_period_us", period.to_string());
                }
                if let Some(quota) = limits.cpu_quota.filter(|q| *q != 0) {
                    add("cpu", "cpu.cfs_quota_us", quota.to_string());
                }
                if let Some(memory) = limits.memory.filter(|m| *m != 0) {
                    add("memory", "memory.limit_in_bytes", memory.to_string());
                }
            }
        }
        if let Some(cpus) = limits.cpuset_cpus.as_ref().filter(|c| !c.is_empty()) {
            add("cpuset", "cpuset.cpus", cpus.clone());
        }
        if let Some(mems) = limits.cpuset_mems.as_ref().filter(|c| !c.is_empty()) {
            add("cpuset", "cpuset.mems", mems.clone());
        }
        if let Layout::Unified(_) = self {
            for (file, value) in &limits.unified {
                add("", file, value.clone());
            }
        }
        writes
    }
}

/// The second version's weight that is nearest to the first's shares (2..=262144 onto 1..=10000).
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn flat_value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn parse_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let (Some("cgroup" | "cgroup2"), Some(_), Some(options)) = (right.next(), right.next(), right.next())
        else {
            continue;
        };
        let Some(mount) = left.split(' ').nth(4) else {
            continue;
        };
        let controllers: Vec<String> = options
            .split(',')
            .filter(|o| {
                !matches!(
                    *o,
                    "rw" | "ro" | "xattr" | "clone_children" | "none" | "nsdelegate"
                )
            })
            .map(str::to_owned)
            .collect();
        // A hierarchy may be mounted in several places; any of them will do.
        if !found.iter().any(|h| h.controllers == controllers) {
            found.push(Hierarchy {
                mount: PathBuf::from(mount),
                controllers,
            });
        }
    }
    found
}

fn inherit_cpuset(folder: &Path, file: &str) -> io::Result<String> {
    let own = fs::read_to_string(folder.join(file))?.trim().to_owned();
    if !own.is_empty() {
        return Ok(own);
    }
    let parent = folder.parent().ok_or(io::ErrorKind::NotFound)?;
    let value = inherit_cpuset(parent, file)?;
    fs::write(folder.join(file), &value)?;
    Ok(value)
}

fn collect_processes(folder: &Path, found: &mut Vec<Pid>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(
        text.lines()
            .filter_map(|line| line.parse().ok())
            .map(Pid::from_raw),
    );
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    for attempt in 0.. {
        match fs::remove_dir(folder) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            // A process that has just been reaped leaves its cgroup a moment later; there is no event for it.
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) && attempt < 20 => {
                std::thread::sleep(std::time::Duration::from_millis(1 << attempt.min(4)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_by_their_controllers() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                    35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let layout = Layout::Legacy(parse_mountinfo(text));
        let folder = |c: &str| layout.folder(c, "/a/b").map(|p| p.display().to_string());
        assert_eq!(
            folder("cpuacct").as_deref(),
            Some("/sys/fs/cgroup/cpu,cpuacct/a/b")
        );
        assert_eq!(folder("memory").as_deref(), Some("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(folder("pids"), None);
        assert_eq!(
            layout.folders("/a").len(),
            4,
            "service managers look at the unified one"
        );
    }

    #[test]
    fn limits_become_the_layouts_files() {
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory: Some(64 << 20),
            ..Limits::default()
        };
        let text = |layout: Layout| -> Vec<String> {
            layout
                .writes(&limits)
                .into_iter()
                .map(|(c, f, v)| format!("{c} {f}={v}"))
                .collect()
        };
        assert_eq!(
            text(Layout::Legacy(Vec::new())),
            [
                "cpu cpu.shares=512",
                "cpu cpu.cfs_period_us=100000",
                "cpu cpu.cfs_quota_us=50000",
                "memory memory.limit_in_bytes=67108864"
            ]
        );
        assert_eq!(
            text(Layout::Unified(PathBuf::new())),
            [
                "cpu cpu.weight=20",
                "cpu cpu.max=50000 100000",
                "memory memory.max=67108864"
            ]
        );
        let unlimited = Limits {
            cpu_quota: Some(-1),
            memory: Some(-1),
            ..Limits::default()
        };
        assert_eq!(
            Layout::Unified(PathBuf::new()).writes(&unlimited),
            [
                ("cpu", "cpu.max".into(), "max 100000".into()),
                ("memory", "memory.max".into(), "max".into())
            ]
        );
    }

    #[test]
    fn shares_map_onto_the_whole_range_of_weights() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight);
        }
    }
}
