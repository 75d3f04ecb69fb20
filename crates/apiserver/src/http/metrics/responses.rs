//! What became of requests besides their codes: how large the answers were, which were cut short, and which the server gave
//! up in self-defence.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;

use super::{Labels, count, head};

/// The bounds of the sizes' histogram, in bytes (upstream's).
const BOUNDS: [u64; 7] = [
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// How large answers were, in bytes.
#[derive(Debug, Default)]
struct Sizes {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    sizes: Mutex<BTreeMap<Labels, Sizes>>,
    terminations: Mutex<BTreeMap<(Labels, u16), u64>>,
    aborts: Mutex<BTreeMap<Labels, u64>>,
}

impl Responses {
    /// Takes the size of the answer to a read; of others it tells nothing.
    pub(super) fn sized(&self, labels: &Labels, size: u64) {
        if !matches!(labels.verb.as_str(), "GET" | "LIST") {
            return;
        }
        count(&self.sizes, labels, |sizes| {
            for (bucket, bound) in sizes.buckets.iter_mut().zip(BOUNDS) {
                *bucket += u64::from(size <= bound);
            }
            sizes.count += 1;
            sizes.sum += size;
        });
    }

    /// Counts a request that the server gave up.
    pub(super) fn terminated(&self, labels: Labels, code: u16) {
        *self.terminations.lock().entry((labels, code)).or_default() += 1;
    }

    /// Counts an answer that was cut short.
    pub(super) fn aborted(&self, labels: Labels) {
        *self.aborts.lock().entry(labels).or_default() += 1;
    }

    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        let name = "apiserver_response_sizes";
        head(
            text,
            name,
            "histogram",
            "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
        )?;
        for (labels, sizes) in self.sizes.lock().iter() {
            for (bound, count) in BOUNDS.iter().zip(sizes.buckets) {
                writeln!(
                    text,
                    "{name}_bucket{{component=\"apiserver\",{labels},le=\"{bound}\"}} {count}"
                )?;
            }
            let count = sizes.count;
            writeln!(
                text,
                "{name}_bucket{{component=\"apiserver\",{labels},le=\"+Inf\"}} {count}"
            )?;
            writeln!(
                text,
                "{name}_sum{{component=\"apiserver\",{labels}}} {}",
                sizes.sum
            )?;
            writeln!(text, "{name}_count{{component=\"apiserver\",{labels}}} {count}")?;
        }
        head(
            text,
            "apiserver_request_terminations_total",
            "counter",
            "Number of requests which apiserver terminated in self-defense.",
        )?;
        for ((labels, code), count) in self.terminations.lock().iter() {
            writeln!(
                text,
                "apiserver_request_terminations_total{{code=\"{code}\",component=\"apiserver\",{labels}}} {count}"
            )?;
        }
        head(
            text,
            "apiserver_request_aborts_total",
            "counter",
            "Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, resource, subresource and scope",
        )?;
        for (labels, count) in self.aborts.lock().iter() {
            writeln!(text, "apiserver_request_aborts_total{{{labels}}} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_info::RequestInfo;
    use http::Method;

    #[test]
    fn only_the_sizes_of_reads_are_told() {
        let responses = Responses::default();
        let labels = |method: Method, path: &str| {
            let info = RequestInfo::parse(&method, &path.parse().unwrap()).unwrap();
            Labels::of(&info, true)
        };
        responses.sized(&labels(Method::GET, "/api/v1/pods"), 1500);
        responses.sized(&labels(Method::GET, "/api/v1/pods"), 500);
        responses.sized(&labels(Method::DELETE, "/api/v1/nodes/n"), 10);
        responses.terminated(labels(Method::DELETE, "/api/v1/nodes/n"), 504);
        let mut text = String::new();
        responses.write(&mut text).unwrap();
        let pods = r#"component="apiserver",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1""#;
        for line in [
            format!(r#"apiserver_response_sizes_bucket{{{pods},le="1000"}} 1"#),
            format!(r#"apiserver_response_sizes_bucket{{{pods},le="10000"}} 2"#),
            format!("apiserver_response_sizes_sum{{{pods}}} 2000"),
            r#"apiserver_request_terminations_total{code="504",component="apiserver",group="",resource="nodes",scope="resource",subresource="",verb="DELETE",version="v1"} 1"#.into(),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("DELETE").count(), 1);
    }
}
