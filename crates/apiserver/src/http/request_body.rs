//! Request bodies: read up to a limit, and turned into JSON.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use skiff_api::schema::protobuf;

use crate::error::{ApiError, ApiResult};
use crate::http::accept::PROTOBUF;
use crate::http::{BodyError, RequestBody};
use crate::registry::summary;
use crate::twice::{self, Repeated};

/// The largest body that is read, in bytes.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

/// How much of a body is read that is too large already, in bytes.
const MOST_DRAINED: usize = 8 * LIMIT;

/// And for how long.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);

/// The types of bodies that hold objects.
const OBJECT_TYPES: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];

/// Reads a whole body.
///
/// # Errors
/// 413 when it is larger than [`LIMIT`], 400 when the client breaks off.
pub(crate) async fn read(headers: &HeaderMap, body: RequestBody) -> ApiResult<Bytes> {
    let too_large = || ApiError::too_large(format!("Request entity too large: limit is {LIMIT}"));
    let broken = |error: BodyError| ApiError::bad_request(format!("unable to read body: {error}"));
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > LIMIT) {
        drain(body).await;
        return Err(too_large());
    }
    let mut body = body;
    let mut read: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            size += data.len();
            if size > LIMIT {
                drain(body).await;
                return Err(too_large());
            }
            read.push(data);
        }
    }
    Ok(match read.len() {
        1 => read.pop().unwrap_or_default(),
        _ => read.concat().into(),
    })
}

/// Reads on for a while: a client that is still sending would not see an answer, only that its connection is gone.
async fn drain(mut body: RequestBody) {
    let rest = async {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > MOST_DRAINED {
                break;
            }
        }
    };
    tokio::time::timeout(LONGEST_DRAIN, rest).await.ok();
}

/// The type of a body without its parameters; none is JSON.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut parts = value.split(';');
    let media = parts.next().unwrap_or_default().trim();
    let parameters: Vec<&str> = parts.map(str::trim).collect();
    // A semicolon at the end says nothing; any other parameter without a name makes the whole no type.
    let (last, others) = parameters.split_last().unwrap_or((&"", &[]));
    let is_named = |parameter: &str| {
        parameter
            .split_once('=')
            .is_some_and(|(name, _)| !name.is_empty())
    };
    if !others.iter().all(|parameter| is_named(parameter)) || !(last.is_empty() || is_named(last)) {
        return value.into();
    }
    match media {
        "" => "application/json".into(),
        media => media.to_ascii_lowercase(),
    }
}

/// A body that holds an object, as JSON, and the keys that its JSON no longer tells were there twice.
///
/// # Errors
/// 415 for a type that the server does not read, 400 for malformed YAML.
pub(crate) fn as_json(headers: &HeaderMap, body: Bytes) -> ApiResult<(Bytes, Vec<Repeated>)> {
    match content_type(headers).as_str() {
        "application/json" => Ok((body, Vec::new())),
        "application/yaml" => yaml_to_json(&body),
        PROTOBUF => Ok((protobuf_to_json(&body)?, Vec::new())),
        _ => Err(ApiError::unsupported_media_type(&OBJECT_TYPES)),
    }
}

/// The same, of an object that should be of a kind.
///
/// # Errors
/// The same, in the words in which upstream says it of an object.
pub(crate) fn object_as_json(
    headers: &HeaderMap,
    body: Bytes,
    kind: &str,
) -> ApiResult<(Bytes, Vec<Repeated>)> {
    as_json(headers, body.clone()).map_err(|error| match error.code() {
        400 => ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {error} ({})",
            summary(&body)
        )),
        _ => error,
    })
}

/// Kubernetes' protobuf form as JSON. An empty body stays empty: a deletion has none.
fn protobuf_to_json(body: &[u8]) -> ApiResult<Bytes> {
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    protobuf::to_json(body)
        .map(Bytes::from)
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

/// YAML as JSON.
///
/// # Errors
/// 400 for malformed YAML.
fn yaml_to_json(yaml: &[u8]) -> ApiResult<(Bytes, Vec<Repeated>)> {
    let (value, repeated) =
        twice::yaml(yaml).map_err(|error| ApiError::bad_request(format!("yaml: {error}")))?;
    let json = serde_json::to_vec(&value).map_err(ApiError::internal)?;
    Ok((json.into(), repeated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn body(size: usize) -> RequestBody {
        Full::new(Bytes::from(vec![b' '; size]))
            .map_err(|never| match never {})
            .boxed_unsync()
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        assert_eq!(read(&HeaderMap::new(), body(LIMIT)).await.unwrap().len(), LIMIT);
        let error = read(&HeaderMap::new(), body(LIMIT + 1)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (413, "Request entity too large: limit is 3145728")
        );
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "4000000".parse().unwrap());
        assert_eq!(read(&headers, body(0)).await.unwrap_err().code(), 413);
    }

    #[test]
    fn types_have_parameters_with_names() {
        for (value, expected) in [
            ("", "application/json"),
            ("Application/JSON; charset=utf-8;", "application/json"),
            ("application/yaml;a=b; c=d", "application/yaml"),
            ("application/json;;", "application/json;;"),
            ("application/json; utf-8", "application/json; utf-8"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(content_type(&headers), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_of_its_kind() {
        let said = |type_: &str, body: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, type_.parse().unwrap());
            object_as_json(&headers, Bytes::from_static(body), "Pod")
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            said("application/yaml", b"a: b: c"),
            "the object provided is unrecognized (must be of type Pod): yaml: mapping values are not allowed in this \
             context (613a20623a2063)"
        );
        assert_eq!(
            said("application/vnd.kubernetes.protobuf", b"x"),
            "the object provided is unrecognized (must be of type Pod): provided data does not appear to be a protobuf \
             message, expected prefix [107 56 115 0] (78)"
        );
    }

    #[test]
    fn yaml_becomes_json() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/yaml; charset=utf-8".parse().unwrap());
        let (json, _) = as_json(&headers, Bytes::from_static(b"a: 1\nb: [x, \"2\"]\n")).unwrap();
        assert_eq!(json, r#"{"a":1,"b":["x","2"]}"#);
        assert_eq!(
            as_json(&headers, Bytes::from_static(b"a: [")).unwrap_err().code(),
            400
        );
        headers.insert(CONTENT_TYPE, "application/xml".parse().unwrap());
        assert_eq!(as_json(&headers, Bytes::new()).unwrap_err().code(), 415);
    }
}
