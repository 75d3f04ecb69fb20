//! What the process takes of the machine, as every Prometheus client library tells it.

use std::fmt::Write;

use super::head;

/// Ticks of a second in `/proc`, on every Linux that this runs on.
const TICKS: f64 = 100.0;
/// The size of a page, in bytes.
const PAGE: u64 = 4096;

/// The fields of `/proc/self/stat` behind the program's name.
struct Stat(String);

impl Stat {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program may hold anything, spaces and brackets too; the rest are numbers.
        let (_, rest) = stat.rsplit_once(')')?;
        Some(Self(rest.to_string()))
    }

    /// A field by its number in the manual.
    fn field(&self, number: usize) -> u64 {
        let mut fields = self.0.split_whitespace();
        let field = fields.nth(number - 3).and_then(|field| field.parse().ok());
        field.unwrap_or_default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}

/// When the process began, in seconds since 1970.
pub(crate) fn process_start() -> Option<f64> {
    Some(boot_time()? + seconds(Stat::read()?.field(22)))
}

/// Writes what `/proc` tells; nothing where there is none.
pub(super) fn write(text: &mut String) -> std::fmt::Result {
    let Some(stat) = Stat::read() else {
        return Ok(());
    };
    let field = |number| stat.field(number);
    let mut gauge = |name: &str, type_: &str, about: &str, value: f64| {
        head(text, name, type_, about)?;
        writeln!(text, "{name} {value}")
    };
    gauge(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        seconds(field(14) + field(15)),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
    let sizes = [
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            (field(24) * PAGE) as f64,
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            field(23) as f64,
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64,
        ),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            most_files().unwrap_or_default() as f64,
        ),
    ];
    for (name, about, value) in sizes {
        gauge(name, "gauge", about, value)?;
    }
    gauge(
        "process_start_time_seconds",
        "gauge",
        "[ALPHA] Start time of the process since unix epoch in seconds.",
        process_start().unwrap_or_default(),
    )
}

fn most_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime ")?.parse().ok())
}
