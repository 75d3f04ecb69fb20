//! A document that was made some time ago, sent as clients ask for it: whole, in part, or not at all because they have it
//! (Go's `http.ServeContent`).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::http::{Response, respond};

/// How many ranges are sent at most; who asks for more gets everything.
const MOST_RANGES: usize = 200;
/// How dates are written in headers.
const DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// A document.
pub(crate) struct Content {
    pub(crate) type_: &'static str,
    pub(crate) bytes: Bytes,
    /// In quotes; stands for the bytes.
    pub(crate) tag: Option<String>,
    pub(crate) modified: Timestamp,
}

/// A time as headers have it.
pub(crate) fn date(time: Timestamp) -> Option<HeaderValue> {
    HeaderValue::from_str(&time.strftime(DATE).to_string()).ok()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value).filter(|value| !value.is_empty())
}

fn seconds(text: &str) -> Option<i64> {
    let time = DateTimeParser::new().parse_zoned(text).ok()?;
    Some(time.timestamp().as_second())
}

/// The tag that a list begins with, and what follows it.
fn first_tag(list: &str) -> Option<(&str, &str)> {
    let list = list.trim();
    let quoted = list.strip_prefix("W/").unwrap_or(list).strip_prefix('"')?;
    let end = quoted.find(|character: char| matches!(character, '"' | '\0'..=' ' | '\x7f'))?;
    let rest = quoted.get(end..)?.strip_prefix('"')?;
    Some((list.get(..list.len() - rest.len())?, rest))
}

/// Whether one of the tags of a list is one that is looked for, or the list means any.
fn names(list: &str, is: impl Fn(&str) -> bool) -> bool {
    let mut rest = list;
    loop {
        rest = rest.trim();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
            continue;
        }
        if rest.starts_with('*') {
            return true;
        }
        match first_tag(rest) {
            Some((tag, _)) if is(tag) => return true,
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
}

impl Content {
    fn is_strongly(&self, tag: &str) -> bool {
        tag.starts_with('"') && self.tag.as_deref() == Some(tag)
    }

    fn is_weakly(&self, tag: &str) -> bool {
        self.tag.as_deref() == Some(tag.strip_prefix("W/").unwrap_or(tag))
    }

    /// What a client's conditions make of its request: a code of its own, or nothing.
    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let modified = self.modified.as_second();
        let holds = match text(headers, IF_MATCH) {
            Some(list) => names(list, |tag| self.is_strongly(tag)),
            None => text(headers, IF_UNMODIFIED_SINCE)
                .and_then(seconds)
                .is_none_or(|since| modified <= since),
        };
        if !holds {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let is_known = match text(headers, IF_NONE_MATCH) {
            Some(list) => names(list, |tag| self.is_weakly(tag)),
            None => {
                reads
                    && text(headers, IF_MODIFIED_SINCE)
                        .and_then(seconds)
                        .is_some_and(|since| modified <= since)
            }
        };
        match is_known {
            false => None,
            true if reads => Some(StatusCode::NOT_MODIFIED),
            true => Some(StatusCode::PRECONDITION_FAILED),
        }
    }

    /// The ranges that are asked for; none: everything.
    fn ranges(&self, method: &Method, headers: &HeaderMap) -> Result<Vec<Part>, Unsatisfiable> {
        let Some(asked) = text(headers, RANGE) else {
            return Ok(Vec::new());
        };
        if matches!(*method, Method::GET | Method::HEAD)
            && let Some(condition) = text(headers, IF_RANGE)
        {
            let holds = match first_tag(condition) {
                Some((tag, _)) => self.is_strongly(tag),
                None => seconds(condition) == Some(self.modified.as_second()),
            };
            if !holds {
                return Ok(Vec::new());
            }
        }
        let parts = match parts(asked, self.bytes.len()) {
            Err(Unsatisfiable::NoOverlap) if self.bytes.is_empty() => Vec::new(),
            parts => parts?,
        };
        // More than there is, so that it would be cheaper to send everything.
        let sum = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.length));
        Ok(if sum > self.bytes.len() { Vec::new() } else { parts })
    }

    fn slice(&self, part: &Part) -> Bytes {
        let end = part.start + part.length;
        self.bytes
            .slice(part.start.min(self.bytes.len())..end.min(self.bytes.len()))
    }

    /// Answers a request for the document.
    pub(crate) fn answer(self, method: &Method, headers: &HeaderMap) -> Response {
        let mut response = match self.refusal(method, headers) {
            Some(code) => respond::typed(code.as_u16(), self.type_, Bytes::new()),
            None => match self.ranges(method, headers) {
                Ok(parts) => self.send(&parts),
                Err(why) => return self.unsatisfiable(why),
            },
        };
        if response.status() == StatusCode::NOT_MODIFIED {
            response.headers_mut().remove(CONTENT_TYPE);
        }
        let is_tagged_already = response.status() == StatusCode::NOT_MODIFIED && self.tag.is_some();
        if let Some(date) = date(self.modified).filter(|_| !is_tagged_already) {
            response.headers_mut().insert(LAST_MODIFIED, date);
        }
        if let Some(tag) = self.tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }

    fn send(&self, parts: &[Part]) -> Response {
        let size = self.bytes.len();
        let mut response = match parts {
            [] => respond::typed(200, self.type_, self.bytes.clone()),
            [part] => {
                let mut response = respond::typed(206, self.type_, self.slice(part));
                if let Ok(range) = HeaderValue::from_str(&part.shown(size)) {
                    response.headers_mut().insert(CONTENT_RANGE, range);
                }
                response
            }
            parts => {
                let boundary: String = (0..30).map(|_| format!("{:02x}", rand::random::<u8>())).collect();
                let mut body = BytesMut::new();
                for (index, part) in parts.iter().enumerate() {
                    let before = if index == 0 { "" } else { "\r\n" };
                    let range = part.shown(size);
                    let head = format!(
                        "{before}--{boundary}\r\nContent-Range: {range}\r\nContent-Type: {}\r\n\r\n",
                        self.type_
                    );
                    body.put_slice(head.as_bytes());
                    body.put(self.slice(part));
                }
                body.put_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                let mut response = respond::typed(206, self.type_, body.freeze());
                let type_ = format!("multipart/byteranges; boundary={boundary}");
                if let Ok(type_) = HeaderValue::from_str(&type_) {
                    response.headers_mut().insert(CONTENT_TYPE, type_);
                }
                response
            }
        };
        response
            .headers_mut()
            .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        response
    }

    /// What Go refuses with: nothing is told of the document but its size.
    fn unsatisfiable(&self, why: Unsatisfiable) -> Response {
        let mut response = respond::text(416, format!("{why}\n"));
        let headers = response.headers_mut();
        headers.remove(CACHE_CONTROL);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if matches!(why, Unsatisfiable::NoOverlap)
            && let Ok(size) = HeaderValue::from_str(&format!("bytes */{}", self.bytes.len()))
        {
            headers.insert(CONTENT_RANGE, size);
        }
        response
    }
}

