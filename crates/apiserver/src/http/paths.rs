//! The paths that are no resources: discovery, documents, health, version, metrics, keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha512};

use crate::config::VersionInfo;
use crate::discovery::{self, registered};
use crate::error::{ApiError, ApiResult};
use crate::http::accept::{Encoding, encoding_of, negotiate, ranges};
use crate::http::resources::{Call, not_allowed};
use crate::http::{Response, respond, zpages};
use crate::objects;
use crate::openapi::{Document, GNOSTIC, GNOSTIC_V3};
use crate::registry::{ListOptions, Resource};

/// The type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The type of what Go's servers take for plain text.
const TEXT: &str = "text/plain; charset=utf-8";
/// How long a document that never changes may be kept.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Serves a request that is for no resource.
pub(crate) async fn handle(call: Call) -> ApiResult<Response> {
    let path = call.info.path.clone();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // Discovery and the version are for GET alone; whoever answers at the other paths does not look.
    if call.method != Method::GET && discovered(&parts) {
        return Err(not_allowed());
    }
    // These are single paths.
    if path.len() > 1 && path.ends_with('/') && !discovered(&parts) && !path.starts_with("/openapi/v3/") {
        return not_found(&call);
    }
    let shared = &call.shared;
    let catalogue = shared.registry.catalogue();
    let version = shared.config.version.git_version.as_str();
    match parts.as_slice() {
        ["" | "index.html"] => respond::json(200, &json!({ "paths": root(&call) })),
        ["api"] => groups(&call, true),
        ["apis"] => groups(&call, false),
        ["apis", group] => {
            let services = objects::all::<APIService>(&shared.registry, "");
            found(&call, registered::one_group(catalogue, &services, group))
        }
        ["api", version] => found(&call, discovery::resource_list(catalogue, "", version)),
        ["apis", group, version] => found(&call, discovery::resource_list(catalogue, group, version)),
        ["version"] => respond::json(200, &shared.config.version),
        ["healthz" | "livez" | "readyz", rest @ ..] => health(&call, &parts, rest).await,
        ["openapi", "v2"] => swagger(&call).await,
        ["openapi", "v3"] if !path.ends_with('/') => {
            let index = shared.documents.index(catalogue, version).await?;
            // Whoever joins what several servers tell has no type for it: it is what Go makes of its first bytes.
            Ok(respond::typed(200, TEXT, index.content))
        }
        ["openapi", "v3", ..] => {
            let name = path.strip_prefix("/openapi/v3/").unwrap_or_default();
            match shared.documents.v3(catalogue, version, name).await? {
                Some(found) => of_version(&call, name, found).await,
                None => Ok(respond::bare(404)),
            }
        }
        ["metrics"] if call.method == Method::DELETE => {
            shared.metrics.reset();
            shared.flow.reset_counts();
            Ok(respond::text(200, "metrics reset\n"))
        }
        ["metrics"] => metrics(&call).await,
        ["statusz"] => zpages::status(&call, &root(&call)),
        ["flagz"] => zpages::flags(&call),
        ["metrics", "slis"] => Ok(respond::typed(
            200,
            METRICS,
            shared.metrics.states.service_levels(),
        )),
        [".well-known", "openid-configuration"] => respond::json(200, &openid_configuration(&call)),
        ["openid", "v1", "jwks"] => {
            let keys = json!({ "keys": [shared.tokens.jwk()] }).to_string();
            Ok(respond::typed(200, "application/jwk-set+json", keys))
        }
        _ => not_found(&call),
    }
}

/// Whether a path belongs to those that tell what is served.
fn discovered(parts: &[&str]) -> bool {
    matches!(
        parts.first().copied().unwrap_or_default(),
        "api" | "apis" | "version" | "openid" | ".well-known"
    )
}

