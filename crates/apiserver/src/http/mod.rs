//! HTTP: the request path and its handlers.

pub(crate) mod body;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

pub use body::ResponseBody;

/// A response on its way to the client.
pub type Response = http::Response<ResponseBody>;
/// What a service of the request path returns.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;
/// An error of a body, with its type erased.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, with its type erased.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;
/// A request on its way through the layers.
pub type Request = http::Request<RequestBody>;
