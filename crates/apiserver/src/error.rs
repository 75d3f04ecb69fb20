//! What a request fails with: a Kubernetes `Status` with its reason, code, causes and wording.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use skiff_api::{Errors, KindInfo, Path};

/// A failed request, as the `Status` that the client gets.
///
/// The constructors are apimachinery's (`k8s.io/apimachinery/pkg/api/errors`), with its texts.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message.as_deref().unwrap_or_default())]
pub struct ApiError(pub Box<Status>);

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

fn failure(code: i32, reason: &str, message: String, details: Option<StatusDetails>) -> ApiError {
    ApiError(Box::new(Status {
        code: Some(code),
        reason: non_empty(reason),
        message: Some(message),
        status: Some("Failure".into()),
        details,
        ..Status::default()
    }))
}

/// The details that name an object: its group, its *resource* (upstream's quirk: in `kind`) and its name.
fn details(info: &KindInfo, name: &str) -> StatusDetails {
    StatusDetails {
        group: non_empty(&info.group),
        kind: non_empty(&info.plural),
        name: non_empty(name),
        ..StatusDetails::default()
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

impl ApiError {
    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0
            .code
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(500)
    }

    /// The machine-readable reason, e.g. `NotFound`.
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    /// 404: no such object.
    pub fn not_found(info: &KindInfo, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", info.group_resource());
        failure(404, "NotFound", message, Some(details(info, name)))
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource".to_string();
        failure(404, "NotFound", message, Some(StatusDetails::default()))
    }

    /// 405: the resource has no such verb.
    pub fn method_not_supported(resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{resource}\"");
        failure(405, "MethodNotAllowed", message, None)
    }

    /// 409: an object with this name is there.
    pub fn already_exists(info: &KindInfo, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", info.group_resource());
        failure(409, "AlreadyExists", message, Some(details(info, name)))
    }

    /// 409: every name that was generated is taken.
    pub fn generated_name_taken(info: &KindInfo, name: &str) -> Self {
        let details = StatusDetails {
            retry_after_seconds: Some(1),
            ..details(info, name)
        };
        let message = format!(
            "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
            info.group_resource()
        );
        failure(409, "AlreadyExists", message, Some(details))
    }

    /// 409: the object is not in the state that the request demands.
    pub fn conflict(info: &KindInfo, name: &str, detail: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {detail}",
            info.group_resource()
        );
        failure(409, "Conflict", message, Some(details(info, name)))
    }

    /// 409: the object was changed meanwhile.
    pub fn modified(info: &KindInfo, name: &str) -> Self {
        let detail =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(info, name, detail)
    }

    /// 409: an apply would change what others own; the owner and the field of each conflict.
    pub fn apply_conflict(message: String, conflicts: Vec<(String, String)>) -> Self {
        let causes = conflicts
            .into_iter()
            .map(|(manager, field)| StatusCause {
                reason: Some("FieldManagerConflict".into()),
                message: Some(format!("conflict with {manager}")),
                field: Some(field),
            })
            .collect();
        let details = StatusDetails {
            causes: Some(causes),
            ..StatusDetails::default()
        };
        failure(409, "Conflict", message, Some(details))
    }

    /// 422: the object's fields are wrong, each with its cause.
    pub fn invalid(info: &KindInfo, name: &str, errors: &Errors) -> Self {
        let causes = errors
            .iter()
            .map(|error| StatusCause {
                field: Some(error.field.to_string()),
                message: Some(error.body.clone()),
                reason: Some(error.type_.reason().to_string()),
            })
            .collect();
        let message = format!(
            "{} \"{name}\" is invalid: {}",
            info.group_kind(),
            errors.aggregate()
        );
        // Unlike other errors, this one's details name the kind.
        let details = StatusDetails {
            kind: non_empty(&info.kind),
            causes: Some(causes),
            ..details(info, name)
        };
        failure(422, "Invalid", message, Some(details))
    }

    /// 422: a request's options (`ListOptions`, `DeleteOptions`, …) are wrong.
    pub fn invalid_options(kind: &'static str, errors: &Errors) -> Self {
        let info = KindInfo {
            group: "meta.k8s.io".into(),
            kind: kind.into(),
            ..KindInfo::of::<Status>("")
        };
        Self::invalid(&info, "", errors)
    }

    /// 422: what a patch makes of an object is not one. `shown` is the patch, or what it made.
    pub fn invalid_patch(shown: &str, why: &str) -> Self {
        let mut errors = Errors::new();
        errors.invalid(&Path::new("patch"), shown, why);
        // Upstream names no kind here.
        let info = KindInfo {
            group: "".into(),
            kind: "".into(),
            plural: "".into(),
            ..KindInfo::of::<Status>("")
        };
        Self::invalid(&info, "", &errors)
    }

    /// 422 without a word on what is wrong, as upstream answers a patch that does not fit the object.
    pub fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request".to_string();
        failure(422, "Invalid", message, Some(StatusDetails::default()))
    }

    /// 500 without a reason: what fails upstream without a word on which class of errors that is.
    pub fn unclassified(message: impl Into<String>) -> Self {
        failure(500, "", message.into(), None)
    }

    /// 400 without a reason: what a client got wrong and upstream refuses without a word on which class of errors that is.
    /// Upstream's code is then 500; here nothing that a client sends makes the server fail, and clients see the same words.
    pub fn unclassified_input(message: impl Into<String>) -> Self {
        failure(400, "", message.into(), None)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        failure(400, "BadRequest", message.into(), None)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        failure(401, "Unauthorized", "Unauthorized".into(), None)
    }

    /// 403, with the reason after the resource; the wording of an authorizer's or an admission plugin's refusal.
    pub fn forbidden(info: &KindInfo, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", info.group_resource())
        } else {
            format!("{} \"{name}\" is forbidden: {why}", info.group_resource())
        };
        failure(403, "Forbidden", message, Some(details(info, name)))
    }

    /// 403 with a message of one's own (paths that are not resources).
    pub fn forbidden_path(message: impl Into<String>) -> Self {
        failure(403, "Forbidden", message.into(), Some(StatusDetails::default()))
    }

    /// 406: none of the types in `Accept` can be served.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        failure(406, "NotAcceptable", message, None)
    }

    /// What the router refuses before a handler sees the request.
    pub fn unrouted(code: i32, reason: &str, message: impl Into<String>) -> Self {
        failure(code, reason, message.into(), Some(StatusDetails::default()))
    }

    /// 406 in words of one's own: the metadata of a list was asked for of an object, or the other way round.
    pub fn not_transformable(message: impl Into<String>) -> Self {
        failure(406, "NotAcceptable", message.into(), None)
    }

    /// 410: the resource version is too old.
    pub fn gone(message: impl Into<String>) -> Self {
        failure(410, "Expired", message.into(), None)
    }

    /// 413: the body is larger than the server takes.
    pub fn too_large(message: impl Into<String>) -> Self {
        failure(413, "RequestEntityTooLarge", message.into(), None)
    }

    /// 415: the body's type is not one that the server reads here.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        failure(415, "UnsupportedMediaType", message, None)
    }

    /// 415, as upstream's router words it.
    pub fn not_consumed() -> Self {
        let message = "415: Unsupported Media Type".to_string();
        failure(
            415,
            "UnsupportedMediaType",
            message,
            Some(StatusDetails::default()),
        )
    }

    /// 429 with the time to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after: Duration) -> Self {
        let details = StatusDetails {
            retry_after_seconds: i32::try_from(retry_after.as_secs()).ok(),
            ..StatusDetails::default()
        };
        failure(429, "TooManyRequests", message.into(), Some(details))
    }

    /// 500.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {cause}");
        let causes = vec![StatusCause {
            message: Some(cause.to_string()),
            ..StatusCause::default()
        }];
        let details = StatusDetails {
            causes: Some(causes),
            ..StatusDetails::default()
        };
        failure(500, "InternalError", message, Some(details))
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        failure(503, "ServiceUnavailable", message.into(), None)
    }

    /// 504: it took too long.
    pub fn timeout(what: &str) -> Self {
        let message = format!("Timeout: {what}");
        failure(504, "Timeout", message, Some(StatusDetails::default()))
    }

    /// 504 with a hint when to try again: the cache has not caught up with the revision asked for.
    pub fn too_large_resource_version(asked: i64, current: i64) -> Self {
        let causes = vec![StatusCause {
            reason: Some("ResourceVersionTooLarge".into()),
            message: Some("Too large resource version".into()),
            ..StatusCause::default()
        }];
        let details = StatusDetails {
            causes: Some(causes),
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        };
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        failure(504, "Timeout", message, Some(details))
    }
}

impl From<skiff_store::Error> for ApiError {
    /// A full disk is the server's failure (500, as upstream's `database space exceeded`). A store that is out of reach
    /// is 503: it may be back when the client tries again.
    fn from(error: skiff_store::Error) -> Self {
        use skiff_store::Error;
        match &error {
            Error::Compacted { .. } => Self::gone("The provided resource version is too old."),
            Error::FutureRevision { current } => Self::too_large_resource_version(*current + 1, *current),
            Error::Unavailable(_) => Self::unavailable(error.to_string()),
            Error::TooLarge => Self::too_large(error.to_string()),
            Error::Conflict { .. } | Error::LeaseNotFound | Error::NoSpace => Self::internal(error),
        }
    }
}
