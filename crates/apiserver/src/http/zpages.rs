//! `/statusz` and `/flagz`: what this server is and how it was started, for people who look for what is wrong.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use rand::seq::IndexedRandom;
use serde::Serialize;

use crate::admission::default_toleration_seconds;
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::http::accept::{Encoding, encodings_of, ranges};
use crate::http::metrics::process_start;
use crate::http::resources::Call;
use crate::http::{Response, deadline, options, respond};
use crate::registry::{compaction, leases};
use crate::server::MOST_STREAMS;

/// The name under which the server tells of itself.
const COMPONENT: &str = "kube-apiserver";
const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];
/// What can be had, as a refusal lists it.
const TYPES: [&str; 3] = ["application/json", "application/yaml", "text/plain"];
/// The version of the objects that clients are warned of.
const DEPRECATED: &str = "v1alpha1";
/// What stands between a name and its value, each time another: nobody should read the text by a program.
const DELIMITERS: [&str; 4] = [":", ": ", "=", " "];
/// The paths that are told of nothing that helps to find what is wrong.
const OTHERS: [&str; 5] = ["api", "apis", "openid", "openapi", ".well-known"];

/// How a page is wanted.
#[derive(Debug, PartialEq)]
enum Form {
    Text,
    Object(Encoding, &'static str),
}

/// The first form that the client accepts; `kind` is that of the object.
fn negotiate(headers: &HeaderMap, kind: &str) -> ApiResult<Form> {
    let blank = headers
        .get(ACCEPT)
        .is_none_or(|accept| accept.as_bytes().trim_ascii().is_empty());
    if blank {
        return Ok(Form::Text);
    }
    let found = ranges(headers).into_iter().find_map(|range| {
        if range.parameter("stream").is_some() || range.parameter("sv").is_some() {
            return None;
        }
        let wanted = ["as", "g", "v"].map(|name| range.parameter(name));
        match wanted {
            [None, None, None] => range.matches("text", "plain").then_some(Form::Text),
            [Some(its), Some(GROUP), Some(version)] if its == kind => {
                let version = VERSIONS.iter().find(|known| **known == version)?;
                let encoding = encodings_of(&range).find(|encoding| *encoding != Encoding::Protobuf)?;
                Some(Form::Object(encoding, version))
            }
            _ => None,
        }
    });
    found.ok_or_else(|| ApiError::not_acceptable(&TYPES))
}

#[derive(Serialize)]
struct Metadata {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<T> {
    kind: &'static str,
    api_version: String,
    metadata: Metadata,
    #[serde(flatten)]
    told: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    start_time: String,
    uptime_seconds: i64,
    go_version: String,
    binary_version: String,
    emulation_version: String,
    paths: Vec<String>,
}

#[derive(Serialize)]
struct Flags {
    flags: BTreeMap<&'static str, String>,
}

/// Writes an object in the form that is wanted.
fn answer<T: Serialize>(call: &Call, kind: &'static str, told: T, text: String) -> ApiResult<Response> {
    let (encoding, version) = match negotiate(&call.headers, kind)? {
        Form::Text => return Ok(respond::text(200, text)),
        Form::Object(encoding, version) => (encoding, version),
    };
    let object = Object {
        kind,
        api_version: format!("{GROUP}/{version}"),
        metadata: Metadata { name: COMPONENT },
        told,
    };
    let json = serde_json::to_vec(&object).map_err(ApiError::internal)?;
    let mut response = respond::encoded(200, encoding, json.into())?;
    let type_ = format!("{};g={GROUP};v={version};as={kind}", encoding.content_type());
    let type_ = HeaderValue::from_str(&type_).map_err(ApiError::internal)?;
    response.headers_mut().insert(CONTENT_TYPE, type_);
    if version == DEPRECATED {
        let page = kind.to_ascii_lowercase();
        call.warnings.add(format!(
            "This version of the {page} endpoint is deprecated. Please use a newer version."
        ));
    }
    Ok(response)
}

fn delimiter() -> &'static str {
    DELIMITERS.choose(&mut rand::rng()).copied().unwrap_or(":")
}

fn head(page: &str) -> String {
    format!(
        "\n{COMPONENT} {page}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
         compatibility guarantees and is for debugging purposes only.\n"
    )
}

/// `/statusz`. `listed`: all paths that the server tells of.
pub(super) fn status(call: &Call, listed: &[String]) -> ApiResult<Response> {
    let version = &call.shared.config.version;
    let now = Timestamp::now();
    #[allow(clippy::cast_possible_truncation, reason = "a time in whole seconds")]
    let started = process_start().and_then(|seconds| Timestamp::from_second(seconds as i64).ok());
    let started = started.unwrap_or(now);
    let status = Status {
        start_time: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        uptime_seconds: (now.as_second() - started.as_second()).max(0),
        go_version: version.go_version.clone(),
        binary_version: version.git_version.trim_start_matches('v').to_string(),
        emulation_version: format!("{}.{}", version.major, version.minor),
        paths: folders(listed),
    };
    let up = status.uptime_seconds;
    let is = delimiter();
    let text = format!(
        "{}\nStarted{is} {}\nUp{is} {} hr {:02} min {:02} sec\nGo version{is} {}\nBinary version{is} {}\n\
         Emulation version{is} {}\nPaths{is} {}\n",
        head("statusz"),
        started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        up / 3600,
        up / 60 % 60,
        up % 60,
        status.go_version,
        status.binary_version,
        status.emulation_version,
        status.paths.join(" "),
    );
    answer(call, "Statusz", status, text)
}

/// What paths begin with, of those that are worth a look.
fn folders(listed: &[String]) -> Vec<String> {
    let mut folders: Vec<String> = listed
        .iter()
        .filter_map(|path| path.split('/').nth(1))
        .filter(|folder| !folder.is_empty() && !OTHERS.contains(folder))
        .map(|folder| format!("/{folder}"))
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

/// `/flagz`
pub(super) fn flags(call: &Call) -> ApiResult<Response> {
    let catalogue = call.shared.registry.catalogue();
    let events = catalogue
        .infos()
        .find(|info| info.group.is_empty() && info.plural == "events");
    let flags = as_flags(&call.shared.config, events.and_then(|info| info.ttl));
    let mut text = head("flagz");
    let is = delimiter();
    for (name, value) in &flags {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name}{is}{value}");
    }
    answer(call, "Flagz", Flags { flags }, text)
}

/// What the server was started with and what is fixed in it, as upstream's flags would say it. What has no counterpart
/// here is not told.
fn as_flags(config: &Config, event_ttl: Option<Duration>) -> BTreeMap<&'static str, String> {
    let (address, prefix) = config.service_cidr;
    let (first, last) = (config.node_port_range.start(), config.node_port_range.end());
    // A third of the seats is for writes, as of upstream's 600.
    let mutating = config.max_requests_in_flight / 3;
    let list = |texts: &[String]| format!("[{}]", texts.join(","));
    let on = || true.to_string();
    let tolerated = default_toleration_seconds::SECONDS.to_string();
    let issuer = list(std::slice::from_ref(&config.service_account.issuer));
    let mut flags: BTreeMap<&'static str, String> = [
        ("advertise-address", config.advertise_address.to_string()),
        ("allow-privileged", on()),
        ("anonymous-auth", on()),
        ("api-audiences", list(&config.service_account.audiences)),
        ("authorization-mode", "[Node,RBAC]".into()),
        ("default-not-ready-toleration-seconds", tolerated.clone()),
        ("default-unreachable-toleration-seconds", tolerated),
        ("enable-bootstrap-token-auth", on()),
        ("enable-garbage-collector", on()),
        ("enable-logs-handler", false.to_string()),
        ("enable-priority-and-fairness", on()),
        ("endpoint-reconciler-type", "lease".into()),
        ("etcd-compaction-interval", duration(compaction::EVERY)),
        ("http2-max-streams-per-connection", MOST_STREAMS.to_string()),
        ("kubernetes-service-node-port", 0.to_string()),
        (
            "lease-reuse-duration-seconds",
            leases::SHARED_FOR.as_secs().to_string(),
        ),
        ("max-mutating-requests-inflight", mutating.to_string()),
        (
            "max-requests-inflight",
            (config.max_requests_in_flight - mutating).to_string(),
        ),
        (
            "min-request-timeout",
            options::SHORTEST_WATCH.as_secs().to_string(),
        ),
        ("profiling", on()),
        ("request-timeout", duration(deadline::LONGEST)),
        ("secure-port", config.port.to_string()),
        ("service-account-extend-token-expiration", on()),
        ("service-account-issuer", issuer),
        ("service-account-lookup", on()),
        ("service-account-max-token-expiration", duration(Duration::ZERO)),
        ("service-cluster-ip-range", format!("{address}/{prefix}")),
        ("service-node-port-range", format!("{first}-{last}")),
        ("storage-media-type", Encoding::Json.content_type().into()),
        ("tls-min-version", "VersionTLS12".into()),
        ("watch-cache", on()),
    ]
    .into();
    flags.extend(event_ttl.map(|ttl| ("event-ttl", duration(ttl))));
    flags
}