/// 404: a status below the paths of a group that is served, a plain text elsewhere.
pub(crate) fn not_found(call: &Call) -> ApiResult<Response> {
    let mut parts = call.info.path.trim_matches('/').split('/');
    let served = match (parts.next(), parts.next()) {
        (Some("api" | "version" | "openid" | ".well-known"), _) => true,
        (Some("apis"), Some(group)) => {
            let catalogue = call.shared.registry.catalogue();
            discovery::group_versions(catalogue)
                .into_iter()
                .any(|(its, _)| its == group)
        }
        _ => false,
    };
    if served {
        return Err(ApiError::no_such_path());
    }
    Ok(respond::page_not_found())
}

fn root(call: &Call) -> Vec<String> {
    let catalogue = call.shared.registry.catalogue();
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/statusz",
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
        let encoding = encoding_of(&range)?;
        // The first range that can be served decides, so one without `as` ends the search.
        match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (None, ..) => Some(None),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Some(Some(encoding)),
            _ => None,
        }
    });
    let response = match aggregated.flatten() {
        Some(encoding) => {
            let json: Bytes = discovery::aggregated(catalogue, core).to_string().into();
            let hash = hash_of(&json);
            let bytes = match encoding {
                Encoding::Json => json,
                encoding => respond::transcoded(encoding, &json)?,
            };
            let content_type = discovery::aggregated_content_type(encoding);
            tagged(call, content_type, bytes, Some(hash))
        }
        None if core => {
            let config = &call.shared.config;
            let address = std::net::SocketAddr::new(config.advertise_address, config.port);
            found(call, Some(discovery::core_versions(&address.to_string())))?
        }
        None => {
            let services = objects::all::<APIService>(&call.shared.registry, "");
            found(call, Some(registered::group_list(catalogue, &services)))?
        }
    };
    Ok(by_accept(response))
}

/// A document of plain discovery, in the encoding that the client wants.
fn found(call: &Call, value: Option<impl Serialize>) -> ApiResult<Response> {
    let Some(value) = value else {
        return not_found(call);
    };
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
    let Some(protobuf) = first else {
        return Ok(by_accept(respond::bare(406)));
    };
    let (found, content_type) = if protobuf {
        let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        (documents.v2_protobuf(catalogue, version).await?, content_type)
    } else {
        (documents.v2(catalogue, version).await?, "application/json")
    };
    Ok(by_accept(tagged(
        call,
        content_type,
        found.content,
        Some(found.hash),
    )))
}

/// A response that would be another one to a client that accepts other types.
fn by_accept(mut response: Response) -> Response {
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Accept"));
    response
}

