//! The server: what it is made of, how it starts, and how it listens.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{HeaderValue, USER_AGENT};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::ServiceAccount;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};
use skiff_store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::admission::Chain;
use crate::admission::service_addresses::{self, Cidr, ServiceAddresses};
use crate::auth::authorize::{Masters, Union};
use crate::auth::impersonation::Impersonation;
use crate::auth::legacy_tokens;
use crate::auth::node::NodeAuthorizer;
use crate::auth::node::graph::Graph;
use crate::auth::rbac::policy::Policy;
use crate::auth::rbac::{self, Rbac};
use crate::auth::tokens::Tokens;
use crate::auth::x509::ClientAuthority;
use crate::config::Config;
use crate::error::ApiError;
use crate::flow::{self, Flow};
use crate::hooks::Hooks;
use crate::http::{
    BodyError, BoxError, Exchange, Measured, Metrics, NodeClient, Origin, PeerAddress, Request, Response,
    SocketBody, answer,
};
use crate::openapi::Documents;
use crate::registry::Registry;
use crate::startup::{self, OwnService};
use crate::user::UserInfo;
use crate::{identity, legacy_tracking, local_apis, service_range};

/// How long a client may take for the TLS handshake, and then for the head of its first request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request, as upstream keeps it.
const IDLE: Duration = Duration::from_secs(90);
/// After how many silent seconds the kernel asks whether a client is still there, and how many later it asks again
/// (upstream's).
const KEEP_ALIVE: u32 = 180;
/// How much of a response waits for a client that does not read it, in bytes.
const SEND_BUFFER: usize = 128 << 10;
/// How long requests may go on when the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

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
    State(ApiError),
    /// An object that every cluster has could not be made.
    #[error("making {what}: {cause}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// Why.
        cause: ApiError,
    },
}

/// Why a token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("signing a token: {0}")]
pub struct SignError(String);

/// Why a server stopped listening.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listening socket failed.
    #[error("listening: {0}")]
    Listen(#[from] std::io::Error),
}

/// How many requests one connection of HTTP/2 may have at once.
pub(crate) const MOST_STREAMS: u32 = 250;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tokens: Tokens,
    pub(crate) authorizer: Arc<Union>,
    pub(crate) impersonation: Impersonation,
    pub(crate) flow: Flow,
    pub(crate) metrics: Metrics,
    pub(crate) documents: Documents,
    pub(crate) nodes: NodeClient,
    pub(crate) hooks: Hooks,
    pub(crate) shutdown: CancellationToken,
}

/// A running API server; clones share it.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
    clients: ClientAuthority,
    tls: TlsAcceptor,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

fn key_error(what: &'static str) -> impl Fn(String) -> StartError {
    move |cause| StartError::Key { what, cause }
}

