//! How long admission takes: each plugin, and both of its steps as a whole.

use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::head;
use super::histogram::{Bounds, Histogram, Number};
use crate::registry::Operation;

/// The bounds of both histograms, in seconds (upstream's).
#[derive(Debug)]
struct Seconds;

impl Bounds for Seconds {
    const BOUNDS: &'static [f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
}

/// The two parts of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Admit,
    Validate,
}

/// What happened in a step of admission: which, to do what, and whether it was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    pub(crate) step: Step,
    pub(crate) operation: Operation,
    pub(crate) rejected: bool,
}

impl Passed {
    const STEPS: [(Step, &'static str); 2] = [(Step::Admit, "admit"), (Step::Validate, "validate")];
    const OPERATIONS: [(Operation, &'static str); 3] = [
        (Operation::Create, "CREATE"),
        (Operation::Update, "UPDATE"),
        (Operation::Delete, "DELETE"),
    ];
    /// How many there are.
    const ALL: usize = 12;

    fn place(self) -> usize {
        let operation = match self.operation {
            Operation::Create => 0,
            Operation::Update => 1,
            Operation::Delete => 2,
        };
        let step = usize::from(self.step == Step::Validate);
        (operation * 2 + usize::from(self.rejected)) * 2 + step
    }

    /// All of them with their labels, in the order of their places.
    fn labels() -> impl Iterator<Item = String> {
        Self::OPERATIONS.iter().flat_map(|(_, operation)| {
            [false, true].into_iter().flat_map(move |rejected| {
                Self::STEPS.iter().map(move |(_, step)| {
                    format!("operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\"")
                })
            })
        })
    }
}

/// A cell for each way in which something may pass; most are never used.
struct Cells<T>([OnceLock<T>; Passed::ALL]);

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; Passed::ALL])
    }
}

impl<T> fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cells")
    }
}

impl<T: Default> Cells<T> {
    fn at(&self, passed: Passed) -> Option<&T> {
        Some(self.0.get(passed.place())?.get_or_init(T::default))
    }

    fn used(&self) -> impl Iterator<Item = (String, &T)> {
        let cells = Passed::labels().zip(&self.0);
        cells.filter_map(|(labels, cell)| Some((labels, cell.get()?)))
    }
}

/// The times of one plugin.
#[derive(Debug)]
pub(crate) struct PluginTimes {
    name: &'static str,
    cells: Cells<Histogram<Seconds>>,
}

impl PluginTimes {
    /// Counts a call of the plugin.
    pub(crate) fn add(&self, passed: Passed, took: Duration) {
        if let Some(histogram) = self.cells.at(passed) {
            histogram.took(took);
        }
    }
}

/// The times of all.
#[derive(Debug, Default)]
pub(crate) struct AdmissionTimes {
    plugins: Mutex<Vec<std::sync::Arc<PluginTimes>>>,
    steps: Cells<Histogram<Seconds>>,
    summaries: Cells<Mutex<Summary>>,
}

impl AdmissionTimes {
    /// The times of a plugin, which keeps them.
    pub(crate) fn of_plugin(&self, name: &'static str) -> std::sync::Arc<PluginTimes> {
        let times = std::sync::Arc::new(PluginTimes {
            name,
            cells: Cells::default(),
        });
        self.plugins.lock().push(times.clone());
        times
    }

    /// Counts a step of admission.
    pub(crate) fn add_step(&self, passed: Passed, took: Duration) {
        if let Some(histogram) = self.steps.at(passed) {
            histogram.took(took);
        }
        if let Some(summary) = self.summaries.at(passed) {
            summary.lock().add(Instant::now(), took);
        }
    }

    pub(super) fn reset(&self) {
        for plugin in self.plugins.lock().iter() {
            plugin.cells.used().for_each(|(_, histogram)| histogram.reset());
        }
        self.steps.used().for_each(|(_, histogram)| histogram.reset());
        self.summaries
            .used()
            .for_each(|(_, summary)| *summary.lock() = Summary::default());
    }

    pub(super) fn write(&self, text: &mut String) -> fmt::Result {
        let name = "apiserver_admission_controller_admission_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
        )?;
        let mut plugins = self.plugins.lock().clone();
        plugins.sort_by_key(|plugin| plugin.name);
        for plugin in plugins {
            for (labels, histogram) in plugin.cells.used() {
                let labels = format!("name=\"{}\",{labels}", plugin.name);
                histogram.write(text, name, &labels, 0.0)?;
            }
        }
        let name = "apiserver_admission_step_admission_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
        )?;
        for (labels, histogram) in self.steps.used() {
            histogram.write(text, name, &labels, 0.0)?;
        }
        let name = "apiserver_admission_step_admission_duration_seconds_summary";
        head(
            text,
            name,
            "summary",
            "[ALPHA] Admission sub-step latency summary in seconds, broken out for each operation and API resource and step type (validate or admit).",
        )?;
        for (labels, summary) in self.summaries.used() {
            summary.lock().write(text, name, &labels, Instant::now())?;
        }
        Ok(())
    }
}

