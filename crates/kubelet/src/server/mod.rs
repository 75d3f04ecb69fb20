//! The kubelet's HTTPS server: what the API server and monitoring ask of a node.

mod logs;
mod stats;
mod streams;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::KubeletError;
use crate::config::ServerConfig;
use crate::pod::identity::uid;
use crate::shared::Shared;

/// Whether the client has shown a certificate that the client CA signed.
#[derive(Clone, Copy, Debug)]
struct Authenticated(bool);

/// Everything but the health check is only for clients with a certificate.
async fn require_client(request: Request, next: Next) -> Response {
    let is_known = request
        .extensions()
        .get::<Authenticated>()
        .is_some_and(|known| known.0);
    if is_known || request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "Unauthorized").into_response()
}

/// The routes.
fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(pods))
        .route("/runningpods/", get(pods))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(logs::container_logs),
        )
        .route("/exec/{namespace}/{pod}/{container}", any(streams::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(streams::attach))
        .route("/portForward/{namespace}/{pod}", any(streams::port_forward))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn(require_client))
        .with_state(shared)
}

async fn pods(State(shared): State<Arc<Shared>>) -> Response {
    let items: Vec<serde_json::Value> = shared
        .pods
        .list()
        .iter()
        .filter_map(|pod| serde_json::to_value(&**pod).ok())
        .collect();
    let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items });
    ([(header::CONTENT_TYPE, "application/json")], list.to_string()).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let pods = shared.pods.list();
    let admitted = shared.admitted.lock().clone();
    let running = pods.iter().filter(|pod| admitted.contains_key(uid(pod))).count();
    let text = format!(
        "# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.\n\
         # TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node=\"{}\"}} 1\n\
         # HELP kubelet_running_pods [BETA] Number of pods that have a running pod sandbox\n\
         # TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {running}\n\
         # HELP kubelet_desired_pods [ALPHA] The number of pods the kubelet is being instructed to run.\n\
         # TYPE kubelet_desired_pods gauge\n\
         kubelet_desired_pods {}\n",
        shared.node_name,
        pods.len(),
    );
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// A server that is ready to run.
pub(crate) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    port: u16,
}

impl Server {
    /// # Errors
    /// When the certificate, the key, the client CA or the socket is no good.
    pub(crate) fn new(config: ServerConfig) -> Result<Self, KubeletError> {
        let acceptor = tls::acceptor(&config)?;
        let socket = |error: std::io::Error| KubeletError::Server(error.to_string());
        config.listener.set_nonblocking(true).map_err(socket)?;
        let listener = TcpListener::from_std(config.listener).map_err(socket)?;
        let port = listener.local_addr().map_err(socket)?.port();
        Ok(Self {
            listener,
            acceptor,
            port,
        })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Serves until shutdown.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let router = router(shared.clone());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shared.shutdown.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, most likely; the kernel does not say when there are some again.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (acceptor, router, shutdown) =
                (self.acceptor.clone(), router.clone(), shared.shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = serve(stream, acceptor, router) => {}
                    () = shutdown.cancelled() => {}
                }
            });
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
    };
    let known = stream
        .get_ref()
        .1
        .peer_certificates()
        .is_some_and(|chain| !chain.is_empty());
    let router = router.layer(axum::Extension(Authenticated(known)));
    let connection = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(router);
    if let Err(error) = connection
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}