/// Whole seconds as Go writes them.
fn duration(of: Duration) -> String {
    let seconds = of.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_for_those_who_name_it() {
        let of = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            negotiate(&headers, "Statusz").ok()
        };
        let object = |encoding, version| Some(Form::Object(encoding, version));
        for (accept, expected) in [
            ("", Some(Form::Text)),
            ("*/*", Some(Form::Text)),
            ("text/plain", Some(Form::Text)),
            ("text/plain;as=Statusz;g=config.k8s.io;v=v1beta1", None),
            ("application/json", None),
            ("application/json, text/plain;q=0.2", Some(Form::Text)),
            (
                "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz",
                object(Encoding::Json, "v1alpha1"),
            ),
            (
                "application/yaml;v=v1beta1;g=config.k8s.io;as=Statusz",
                object(Encoding::Yaml, "v1beta1"),
            ),
            (
                "application/json;v=foo;g=config.k8s.io;as=Statusz,*/*",
                Some(Form::Text),
            ),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz", None),
            (
                "application/vnd.kubernetes.protobuf;v=v1beta1;g=config.k8s.io;as=Statusz",
                None,
            ),
        ] {
            assert_eq!(of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (seconds, text) in [
            (0, "0s"),
            (60, "1m0s"),
            (90, "1m30s"),
            (3600, "1h0m0s"),
            (3601, "1h0m1s"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn paths_are_told_by_what_they_begin_with() {
        let listed = [
            "/",
            "/api/v1",
            "/livez/ping",
            "/livez",
            "/.well-known/x",
            "/version",
        ]
        .map(str::to_string);
        assert_eq!(folders(&listed), ["/livez", "/version"]);
    }
}
