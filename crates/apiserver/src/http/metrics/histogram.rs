//! Histograms: how often something was at most so much. Counting takes no lock and keeps no other count waiting.

use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a histogram is divided by.
pub(crate) trait Bounds: Send + Sync + 'static {
    /// Ascending, in seconds or bytes.
    const BOUNDS: &'static [f64];
}

/// A histogram with these bounds.
pub(crate) struct Histogram<B> {
    /// How often something was above the bound before and not above this one; the last counts what is above all.
    buckets: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
    bounds: PhantomData<B>,
}

impl<B> fmt::Debug for Histogram<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.count()).finish()
    }
}

impl<B: Bounds> Default for Histogram<B> {
    fn default() -> Self {
        Self {
            buckets: (0..=B::BOUNDS.len()).map(|_| AtomicU64::default()).collect(),
            sum: AtomicU64::default(),
            bounds: PhantomData,
        }
    }
}

impl<B> Histogram<B> {
    /// How often it was counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        for cell in self.buckets.iter().chain([&self.sum]) {
            cell.store(0, Ordering::Relaxed);
        }
    }

    fn add_to_sum(&self, value: f64) {
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes in what another one has counted.
    pub(crate) fn unite(&self, other: &Self) {
        for (bucket, more) in self.buckets.iter().zip(&other.buckets) {
            bucket.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.add_to_sum(f64::from_bits(other.sum.load(Ordering::Relaxed)));
    }
}

impl<B: Bounds> Histogram<B> {
    /// Counts a value.
    pub(crate) fn observe(&self, value: f64) {
        let place = B::BOUNDS.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.add_to_sum(value);
    }

    /// Counts a duration.
    pub(crate) fn took(&self, took: Duration) {
        self.observe(took.as_secs_f64());
    }

    /// Counts a size in bytes.
    pub(crate) fn sized(&self, bytes: u64) {
        #[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
        self.observe(bytes as f64);
    }

    /// Writes all samples. `shortest`: the first bound that is written.
    pub(crate) fn write(&self, text: &mut String, name: &str, labels: &str, shortest: f64) -> fmt::Result {
        let mut count = 0;
        let bounds = B::BOUNDS.iter().copied().chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            if bound >= shortest {
                let bound = Number(bound);
                writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
            }
        }
        let sum = Number(f64::from_bits(self.sum.load(Ordering::Relaxed)));
        writeln!(text, "{name}_sum{{{labels}}} {sum}")?;
        writeln!(text, "{name}_count{{{labels}}} {count}")
    }
}

/// A number as Go writes it in the text format: with an exponent from a million on and below a ten thousandth.
pub(crate) struct Number(pub(crate) f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        if value.is_infinite() {
            return f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        }
        if value.is_nan() {
            return f.write_str("NaN");
        }
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if (-4..6).contains(&exponent) || value == 0.0 {
            return write!(f, "{value}");
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(f, "{digits}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sizes;

    impl Bounds for Sizes {
        const BOUNDS: &'static [f64] = &[1000.0, 1e6];
    }

    #[test]
    fn a_bound_counts_what_is_not_above_it() {
        let histogram = Histogram::<Sizes>::default();
        for size in [1, 1000, 1001, 5_000_000] {
            histogram.sized(size);
        }
        let other = Histogram::<Sizes>::default();
        other.sized(2);
        histogram.unite(&other);
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\"", 0.0).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"x_bucket{a="b",le="1000"} 3"#,
                r#"x_bucket{a="b",le="1e+06"} 4"#,
                r#"x_bucket{a="b",le="+Inf"} 5"#,
                r#"x_sum{a="b"} 5.002004e+06"#,
                r#"x_count{a="b"} 5"#,
            ]
        );
        text.clear();
        histogram.write(&mut text, "x", "a=\"b\"", 1e6).unwrap();
        assert!(!text.contains(r#"le="1000""#));
        histogram.reset();
        assert_eq!(histogram.count(), 0);
    }

    #[test]
    fn numbers_are_go_s() {
        for (value, expected) in [
            (0.0, "0"),
            (0.005, "0.005"),
            (0.00012, "0.00012"),
            (0.000012, "1.2e-05"),
            (999_999.0, "999999"),
            (1_048_576.0, "1.048576e+06"),
            (1e9, "1e+09"),
            (2.5, "2.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Number(value).to_string(), expected);
        }
    }
}