/// The document of a group version. Whoever names its hash may keep it; who names an old one is led to the new one.
async fn of_version(call: &Call, name: &str, found: Document) -> ApiResult<Response> {
    let protobuf = ranges(&call.headers).into_iter().find_map(|range| {
        if range.matches("application", "json") {
            return Some(false);
        }
        let protobuf = range.kind == "application" && GNOSTIC_V3.contains(&range.subtype.as_str());
        protobuf.then_some(true)
    });
    let Some(protobuf) = protobuf else {
        return Ok(by_accept(respond::bare(406)));
    };
    let documents = &call.shared.documents;
    let (found, content_type) = if protobuf {
        let content_type = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
        (documents.v3_protobuf(found).await?, content_type)
    } else {
        (found, "application/json")
    };
    let hash = found.hash.clone();
    let mut response = by_accept(tagged(call, content_type, found.content, Some(found.hash)));
    let Some(asked) = call.query.text("hash").filter(|asked| !asked.is_empty()) else {
        return Ok(response);
    };
    if asked != hash {
        let place = format!("/openapi/v3/{name}?hash={hash}");
        let place = HeaderValue::from_str(&place).map_err(ApiError::internal)?;
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        *response.body_mut() = Bytes::new().into();
        response.headers_mut().insert(LOCATION, place);
        return Ok(response);
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let date = (Timestamp::now() + YEAR).strftime("%a, %d %b %Y %H:%M:%S GMT");
    if let Ok(date) = HeaderValue::from_str(&date.to_string()) {
        headers.insert(EXPIRES, date);
    }
    Ok(response)
}

fn hash_of(content: &[u8]) -> String {
    Sha512::digest(content)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// A response with a tag; empty when the client has what the tag stands for.
fn tagged(call: &Call, content_type: &'static str, json: Bytes, hash: Option<String>) -> Response {
    let hash = hash.unwrap_or_else(|| hash_of(&json));
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
        "readyz" => &[
            "ping",
            "log",
            "etcd",
            "etcd-readiness",
            "informer-sync",
            "poststarthook/start-system-namespaces-controller",
            "poststarthook/start-cluster-authentication-info-controller",
            "poststarthook/start-kube-apiserver-identity-lease-controller",
            "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
            "poststarthook/start-legacy-token-tracking-controller",
            "poststarthook/rbac/bootstrap-roles",
            "poststarthook/scheduling/bootstrap-system-priority-classes",
            "poststarthook/priority-and-fairness-config-producer",
            "poststarthook/bootstrap-controller",
            "poststarthook/kube-apiserver-autoregistration",
            "autoregister-completion",
            "shutdown",
        ],
        _ => &[
            "ping",
            "log",
            "etcd",
            "poststarthook/start-system-namespaces-controller",
            "poststarthook/start-cluster-authentication-info-controller",
            "poststarthook/start-kube-apiserver-identity-lease-controller",
            "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
            "poststarthook/start-legacy-token-tracking-controller",
            "poststarthook/rbac/bootstrap-roles",
            "poststarthook/scheduling/bootstrap-system-priority-classes",
            "poststarthook/priority-and-fairness-config-producer",
            "poststarthook/bootstrap-controller",
            "poststarthook/kube-apiserver-autoregistration",
            "autoregister-completion",
        ],
    }
}

async fn passes(call: &Call, path: &str, check: &str) -> Result<(), String> {
    let outcome = checked(call, check).await;
    let states = &call.shared.metrics.states;
    states.checked(path, check, outcome.is_ok());
    outcome
}

async fn checked(call: &Call, check: &str) -> Result<(), String> {
    match check {
        "etcd" | "etcd-readiness" => {
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
    if !rest.is_empty() {
        let check = rest.join("/");
        if !all.contains(&check.as_str()) {
            return not_found(call);
        }
        return Ok(match passes(call, path, &check).await {
            Ok(()) => respond::text(200, "ok"),
            Err(cause) => respond::text(500, format!("internal server error: {cause}\n")),
        });
    }
    let mut excluded: BTreeSet<&str> = call.query.all("exclude").collect();
    let (mut lines, mut failed) = (String::new(), Vec::new());
    for check in all {
        if excluded.remove(check) {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        match passes(call, path, check).await {
            Ok(()) => lines.push_str(&format!("[+]{check} ok\n")),
            Err(cause) => {
                tracing::warn!(check, %cause, "{path} check failed");
                lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
                failed.push(check);
            }
        }
    }
    if !excluded.is_empty() {
        let quoted: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            quoted.join(",")
        ));
    }
    let mut response = if !failed.is_empty() {
        respond::text(500, format!("{lines}{path} check failed\n"))
    } else if call.query.get("verbose").is_some() {
        respond::text(200, format!("{lines}{path} check passed\n"))
    } else {
        respond::text(200, "ok")
    };
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
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
        objects.push((resource.info(), count));
    }
    let host = format!("127.0.0.1:{}", call.shared.config.port);
    let text = [
        build_info(&call.shared.config.version),
        call.shared.metrics.render(&host, &objects),
        call.shared.flow.render(),
    ]
    .concat();
    Ok(respond::typed(200, METRICS, text))
}

fn build_info(version: &VersionInfo) -> String {
    let labels = [
        ("build_date", &version.build_date),
        ("compiler", &version.compiler),
        ("git_commit", &version.git_commit),
        ("git_tree_state", &version.git_tree_state),
        ("git_version", &version.git_version),
        ("go_version", &version.go_version),
        ("major", &version.major),
        ("minor", &version.minor),
        ("platform", &version.platform),
    ];
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!(
        "# HELP kubernetes_build_info [BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, \
         git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it \
         is running.\n# TYPE kubernetes_build_info gauge\nkubernetes_build_info{{{}}} 1\n",
        labels.join(",")
    )
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
