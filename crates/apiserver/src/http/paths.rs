//! The paths that are no resources: discovery, documents, health, version, metrics, keys.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::discovery;
use crate::error::{ApiError, ApiResult};
use crate::http::accept::{negotiate, ranges};
use crate::http::resources::{Call, not_allowed};
use crate::http::{Response, respond};
use crate::openapi::{Document, GNOSTIC};
use crate::registry::{ListOptions, Resource};

/// Serves a request that is for no resource.
pub(crate) async fn handle(call: Call) -> ApiResult<Response> {
    let path = call.info.path.clone();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if call.method != Method::GET {
        return Err(if known(&parts) {
            not_allowed()
        } else {
            ApiError::no_such_path()
        });
    }
    let shared = &call.shared;
    let catalogue = shared.registry.catalogue();
    let version = shared.config.version.git_version.as_str();
    match parts.as_slice() {
        [""] => respond::json(200, &json!({ "paths": root(&call) })),
        ["api"] => groups(&call, true),
        ["apis"] => groups(&call, false),
        ["apis", group] => found(&call, discovery::group(catalogue, group)),
        ["api", version] => found(&call, discovery::resource_list(catalogue, "", version)),
        ["apis", group, version] => found(&call, discovery::resource_list(catalogue, group, version)),
        ["version"] => respond::json(200, &shared.config.version),
        ["healthz" | "livez" | "readyz", rest @ ..] => health(&call, &parts, rest).await,
        ["openapi", "v2"] => swagger(&call).await,
        ["openapi", "v3"] => document(&call, shared.documents.index(catalogue, version).await?),
        ["openapi", "v3", rest @ ..] => {
            let found = shared.documents.v3(catalogue, version, &rest.join("/")).await?;
            document(&call, found.ok_or_else(ApiError::no_such_path)?)
        }
        ["metrics"] => metrics(&call).await,
        [".well-known", "openid-configuration"] => respond::json(200, &openid_configuration(&call)),
        ["openid", "v1", "jwks"] => {
            let keys = json!({ "keys": [shared.tokens.jwk()] }).to_string();
            Ok(respond::typed(200, "application/jwk-set+json", keys))
        }
        _ => Err(ApiError::no_such_path()),
    }
}

fn known(parts: &[&str]) -> bool {
    let first = parts.first().copied().unwrap_or_default();
    matches!(
        first,
        "" | "api" | "apis" | "version" | "healthz" | "livez" | "readyz" | "openapi" | "metrics"
    )
}

fn root(call: &Call) -> Vec<String> {
    let catalogue = call.shared.registry.catalogue();
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_string)
    .into();
    for path in ["healthz", "livez", "readyz"] {
        paths.extend(checks(path).iter().map(|check| format!("/{path}/{check}")));
    }
    for (group, version) in discovery::group_versions(catalogue) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// `/api` and `/apis`: aggregated for clients that ask for it, else plain.
fn groups(call: &Call, core: bool) -> ApiResult<Response> {
    let catalogue = call.shared.registry.catalogue();
    let aggregated = ranges(&call.headers).into_iter().find_map(|range| {
        if !range.matches("application", "json") {
            return None;
        }
        // The first range that can be served decides, so one without `as` ends the search.
        match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (None, ..) => Some(None),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Some(Some("v2")),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
                Some(Some("v2beta1"))
            }
            _ => None,
        }
    });
    let mut response = match aggregated.flatten() {
        Some(version) => {
            let json = discovery::aggregated(catalogue, core, version).to_string();
            let content_type = discovery::aggregated_content_type(version);
            tagged(call, content_type, json.into(), None)
        }
        None if core => {
            let config = &call.shared.config;
            let address = std::net::SocketAddr::new(config.advertise_address, config.port);
            found(call, Some(discovery::core_versions(&address.to_string())))?
        }
        None => found(call, Some(discovery::group_list(catalogue)))?,
    };
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// A document of plain discovery, in the encoding that the client wants.
fn found(call: &Call, value: Option<impl Serialize>) -> ApiResult<Response> {
    let value = value.ok_or_else(ApiError::no_such_path)?;
    let accepted = negotiate(&call.headers, false)?;
    let json = serde_json::to_vec(&value).map_err(ApiError::internal)?;
    respond::encoded(200, accepted.encoding, json.into())
}

