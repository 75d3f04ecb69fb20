//! The layer that writes errors in the encoding that the client asked for: of the handlers and of the layers within.

use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use crate::error::ApiError;
use crate::http::accept::{Encoding, negotiate};
use crate::http::around::{Around, Next};
use crate::http::query::Query;
use crate::http::{Request, Response, ResponseFuture, pretty, respond};
use crate::server::Shared;

/// What a response was made of that says no: an extension of it.
#[derive(Clone, Debug)]
pub(super) struct Refusal(pub(super) ApiError);

/// The layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encode;

impl Around for Encode {
    fn around(&self, _shared: Arc<Shared>, request: Request, next: Next) -> ResponseFuture {
        // Most requests are not refused, so no more is kept of them than that costs nothing.
        let uri = request.uri().clone();
        let kept = [ACCEPT, USER_AGENT].map(|name| {
            let mut values = request.headers().get_all(&name).iter().cloned();
            (name, values.next(), values.collect::<Vec<_>>())
        });
        Box::pin(async move {
            let mut response = next(request).await?;
            if let Some(Refusal(error)) = response.extensions_mut().remove::<Refusal>() {
                let mut headers = HeaderMap::new();
                for (name, first, others) in kept {
                    for value in first.into_iter().chain(others) {
                        headers.append(&name, value);
                    }
                }
                rewrite(&mut response, &error, &headers, &Query::parse(uri.query()));
            }
            Ok(response)
        })
    }
}

/// Writes the error anew, where its JSON is not what was asked for. Whoever asks for what there is not gets JSON to read.
fn rewrite(response: &mut Response, error: &ApiError, headers: &HeaderMap, query: &Query) {
    let json = respond::status_json(&error.0);
    let accepted = negotiate(headers, false);
    let (encoding, bytes) = match accepted.map(|accepted| (accepted.encoding, accepted.pretty)) {
        Ok((Encoding::Json, false)) if !pretty::wanted(query, headers) => return,
        Ok((Encoding::Json, _)) | Err(_) => (Encoding::Json, pretty::indented(&json).into()),
        Ok((encoding, _)) => match respond::transcoded(encoding, &json) {
            Ok(bytes) => (encoding, bytes),
            Err(_) => return,
        },
    };
    let mut written = respond::object(200, encoding, [bytes]);
    response.body_mut().replace(std::mem::take(written.body_mut()));
    let content_type = HeaderValue::from_static(encoding.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
}
