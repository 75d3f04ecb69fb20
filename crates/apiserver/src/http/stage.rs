//! A layer of the request path that lets a request on, changed or not, or answers it with an error.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::X_CONTENT_TYPE_OPTIONS;

use crate::error::ApiResult;
use crate::http::around::{Around, Next};
use crate::http::{Request, ResponseFuture, respond};
use crate::server::Shared;

/// What a stage does with a request.
pub(super) type Check = fn(Arc<Shared>, Request) -> BoxFuture<'static, ApiResult<Request>>;

/// A stage.
#[derive(Clone, Copy)]
pub(super) struct Stage(pub(super) Check);

impl Around for Stage {
    fn around(&self, shared: Arc<Shared>, request: Request, next: Next) -> ResponseFuture {
        let checked = (self.0)(shared, request);
        Box::pin(async move {
            match checked.await {
                Ok(request) => next(request).await,
                Err(error) => {
                    let mut response = respond::error(&error);
                    // Upstream's filters say this of what they refuse, and its handlers do not.
                    if matches!(error.code(), 403 | 500) {
                        response
                            .headers_mut()
                            .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                    }
                    Ok(response)
                }
            }
        })
    }
}
