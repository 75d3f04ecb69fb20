//! Many durations, and the shares of them that a reader asks for.

use std::time::Duration;

/// Durations in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    micros: Vec<u32>,
}

impl Delays {
    /// Adds one; more than an hour is an hour.
    pub(super) fn add(&mut self, delay: Duration) {
        self.micros
            .push(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds those of another.
    pub(super) fn append(&mut self, mut other: Self) {
        self.micros.append(&mut other.micros);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.micros.len()
    }

    /// The duration that the given share (0 to 1) is not longer than, in milliseconds (nearest rank).
    pub(super) fn quantile(&mut self, share: f64) -> f64 {
        let rank = (share * self.micros.len() as f64).ceil() as usize;
        let index = rank.saturating_sub(1);
        if index >= self.micros.len() {
            return f64::NAN;
        }
        let (_, value, _) = self.micros.select_nth_unstable(index);
        f64::from(*value) / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let mut delays = Delays::default();
        assert!(delays.quantile(0.5).is_nan());
        for milliseconds in (1..=100).rev() {
            delays.add(Duration::from_millis(milliseconds));
        }
        assert_eq!(delays.quantile(0.5).to_bits(), 50.0_f64.to_bits());
        assert_eq!(delays.quantile(0.99).to_bits(), 99.0_f64.to_bits());
        assert_eq!(delays.quantile(1.0).to_bits(), 100.0_f64.to_bits());
        assert_eq!(delays.quantile(0.0).to_bits(), 1.0_f64.to_bits());
    }
}
