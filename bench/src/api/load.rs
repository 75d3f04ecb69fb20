//! Load: a number of requests, sent by clients that each wait for an answer before they send the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::delays::Delays;
use super::target::{Answer, Call, Connection, Target};

/// What the n-th request is.
pub(super) type Calls = Arc<dyn Fn(usize) -> Call + Send + Sync>;

/// The clients, each with a connection that it keeps.
pub(super) struct Clients {
    connections: Vec<Connection>,
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// So many requests; of a list in pages, so many walks through all pages.
    pub(super) count: usize,
    /// None is begun later than this after the first.
    pub(super) limit: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Of the requests that succeeded.
    pub(super) delays: Delays,
    /// Bytes of all answers' bodies.
    pub(super) bytes: usize,
    /// Other answers than success, by code; 0 is no answer at all.
    pub(super) failures: BTreeMap<u16, usize>,
    /// The first failure's text.
    pub(super) failure: Option<String>,
    /// Of kept answers: which revision each made, and when it was asked for.
    pub(super) revisions: Vec<(u64, Instant)>,
}

impl Outcome {
    fn fail(&mut self, code: u16, text: &str) {
        let count = self.failures.entry(code).or_default();
        *count = count.saturating_add(1);
        if self.failure.is_none() {
            self.failure = Some(text.chars().take(300).collect());
        }
    }

    fn add(&mut self, begun: Instant, answer: anyhow::Result<Answer>) -> Option<Bytes> {
        match answer {
            Ok(answer) if answer.status.is_success() => {
                self.delays.add(begun.elapsed());
                self.bytes = self.bytes.saturating_add(answer.length);
                Some(answer.body)
            }
            Ok(answer) => {
                self.fail(answer.status.as_u16(), &String::from_utf8_lossy(&answer.body));
                None
            }
            Err(error) => {
                self.fail(0, &format!("{error:#}"));
                None
            }
        }
    }

    fn append(&mut self, other: Self) {
        self.delays.append(other.delays);
        self.bytes = self.bytes.saturating_add(other.bytes);
        for (code, count) in other.failures {
            let sum = self.failures.entry(code).or_default();
            *sum = sum.saturating_add(count);
        }
        self.failure = self.failure.take().or(other.failure);
        self.revisions.extend(other.revisions);
    }

    /// Whether the server has no such thing: every answer was 415.
    pub(super) fn is_not_served(&self) -> bool {
        let unsupported = StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16();
        self.delays.len() == 0
            && !self.failures.is_empty()
            && self.failures.keys().all(|code| *code == unsupported)
    }
}

impl Clients {
    /// Connects so many.
    ///
    /// # Errors
    /// When the server refuses one.
    pub(super) async fn connect(target: &Arc<Target>, count: usize) -> anyhow::Result<Self> {
        let connections = (0..count).map(|_| target.connect());
        Ok(Self {
            connections: try_join_all(connections).await?,
        })
    }

    /// Sends the load and waits for all answers.
    ///
    /// # Errors
    /// When a broken connection cannot be made anew.
    pub(super) async fn run(&mut self, calls: &Calls, extent: Extent) -> anyhow::Result<Outcome> {
        let next = AtomicUsize::new(0);
        let begin = Instant::now();
        let workers = self.connections.drain(..).map(|connection| Worker {
            connection,
            calls: calls.clone(),
            outcome: Outcome::default(),
        });
        let shared = Arc::new((next, extent, begin));
        let tasks = workers.map(|worker| tokio::spawn(worker.run(shared.clone())));
        let finished = try_join_all(tasks).await?;
        let mut outcome = Outcome::default();
        for worker in finished {
            let worker = worker?;
            outcome.append(worker.outcome);
            self.connections.push(worker.connection);
        }
        outcome.elapsed = begin.elapsed();
        Ok(outcome)
    }
}

struct Worker {
    connection: Connection,
    calls: Calls,
    outcome: Outcome,
}

