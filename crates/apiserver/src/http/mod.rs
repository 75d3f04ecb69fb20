//! HTTP: the request path, top to bottom in [`answer`], and the handlers that it ends in.

pub(crate) mod accept;
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
mod token_request;
mod transform;
mod tunnel;
mod turn;
mod watch;
mod websocket;
mod zpages;

use std::pin::pin;
use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::X_CONTENT_TYPE_OPTIONS;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;

use crate::auth::authorize::{Attributes, Authorizer, Decision, forbidden};
use crate::auth::{PeerIdentity, authenticate};
use crate::error::ApiError;
use crate::http::observe::Observation;
use crate::http::query::Query;
use crate::http::refusal::Asker;
use crate::http::request_info::RequestInfo;
use crate::http::resources::Call;
use crate::server::Shared;
use crate::user::UserInfo;
use crate::warnings::Warnings;

pub use body::ResponseBody;
pub(crate) use body::SocketBody;
pub(crate) use content::Content;
pub(crate) use metrics::{
    AdmissionTimes, Counted, Exchange, Impersonations, Measured, Metrics, Passed, PluginTimes, Step,
    TokenUses, tick,
};
pub(crate) use node::NodeClient;

/// A response on its way to the client.
pub type Response = ::http::Response<ResponseBody>;
/// An error of a body, with its type erased.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, with its type erased.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BodyError>;
/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(pub BoxError);

/// A request, wherever it came from.
pub type Request = ::http::Request<RequestBody>;

/// Where a client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) std::net::IpAddr);

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Through a socket: with what the connection's client certificate says, and from where.
    Socket(PeerIdentity, PeerAddress),
    /// From within the process, where it is known who asks.
    Process(Arc<UserInfo>),
}

/// Answers a request: the path of every one, whichever way it came in.
pub(crate) async fn answer(shared: Arc<Shared>, request: Request, origin: Origin) -> Response {
    // What the request is about; a path that cannot be read ends here.
    let info = match RequestInfo::parse(request.method(), request.uri()) {
        Ok(info) => Arc::new(info),
        Err(error) => return refused(&ApiError::bad_request(error.to_string())),
    };
    // Counts, compresses, and turns a panic into an answer.
    let observation = Observation::begin(&shared, &info, &request);
    // Writes what is refused from here on as the client wants to read it.
    let asker = Asker::of(&request);
    // How long it may take.
    let allowed = deadline::allowed(&info, request.uri().query());
    let counted = observation.counted();
    let answer = pin!(identified(&shared, &info, request, origin, counted));
    let answer = pin!(deadline::keep(&shared, &info, allowed, answer));
    let answer = pin!(async { asker.written(answer.await) });
    observation.of(answer).await
}

/// Finds out who asks, on whose behalf, and whose turn it is.
async fn identified(
    shared: &Arc<Shared>,
    info: &Arc<RequestInfo>,
    mut request: Request,
    origin: Origin,
    counted: Counted,
) -> Response {
    // Who asks: client certificate, token, or nobody. A wrong credential ends here.
    let warnings = Warnings::default();
    let (caller, peer) = match origin {
        Origin::Process(caller) => (caller, None),
        Origin::Socket(identity, address) => {
            match authenticate(&identity, request.headers(), &shared.tokens, &shared.registry).await {
                Ok((caller, warning)) => {
                    warnings.extend(warning);
                    (caller, Some(address))
                }
                Err(error) => return refused(&error),
            }
        }
    };
    // No handler behind has any use for the credential.
    request.headers_mut().remove(::http::header::AUTHORIZATION);
    // On whose behalf.
    let impersonated = shared.impersonation.user(request.headers(), &caller, info).await;
    let user = match impersonated {
        Ok(None) => caller,
        Ok(Some(user)) => {
            tracing::debug!(caller = caller.name, user = user.name, "impersonation");
            Arc::new(user)
        }
        Err(error) => return refused(&error),
    };
    // The audit log takes its place here, where it is known who asks and not yet whether they may.
    // How many at once, and whose turn it is.
    let answer = pin!(permitted(shared, info, &user, request, peer, counted, &warnings));
    let mut response = turn::in_turn(shared, info, &user, answer).await;
    respond::warn(&mut response, &warnings);
    response
}

/// A refusal before any handler: upstream's filters say of some that their type is not to be guessed, and its handlers do not.
fn refused(error: &ApiError) -> Response {
    let mut response = respond::error(error);
    if matches!(error.code(), 403 | 500) {
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// Lets the handlers answer what the user may ask.
async fn permitted(
    shared: &Arc<Shared>,
    info: &Arc<RequestInfo>,
    user: &Arc<UserInfo>,
    request: Request,
    peer: Option<PeerAddress>,
    counted: Counted,
    warnings: &Warnings,
) -> Response {
    let attributes = Attributes::of(user, info);
    match shared.authorizer.authorize(&attributes).await {
        Decision::Allow(_) => {}
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            return refused(&forbidden(&attributes, &reason));
        }
    }
    let (mut head, body) = request.into_parts();
    let call = Call {
        shared: shared.clone(),
        method: head.method,
        info: info.clone(),
        query: Query::parse(head.uri.query()),
        headers: head.headers,
        user: user.clone(),
        body: Mutex::new(body),
        upgrade: Mutex::new(head.extensions.remove::<OnUpgrade>()),
        uri: head.uri,
        counted,
        peer,
        warnings: warnings.clone(),
    };
    let answer = if call.info.is_resource {
        resources::handle(call).await
    } else {
        paths::handle(call).await
    };
    answer.unwrap_or_else(|error| respond::error(&error))
}
