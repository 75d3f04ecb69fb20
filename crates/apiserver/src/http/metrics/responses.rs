//! What became of requests besides their codes: how large the answers were, which were cut short, and which the server gave
//! up in self-defence.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;

use super::histogram::{Bounds, Histogram};
use super::{Labels, count, head};

/// The bounds of the sizes' histogram, in bytes (upstream's).
#[derive(Debug)]
struct ResponseBytes;

impl Bounds for ResponseBytes {
    const BOUNDS: &'static [f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    sizes: Mutex<BTreeMap<Labels, Histogram<ResponseBytes>>>,
    terminations: Mutex<BTreeMap<(Labels, u16), u64>>,
    aborts: Mutex<BTreeMap<Labels, u64>>,
}

impl Responses {
    /// Takes the size of the answer to a read; of others it tells nothing.
    pub(super) fn sized(&self, labels: &Labels, size: u64) {
        if !matches!(labels.verb.as_str(), "GET" | "LIST") {
            return;
        }
        count(&self.sizes, labels, |sizes| sizes.sized(size));
    }

    pub(super) fn reset(&self) {
        self.sizes.lock().clear();
        self.terminations.lock().clear();
        self.aborts.lock().clear();
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
            "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
        )?;
        for (labels, sizes) in self.sizes.lock().iter() {
            sizes.write(text, name, &format!("component=\"apiserver\",{labels}"), 0.0)?;
        }
        head(
            text,
            "apiserver_request_terminations_total",
            "counter",
            "[ALPHA] Number of requests which apiserver terminated in self-defense.",
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
            "[ALPHA] Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, resource, subresource and scope",
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
