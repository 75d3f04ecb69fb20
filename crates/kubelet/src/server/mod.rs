//! The kubelet's HTTPS server: what the API server and monitoring ask of a node.

mod access;
mod config;
mod files;
mod logs;
mod stats;
mod streams;
mod tls;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use k8s_cri::v1::ContainerState;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::KubeletError;
use crate::config::ServerConfig;
use crate::pod::identity::uid;
use crate::pod::labels;
use crate::shared::Shared;

/// The routes.
fn router(shared: Arc<Shared>) -> Router {
    let permit = middleware::from_fn_with_state(shared.clone(), access::permit);
    Router::new()
        .route("/healthz", get(config::healthz))
        .route("/healthz/{check}", get(config::healthz_of))
        .route("/configz", get(config::configz))
        .route("/pods", get(pods))
        .route("/runningpods", get(running_pods))
        .route("/runningpods/", get(running_pods))
        .route("/logs", get(files::logs))
        .route("/logs/", get(files::logs))
        .route("/logs/{*path}", get(files::logs))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(logs::container_logs),
        )
        .route("/run/{namespace}/{pod}/{container}", post(streams::run))
        .route("/exec/{namespace}/{pod}/{container}", any(streams::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(streams::attach))
        .route("/portForward/{namespace}/{pod}", any(streams::port_forward))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(metrics))
        .route("/metrics/resource", get(usage::resource))
        .route("/metrics/cadvisor", get(usage::containers))
        .layer(permit)
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

/// What runs, as the runtime has it: names and images, and nothing of what was asked for.
async fn running_pods(State(shared): State<Arc<Shared>>) -> Response {
    let containers = match shared.cri.containers(None).await {
        Ok(containers) => containers,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let mut pods: BTreeMap<[String; 3], Vec<serde_json::Value>> = BTreeMap::new();
    for container in containers {
        if container.state != ContainerState::ContainerRunning as i32 {
            continue;
        }
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let pod = [labels::POD_NAMESPACE, labels::POD_NAME, labels::POD_UID].map(label);
        let image = container.image.as_ref().map(|image| image.image.clone());
        let name = label(labels::CONTAINER_NAME);
        let running = json!({ "name": name, "image": image.unwrap_or_default(), "resources": {} });
        pods.entry(pod).or_default().push(running);
    }
    let items: Vec<serde_json::Value> = pods
        .into_iter()
        .map(|([namespace, name, uid], containers)| {
            json!({
                "metadata": { "name": name, "namespace": namespace, "uid": uid },
                "spec": { "containers": containers },
                "status": {},
            })
        })
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
    let peer = access::Peer::of(stream.get_ref().1.peer_certificates());
    let router = router.layer(axum::Extension(peer));
    let connection = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(router);
    if let Err(error) = connection
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}
