//! What watches over the whole request path: counts, compression, and an answer in place of a panic.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body::Body;

use crate::error::ApiError;
use crate::http::metrics::{Answered, Counted, Manner};
use crate::http::request_info::RequestInfo;
use crate::http::{Request, Response, compress, respond};
use crate::server::Shared;

/// By which a request is found again in what is written about it.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The client's own name for its request, or a new one.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(AUDIT_ID).filter(|id| !id.is_empty()) {
        return id.clone();
    }
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text: &str = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// What is known of a request before it is answered.
pub(super) struct Observation<'a> {
    shared: &'a Shared,
    info: &'a RequestInfo,
    /// Whether its resource is one that is served.
    known: bool,
    manner: Manner,
    gzip: bool,
    audit: HeaderValue,
    counted: Counted,
    started: Instant,
}

impl<'a> Observation<'a> {
    pub(super) fn begin(shared: &'a Shared, info: &'a RequestInfo, request: &Request) -> Self {
        let known = shared.registry.knows(info);
        let manner = Manner {
            applies: request
                .headers()
                .get(CONTENT_TYPE)
                .is_some_and(|type_| type_.as_bytes().starts_with(b"application/apply-patch+yaml")),
            dry_run: request
                .uri()
                .query()
                .is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=All")),
        };
        Self {
            shared,
            info,
            known,
            manner,
            gzip: compress::accepted(request.headers()),
            audit: audit_id(request.headers()),
            counted: Counted::new(&shared.metrics, info, known),
            started: Instant::now(),
        }
    }

    /// Counts the request for as long as it is kept.
    pub(super) fn counted(&self) -> Counted {
        self.counted.clone()
    }

    /// The answer, counted, compressed, and one even if it panics.
    pub(super) async fn of(self, answer: impl Future<Output = Response>) -> Response {
        let Self {
            shared, info, known, ..
        } = self;
        let answer = AssertUnwindSafe(answer).catch_unwind().await;
        let mut response = answer.unwrap_or_else(|_| {
            tracing::error!(path = info.path, "a handler panicked");
            shared.metrics.terminated(info, known, 500);
            respond::error(&ApiError::internal(
                "This request caused apiserver to panic. Look in the logs for details.",
            ))
        });
        if self.gzip {
            response = compress::compress(response).await;
        }
        let answered = Answered {
            known,
            code: response.status().as_u16(),
            took: self.started.elapsed(),
            size: response.body().size_hint().exact(),
        };
        shared.metrics.observe(info, self.manner, answered);
        let body = response.body_mut();
        body.on_abort(|| shared.metrics.on_abort(info, known));
        // A watch lasts as long as its body is written.
        body.count(self.counted);
        response.headers_mut().insert(AUDIT_ID, self.audit);
        response
    }
}
