//! HTTP: the request path, top to bottom in [`request_path`], and the handlers that it ends in.

pub(crate) mod accept;
mod around;
mod binding;
pub(crate) mod body;
mod component_status;
mod compress;
mod content;
mod deadline;
mod debug;
mod eviction;
mod logs;
mod metrics;
mod node;
mod observe;
mod options;
mod paths;
mod pretty;
mod proxy;
pub(crate) mod query;
mod refusal;
mod relay;
mod request_body;
pub mod request_info;
pub(crate) mod resources;
mod respond;
mod review_rules;
mod reviews;
mod scale;
mod stage;
mod token_request;
mod transform;
mod tunnel;
mod turn;
mod watch;
mod websocket;
mod zpages;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, service_fn};

use crate::auth::authorize::{Attributes, Authorizer, Decision, forbidden};
use crate::auth::{Caller, PeerIdentity, authenticate};
use crate::error::{ApiError, ApiResult};
use crate::http::around::AroundLayer;
use crate::http::deadline::Deadline;
use crate::http::observe::Observe;
use crate::http::query::Query;
use crate::http::refusal::Encode;
use crate::http::request_info::RequestInfo;
use crate::http::resources::Call;
use crate::http::stage::{Check, Stage};
use crate::http::turn::InTurn;
use crate::server::Shared;

pub use body::ResponseBody;
pub(crate) use body::SocketBody;
pub(crate) use content::Content;
pub(crate) use metrics::{
    AdmissionTimes, Clients, Counted, Exchange, Impersonations, Measured, Metrics, Passed, PluginTimes, Step,
    TokenUses, tick,
};
pub(crate) use node::NodeClient;

/// A response on its way to the client.
pub type Response = ::http::Response<ResponseBody>;
/// What a service of the request path returns.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;
/// An error of a body, with its type erased.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, with its type erased.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BodyError>;
/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(pub BoxError);

/// A request on its way through the layers.
pub type Request = ::http::Request<RequestBody>;
/// The whole path of a request.
pub(crate) type RequestPath = BoxCloneSyncService<Request, Response, Infallible>;

/// Where a request came from; one from within the process has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) std::net::IpAddr);

/// What the credential of a request gives cause to warn of.
#[derive(Clone, Copy, Debug, Default)]
struct WarnedOf(Option<&'static str>);

/// The path of every request, whichever way it came in.
pub(crate) fn request_path(shared: &Arc<Shared>) -> RequestPath {
    let stage = |check: Check| AroundLayer {
        shared: shared.clone(),
        what: Stage(check),
    };
    let handler = {
        let shared = shared.clone();
        service_fn(move |request| {
            let shared = shared.clone();
            Box::pin(async move { Ok::<_, Infallible>(handle(shared, request).await) }) as ResponseFuture
        })
    };
    let path = ServiceBuilder::new()
        // What the request is about; a path that cannot be read ends here.
        .layer(stage(|_, request| Box::pin(describe(request))))
        // Counts, compresses, and turns a panic into an answer.
        .layer(AroundLayer {
            shared: shared.clone(),
            what: Observe,
        })
        // Writes what the layers and the handlers within refuse as the client wants to read it.
        .layer(AroundLayer {
            shared: shared.clone(),
            what: Encode,
        })
        // How long it may take.
        .layer(AroundLayer {
            shared: shared.clone(),
            what: Deadline,
        })
        // Who asks: client certificate, token, or nobody. A wrong credential ends here.
        .layer(stage(|shared, request| Box::pin(identify(shared, request))))
        // On whose behalf.
        .layer(stage(|shared, request| Box::pin(act_as(shared, request))))
        // The audit log takes its place here, where it is known who asks and not yet whether they may.
        // How many at once, and whose turn it is.
        .layer(AroundLayer {
            shared: shared.clone(),
            what: InTurn,
        })
        // May they.
        .layer(stage(|shared, request| Box::pin(permit(shared, request))))
        .service(handler);
    BoxCloneSyncService::new(path)
}

/// What one of the stages before has put into the request.
fn found<T: Clone + Send + Sync + 'static>(request: &Request) -> ApiResult<T> {
    let found = request.extensions().get::<T>().cloned();
    found.ok_or_else(|| ApiError::internal(format!("no {} in the request", std::any::type_name::<T>())))
}

async fn describe(mut request: Request) -> ApiResult<Request> {
    let info = RequestInfo::parse(request.method(), request.uri())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    request.extensions_mut().insert(Arc::new(info));
    Ok(request)
}

async fn identify(shared: Arc<Shared>, mut request: Request) -> ApiResult<Request> {
    // A request from within the process has its caller already; none from a socket can.
    if request.extensions().get::<Caller>().is_none() {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let (user, warning) =
            authenticate(peer.as_ref(), request.headers(), &shared.tokens, &shared.registry).await?;
        request.extensions_mut().insert(Caller(user));
        request.extensions_mut().insert(WarnedOf(warning));
    }
    // No handler behind has any use for the credential.
    request.headers_mut().remove(::http::header::AUTHORIZATION);
    Ok(request)
}

async fn act_as(shared: Arc<Shared>, mut request: Request) -> ApiResult<Request> {
    let Caller(caller) = found(&request)?;
    let info: Arc<RequestInfo> = found(&request)?;
    if let Some(user) = shared
        .impersonation
        .user(request.headers(), &caller, &info)
        .await?
    {
        tracing::debug!(caller = caller.name, user = user.name, "impersonation");
        request.extensions_mut().insert(Caller(Arc::new(user)));
    }
    Ok(request)
}

async fn permit(shared: Arc<Shared>, request: Request) -> ApiResult<Request> {
    let Caller(user) = found(&request)?;
    let info: Arc<RequestInfo> = found(&request)?;
    let attributes = Attributes::of(&user, &info);
    match shared.authorizer.authorize(&attributes).await {
        Decision::Allow(_) => Ok(request),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&attributes, &reason)),
    }
}

async fn handle(shared: Arc<Shared>, request: Request) -> Response {
    let WarnedOf(warning) = request.extensions().get().copied().unwrap_or_default();
    let answer = async {
        let Caller(user) = found(&request)?;
        let info: Arc<RequestInfo> = found(&request)?;
        let (mut head, body) = request.into_parts();
        let call = Call {
            shared,
            method: head.method,
            info,
            query: Query::parse(head.uri.query()),
            headers: head.headers,
            user,
            body: Mutex::new(body),
            upgrade: Mutex::new(head.extensions.remove::<OnUpgrade>()),
            uri: head.uri.clone(),
            counted: head.extensions.remove::<Counted>(),
            peer: head.extensions.remove::<PeerAddress>(),
            warnings: Arc::default(),
        };
        if call.info.is_resource {
            resources::handle(call).await
        } else {
            paths::handle(call).await
        }
    };
    let mut response = answer.await.unwrap_or_else(|error| respond::error(&error));
    if let Some(warning) = warning {
        respond::warn(&mut response, &[warning.to_string()]);
    }
    response
}