fn tls(config: &Config, clients: &ClientAuthority) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_slice_iter(&config.tls_certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&config.tls_key_pem).map_err(|error| error.to_string())?;
    let mut provider = skiff_tls::provider();
    // What is lighter comes first, as with upstream's server: 128 bits are enough, and a list is mostly encryption.
    let light = |suite: &SupportedCipherSuite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    Arc::make_mut(&mut provider)
        .cipher_suites
        .sort_by_key(|suite| !light(suite));
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(clients.handshake_verifier())
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    tls.ignore_client_order = true;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

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
        let catalogue = skiff_api::catalogue::builtin();
        let metrics = Metrics::of(&catalogue);
        let store = Measured::around(store, metrics.store.clone());
        let clients = ClientAuthority::new(&config.client_ca_pem).map_err(key_error("client authority"))?;
        let tls = tls(&config, &clients).map_err(key_error("serving certificate"))?;
        let mut tokens = Tokens::new(&config.service_account)
            .map_err(|error| key_error("service-account signing key")(error.to_string()))?;
        tokens.uses = metrics.tokens.clone();
        let nodes = NodeClient::new(&config.kubelet).map_err(key_error("kubelet client certificate"))?;
        let (address, prefix) = config.service_cidr;
        let cidr = Cidr::new(address, prefix)
            .ok_or_else(|| StartError::ServiceRange(format!("{address}/{prefix}")))?;
        let addresses =
            Arc::new(ServiceAddresses::new(cidr, config.node_port_range.clone()).claiming_in(&store));
        let own = addresses
            .own()
            .ok_or_else(|| StartError::ServiceRange(cidr.to_string()))?;

        let policy = Policy::builtin();
        let (roles, nodes_use) = (Rbac::default(), Graph::default());
        let authorizer = Arc::new(Union(vec![
            Box::new(Masters),
            Box::new(NodeAuthorizer::new(nodes_use.clone(), &policy)),
            Box::new(roles.clone()),
        ]));
        let admission = Arc::new(Chain::new(
            addresses.clone(),
            authorizer.clone(),
            metrics.admission.clone(),
        ));
        let registry = Registry::open(store.clone(), catalogue, admission.clone(), shutdown.clone())
            .await
            .map_err(StartError::State)?;
        let mut hooks = Hooks::default();
        hooks.done(&["storage-readiness"]);
        admission.attach(&registry);
        hooks.done(&["start-apiserver-admission-initializer"]);
        addresses
            .follow(&registry, shutdown.clone())
            .await
            .map_err(StartError::State)?;
        hooks.done(&["start-service-ip-repair-controllers"]);
        let own = OwnService::new(own, &config, store.clone());
        startup::bootstrap(&registry, &config, &own)
            .await
            .map_err(|(what, cause)| StartError::Bootstrap { what, cause })?;
        hooks.done(&[
            "start-system-namespaces-controller",
            "scheduling/bootstrap-system-priority-classes",
            "start-cluster-authentication-info-controller",
        ]);
        let made = |what: &str| {
            let what = what.to_string();
            move |cause| StartError::Bootstrap { what, cause }
        };
        let options = startup::options();
        let (roles_made, levels_made) = tokio::join!(
            rbac::bootstrap::reconcile(&registry, policy, &options),
            flow::bootstrap(&registry),
        );
        roles_made.map_err(made("roles"))?;
        levels_made.map_err(made("priority levels"))?;
        hooks.done(&["rbac/bootstrap-roles", "priority-and-fairness-config-producer"]);
        let flow = Flow::new(config.max_requests_in_flight);
        flow::Keeper::new(flow.clone())
            .follow(&registry, &shutdown)
            .await
            .map_err(StartError::State)?;
        hooks.done(&[
            "priority-and-fairness-config-consumer",
            "priority-and-fairness-filter",
        ]);
        roles
            .follow(&registry, &shutdown)
            .await
            .map_err(StartError::State)?;
        nodes_use
            .follow(&registry, &shutdown)
            .await
            .map_err(StartError::State)?;
        hooks.done(&["generic-apiserver-start-informers"]);
        own.keep(registry.clone(), shutdown.clone());
        hooks.done(&["bootstrap-controller"]);
        let (apis_made, tracking_made, range_made, addresses_made, identity_made) = tokio::join!(
            local_apis::start(registry.clone(), shutdown.clone()),
            legacy_tracking::start(registry.clone(), shutdown.clone()),
            service_range::start(registry.clone(), cidr.to_string(), shutdown.clone()),
            service_addresses::keep_objects(registry.clone(), shutdown.clone()),
            identity::start(
                registry.clone(),
                &config.host_name,
                store.is_shared(),
                shutdown.clone()
            ),
        );
        identity_made.map_err(made("this server's lease"))?;
        apis_made.map_err(made("APIServices"))?;
        tracking_made.map_err(made("the tracking of tokens in Secrets"))?;
        range_made.map_err(made("the range of services"))?;
        addresses_made.map_err(made("the addresses of services"))?;
        hooks.done(&[
            "start-kube-apiserver-identity-lease-controller",
            "start-kube-apiserver-identity-lease-garbage-collector",
            "start-legacy-token-tracking-controller",
            "start-kubernetes-service-cidr-controller",
            "start-kube-aggregator-informers",
            "apiservice-status-local-available-controller",
            "kube-apiserver-autoregistration",
        ]);

        let shared = Arc::new(Shared {
            config,
            registry,
            store,
            tokens,
            impersonation: Impersonation::new(authorizer.clone(), metrics.impersonations.clone()),
            authorizer,
            flow,
            metrics,
            documents: Documents::default(),
            nodes,
            hooks,
            shutdown,
        });
        Ok(Self { shared, clients, tls })
    }

    /// The same request path without a socket: only authentication is skipped, the caller is `user`.
    pub fn local(&self, user: UserInfo) -> LocalService {
        LocalService {
            shared: self.shared.clone(),
            user: Arc::new(user),
            program: None,
        }
    }

    /// The token of a service account that the Secret of this name is to hold.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign_secret_token(&self, account: &ServiceAccount, secret: &str) -> Result<String, SignError> {
        legacy_tokens::sign(&self.shared.tokens, account, secret)
            .map_err(|error| SignError(error.to_string()))
    }

    /// Tells more in `/metrics`: what other parts of the process count, in Prometheus' text format.
    pub fn also_tell(&self, source: impl Fn() -> String + Send + Sync + 'static) {
        self.shared.metrics.also_tell(Box::new(source));
    }

    /// Serves TLS connections until `shutdown`, HTTP/1.1 or HTTP/2 as the client chooses. Requests that are being
    /// handled then are finished, within five seconds.
    ///
    /// # Errors
    /// When the socket cannot be listened on any more.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let from = PeerAddress(peer.ip());
                    connections.spawn(self.clone().connection(stream, from, shutdown.clone()));
                }
                Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "accepting"),
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "accepting");
                    // Nothing tells when a file descriptor becomes free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        connections.close();
        let _ = tokio::time::timeout(GRACE, connections.wait()).await;
        Ok(())
    }

    async fn connection(self, stream: TcpStream, from: PeerAddress, shutdown: CancellationToken) {
        // Small frames, such as watch events, are to leave at once.
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        let stream = match tokio::time::timeout(PATIENCE, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let peer = self.clients.identify(stream.get_ref().1.peer_certificates());
        let shared = self.shared;
        let begun = Arc::new(AtomicBool::new(false));
        let asked = begun.clone();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let request: Request =
                request.map(|body| body.map_err(|error| BodyError(error.into())).boxed_unsync());
            let answer = answer(shared.clone(), request, Origin::Socket(peer.clone(), from));
            answer.map(|response| Ok::<_, Infallible>(response.map(SocketBody)))
        });
        // By what was agreed in the handshake: to find it out from the first bytes would mean to wait for them forever.
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MOST_STREAMS)
                .max_send_buf_size(SEND_BUFFER)
                .keep_alive_interval(Duration::from_secs(30))
                .serve_connection(TokioIo::new(stream), service);
            serve_until(connection, http2::Connection::graceful_shutdown, &begun, shutdown).await;
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            serve_until(
                connection,
                http1::UpgradeableConnection::graceful_shutdown,
                &begun,
                shutdown,
            )
            .await;
        }
    }

    /// Whether `/readyz` answers ok.
    pub async fn ready(&self) -> bool {
        let request = http::Request::get("/readyz").body(http_body_util::Empty::<Bytes>::new());
        let Ok(request) = request else { return false };
        match self.local(startup::server_user()).call(request).await {
            Ok(response) => response.status().is_success(),
            Err(never) => match never {},
        }
    }
}

