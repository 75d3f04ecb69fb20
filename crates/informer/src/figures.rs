//! What the work queues of a process are doing: how much waits, for how long, and how long the work takes. Told under
//! client-go's names, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::queue::WorkQueue;

/// The bounds of the histograms, in seconds, as client-go's are written.
const BOUNDS: [(f64, &str); 12] = [
    (1e-8, "1e-08"),
    (1e-7, "1e-07"),
    (1e-6, "1e-06"),
    (9.999999999999999e-6, "9.999999999999999e-06"),
    (9.999999999999999e-5, "9.999999999999999e-05"),
    (0.001, "0.001"),
    (0.01, "0.01"),
    (0.1, "0.1"),
    (1.0, "1"),
    (10.0, "10"),
    (100.0, "100"),
    (1000.0, "1000"),
];

/// How long things took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Durations {
    pub(crate) fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (bucket, (bound, _)) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn write(&self, text: &mut String, metric: &str, queue: &str) -> fmt::Result {
        for (count, (_, bound)) in self.buckets.iter().zip(BOUNDS) {
            writeln!(text, "{metric}_bucket{{name=\"{queue}\",le=\"{bound}\"}} {count}")?;
        }
        writeln!(
            text,
            "{metric}_bucket{{name=\"{queue}\",le=\"+Inf\"}} {}",
            self.count
        )?;
        writeln!(text, "{metric}_sum{{name=\"{queue}\"}} {}", self.sum)?;
        writeln!(text, "{metric}_count{{name=\"{queue}\"}} {}", self.count)
    }
}

/// What one queue is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) depth: usize,
    pub(crate) adds: u64,
    pub(crate) retries: u64,
    /// From when a key was added until a worker took it.
    pub(crate) waited: Durations,
    /// From then until it was given back.
    pub(crate) worked: Durations,
    /// How long the work that is going on has gone on, all together and the longest.
    pub(crate) unfinished: Duration,
    pub(crate) longest: Duration,
}

/// A queue that can be asked.
pub(crate) trait Told: Send + Sync {
    fn figures(&self) -> Figures;
}

/// The queues of a process by name; clones share them.
#[derive(Clone, Default)]
pub struct Queues(Arc<Mutex<BTreeMap<String, Weak<dyn Told>>>>);

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.lock().keys()).finish()
    }
}

impl Queues {
    /// A new queue of this name.
    pub fn make<T>(&self, name: &str) -> Arc<WorkQueue<T>>
    where
        T: Clone + Eq + Hash + Ord + Send + Sync + 'static,
    {
        let queue: Arc<WorkQueue<T>> = Arc::default();
        let told: Arc<dyn Told> = queue.clone();
        self.0.lock().insert(name.to_string(), Arc::downgrade(&told));
        queue
    }

    /// What all queues are doing, in Prometheus' text format.
    pub fn render(&self) -> String {
        let queues = self.0.lock();
        let figures: Vec<(&str, Figures)> = queues
            .iter()
            .filter_map(|(name, queue)| Some((name.as_str(), queue.upgrade()?.figures())))
            .collect();
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = write(&mut text, &figures);
        text
    }
}

fn write(text: &mut String, figures: &[(&str, Figures)]) -> fmt::Result {
    let head = |text: &mut String, metric: &str, type_: &str, about: &str| {
        writeln!(text, "# HELP {metric} [BETA] {about}\n# TYPE {metric} {type_}")
    };
    type Value = fn(&Figures) -> String;
    let singles: [(&str, &str, &str, Value); 5] = [
        (
            "workqueue_adds_total",
            "counter",
            "Total number of adds handled by workqueue",
            |figures| figures.adds.to_string(),
        ),
        (
            "workqueue_depth",
            "gauge",
            "Current depth of workqueue",
            |figures| figures.depth.to_string(),
        ),
        (
            "workqueue_longest_running_processor_seconds",
            "gauge",
            "How many seconds has the longest running processor for workqueue been running.",
            |figures| figures.longest.as_secs_f64().to_string(),
        ),
        (
            "workqueue_retries_total",
            "counter",
            "Total number of retries handled by workqueue",
            |figures| figures.retries.to_string(),
        ),
        (
            "workqueue_unfinished_work_seconds",
            "gauge",
            "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.",
            |figures| figures.unfinished.as_secs_f64().to_string(),
        ),
    ];
    for (metric, type_, about, value) in singles {
        head(text, metric, type_, about)?;
        for (name, figures) in figures {
            writeln!(text, "{metric}{{name=\"{name}\"}} {}", value(figures))?;
        }
    }
    type Histogram = fn(&Figures) -> &Durations;
    let histograms: [(&str, &str, Histogram); 2] = [
        (
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested.",
            |figures| &figures.waited,
        ),
        (
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            |figures| &figures.worked,
        ),
    ];
    for (metric, about, durations) in histograms {
        head(text, metric, "histogram", about)?;
        for (name, figures) in figures {
            durations(figures).write(text, metric, name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_tells_what_it_does() {
        let queues = Queues::default();
        let queue = queues.make::<u8>("things");
        queue.add(1);
        queue.add(1);
        queue.add(2);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(queue.next().await, Some(1));
        tokio::time::advance(Duration::from_millis(500)).await;
        let text = queues.render();
        for line in [
            r#"workqueue_adds_total{name="things"} 2"#,
            r#"workqueue_depth{name="things"} 1"#,
            r#"workqueue_longest_running_processor_seconds{name="things"} 0.5"#,
            r#"workqueue_unfinished_work_seconds{name="things"} 0.5"#,
            r#"workqueue_retries_total{name="things"} 0"#,
            r#"workqueue_queue_duration_seconds_bucket{name="things",le="1"} 0"#,
            r#"workqueue_queue_duration_seconds_bucket{name="things",le="10"} 1"#,
            r#"workqueue_queue_duration_seconds_sum{name="things"} 5"#,
        ] {
            assert!(text.lines().any(|its| its == line), "{line} is not in\n{text}");
        }
        queue.done(&1);
        queue.add_rate_limited(1);
        let text = queues.render();
        for line in [
            r#"workqueue_work_duration_seconds_count{name="things"} 1"#,
            r#"workqueue_work_duration_seconds_sum{name="things"} 0.5"#,
            r#"workqueue_unfinished_work_seconds{name="things"} 0"#,
            r#"workqueue_retries_total{name="things"} 1"#,
        ] {
            assert!(text.lines().any(|its| its == line), "{line} is not in\n{text}");
        }
        drop(queue);
        assert!(!queues.render().contains("things"), "it is gone");
    }
}
