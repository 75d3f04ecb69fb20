//! A figure: several measurements of one thing, and how they are printed.

/// Measurements of one thing, in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure {
    values: Vec<f64>,
}

impl Figure {
    /// Adds a measurement.
    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
        self.values.sort_by(f64::total_cmp);
    }

    /// The value in the middle; with an even count, the lower of the two.
    pub(crate) fn median(&self) -> f64 {
        self.values
            .get(self.values.len().saturating_sub(1) / 2)
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// `median (minimum–maximum)`, or the only value, or a dash.
    pub(crate) fn cell(&self, decimals: usize) -> String {
        match (self.values.first(), self.values.last()) {
            (Some(first), Some(last)) if self.values.len() > 1 => {
                format!(
                    "{:.decimals$} ({first:.decimals$}–{last:.decimals$})",
                    self.median()
                )
            }
            (Some(only), _) => format!("{only:.decimals$}"),
            _ => "–".to_owned(),
        }
    }

    /// `what   median unit   (minimum to maximum, n runs)`
    pub(crate) fn row(&self, what: &str, unit: &str) -> String {
        let (first, last) = (self.values.first().copied(), self.values.last().copied());
        format!(
            "{what:<52} {:>9.1} {unit:<4} ({:.1} to {:.1}, {} runs)",
            self.median(),
            first.unwrap_or(f64::NAN),
            last.unwrap_or(f64::NAN),
            self.values.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_measured_value() {
        let mut figure = Figure::default();
        for value in [5.0, 1.0, 3.0, 2.0] {
            figure.add(value);
        }
        assert!((figure.median() - 2.0).abs() < f64::EPSILON);
        assert_eq!(
            figure.row("x", "ms"),
            format!("{:<52} {:>9.1} ms   (1.0 to 5.0, 4 runs)", "x", 2.0)
        );
    }
}
