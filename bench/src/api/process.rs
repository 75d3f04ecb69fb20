//! What a process on this machine has used, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// What the kernel counts processor time in: USER_HZ, which is 100 on every Linux that has a stable interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    directory: String,
}

impl Process {
    /// A process by its id.
    pub(super) fn with_id(id: u32) -> Self {
        Self {
            directory: format!("/proc/{id}"),
        }
    }

    /// This one.
    pub(super) fn this() -> Self {
        Self {
            directory: "/proc/self".to_owned(),
        }
    }

    /// Seconds of processor time since it began, user's and kernel's.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("{}/stat", self.directory))?;
        let ticks = ticks(&stat).with_context(|| format!("{}/stat cannot be read", self.directory))?;
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// Resident megabytes (10⁶ bytes).
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("{}/status", self.directory))?;
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<f64>()
                .ok()
        });
        Ok(kibibytes.context("no VmRSS")? * 1024.0 / 1e6)
    }
}

/// utime and stime, the 14th and 15th field of `stat`; the second is a name that may have blanks and brackets in it.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 3 0 1 2 3";
        assert_eq!(ticks(stat), Some(300.0));
    }

    #[test]
    fn this_process_is_somewhere_in_memory() {
        assert!(Process::this().resident().unwrap() > 1.0);
        assert!(Process::this().cpu_seconds().unwrap() >= 0.0);
    }
}