/// Quantiles of what happened lately, and the sum of all.
///
/// The durations of an hour are counted in buckets whose bounds grow by a tenth, so a quantile is right to that extent.
#[derive(Debug, Default)]
struct Summary {
    /// The newest last, with when each began.
    ages: Vec<(Instant, Box<[u32; Summary::BUCKETS]>)>,
    count: u64,
    sum: f64,
}

impl Summary {
    const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
    /// Of five hours altogether, as upstream's.
    const AGES: usize = 5;
    const AGE: Duration = Duration::from_secs(3600);
    /// From a microsecond on; the last counts everything above twenty seconds.
    const BUCKETS: usize = 178;
    const LEAST: f64 = 1e-6;
    const GROWTH: f64 = 1.1;

    fn bucket(seconds: f64) -> usize {
        let place = (seconds / Self::LEAST).ln() / Self::GROWTH.ln();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is clamped before"
        )]
        let place = place.ceil().clamp(0.0, 1e3) as usize;
        place.min(Self::BUCKETS - 1)
    }

    fn forget(&mut self, now: Instant) {
        let whole = Self::AGE * u32::try_from(Self::AGES).unwrap_or_default();
        self.ages.retain(|(began, _)| now.duration_since(*began) < whole);
    }

    fn add(&mut self, now: Instant, took: Duration) {
        let is_over = |(began, _): &(Instant, _)| now.duration_since(*began) >= Self::AGE;
        if self.ages.last().is_none_or(is_over) {
            self.forget(now);
            self.ages.push((now, Box::new([0; Self::BUCKETS])));
        }
        let seconds = took.as_secs_f64();
        let newest = self.ages.last_mut();
        if let Some(count) = newest.and_then(|(_, buckets)| buckets.get_mut(Self::bucket(seconds))) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let mut counts = vec![0u64; Self::BUCKETS];
        for (_, buckets) in &self.ages {
            for (count, more) in counts.iter_mut().zip(buckets.iter()) {
                *count += u64::from(*more);
            }
        }
        let all: u64 = counts.iter().sum();
        #[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
        let wanted = all as f64 * quantile;
        let mut bound = Self::LEAST;
        let mut below = 0;
        for count in counts {
            below += count;
            #[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
            if all > 0 && below as f64 >= wanted {
                return bound;
            }
            bound *= Self::GROWTH;
        }
        f64::NAN
    }

    fn write(&mut self, text: &mut String, name: &str, labels: &str, now: Instant) -> fmt::Result {
        self.forget(now);
        for quantile in Self::QUANTILES {
            let value = Number(self.quantile(quantile));
            writeln!(text, "{name}{{{labels},quantile=\"{quantile}\"}} {value}")?;
        }
        writeln!(text, "{name}_sum{{{labels}}} {}", Number(self.sum))?;
        writeln!(text, "{name}_count{{{labels}}} {}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_its_place_and_its_labels() {
        let labels: Vec<String> = Passed::labels().collect();
        assert_eq!(labels.len(), Passed::ALL);
        for (step, type_) in Passed::STEPS {
            for (operation, name) in Passed::OPERATIONS {
                for rejected in [false, true] {
                    let passed = Passed {
                        step,
                        operation,
                        rejected,
                    };
                    assert_eq!(
                        labels[passed.place()],
                        format!("operation=\"{name}\",rejected=\"{rejected}\",type=\"{type_}\"")
                    );
                }
            }
        }
    }

    #[test]
    fn quantiles_are_of_the_last_hours() {
        let mut summary = Summary::default();
        let start = Instant::now();
        for milliseconds in 1..=100 {
            summary.add(start, Duration::from_millis(milliseconds));
        }
        for (quantile, expected) in [(0.5, 0.050), (0.9, 0.090), (0.99, 0.099)] {
            let found = summary.quantile(quantile);
            assert!(
                (expected..expected * 1.11).contains(&found),
                "{quantile}: {found}"
            );
        }
        let later = start + Duration::from_secs(2 * 3600);
        for _ in 0..900 {
            summary.add(later, Duration::from_secs(1));
        }
        assert!((1.0..1.2).contains(&summary.quantile(0.5)));
        let mut text = String::new();
        summary
            .write(&mut text, "x", "a=\"b\"", start + Duration::from_secs(20 * 3600))
            .unwrap();
        assert!(text.starts_with("x{a=\"b\",quantile=\"0.5\"} NaN\n"), "{text}");
        assert!(text.ends_with("x_count{a=\"b\"} 1000\n"), "{text}");
        assert_eq!(Summary::bucket(1e9), Summary::BUCKETS - 1);
        assert_eq!(Summary::bucket(0.0), 0);
    }
}
