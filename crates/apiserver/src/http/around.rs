//! The layers of the request path: each is told of a request, and decides whether and how the next one is.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use crate::http::{Request, Response, ResponseFuture};
use crate::server::Shared;

/// The rest of the request path.
pub(super) type Next = Box<dyn FnOnce(Request) -> ResponseFuture + Send>;

/// What a layer does with a request.
pub(super) trait Around: Clone + Send + 'static {
    /// Answers the request, by the rest of the path or by itself.
    fn around(&self, shared: Arc<Shared>, request: Request, next: Next) -> ResponseFuture;
}

/// The layer that puts something around a service.
#[derive(Clone)]
pub(super) struct AroundLayer<A> {
    pub(super) shared: Arc<Shared>,
    pub(super) what: A,
}

impl<A: Clone, S> Layer<S> for AroundLayer<A> {
    type Service = Surrounded<A, S>;

    fn layer(&self, inner: S) -> Surrounded<A, S> {
        Surrounded {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of such a layer.
#[derive(Clone)]
pub(super) struct Surrounded<A, S> {
    inner: S,
    layer: AroundLayer<A>,
}

impl<A, S> Service<Request> for Surrounded<A, S>
where
    A: Around,
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>
        + Clone
        + Send
        + 'static,
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
        let next: Next = Box::new(move |request| inner.call(request));
        self.layer.what.around(self.layer.shared.clone(), request, next)
    }
}
