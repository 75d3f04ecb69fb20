//! The server: what it is made of, how it starts, and how it listens.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use skiff_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::config::Config;
use crate::http::{BoxError, Request, Response, ResponseFuture};
use crate::user::UserInfo;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate or key of the configuration is unusable.
    #[error("{what}: {cause}")]
    Key {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The service range has no room for the server's own service.
    #[error("service range {0} has no usable address")]
    ServiceRange(String),
    /// The state could not be read.
    #[error("reading the cluster's state: {0}")]
    State(String),
    /// An object that every cluster has could not be made.
    #[error("making {what}: {cause}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// Why.
        cause: crate::ApiError,
    },
}

/// Why a server stopped listening.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listening socket failed.
    #[error("listening: {0}")]
    Listen(#[from] std::io::Error),
}

/// A running API server; clones share it.
#[derive(Clone, Debug)]
pub struct ApiServer {}

/// The request path without a socket; every caller is the same user.
#[derive(Clone, Debug)]
pub struct LocalService {}

impl ApiServer {
    /// Starts a server on a store. When this returns the caches are filled and the objects that every cluster has are
    /// there.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let _ = (config, store, shutdown);
        Ok(Self {})
    }

    /// The same request path without a socket: only authentication is skipped, the caller is `user`.
    pub fn local(&self, user: UserInfo) -> LocalService {
        let _ = user;
        LocalService {}
    }

    /// Serves TLS connections until `shutdown`, HTTP/1.1 or HTTP/2 as the client chooses.
    ///
    /// # Errors
    /// When the socket cannot be listened on any more.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        let _ = listener;
        shutdown.cancelled().await;
        Ok(())
    }

    /// Whether `/readyz` answers ok.
    pub async fn ready(&self) -> bool {
        true
    }
}

impl<B> Service<http::Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> ResponseFuture {
        let _request: Request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async { Ok(Response::default()) })
    }
}
