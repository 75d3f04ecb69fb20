//! How long a request may take: by its query's `timeout`, and never longer than the server allows.

use std::time::Duration;

use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;
use crate::http::request_info::RequestInfo;
use crate::http::{Response, respond};
use crate::server::Shared;

/// How long a request may take that does not last as long as its client likes (upstream's `--request-timeout`).
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// How long a request may take; `None` for one that lasts as long as its client likes.
///
/// # Errors
/// 400 for a `timeout` that is no duration.
pub(super) fn allowed(info: &RequestInfo, query: Option<&str>) -> ApiResult<Option<Duration>> {
    if info.is_long_running() {
        return Ok(None);
    }
    asked(query).map(Some)
}

/// The answer, if it comes in the time that the request may take.
pub(super) async fn keep(
    shared: &Shared,
    info: &RequestInfo,
    allowed: ApiResult<Option<Duration>>,
    answer: impl Future<Output = Response>,
) -> Response {
    let longest = match allowed {
        Ok(Some(longest)) => longest,
        Ok(None) => return answer.await,
        Err(error) => return respond::error(&error),
    };
    match tokio::time::timeout(longest, answer).await {
        Ok(response) => response,
        Err(_) => {
            shared.metrics.terminated(info, shared.registry.knows(info), 504);
            timed_out()
        }
    }
}

/// How long a request with this query may take.
///
/// # Errors
/// 400 for a `timeout` that is no duration.
fn asked(query: Option<&str>) -> ApiResult<Duration> {
    let Some(text) = query.and_then(|query| Query::parse(Some(query)).text("timeout")) else {
        return Ok(LONGEST);
    };
    let asked = duration(&text).map_err(|why| {
        ApiError::bad_request(format!(
            "invalid timeout specified in the request URL - time: {why}"
        ))
    })?;
    let sensible = asked.filter(|asked| !asked.is_zero() && *asked < LONGEST);
    Ok(sensible.unwrap_or(LONGEST))
}

/// The answer, as upstream's server writes it behind the handler's back: its type is what Go makes of its first bytes.
fn timed_out() -> Response {
    const BODY: &str = concat!(
        r#"{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the allotted timeout","#,
        r#""reason":"Timeout","details":{},"code":504}"#,
        "\n"
    );
    respond::text(504, BODY)
}

/// A duration as Go reads it (`time.ParseDuration`); `None` for a negative one.
fn duration(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("invalid duration {}", quoted(text));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let (mut rest, mut total) = (unsigned, 0u128);
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|character: char| character == '.' || character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanoseconds: u128 = match unit {
            "" => return Err(format!("missing unit in duration {}", quoted(text))),
            "ns" => 1,
            // The micro sign and the Greek letter.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            unit => {
                return Err(format!(
                    "unknown unit {} in duration {}",
                    quoted(unit),
                    quoted(text)
                ));
            }
        };
        let number = |digits: &str| -> Option<u128> {
            if digits.is_empty() {
                Some(0)
            } else {
                digits.parse().ok()
            }
        };
        let whole = number(whole)
            .and_then(|whole| whole.checked_mul(nanoseconds))
            .ok_or_else(invalid)?;
        // What is smaller than a nanosecond is lost.
        let fraction: String = fraction.chars().take(18).collect();
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or_default());
        let part = number(&fraction).unwrap_or_default() * nanoseconds / scale;
        total = total
            .checked_add(whole)
            .and_then(|total| total.checked_add(part))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if text.starts_with('-') {
        return Ok(None);
    }
    let nanoseconds = u64::try_from(total)
        .ok()
        .filter(|total| *total < 1 << 63)
        .ok_or_else(invalid)?;
    Ok(Some(Duration::from_nanos(nanoseconds)))
}

/// A text in quotes, with what is not plain ASCII as its bytes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            other => {
                let mut bytes = [0; 4];
                for byte in other.encode_utf8(&mut bytes).bytes() {
                    quoted.push_str(&format!("\\x{byte:02x}"));
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let milliseconds = |count| Ok(Some(Duration::from_millis(count)));
        let error = |text: &str| Err(text.to_string());
        for (text, expected) in [
            ("0", milliseconds(0)),
            ("1.5s", milliseconds(1500)),
            ("2m3s", milliseconds(123_000)),
            (".5s", milliseconds(500)),
            ("1h", milliseconds(3_600_000)),
            ("100ms", milliseconds(100)),
            ("+1000us", milliseconds(1)),
            ("1000\u{b5}s", milliseconds(1)),
            ("-5s", Ok(None)),
            ("5", error(r#"missing unit in duration "5""#)),
            ("abc", error(r#"invalid duration "abc""#)),
            ("-", error(r#"invalid duration "-""#)),
            (".s", error(r#"invalid duration ".s""#)),
            ("5x", error(r#"unknown unit "x" in duration "5x""#)),
            ("1s 2s", error(r#"unknown unit "s " in duration "1s 2s""#)),
            ("9999999999h", error(r#"invalid duration "9999999999h""#)),
            ("\u{e9}", error(r#"invalid duration "\xc3\xa9""#)),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn nobody_gets_more_than_the_server_allows() {
        for (query, seconds) in [
            (None, 60),
            (Some("timeout="), 60),
            (Some("timeout=10s"), 10),
            (Some("timeout=0s"), 60),
            (Some("timeout=-1s"), 60),
            (Some("timeout=1h"), 60),
        ] {
            assert_eq!(asked(query).unwrap(), Duration::from_secs(seconds), "{query:?}");
        }
        let error = asked(Some("timeout=soon")).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (
                400,
                r#"invalid timeout specified in the request URL - time: invalid duration "soon""#
            )
        );
    }
}
