//! The layer that watches over the others: counts, compression, and an answer in place of a panic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body::Body;

use crate::error::ApiError;
use crate::http::around::{Around, Next};
use crate::http::metrics::{Answered, Counted, Manner};
use crate::http::request_info::RequestInfo;
use crate::http::{Request, ResponseFuture, compress, respond};
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

/// The layer.
#[derive(Clone, Copy)]
pub(super) struct Observe;

impl Around for Observe {
    fn around(&self, shared: Arc<Shared>, mut request: Request, next: Next) -> ResponseFuture {
        Box::pin(async move {
            let started = Instant::now();
            let info = request.extensions().get::<Arc<RequestInfo>>().cloned();
            let gzip = compress::accepted(request.headers());
            let audit = audit_id(request.headers());
            let known = info.as_ref().is_some_and(|info| shared.registry.knows(info));
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
            let counted = Counted::new(&shared.metrics, info.as_deref(), known);
            request.extensions_mut().insert(counted.clone());
            let answer = AssertUnwindSafe(async move { next(request).await })
                .catch_unwind()
                .await;
            let mut response = match answer {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    let path = info.as_ref().map(|info| info.path.as_str()).unwrap_or_default();
                    tracing::error!(path, "a handler panicked");
                    if let Some(info) = &info {
                        shared.metrics.terminated(info, known, 500);
                    }
                    respond::error(&ApiError::internal(
                        "This request caused apiserver to panic. Look in the logs for details.",
                    ))
                }
            };
            if gzip {
                response = compress::compress(response).await;
            }
            if let Some(info) = info {
                let answered = Answered {
                    known,
                    code: response.status().as_u16(),
                    took: started.elapsed(),
                    size: response.body().size_hint().exact(),
                };
                shared.metrics.observe(&info, manner, answered);
                response
                    .body_mut()
                    .on_abort(|| shared.metrics.on_abort(&info, known));
            }
            // A watch lasts as long as its body is written.
            response.body_mut().count(counted);
            response.headers_mut().insert(AUDIT_ID, audit);
            Ok(response)
        })
    }
}
