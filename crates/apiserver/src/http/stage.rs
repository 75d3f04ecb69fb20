//! A layer of the request path that lets a request on, changed or not, or answers it with an error.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::{Layer, Service};

use crate::error::ApiResult;
use crate::http::{Request, Response, ResponseFuture, respond};
use crate::server::Shared;

/// What a stage does with a request.
pub(super) type Check = fn(Arc<Shared>, Request) -> BoxFuture<'static, ApiResult<Request>>;

/// The layer that puts a stage before a service.
#[derive(Clone)]
pub(super) struct StageLayer {
    pub(super) shared: Arc<Shared>,
    pub(super) check: Check,
}

impl<S> Layer<S> for StageLayer {
    type Service = Stage<S>;

    fn layer(&self, inner: S) -> Stage<S> {
        Stage {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of a stage.
#[derive(Clone)]
pub(super) struct Stage<S> {
    inner: S,
    layer: StageLayer,
}

impl<S> Service<Request> for Stage<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> ResponseFuture {
        // The one that was polled ready serves this request; its copy the next.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let checked = (self.layer.check)(self.layer.shared.clone(), request);
        Box::pin(async move {
            match checked.await {
                Ok(request) => inner.call(request).await,
                Err(error) => Ok(respond::error(&error)),
            }
        })
    }
}
