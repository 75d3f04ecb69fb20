//! `pods/log`: a container's output, streamed from the node that it runs on.

use http_body_util::{BodyExt, Empty, Limited};
use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_api::{Errors, KindInfo, Path};

use crate::error::{ApiError, ApiResult};
use crate::http::node::{Endpoint, Trust};
use crate::http::query::Query;
use crate::http::resources::Call;
use crate::http::{Response, relay, respond, websocket};
use crate::objects::find;

/// As much of a node's refusal as is passed on, in bytes.
const LONGEST_REFUSAL: usize = 2048;

/// The subprotocols of a log over a WebSocket: as it is, and in base64.
const PROTOCOLS: [&str; 2] = ["binary.k8s.io", "base64.binary.k8s.io"];

/// The parameters that the kubelet reads; the others are the server's own.
const PASSED_ON: [&str; 8] = [
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
    "stream",
];

/// Streams a container's log from its node.
pub(crate) async fn handle(mut call: Call) -> ApiResult<Response> {
    // Browsers' clients read a log over a WebSocket.
    let socket = websocket::asked_for(&call.headers)
        .then(|| websocket::Handshake::read(&mut call)?.speaks(&PROTOCOLS))
        .transpose()?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.path_name());
    let registry = &call.shared.registry;
    let info = KindInfo::of::<Pod>("pod");
    let pod: Pod = find(registry, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found(&info, name))?;
    validate(&call.query, name)?;
    let container = container(&pod, call.query.get("container").unwrap_or_default())?;
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .unwrap_or_default();
    if node.is_empty() {
        // A pod that is on no node has written nothing.
        return Ok(respond::text(200, ""));
    }
    let endpoint = find::<Node>(registry, "", &node)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Node>("node"), &node))
        .map(|node| Endpoint::of(&node))?
        .ok_or_else(|| {
            ApiError::internal(format!(
                "no preferred addresses found; known addresses: [] (node {node})"
            ))
        })?;
    let path = format!(
        "/containerLogs/{}/{}/{}{}",
        escape(namespace),
        escape(name),
        escape(&container),
        passed_on(&call.query)
    );
    let trust = if call.query.flag("insecureSkipTLSVerifyBackend") {
        Trust::AnyKubelet
    } else {
        Trust::Kubelet
    };
    let request = http::Request::get(path.as_str())
        .body(Empty::new())
        .map_err(ApiError::internal)?;
    let answer = call.shared.nodes.send(&endpoint, trust, request).await;
    let answer = answer.map_err(|error| {
        ApiError::internal(format!("Get \"https://{}{path}\": {error}", endpoint.authority()))
    })?;
    let status = answer.status();
    if !status.is_success() {
        let text = Limited::new(answer.into_body(), LONGEST_REFUSAL)
            .collect()
            .await
            .map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_string())
            .unwrap_or_default();
        return Err(match status.as_u16() {
            400 => ApiError::bad_request(text),
            404 => {
                let mut error = ApiError::no_such_path();
                error.0.message = Some(format!(
                    "the server could not find the requested resource ( pods/log {name}): {text}"
                ));
                error
            }
            500 => ApiError::internal(text),
            code => {
                let mut error = ApiError::internal(text);
                error.0.code = Some(code.into());
                error
            }
        });
    }
    let (body, shutdown) = (answer.into_body(), call.shared.shutdown.clone());
    if let Some(socket) = socket {
        return Ok(socket.accept_pieces(relay::pieces(body, shutdown)));
    }
    let lines = relay::streamed(body, shutdown);
    Ok(respond::typed(200, "text/plain", lines))
}

