//! Writing responses: objects, errors and the headers that go with them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};
use serde::Serialize;
use serde_json::Value;
use skiff_api::schema::protobuf::{self, ProtobufError};

use crate::error::{ApiError, ApiResult};
use crate::http::accept::Encoding;
use crate::http::refusal::Refusal;
use crate::http::{Response, ResponseBody};
use crate::warnings::Warnings;
use crate::yaml;

const WARNING: HeaderName = http::header::WARNING;

/// A response of a type, not to be kept by caches.
pub(crate) fn typed(code: u16, content_type: &'static str, body: impl Into<ResponseBody>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// What ends the JSON of an object, as Go's encoder ends it.
const END: Bytes = Bytes::from_static(b"\n");

/// A response of an object that is written already, in pieces.
pub(crate) fn object(code: u16, encoding: Encoding, pieces: impl IntoIterator<Item = Bytes>) -> Response {
    let end = (encoding == Encoding::Json).then_some(END);
    let segments = pieces.into_iter().chain(end).collect();
    typed(code, encoding.content_type(), ResponseBody::segments(segments))
}

/// A response of JSON bytes, transcoded when the client wants another form.
pub(crate) fn encoded(code: u16, encoding: Encoding, json: Bytes) -> ApiResult<Response> {
    let bytes = match encoding {
        Encoding::Json => json,
        encoding => transcoded(encoding, &json)?,
    };
    Ok(object(code, encoding, [bytes]))
}

/// JSON in another form.
pub(crate) fn transcoded(encoding: Encoding, json: &[u8]) -> ApiResult<Bytes> {
    match encoding {
        Encoding::Json => Ok(Bytes::copy_from_slice(json)),
        Encoding::Yaml => {
            let value: Value = serde_json::from_slice(json).map_err(ApiError::internal)?;
            Ok(yaml::write(&value).into())
        }
        Encoding::Protobuf => protobuf::from_json(json).map(Bytes::from).map_err(untranscodable),
    }
}

/// Why an object has no protobuf form: only a kind that has no message, which is then not to be had in it.
pub(crate) fn untranscodable(error: ProtobufError) -> ApiError {
    match error {
        ProtobufError::UnknownKind { .. } => {
            ApiError::not_acceptable(&["application/json", "application/yaml"])
        }
        error => ApiError::internal(error),
    }
}

/// A status as Go writes it: its fields in their order there.
pub(crate) fn status_json(status: &Status) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        kind: &'static str,
        api_version: &'static str,
        metadata: &'a ListMeta,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<Details<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Details<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        group: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: &'a Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<i32>,
    }
    #[derive(Serialize)]
    struct Cause<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: &'a Option<String>,
    }
    fn written(cause: &StatusCause) -> Cause<'_> {
        Cause {
            reason: &cause.reason,
            message: &cause.message,
            field: &cause.field,
        }
    }
    let details = status.details.as_ref().map(|details| Details {
        name: &details.name,
        group: &details.group,
        kind: &details.kind,
        uid: &details.uid,
        causes: details.causes.iter().flatten().map(written).collect(),
        retry_after_seconds: details.retry_after_seconds,
    });
    serde_json::to_vec(&Written {
        kind: "Status",
        api_version: "v1",
        metadata: &status.metadata,
        status: &status.status,
        message: &status.message,
        reason: &status.reason,
        details,
        code: status.code,
    })
    .unwrap_or_default()
}

/// A document as JSON that people can read.
pub(crate) fn document(value: &impl Serialize) -> ApiResult<Response> {
    let bytes = serde_json::to_vec_pretty(value).map_err(ApiError::internal)?;
    Ok(typed(200, Encoding::Json.content_type(), bytes))
}

/// A plain text.
pub(crate) fn text(code: u16, text: impl Into<String>) -> Response {
    typed(code, "text/plain; charset=utf-8", text.into())
}

/// A code and nothing else.
pub(crate) fn bare(code: u16) -> Response {
    let mut response = typed(code, "", Bytes::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// A response that would be another one to a client that sends another such header.
pub(crate) fn vary(mut response: Response, by: &'static str) -> Response {
    response.headers_mut().append(VARY, HeaderValue::from_static(by));
    response
}

/// What Go's servers answer for a path that nobody has taken.
pub(crate) fn page_not_found() -> Response {
    let mut response = text(404, "404 page not found\n");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The status of an error, with the headers that it demands.
pub(crate) fn error(error: &ApiError) -> Response {
    let body = status_json(&error.0);
    let mut response = object(error.code(), Encoding::Json, [body.into()]);
    response.extensions_mut().insert(Refusal(error.clone()));
    let wait = error
        .0
        .details
        .as_ref()
        .and_then(|details| details.retry_after_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok());
    if let Some(seconds) = wait.filter(|seconds| *seconds > 0) {
        response.headers_mut().insert(
            RETRY_AFTER,
            HeaderValue::from(Duration::from_secs(seconds).as_secs()),
        );
    }
    response
}

/// What a deletion answers that left nothing: a `Status` of success that names what was deleted.
pub(crate) fn success(details: StatusDetails) -> Status {
    Status {
        status: Some("Success".into()),
        details: Some(details),
        ..Status::default()
    }
}

/// Adds what the client is warned of.
pub(crate) fn warn(response: &mut Response, warnings: &Warnings) {
    for value in warnings.headers() {
        response.headers_mut().append(WARNING, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_how_long_to_wait() {
        let response = error(&ApiError::too_many_requests("busy", Duration::from_secs(2)));
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
