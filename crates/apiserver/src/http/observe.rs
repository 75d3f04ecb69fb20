//! The layer that watches over the others: counts, compression, and an answer in place of a panic.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use tower::{Layer, Service};

use crate::error::ApiError;
use crate::http::request_info::RequestInfo;
use crate::http::{Request, Response, ResponseFuture, compress, respond};
use crate::server::Shared;

/// The layer.
#[derive(Clone)]
pub(super) struct ObserveLayer {
    pub(super) shared: Arc<Shared>,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            shared: self.shared.clone(),
        }
    }
}

/// The service of the layer.
#[derive(Clone)]
pub(super) struct Observe<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// Counts a request for as long as it lives.
struct Counted(Arc<Shared>, fn(&Shared) -> &AtomicI64);

impl Counted {
    fn new(shared: Arc<Shared>, gauge: fn(&Shared) -> &AtomicI64) -> Self {
        gauge(&shared).fetch_add(1, Ordering::Relaxed);
        Self(shared, gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Service<Request> for Observe<S>
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
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let shared = self.shared.clone();
        Box::pin(async move {
            let started = Instant::now();
            let info = request.extensions().get::<Arc<RequestInfo>>().cloned();
            let gzip = compress::accepted(request.headers());
            let gauge: fn(&Shared) -> &AtomicI64 = match &info {
                Some(info) if info.is_long_running() => |shared| &shared.metrics.long_running,
                Some(info) if info.is_mutating() => |shared| &shared.metrics.in_flight_mutating,
                _ => |shared| &shared.metrics.in_flight_read_only,
            };
            let _counted = Counted::new(shared.clone(), gauge);
            let answer = AssertUnwindSafe(inner.call(request)).catch_unwind().await;
            let mut response = match answer {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    let path = info.as_ref().map(|info| info.path.as_str()).unwrap_or_default();
                    tracing::error!(path, "a handler panicked");
                    respond::error(&ApiError::internal(
                        "This request caused apiserver to panic. Look in the logs for details.",
                    ))
                }
            };
            if gzip {
                response = compress::compress(response).await;
            }
            if let Some(info) = info {
                let known = shared
                    .registry
                    .resource(&info.group, &info.version, &info.resource)
                    .is_some();
                let code = response.status().as_u16();
                shared.metrics.observe(&info, known, code, started.elapsed());
            }
            Ok(response)
        })
    }
}
