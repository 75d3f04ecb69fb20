//! How the tokens of service accounts are used, and how users act as others.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::histogram::{Bounds, Histogram};
use super::{count, head};

/// One more.
pub(crate) fn tick(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// How often tokens of service accounts were used.
#[derive(Debug, Default)]
pub(crate) struct TokenUses {
    /// Those that stand in Secrets and were accepted.
    pub(crate) legacy: AtomicU64,
    /// Of those in Secrets, the ones that nobody made by hand, and the others.
    pub(crate) generated: AtomicU64,
    pub(crate) manual: AtomicU64,
    /// Those that are not accepted any more because nobody used them for long.
    pub(crate) invalidated: AtomicU64,
    /// Those of pods after the time at which they should have been renewed, and before.
    pub(crate) stale: AtomicU64,
    pub(crate) valid: AtomicU64,
}

impl TokenUses {
    fn all(&self) -> [(&'static str, &'static str, &AtomicU64); 6] {
        [
            (
                "invalid_legacy_auto_token_uses_total",
                "Cumulative invalid auto-generated legacy tokens used",
                &self.invalidated,
            ),
            (
                "legacy_auto_token_uses_total",
                "Cumulative auto-generated legacy tokens used",
                &self.generated,
            ),
            (
                "legacy_manual_token_uses_total",
                "Cumulative manually created legacy tokens used",
                &self.manual,
            ),
            (
                "legacy_tokens_total",
                "Cumulative legacy service account tokens used",
                &self.legacy,
            ),
            (
                "stale_tokens_total",
                "Cumulative stale projected service account tokens used",
                &self.stale,
            ),
            (
                "valid_tokens_total",
                "Cumulative valid projected service account tokens used",
                &self.valid,
            ),
        ]
    }

    pub(super) fn reset(&self) {
        for (_, _, count) in self.all() {
            count.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, text: &mut String) -> fmt::Result {
        for (name, about, count) in self.all() {
            let name = format!("serviceaccount_{name}");
            head(text, &name, "counter", &format!("[ALPHA] {about}"))?;
            writeln!(text, "{name} {}", count.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

/// The bounds of both histograms, in seconds: from a millisecond on, each twice the one before.
#[derive(Debug)]
struct Seconds;

impl Bounds for Seconds {
    const BOUNDS: &'static [f64] = &[
        0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
        16.384,
    ];
}

/// By the mode, and whether it was allowed.
type Attempts = Mutex<BTreeMap<(bool, &'static str), Histogram<Seconds>>>;

/// How users act as others.
#[derive(Debug, Default)]
pub(crate) struct Impersonations {
    whole: Attempts,
    checks: Attempts,
}

impl Impersonations {
    /// Somebody wanted to act as somebody else; the mode in which it was allowed, or none.
    pub(crate) fn attempted(&self, mode: Option<&'static str>, took: Duration) {
        let key = (mode.is_some(), mode.unwrap_or_default());
        count(&self.whole, &key, |times| times.took(took));
    }

    /// It was asked whether they may in a mode.
    pub(crate) fn checked(&self, mode: &'static str, allowed: bool, took: Duration) {
        count(&self.checks, &(allowed, mode), |times| times.took(took));
    }

    pub(super) fn reset(&self) {
        self.whole.lock().clear();
        self.checks.lock().clear();
    }

    pub(crate) fn write(&self, text: &mut String) -> fmt::Result {
        let all = [
            (
                &self.whole,
                "attempts",
                [
                    "Total number of impersonation attempts",
                    "Latency of impersonation attempts in seconds",
                ],
            ),
            (
                &self.checks,
                "authorization_attempts",
                [
                    "Total number of authorization checks made by the impersonation handler",
                    "Latency of authorization checks made by the impersonation handler in seconds",
                ],
            ),
        ];
        for (attempts, name, [total, latency]) in all {
            let attempts = attempts.lock();
            let labels = |(allowed, mode): &(bool, &str)| {
                let decision = if *allowed { "allowed" } else { "denied" };
                format!("decision=\"{decision}\",mode=\"{mode}\"")
            };
            let metric = format!("apiserver_impersonation_{name}_total");
            head(
                text,
                &metric,
                "counter",
                &format!("[ALPHA] {total} split by mode and decision."),
            )?;
            for (key, times) in attempts.iter() {
                writeln!(text, "{metric}{{{}}} {}", labels(key), times.count())?;
            }
            let metric = format!("apiserver_impersonation_{name}_duration_seconds");
            head(
                text,
                &metric,
                "histogram",
                &format!("[ALPHA] {latency} split by mode and decision."),
            )?;
            for (key, times) in attempts.iter() {
                times.write(text, &metric, &labels(key), 0.0)?;
            }
        }
        Ok(())
    }
}
