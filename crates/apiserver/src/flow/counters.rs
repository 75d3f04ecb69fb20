//! What happens to the requests of each schema, in upstream's metrics.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// Its level lets nobody wait.
    Limit,
    /// The queue of its flow is full.
    QueueFull,
    /// Its turn did not come in time.
    TimeOut,
}

const REASONS: [(Rejection, &str); 3] = [
    (Rejection::Limit, "concurrency-limit"),
    (Rejection::QueueFull, "queue-full"),
    (Rejection::TimeOut, "time-out"),
];

/// The counts of one schema.
#[derive(Debug, Default)]
pub(super) struct Counters {
    dispatched: AtomicU64,
    executing: AtomicI64,
    waiting: AtomicI64,
    rejected: [AtomicU64; 3],
}

/// One more, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Counters>, fn(&Counters) -> &AtomicI64);

impl Counted {
    fn new(counters: &Arc<Counters>, gauge: fn(&Counters) -> &AtomicI64) -> Self {
        gauge(counters).fetch_add(1, Ordering::Relaxed);
        Self(counters.clone(), gauge)
    }

    /// A request that waits for its turn.
    pub(super) fn waiting(counters: &Arc<Counters>) -> Self {
        Self::new(counters, |counters| &counters.waiting)
    }

    /// A request whose turn it is.
    pub(super) fn executing(counters: &Arc<Counters>) -> Self {
        counters.dispatched.fetch_add(1, Ordering::Relaxed);
        Self::new(counters, |counters| &counters.executing)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Forgets what is over.
    pub(super) fn reset(&self) {
        for count in self.rejected.iter().chain([&self.dispatched]) {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a request that was refused.
    pub(super) fn reject(&self, why: Rejection) {
        for (count, (reason, _)) in self.rejected.iter().zip(REASONS) {
            if reason == why {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes the metrics of all schemas (name, level, counts) and levels (name, seats of its own).
pub(super) fn render<'a>(
    schemas: impl Iterator<Item = (&'a str, &'a str, &'a Counters)> + Clone,
    levels: impl Iterator<Item = (String, usize)>,
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let mut head = |name: &str, type_: &str, about: &str, lines: Vec<(String, String)>| {
        let name = format!("apiserver_flowcontrol_{name}");
        writeln!(text, "# HELP {name} [BETA] {about}\n# TYPE {name} {type_}")?;
        for (labels, value) in lines {
            writeln!(text, "{name}{{{labels}}} {value}")?;
        }
        Ok::<(), std::fmt::Error>(())
    };
    let labels = |schema: &str, level: &str| format!("flow_schema=\"{schema}\",priority_level=\"{level}\"");
    let each = |value: fn(&Counters) -> String| -> Vec<(String, String)> {
        schemas
            .clone()
            .map(|(schema, level, counters)| (labels(schema, level), value(counters)))
            .collect()
    };
    head(
        "dispatched_requests_total",
        "counter",
        "Number of requests executed by API Priority and Fairness subsystem",
        each(|counters| counters.dispatched.load(Ordering::Relaxed).to_string()),
    )?;
    head(
        "current_executing_requests",
        "gauge",
        "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
        each(|counters| counters.executing.load(Ordering::Relaxed).to_string()),
    )?;
    head(
        "current_inqueue_requests",
        "gauge",
        "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        each(|counters| counters.waiting.load(Ordering::Relaxed).to_string()),
    )?;
    let mut rejected = Vec::new();
    for (schema, level, counters) in schemas.clone() {
        for (count, (_, reason)) in counters.rejected.iter().zip(REASONS) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                rejected.push((
                    format!("{},reason=\"{reason}\"", labels(schema, level)),
                    count.to_string(),
                ));
            }
        }
    }
    head(
        "rejected_requests_total",
        "counter",
        "Number of requests rejected by API Priority and Fairness subsystem",
        rejected,
    )?;
    head(
        "nominal_limit_seats",
        "gauge",
        "Nominal number of execution seats configured for each priority level",
        levels
            .map(|(level, seats)| (format!("priority_level=\"{level}\""), seats.to_string()))
            .collect(),
    )?;
    Ok(text)
}