impl Worker {
    async fn run(mut self, shared: Arc<(AtomicUsize, Extent, Instant)>) -> anyhow::Result<Self> {
        let (next, extent, begin) = &*shared;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= extent.count || begin.elapsed() >= extent.limit || self.outcome.is_not_served() {
                return Ok(self);
            }
            let first = (self.calls)(number);
            let mut call = first.clone();
            loop {
                let begun = Instant::now();
                let answer = self.connection.send(&call).await;
                let Some(body) = self.outcome.add(begun, answer) else {
                    break;
                };
                if !call.keep {
                    break;
                }
                let metadata = metadata(&body);
                if let Some(revision) = metadata.resource_version.and_then(|text| text.parse().ok()) {
                    self.outcome.revisions.push((revision, begun));
                }
                match metadata.next {
                    Some(token) if !token.is_empty() && begin.elapsed() < extent.limit => {
                        call.path = format!("{}&continue={}", first.path, percent_encoded(&token));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// What is read of an answer's metadata.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "continue")]
    next: Option<String>,
    #[serde(rename = "resourceVersion")]
    resource_version: Option<String>,
}

/// The metadata of an object or a list. In lists it usually comes first, and then only the beginning is parsed: a
/// client that reads a megabyte to find a line would be measured instead of the server.
fn metadata(body: &[u8]) -> Metadata {
    #[derive(Deserialize)]
    struct Whole {
        #[serde(default)]
        metadata: Metadata,
    }
    const OPENING: &[u8] = b"\"metadata\":";
    const ITEMS: &[u8] = b"\"items\":";
    let beginning = body.get(..body.len().min(1024)).unwrap_or_default();
    let find = |what: &[u8]| beginning.windows(what.len()).position(|window| window == what);
    if let (Some(metadata), Some(items)) = (find(OPENING), find(ITEMS))
        && metadata < items
        && let Some(rest) = body.get(metadata.saturating_add(OPENING.len())..)
        && let Some(Ok(metadata)) = serde_json::Deserializer::from_slice(rest).into_iter().next()
    {
        return metadata;
    }
    serde_json::from_slice::<Whole>(body).map_or_else(|_| Metadata::default(), |whole| whole.metadata)
}

/// How many objects a list has.
pub(super) fn item_count(list: &[u8]) -> usize {
    #[derive(Deserialize)]
    struct Items {
        items: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<Items>(list).map_or(0, |list| list.items.len())
}

/// The revision of an object or a list.
pub(super) fn revision(body: &[u8]) -> Option<u64> {
    metadata(body).resource_version?.parse().ok()
}

/// As a query's value.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_found_before_and_behind_the_items() {
        let before = br#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"a=b"},"items":[{"metadata":{}}]}"#;
        let behind = br#"{"items":[{"metadata":{"resourceVersion":"1"}}],"metadata":{"resourceVersion":"7","continue":"a=b"}}"#;
        let object = br#"{"metadata":{"name":"x","resourceVersion":"7"},"spec":{"items":1}}"#;
        for (body, next) in [
            (&before[..], Some("a=b")),
            (&behind[..], Some("a=b")),
            (&object[..], None),
        ] {
            let metadata = metadata(body);
            assert_eq!(metadata.resource_version.as_deref(), Some("7"));
            assert_eq!(metadata.next.as_deref(), next);
        }
        assert_eq!(item_count(before), 1);
    }

    #[test]
    fn a_token_is_encoded_for_a_query() {
        assert_eq!(percent_encoded("aZ0-_.~+/="), "aZ0-_.~%2B%2F%3D");
    }

    #[test]
    fn only_a_server_that_never_serves_it_does_not_serve_it() {
        let mut outcome = Outcome::default();
        assert!(!outcome.is_not_served());
        outcome.fail(415, "unsupported");
        assert!(outcome.is_not_served());
        outcome.fail(500, "other");
        assert!(!outcome.is_not_served());
    }
}