/// Version 2, as JSON or in the protobuf form, whichever the client names first.
async fn swagger(call: &Call) -> ApiResult<Response> {
    let catalogue = call.shared.registry.catalogue();
    let version = call.shared.config.version.git_version.as_str();
    let documents = &call.shared.documents;
    let first = ranges(&call.headers).into_iter().find_map(|range| {
        if range.matches("application", "json") {
            return Some(false);
        }
        let protobuf = range.kind == "application" && GNOSTIC.contains(&range.subtype.as_str());
        protobuf.then_some(true)
    });
    if first != Some(true) {
        return document(call, documents.v2(catalogue, version).await?);
    }
    let found = documents.v2_protobuf(catalogue, version).await?;
    let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let mut response = tagged(call, content_type, found.content, Some(found.hash));
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn document(call: &Call, document: Document) -> ApiResult<Response> {
    negotiate(&call.headers, false)?;
    let mut response = tagged(call, "application/json", document.content, Some(document.hash));
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// A response with a tag; empty when the client has what the tag stands for.
fn tagged(call: &Call, content_type: &'static str, json: Bytes, hash: Option<String>) -> Response {
    let hash = hash.unwrap_or_else(|| {
        Sha256::digest(&json)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    });
    let tag = format!("\"{hash}\"");
    let mut response = if has(&call.headers, &tag) {
        let mut response = respond::typed(304, content_type, Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        respond::typed(200, content_type, json)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Whether the client has what a tag stands for.
fn has(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|its| its.trim().trim_start_matches("W/") == tag)
}

/// The checks of a health path, in the order in which they are told.
fn checks(path: &str) -> &'static [&'static str] {
    match path {
        "readyz" => &["ping", "log", "etcd", "informer-sync", "shutdown"],
        "livez" => &["ping", "log"],
        _ => &["ping", "log", "etcd"],
    }
}

async fn passes(call: &Call, check: &str) -> Result<(), String> {
    match check {
        "etcd" => {
            let revision = call.shared.store.revision().await;
            revision.map(drop).map_err(|error| error.to_string())
        }
        "shutdown" if call.shared.shutdown.is_cancelled() => Err("process is shutting down".into()),
        // A server whose caches are not filled has not started, so nobody can ask it.
        _ => Ok(()),
    }
}

async fn health(call: &Call, parts: &[&str], rest: &[&str]) -> ApiResult<Response> {
    let path = parts.first().copied().unwrap_or_default();
    let all = checks(path);
    let wanted: &'static [&'static str] = match rest {
        [] => all,
        [check] => match all.iter().position(|its| its == check) {
            Some(place) => all.get(place..=place).unwrap_or_default(),
            None => return Err(ApiError::no_such_path()),
        },
        _ => return Err(ApiError::no_such_path()),
    };
    let excluded: Vec<String> = call.query.all("exclude").map(str::to_string).collect();
    let (mut lines, mut failed) = (String::new(), Vec::new());
    for check in wanted {
        if excluded.iter().any(|its| its == check) {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        match passes(call, check).await {
            Ok(()) => lines.push_str(&format!("[+]{check} ok\n")),
            Err(cause) => {
                tracing::warn!(check, %cause, "{path} check failed");
                lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
                failed.push(check);
            }
        }
    }
    if !failed.is_empty() {
        return Ok(respond::text(500, format!("{lines}{path} check failed\n")));
    }
    if call.query.get("verbose").is_some() {
        return Ok(respond::text(200, format!("{lines}{path} check passed\n")));
    }
    Ok(respond::text(200, "ok"))
}

async fn metrics(call: &Call) -> ApiResult<Response> {
    let mut objects = Vec::new();
    let registry = &call.shared.registry;
    // Another version of a kind has the same objects.
    let stored = |resource: &&Arc<Resource>| resource.strategy().conversion().is_none();
    for resource in registry.resources().filter(stored) {
        let from_cache = ListOptions {
            resource_version: Some("0".into()),
            ..ListOptions::default()
        };
        let count = resource.list(&from_cache).await?.items.len();
        objects.push((resource.info().group_resource(), count));
    }
    let text = call.shared.metrics.render(objects.into_iter()) + &call.shared.flow.render();
    Ok(respond::typed(
        200,
        "text/plain; version=0.0.4; charset=utf-8",
        text,
    ))
}

fn openid_configuration(call: &Call) -> serde_json::Value {
    let config = &call.shared.config;
    let address = std::net::SocketAddr::new(config.advertise_address, config.port);
    json!({
        "issuer": call.shared.tokens.issuer(),
        "jwks_uri": format!("https://{address}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [call.shared.tokens.algorithm()],
    })
}
