//! The layer that gives each request its turn, or sends it away for now.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};

use crate::auth::Caller;
use crate::flow::Busy;
use crate::http::around::{Around, Next};
use crate::http::request_info::RequestInfo;
use crate::http::{Request, Response, ResponseFuture, found, respond};
use crate::server::Shared;

/// The layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct InTurn;

impl Around for InTurn {
    fn around(&self, shared: Arc<Shared>, mut request: Request, next: Next) -> ResponseFuture {
        Box::pin(async move {
            let asked = found::<Caller>(&request)
                .and_then(|caller| Ok((caller, found::<Arc<RequestInfo>>(&request)?)));
            let (Caller(user), info) = match asked {
                Ok(asked) => asked,
                Err(error) => return Ok(respond::error(&error)),
            };
            // What lasts as long as the client likes would keep its seat as long.
            if info.is_long_running() {
                return next(request).await;
            }
            match shared.flow.turn(&info, &user).await {
                Ok(turn) => {
                    request.extensions_mut().insert(turn);
                    next(request).await
                }
                Err(Busy) => Ok(busy()),
            }
        })
    }
}

/// As Go's servers refuse in few words.
fn busy() -> Response {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(Busy::WAIT.as_secs()));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
