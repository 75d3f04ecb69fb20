//! `/metrics`: counts of what the server does, under upstream's names, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::http::request_info::RequestInfo;

/// The bounds of the durations' histogram, in seconds (upstream's).
const BUCKETS: [f64; 14] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0, 30.0,
];

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

#[derive(Clone, Debug, Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// The server's counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Labels, u16), u64>>,
    durations: Mutex<BTreeMap<Labels, Durations>>,
    pub(crate) in_flight_mutating: AtomicI64,
    pub(crate) in_flight_read_only: AtomicI64,
    pub(crate) long_running: AtomicI64,
}

impl Metrics {
    /// Counts a request that was answered. `known`: its resource is one that the server has; a made-up one would
    /// let a client grow the counts without end.
    pub(crate) fn observe(&self, info: &RequestInfo, known: bool, code: u16, took: Duration) {
        let text = |text: &str| if known { text.to_string() } else { String::new() };
        let labels = Labels {
            verb: match info.verb {
                "create" => "POST".into(),
                "update" => "PUT".into(),
                "" => "other".into(),
                verb => verb.to_ascii_uppercase(),
            },
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
            scope: match (
                info.is_resource,
                info.path_name().is_empty(),
                info.namespace.is_empty(),
            ) {
                (false, ..) => "",
                (_, false, _) => "resource",
                (_, _, false) => "namespace",
                _ => "cluster",
            },
        };
        *self.requests.lock().entry((labels.clone(), code)).or_default() += 1;
        if info.is_long_running() {
            return;
        }
        let seconds = took.as_secs_f64();
        let mut durations = self.durations.lock();
        let durations = durations.entry(labels).or_default();
        for (bucket, bound) in durations.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        durations.count += 1;
        durations.sum += seconds;
    }

    /// All counts as text.
    pub(crate) fn render(&self, objects: impl Iterator<Item = (String, usize)>) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text, objects);
        text
    }

    fn write(
        &self,
        text: &mut String,
        objects: impl Iterator<Item = (String, usize)>,
    ) -> Result<(), std::fmt::Error> {
        head(
            text,
            "apiserver_request_total",
            "counter",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        )?;
        for ((labels, code), count) in self.requests.lock().iter() {
            writeln!(
                text,
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",{labels}}} {count}"
            )?;
        }
        head(
            text,
            "apiserver_request_duration_seconds",
            "histogram",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        )?;
        for (labels, durations) in self.durations.lock().iter() {
            let name = "apiserver_request_duration_seconds";
            let labels = format!("component=\"apiserver\",dry_run=\"\",{labels}");
            for (bound, count) in BUCKETS.iter().zip(durations.buckets) {
                writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
            }
            writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", durations.count)?;
            writeln!(text, "{name}_sum{{{labels}}} {}", durations.sum)?;
            writeln!(text, "{name}_count{{{labels}}} {}", durations.count)?;
        }
        head(
            text,
            "apiserver_current_inflight_requests",
            "gauge",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        )?;
        for (kind, gauge) in [
            ("mutating", &self.in_flight_mutating),
            ("readOnly", &self.in_flight_read_only),
        ] {
            let value = gauge.load(Ordering::Relaxed);
            writeln!(
                text,
                "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {value}"
            )?;
        }
        head(
            text,
            "apiserver_longrunning_requests",
            "gauge",
            "Gauge of all active long-running apiserver requests.",
        )?;
        let value = self.long_running.load(Ordering::Relaxed);
        writeln!(text, "apiserver_longrunning_requests {value}")?;
        head(
            text,
            "apiserver_storage_objects",
            "gauge",
            "Number of stored objects at the time of last check split by kind.",
        )?;
        for (resource, count) in objects {
            writeln!(
                text,
                "apiserver_storage_objects{{resource=\"{resource}\"}} {count}"
            )?;
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, type_: &str, about: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {about}\n# TYPE {name} {type_}")
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
        } = self;
        write!(
            f,
            "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn requests_are_counted_by_what_they_do() {
        let metrics = Metrics::default();
        let info = RequestInfo::parse(&Method::GET, &"/api/v1/pods".parse().unwrap()).unwrap();
        metrics.observe(&info, true, 200, Duration::from_millis(30));
        metrics.observe(&info, true, 200, Duration::from_secs(60));
        let made_up = RequestInfo::parse(&Method::GET, &"/api/v1/nonsense".parse().unwrap()).unwrap();
        metrics.observe(&made_up, false, 404, Duration::ZERO);
        let text = metrics.render(std::iter::once(("pods".to_string(), 3)));
        for line in [
            r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1"} 2"#,
            r#"apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1",le="0.05"} 1"#,
            r#"apiserver_storage_objects{resource="pods"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("nonsense"));
    }
}
