//! Kubernetes' protobuf encoding as a content type. The transcoding itself is `skiff_api::schema::protobuf`.

use bytes::Bytes;
use skiff_api::schema::protobuf;

use crate::error::{ApiError, ApiResult};

/// The type of bodies that client-go's typed clients send, and like best to read.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// An encoded object as JSON.
///
/// # Errors
/// 400 when the bytes are no object of a known kind.
pub(crate) fn to_json(body: &[u8]) -> ApiResult<Bytes> {
    protobuf::to_json(body).map(Bytes::from).map_err(|error| ApiError::bad_request(error.to_string()))
}
