//! Compression of large responses, for clients that take it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http_body::Body;

use crate::http::{Response, ResponseBody};

/// Bodies up to this size are sent as they are, in bytes.
const THRESHOLD: u64 = 128 * 1024;

/// Whether a client takes gzip: upstream reads the first header alone, and knows neither weights nor other spellings.
pub(crate) fn accepted(headers: &HeaderMap) -> bool {
    let value = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.split(',').any(|coding| coding.trim() == "gzip"))
}

/// The same as the handlers of pages read it: all codings of the first header, each with its weight.
pub(crate) fn weighed(headers: &HeaderMap) -> bool {
    let value = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let gzip = value.and_then(|value| {
        value.split(',').rev().find_map(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts.next()?.eq_ignore_ascii_case("gzip");
            let weight = parts.rev().find_map(|part| part.strip_prefix("q="));
            is_gzip.then(|| weight.map_or(1.0, |weight| weight.parse::<f64>().unwrap_or_default()))
        })
    });
    gzip.is_some_and(|weight| weight > 0.0)
}

/// From how many bytes on a page is compressed.
pub(crate) const PAGE: u64 = 1399;

/// Whether a response is to be sent as it is, or was compressed already.
#[derive(Clone, Copy, Debug)]
struct Done;

/// A response that is sent as it is, however large.
pub(crate) fn never(mut response: Response) -> Response {
    response.extensions_mut().insert(Done);
    response
}

/// Compresses the body of a response of objects, if it is worth it.
pub(crate) async fn compress(response: Response) -> Response {
    if response.extensions().get::<Done>().is_some() {
        return response;
    }
    let mut response = above(response, THRESHOLD).await;
    if response.headers().contains_key(CONTENT_ENCODING) {
        response
            .headers_mut()
            .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// Compresses a body of more bytes than that.
pub(crate) async fn above(response: Response, threshold: u64) -> Response {
    let mut response = never(response);
    let large = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size > threshold);
    if !large || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let Some(segments) = response.body_mut().take_segments() else {
        return response;
    };
    // A large list takes milliseconds of processor time, too long for a thread that serves other requests.
    let compressed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = segments.iter().try_for_each(|segment| encoder.write_all(segment));
        match written.and_then(|()| encoder.finish()) {
            Ok(compressed) => Ok(compressed),
            Err(_) => Err(segments),
        }
    })
    .await;
    match compressed {
        Ok(Ok(compressed)) => {
            response
                .body_mut()
                .replace(ResponseBody::from(Bytes::from(compressed)));
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.remove(CONTENT_LENGTH);
        }
        Ok(Err(segments)) => response.body_mut().replace(ResponseBody::segments(segments)),
        Err(error) => tracing::error!(%error, "compressing a response"),
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    #[tokio::test]
    async fn only_large_bodies_are_compressed() {
        for size in [1000, 128 * 1024] {
            let small = compress(Response::new(vec![b'a'; size].into())).await;
            assert!(!small.headers().contains_key(CONTENT_ENCODING), "{size}");
        }
        let large = compress(Response::new(vec![b'a'; 200_000].into())).await;
        assert_eq!(large.headers()[CONTENT_ENCODING], "gzip");
        let body = large.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        flate2::read::GzDecoder::new(body.as_ref())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.len(), 200_000);
    }

    #[test]
    fn clients_say_whether_they_take_it() {
        for (value, expected) in [
            ("gzip", true),
            ("br, gzip ,deflate", true),
            ("br, gzip;q=0.5", false),
            ("gzip;q=0", false),
            ("GZIP", false),
            ("br", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepted(&headers), expected, "{value}");
        }
    }
}