/// Serves a connection until it ends; on shutdown its requests are finished, and no more are taken. One on which no request
/// has begun in time is dropped.
async fn serve_until<C, E>(
    connection: C,
    stop: impl Fn(Pin<&mut C>),
    begun: &AtomicBool,
    shutdown: CancellationToken,
) where
    C: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let mut connection = std::pin::pin!(connection);
    let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
    let (mut stopping, mut waiting) = (false, true);
    loop {
        tokio::select! {
            () = patience.as_mut(), if waiting => {
                if !begun.load(Ordering::Relaxed) {
                    return tracing::debug!("no request came");
                }
                waiting = false;
            }
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                stop(connection.as_mut());
            }
        }
    }
}

/// Has the kernel ask whether the client is still there: one that vanished without a word would otherwise be waited for
/// for ever, by watches and by tunnels that only it could end.
fn keep_alive(stream: &TcpStream) {
    let set = setsockopt(stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepInterval, &KEEP_ALIVE));
    if let Err(error) = set {
        tracing::debug!(%error, "keeping a connection alive");
    }
}

/// Whether accepting failed for a reason that lies in the one connection.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Whether accepting failed because the process or the system has no file descriptor or memory left (EMFILE, ENFILE,
/// ENOBUFS, ENOMEM).
fn is_exhaustion(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// The request path without a socket; every caller is the same user.
#[derive(Clone)]
pub struct LocalService {
    shared: Arc<Shared>,
    user: Arc<UserInfo>,
    program: Option<HeaderValue>,
}

impl LocalService {
    /// What is written is noted as this program's, as if it had sent its name as `User-Agent`.
    #[must_use]
    pub fn of_program(mut self, name: &'static str) -> Self {
        self.program = Some(HeaderValue::from_static(name));
        self
    }
}

impl fmt::Debug for LocalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalService")
            .field("user", &self.user.name)
            .finish_non_exhaustive()
    }
}

impl<B> Service<http::Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if let Some(program) = &self.program {
            let agent = request.headers_mut().entry(USER_AGENT);
            agent.or_insert_with(|| program.clone());
        }
        let request_size = request.body().size_hint().exact();
        let request: Request =
            request.map(|body| body.map_err(|error| BodyError(error.into())).boxed_unsync());
        let (shared, method) = (self.shared.clone(), request.method().clone());
        let began = Instant::now();
        let answer = answer(shared.clone(), request, Origin::Process(self.user.clone()));
        Box::pin(answer.map(move |response| {
            let exchange = Exchange {
                code: response.status().as_u16(),
                took: began.elapsed(),
                request_size,
                response_size: response.body().size_hint().exact(),
            };
            shared.metrics.clients.add(&method, exchange);
            Ok(response)
        }))
    }
}
