//! What a process on this machine uses.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getpid};

/// A process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(Pid);

impl Process {
    /// A process by its id, as text.
    ///
    /// # Errors
    /// When that is no number.
    pub(crate) fn named(id: &str) -> anyhow::Result<Self> {
        let id = id
            .trim()
            .parse()
            .with_context(|| format!("{id:?} is no process id"))?;
        Ok(Self(Pid::from_raw(id)))
    }

    /// This one.
    pub(crate) fn this() -> Self {
        Self(getpid())
    }

    /// Seconds of processor time since it began, user's and kernel's.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn cpu_seconds(self) -> anyhow::Result<f64> {
        let used = clock_gettime(ClockId::pid_cpu_clock_id(self.0)?)?;
        Ok(Duration::from(used).as_secs_f64())
    }

    /// Resident megabytes (10⁶ bytes).
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn resident(self) -> anyhow::Result<f64> {
        megabytes(&fs::read_to_string(format!("/proc/{}/status", self.0))?, "VmRSS:")
    }

    /// Those of them that no other process has as well.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn private(self) -> anyhow::Result<f64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0))?;
        Ok(megabytes(&rollup, "Private_Clean:")? + megabytes(&rollup, "Private_Dirty:")?)
    }
}

/// A line of a file of the kernel that counts in kibibytes, which it calls `kB`.
fn megabytes(text: &str, line: &str) -> anyhow::Result<f64> {
    let kibibytes = text
        .lines()
        .find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse().ok());
    let kibibytes: f64 = kibibytes.with_context(|| format!("no {line}"))?;
    Ok(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn megabytes_are_of_bytes() {
        let text = "Name:\ta\nVmRSS:\t    1000 kB\nVmData:\t 7 kB\n";
        assert_eq!(megabytes(text, "VmRSS:").unwrap(), 1.024);
        assert!(megabytes(text, "Rss:").is_err());
    }

    #[test]
    fn this_process_is_somewhere_in_memory_and_has_worked() {
        let this = Process::this();
        let (resident, private) = (this.resident().unwrap(), this.private().unwrap());
        assert!(
            private > 0.1 && resident > 1.0 && private < resident,
            "{private} {resident}"
        );
        assert!(this.cpu_seconds().unwrap() > 0.0);
        assert!(Process::named("0x").is_err());
    }
}