/// A part of a document, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    start: usize,
    length: usize,
}

impl Part {
    fn shown(&self, size: usize) -> String {
        format!(
            "bytes {}-{}/{size}",
            self.start,
            (self.start + self.length).saturating_sub(1)
        )
    }
}

/// Why no range can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unsatisfiable {
    #[error("invalid range")]
    Invalid,
    #[error("invalid range: failed to overlap")]
    NoOverlap,
}

/// Reads a `Range` header.
fn parts(asked: &str, size: usize) -> Result<Vec<Part>, Unsatisfiable> {
    use Unsatisfiable::{Invalid, NoOverlap};
    let asked = asked.strip_prefix("bytes=").ok_or(Invalid)?;
    if asked.split(',').count() > MOST_RANGES {
        return Ok(Vec::new());
    }
    // What is larger than the largest of Go's numbers is none.
    let number = |text: &str| -> Result<usize, Unsatisfiable> {
        let number: i64 = text.parse().map_err(|_| Invalid)?;
        usize::try_from(number).map_err(|_| Invalid)
    };
    let mut parts = Vec::new();
    let mut is_beyond = false;
    for range in asked.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (start, end) = range.split_once('-').ok_or(Invalid)?;
        let (start, end) = (start.trim(), end.trim());
        if start.is_empty() {
            if end.starts_with('-') {
                return Err(Invalid);
            }
            let length = number(end)?.min(size);
            parts.push(Part {
                start: size - length,
                length,
            });
            continue;
        }
        let start = number(start)?;
        if start >= size {
            is_beyond = true;
            continue;
        }
        let end = match end {
            "" => size - 1,
            end => number(end).and_then(|end| {
                if start > end {
                    Err(Invalid)
                } else {
                    Ok(end.min(size - 1))
                }
            })?,
        };
        parts.push(Part {
            start,
            length: end - start + 1,
        });
    }
    if is_beyond && parts.is_empty() {
        return Err(NoOverlap);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn content() -> Content {
        Content {
            type_: "text/plain",
            bytes: Bytes::from_static(b"0123456789"),
            tag: Some("\"a\"".into()),
            modified: "2026-01-02T03:04:05.6Z".parse().unwrap(),
        }
    }

    #[test]
    fn ranges_are_read_as_go_reads_them() {
        let part = |start, length| Part { start, length };
        for (asked, expected) in [
            ("bytes=0-3", Ok(vec![part(0, 4)])),
            ("bytes=0-", Ok(vec![part(0, 10)])),
            ("bytes=5-100", Ok(vec![part(5, 5)])),
            ("bytes=-3", Ok(vec![part(7, 3)])),
            ("bytes=-30", Ok(vec![part(0, 10)])),
            ("bytes= 0 - 1 ,, 4-4", Ok(vec![part(0, 2), part(4, 1)])),
            ("bytes=20-, 0-0", Ok(vec![part(0, 1)])),
            ("bytes=", Ok(vec![])),
            ("bytes=20-", Err(Unsatisfiable::NoOverlap)),
            ("bytes=3-2", Err(Unsatisfiable::Invalid)),
            ("bytes=--3", Err(Unsatisfiable::Invalid)),
            ("bytes=-", Err(Unsatisfiable::Invalid)),
            ("bytes=a-3", Err(Unsatisfiable::Invalid)),
            ("bytes=3", Err(Unsatisfiable::Invalid)),
            ("lines=0-3", Err(Unsatisfiable::Invalid)),
            ("bytes=99999999999999999999-", Err(Unsatisfiable::Invalid)),
        ] {
            assert_eq!(parts(asked, 10), expected, "{asked}");
        }
        assert_eq!(parts(&format!("bytes={}", "0-0,".repeat(200)), 10), Ok(vec![]));
    }

    #[tokio::test]
    async fn a_client_gets_what_its_conditions_leave() {
        const AT: &str = "Fri, 02 Jan 2026 03:04:05 GMT";
        let before = "Fri, 02 Jan 2026 03:04:04 GMT";
        type Case<'a> = (&'a [(HeaderName, &'a str)], u16, &'a str);
        let cases: [Case<'_>; 18] = [
            (&[], 200, "0123456789"),
            (&[(IF_MATCH, "\"a\"")], 200, "0123456789"),
            (&[(IF_MATCH, "\"b\", *")], 200, "0123456789"),
            (&[(IF_MATCH, "W/\"a\"")], 412, ""),
            (&[(IF_UNMODIFIED_SINCE, AT)], 200, "0123456789"),
            (&[(IF_UNMODIFIED_SINCE, before)], 412, ""),
            (&[(IF_NONE_MATCH, "\"b\" , W/\"a\"")], 304, ""),
            (&[(IF_NONE_MATCH, "a")], 200, "0123456789"),
            (
                &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, AT)],
                200,
                "0123456789",
            ),
            (&[(IF_MODIFIED_SINCE, AT)], 304, ""),
            (&[(IF_MODIFIED_SINCE, before)], 200, "0123456789"),
            (&[(IF_MODIFIED_SINCE, "yesterday")], 200, "0123456789"),
            (&[(RANGE, "bytes=2-3")], 206, "23"),
            (&[(RANGE, "bytes=2-3"), (IF_RANGE, "\"a\"")], 206, "23"),
            (&[(RANGE, "bytes=2-3"), (IF_RANGE, "\"b\"")], 200, "0123456789"),
            (&[(RANGE, "bytes=2-3"), (IF_RANGE, AT)], 206, "23"),
            (&[(RANGE, "bytes=0-,0-")], 200, "0123456789"),
            (&[(RANGE, "bytes=10-")], 416, "invalid range: failed to overlap\n"),
        ];
        for (conditions, code, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in conditions {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            let answer = content().answer(&Method::GET, &headers);
            assert_eq!(answer.status(), code, "{conditions:?}");
            let head = answer.headers();
            assert_eq!(head.contains_key(CONTENT_TYPE), code != 304, "{conditions:?}");
            assert_eq!(head.contains_key(ETAG), code != 416, "{conditions:?}");
            assert_eq!(
                head.get(LAST_MODIFIED).is_some_and(|date| date == AT),
                !matches!(code, 304 | 416),
                "{conditions:?}"
            );
            match code {
                206 => assert_eq!(head[CONTENT_RANGE], "bytes 2-3/10"),
                416 => assert_eq!(head[CONTENT_RANGE], "bytes */10"),
                _ => assert!(!head.contains_key(CONTENT_RANGE)),
            }
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, expected.as_bytes(), "{conditions:?}");
        }
    }

    #[tokio::test]
    async fn several_parts_come_in_one_answer() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-1,8-"));
        let answer = content().answer(&Method::GET, &headers);
        let type_ = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_string();
        let boundary = type_.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let expected = format!(
            "--{boundary}\r\nContent-Range: bytes 0-1/10\r\nContent-Type: text/plain\r\n\r\n01\r\n\
             --{boundary}\r\nContent-Range: bytes 8-9/10\r\nContent-Type: text/plain\r\n\r\n89\r\n--{boundary}--\r\n"
        );
        assert_eq!((answer.status().as_u16(), boundary.len()), (206, 60));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&body), expected);
    }
}
