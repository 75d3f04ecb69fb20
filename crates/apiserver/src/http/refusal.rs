//! Errors in the encoding that the client asked for, wherever on the request path they come from.

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::error::ApiError;
use crate::http::accept::{Encoding, negotiate};
use crate::http::query::Query;
use crate::http::{Request, Response, pretty, respond};

/// What a response was made of that says no: an extension of it.
#[derive(Clone, Debug)]
pub(super) struct Refusal(pub(super) ApiError);

/// How a client wants to read errors.
pub(super) struct Asker {
    uri: Uri,
    /// Each of the headers that say it: its first value, and the others.
    headers: [(HeaderName, Option<HeaderValue>, Vec<HeaderValue>); 2],
}

impl Asker {
    /// Most requests are not refused, so no more is kept of them than that costs nothing.
    pub(super) fn of(request: &Request) -> Self {
        let headers = [ACCEPT, USER_AGENT].map(|name| {
            let mut values = request.headers().get_all(&name).iter().cloned();
            (name, values.next(), values.collect())
        });
        let uri = request.uri().clone();
        Self { uri, headers }
    }

    /// The response, in the client's encoding if it says no.
    pub(super) fn written(self, mut response: Response) -> Response {
        if let Some(Refusal(error)) = response.extensions_mut().remove::<Refusal>() {
            let mut headers = HeaderMap::new();
            for (name, first, others) in self.headers {
                for value in first.into_iter().chain(others) {
                    headers.append(&name, value);
                }
            }
            rewrite(&mut response, &error, &headers, &Query::parse(self.uri.query()));
        }
        response
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
