//! `/debug`: what helps to find what is wrong, as kube-apiserver's options have it by default.
//!
//! The profiles of Go's runtime do not exist here: who asks for one is told so as upstream tells of a profile that it
//! does not know.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};

use crate::error::ApiResult;
use crate::http::resources::Call;
use crate::http::{Response, paths, respond};

const HTML: &str = "text/html; charset=utf-8";

/// Tells programs that read profiles that what they get is the server's own text.
const NO_PROFILE: HeaderName = HeaderName::from_static("x-go-pprof");

/// The flags that can be set while the server runs.
const FLAGS: &str = "<html>
<head>
<title>/debug/flags/</title>
</head>
<body>
/debug/flags/<br>
<br>
flags:<br>
<table>
<tr>v<br>
</table>
<br>
full flags configurable<br>
</body>
</html>
";

/// The page of profiles: there is one thing to be asked for.
const PROFILES: &str = "<html>
<head>
<title>/debug/pprof/</title>
<style>
.profile-name{
	display:inline-block;
	width:6rem;
}
</style>
</head>
<body>
/debug/pprof/
<br>
<p>Set debug=1 as a query parameter to export in legacy text format</p>
<br>
Types of profiles available:
<table>
<thead><td>Count</td><td>Profile</td></thead>
<tr><td>0</td><td><a href='symbol?debug=1'>symbol</a></td></tr>
</table>
<br>
<p>
Profile Descriptions:
<ul>
<li><div class=profile-name>symbol: </div> Maps given program counters to function names. Counters can be specified in a GET raw query or POST body, multiple counters are separated by &#39;+&#39;.</li>
</ul>
</p>
</body>
</html>
";

/// Answers below `/debug`; `parts` are those of the path behind it.
pub(super) async fn handle(mut call: Call, parts: &[&str]) -> ApiResult<Response> {
    let flow = &call.shared.flow;
    match parts {
        ["api_priority_and_fairness", "dump_priority_levels"] => Ok(respond::text(200, flow.dump_levels())),
        ["api_priority_and_fairness", "dump_queues"] => Ok(respond::text(200, flow.dump_queues())),
        ["api_priority_and_fairness", "dump_requests"] => {
            let details = call.query.text("includeRequestDetails").is_some();
            Ok(respond::text(200, flow.dump_requests(details)))
        }
        ["flags", "v"] if call.method == Method::PUT => {
            let level = call.read_body().await?;
            let (code, text) = match set_verbosity(&call, &String::from_utf8_lossy(&level)) {
                Ok(text) => (200, text),
                Err(text) => (400, text),
            };
            Ok(short(code, &text))
        }
        ["flags", "v"] => Ok(short(406, "unsupported http method")),
        ["flags", ..] => Ok(respond::typed(200, HTML, FLAGS.to_string())),
        ["pprof"] if !call.info.path.ends_with('/') => Ok(redirect(&call.method, "/debug/pprof/")),
        ["pprof", ..] => Ok(profiles(&call.info.path)),
        _ => paths::not_found(&call),
    }
}

fn profiles(path: &str) -> Response {
    let mut response = match path.strip_prefix("/debug/pprof/").unwrap_or_default() {
        "" => respond::typed(200, HTML, PROFILES.to_string()),
        // How many symbols there are is not told: only that they can be asked for, and none is known.
        "symbol" => respond::text(200, "num_symbols: 1\n"),
        _ => {
            let mut response = respond::text(404, "Unknown profile\n");
            response
                .headers_mut()
                .insert(NO_PROFILE, HeaderValue::from_static("1"));
            response
        }
    };
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A redirection as Go writes it.
fn redirect(method: &Method, place: &'static str) -> Response {
    let body = match *method {
        Method::GET => format!("<a href=\"{place}\">Found</a>.\n\n"),
        _ => String::new(),
    };
    let mut response = respond::typed(302, HTML, body);
    let headers = response.headers_mut();
    if !matches!(*method, Method::GET | Method::HEAD) {
        headers.remove(CONTENT_TYPE);
    }
    headers.insert(LOCATION, HeaderValue::from_static(place));
    response
}

/// A text that is nothing else, whatever it looks like.
fn short(code: u16, text: &str) -> Response {
    let mut response = respond::typed(code, "text/plain", format!("{text}\n"));
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Sets how much is logged; the text to answer with.
fn set_verbosity(call: &Call, text: &str) -> Result<String, String> {
    let level = verbosity(text)?;
    if let Some(verbosity) = &call.shared.config.verbosity {
        verbosity.set(level);
    }
    Ok(format!("successfully set klog.logging.verbosity to {text}"))
}

/// A level, read as Go reads one.
fn verbosity(text: &str) -> Result<u32, String> {
    let why = |why: &str| format!("strconv.ParseUint: parsing {text:?}: {why}");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(why("invalid syntax"));
    }
    let level: u32 = text.parse().map_err(|_| why("value out of range"))?;
    // It is read twice, and the second time as a number with a sign.
    if i32::try_from(level).is_err() {
        return Err(format!(
            "failed set klog.logging.verbosity {text}: strconv.ParseInt: parsing {text:?}: value out of range"
        ));
    }
    Ok(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_numbers() {
        for (text, expected) in [
            ("3", Ok(3)),
            ("007", Ok(7)),
            ("", Err("strconv.ParseUint: parsing \"\": invalid syntax")),
            ("+3", Err("strconv.ParseUint: parsing \"+3\": invalid syntax")),
            ("3\n", Err("strconv.ParseUint: parsing \"3\\n\": invalid syntax")),
            (
                "4294967296",
                Err("strconv.ParseUint: parsing \"4294967296\": value out of range"),
            ),
            (
                "3000000000",
                Err(
                    "failed set klog.logging.verbosity 3000000000: strconv.ParseInt: parsing \"3000000000\": value out of range",
                ),
            ),
        ] {
            assert_eq!(verbosity(text), expected.map_err(str::to_string), "{text:?}");
        }
    }
}
