//! What the server has found out of itself and of its clients: which checks it passes, and which deprecated resources are
//! still asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use parking_lot::Mutex;

use super::head;
use crate::http::request_info::RequestInfo;

/// How a check went, and how often each way.
#[derive(Clone, Copy, Debug, Default)]
struct Check {
    passes: bool,
    successes: u64,
    errors: u64,
}

/// The states.
#[derive(Debug, Default)]
pub(crate) struct States {
    /// By path (`livez`) and name.
    checks: Mutex<BTreeMap<(String, String), Check>>,
    /// Group, version, resource.
    deprecated: Mutex<BTreeSet<[String; 3]>>,
}

impl States {
    /// A check of a health path was made.
    pub(crate) fn checked(&self, path: &str, name: &str, passes: bool) {
        let mut checks = self.checks.lock();
        let check = checks.entry((path.to_string(), name.to_string())).or_default();
        check.passes = passes;
        if passes {
            check.successes += 1;
        } else {
            check.errors += 1;
        }
    }

    /// Somebody asked for a resource that is deprecated.
    pub(crate) fn asked_for_deprecated(&self, info: &RequestInfo) {
        let key = [&info.group, &info.version, &info.resource];
        self.deprecated.lock().insert(key.map(String::clone));
    }

    /// Begins to count the checks anew.
    pub(crate) fn reset_checks(&self) {
        self.checks.lock().clear();
    }

    pub(super) fn reset(&self) {
        self.reset_checks();
        self.deprecated.lock().clear();
    }

    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        head(
            text,
            "apiserver_requested_deprecated_apis",
            "gauge",
            "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
        )?;
        for [group, version, resource] in self.deprecated.lock().iter() {
            writeln!(
                text,
                "apiserver_requested_deprecated_apis{{group=\"{group}\",removed_release=\"\",resource=\"{resource}\",subresource=\"\",version=\"{version}\"}} 1"
            )?;
        }
        Ok(())
    }

    /// What `/metrics/slis` tells.
    pub(crate) fn service_levels(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write_checks(&mut text);
        text
    }

    fn write_checks(&self, text: &mut String) -> std::fmt::Result {
        let checks = self.checks.lock();
        head(
            text,
            "kubernetes_healthcheck",
            "gauge",
            "[STABLE] This metric records the result of a single healthcheck.",
        )?;
        for ((path, name), check) in checks.iter() {
            let passes = u8::from(check.passes);
            writeln!(
                text,
                "kubernetes_healthcheck{{name=\"{name}\",type=\"{path}\"}} {passes}"
            )?;
        }
        head(
            text,
            "kubernetes_healthchecks_total",
            "counter",
            "[STABLE] This metric records the results of all healthcheck.",
        )?;
        for ((path, name), check) in checks.iter() {
            for (status, count) in [("error", check.errors), ("success", check.successes)] {
                if count > 0 {
                    writeln!(
                        text,
                        "kubernetes_healthchecks_total{{name=\"{name}\",status=\"{status}\",type=\"{path}\"}} {count}"
                    )?;
                }
            }
        }
        Ok(())
    }
}