/// Checks the numbers, so that a wrong one is the client's error and not the node's.
fn validate(query: &Query, pod: &str) -> ApiResult<()> {
    let mut errors = Errors::new();
    for (name, smallest, detail) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = query.get(name).filter(|text| !text.is_empty()) else {
            continue;
        };
        let value: i64 = text.parse().map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        if value < smallest {
            errors.invalid(&Path::new(name), value, detail);
        }
    }
    if let Some(time) = query.text("sinceTime") {
        let time: Result<jiff::Timestamp, _> = time.parse();
        time.map_err(|error| ApiError::bad_request(format!("sinceTime: {error}")))?;
    }
    match query.get("stream").unwrap_or_default() {
        "" | "All" => {}
        "Stdout" | "Stderr" => {
            if query.text("tailLines").is_some() {
                errors.forbidden(
                    &Path::new(""),
                    "`tailLines` and specific `stream` are mutually exclusive for now",
                );
            }
        }
        other => errors.not_supported(&Path::new("stream"), other, &["All", "Stderr", "Stdout"]),
    }
    if query.text("sinceSeconds").is_some() && query.text("sinceTime").is_some() {
        errors.forbidden(
            &Path::new(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    let info = KindInfo {
        kind: "PodLogOptions".into(),
        ..KindInfo::of::<Pod>("pod")
    };
    Err(ApiError::invalid(&info, pod, &errors))
}

/// The container that is meant: the one asked for, else the only one.
pub(super) fn container(pod: &Pod, asked: &str) -> ApiResult<String> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let (mut containers, mut init, mut ephemeral) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(spec) = &pod.spec {
        containers.extend(spec.containers.iter().map(|container| container.name.as_str()));
        init.extend(
            spec.init_containers
                .iter()
                .flatten()
                .map(|container| container.name.as_str()),
        );
        ephemeral.extend(
            spec.ephemeral_containers
                .iter()
                .flatten()
                .map(|container| container.name.as_str()),
        );
    }
    if !asked.is_empty() {
        if [&containers, &init, &ephemeral]
            .iter()
            .any(|names| names.contains(&asked))
        {
            return Ok(asked.to_string());
        }
        return Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {pod_name}"
        )));
    }
    // Init and ephemeral containers do not make the choice ambiguous: they are only named in the refusal.
    match containers.as_slice() {
        [only] => Ok(only.to_string()),
        [] => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod_name}"
        ))),
        _ => {
            let all = [init, containers, ephemeral].concat().join(" ");
            Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{all}]"
            )))
        }
    }
}

fn passed_on(query: &Query) -> String {
    let pairs: Vec<String> = PASSED_ON
        .iter()
        .filter_map(|name| Some(format!("{name}={}", escape(query.get(name)?))))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}

/// Percent-encodes what has a meaning in a URL.
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &[&str], init: &[&str]) -> Pod {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|name| json!({ "name": name }))
                .collect::<Vec<_>>()
        };
        serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "spec": { "containers": named(containers), "initContainers": named(init) },
        }))
        .unwrap()
    }

    #[test]
    fn the_container_is_the_one_asked_for_or_the_only_one() {
        let cases = [
            (pod(&["a"], &[]), "", Ok("a")),
            (pod(&["a", "b"], &[]), "b", Ok("b")),
            (pod(&["a"], &["i"]), "i", Ok("i")),
            (pod(&["a"], &["i"]), "", Ok("a")),
            (
                pod(&["a", "b"], &[]),
                "",
                Err("a container name must be specified for pod p, choose one of: [a b]"),
            ),
            (
                pod(&["a", "b"], &["i"]),
                "",
                Err("a container name must be specified for pod p, choose one of: [i a b]"),
            ),
            (pod(&["a"], &[]), "x", Err("container x is not valid for pod p")),
        ];
        for (pod, asked, expected) in cases {
            let got = container(&pod, asked).map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn only_what_the_kubelet_reads_is_passed_on() {
        let query = Query::parse(Some(
            "container=a&follow=true&sinceTime=2026-01-01T00%3A00%3A00Z&pretty=1",
        ));
        assert_eq!(
            passed_on(&query),
            "?follow=true&sinceTime=2026-01-01T00%3A00%3A00Z"
        );
    }

    #[test]
    fn wrong_numbers_are_refused() {
        let error = validate(&Query::parse(Some("tailLines=-1")), "p").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#
        );
        for (query, code) in [
            ("tailLines=x", 400),
            ("sinceTime=yesterday", 400),
            ("stream=Both", 422),
            ("stream=Stdout&tailLines=1", 422),
        ] {
            let error = validate(&Query::parse(Some(query)), "p").unwrap_err();
            assert_eq!(error.code(), code, "{query}");
        }
        assert!(
            validate(
                &Query::parse(Some("stream=Stderr&sinceTime=2026-01-01T00:00:00Z")),
                "p"
            )
            .is_ok()
        );
    }
}
