//! The requests that the parts of this process send to the server, under client-go's names: they are clients like others,
//! except that no socket lies between.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;

use super::head;
use super::histogram::{Bounds, Histogram};

/// In seconds.
#[derive(Debug)]
struct Seconds;

impl Bounds for Seconds {
    const BOUNDS: &'static [f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
}

/// In bytes.
#[derive(Debug)]
struct Bytes;

impl Bounds for Bytes {
    const BOUNDS: &'static [f64] = &[
        64.0,
        256.0,
        512.0,
        1024.0,
        4096.0,
        16_384.0,
        65_536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
    ];
}

/// What was sent with one method.
#[derive(Debug, Default)]
struct Sent {
    took: Histogram<Seconds>,
    request_sizes: Histogram<Bytes>,
    response_sizes: Histogram<Bytes>,
    /// By the code of the answer.
    codes: Mutex<BTreeMap<u16, u64>>,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) code: u16,
    pub(crate) took: Duration,
    /// Of the bodies, in bytes, where they are known.
    pub(crate) request_size: Option<u64>,
    pub(crate) response_size: Option<u64>,
}

/// The methods that are counted; nothing in this process uses others.
const METHODS: [Method; 5] = [
    Method::DELETE,
    Method::GET,
    Method::PATCH,
    Method::POST,
    Method::PUT,
];

/// What the parts of this process send.
#[derive(Debug, Default)]
pub(crate) struct Clients([Sent; METHODS.len()]);

impl Clients {
    /// Counts a request.
    pub(crate) fn add(&self, method: &Method, exchange: Exchange) {
        let mut known = METHODS.iter().zip(&self.0);
        let Some((_, sent)) = known.find(|(its, _)| *its == method) else {
            return;
        };
        sent.took.took(exchange.took);
        if let Some(size) = exchange.request_size.filter(|size| *size > 0) {
            sent.request_sizes.sized(size);
        }
        if let Some(size) = exchange.response_size {
            sent.response_sizes.sized(size);
        }
        *sent.codes.lock().entry(exchange.code).or_default() += 1;
    }

    pub(super) fn reset(&self) {
        for sent in &self.0 {
            sent.took.reset();
            sent.request_sizes.reset();
            sent.response_sizes.reset();
            sent.codes.lock().clear();
        }
    }

    /// `host`: where they are sent.
    pub(super) fn write(&self, text: &mut String, host: &str) -> fmt::Result {
        let used = || {
            METHODS
                .iter()
                .zip(&self.0)
                .filter(|(_, sent)| sent.took.count() > 0)
        };
        let labels = |method: &Method| format!("host=\"{host}\",verb=\"{method}\"");
        let name = "rest_client_request_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
        )?;
        for (method, sent) in used() {
            sent.took.write(text, name, &labels(method), 0.0)?;
        }
        type Sizes = fn(&Sent) -> &Histogram<Bytes>;
        let sizes: [(&str, &str, Sizes); 2] = [
            ("request", "Request", |sent| &sent.request_sizes),
            ("response", "Response", |sent| &sent.response_sizes),
        ];
        for (name, about, of) in sizes {
            let name = format!("rest_client_{name}_size_bytes");
            let about = format!("[ALPHA] {about} size in bytes. Broken down by verb and host.");
            head(text, &name, "histogram", &about)?;
            for (method, sent) in used().filter(|(_, sent)| of(sent).count() > 0) {
                of(sent).write(text, &name, &labels(method), 0.0)?;
            }
        }
        let name = "rest_client_requests_total";
        head(
            text,
            name,
            "counter",
            "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
        )?;
        for (method, sent) in used() {
            for (code, count) in sent.codes.lock().iter() {
                writeln!(
                    text,
                    "{name}{{code=\"{code}\",host=\"{host}\",method=\"{method}\"}} {count}"
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_method_and_code() {
        let clients = Clients::default();
        let exchange = |code| Exchange {
            code,
            took: Duration::from_millis(7),
            request_size: Some(300),
            response_size: None,
        };
        clients.add(&Method::POST, exchange(201));
        clients.add(&Method::POST, exchange(409));
        clients.add(&Method::TRACE, exchange(405));
        let mut text = String::new();
        clients.write(&mut text, "127.0.0.1:6443").unwrap();
        for line in [
            r#"rest_client_requests_total{code="409",host="127.0.0.1:6443",method="POST"} 1"#,
            r#"rest_client_request_duration_seconds_bucket{host="127.0.0.1:6443",verb="POST",le="0.025"} 2"#,
            r#"rest_client_request_size_bytes_bucket{host="127.0.0.1:6443",verb="POST",le="1.6777216e+07"} 2"#,
        ] {
            assert!(text.lines().any(|its| its == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("rest_client_response_size_bytes_count") && !text.contains("TRACE"));
    }
}
