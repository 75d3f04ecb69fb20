//! What a row of probe results means for a container: upstream's thresholds.

use k8s_openapi::api::core::v1::Probe;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As messages name it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Counts results in a row and says when they decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    kind: Kind,
    success_threshold: i32,
    failure_threshold: i32,
    last: Option<bool>,
    in_a_row: i32,
    verdict: bool,
}

impl Counter {
    /// Before the first result a container is alive, not started and not ready.
    pub(crate) fn new(kind: Kind, probe: &Probe) -> Self {
        Self {
            kind,
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            in_a_row: 0,
            verdict: kind == Kind::Liveness,
        }
    }

    /// Counts a result; the new verdict when it decides something.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        if self.last == Some(success) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.last = Some(success);
            self.in_a_row = 1;
        }
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.in_a_row < threshold {
            return None;
        }
        let changed = self.verdict != success;
        self.verdict = success;
        // A failed startup changes nothing of the verdict, but ends the container.
        let decides = changed || !success && self.kind != Kind::Readiness;
        decides.then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_results_in_a_row_decide() {
        let probe = Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Probe::default()
        };
        let row = |kind, results: &[bool]| -> Vec<Option<bool>> {
            let mut counter = Counter::new(kind, &probe);
            results.iter().map(|result| counter.count(*result)).collect()
        };
        let (t, f) = (true, false);
        assert_eq!(row(Kind::Readiness, &[t, t, t]), [None, Some(true), None]);
        assert_eq!(row(Kind::Readiness, &[f, f, f, f]), [None, None, None, None]);
        assert_eq!(
            row(Kind::Readiness, &[t, t, f, f, t, f, f, f]).last(),
            Some(&Some(false))
        );
        assert_eq!(
            row(Kind::Liveness, &[t, f, f, f]),
            [None, None, None, Some(false)]
        );
        assert_eq!(row(Kind::Startup, &[f, f, f]), [None, None, Some(false)]);
        assert_eq!(row(Kind::Startup, &[f, t, t]), [None, None, Some(true)]);
    }
}
