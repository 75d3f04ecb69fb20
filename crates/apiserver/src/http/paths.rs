//! The paths that are no resources: discovery, documents, health, version, metrics, keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha512};
use skiff_api::Catalogue;

use crate::config::VersionInfo;
use crate::discovery::{self, registered};
use crate::error::{ApiError, ApiResult};
use crate::hooks;
use crate::http::accept::{ACCEPTED, Encoding, MediaRange, encodings_of, negotiate, produced, ranges};
use crate::http::content::{self, Content};
use crate::http::metrics::process_start;
use crate::http::resources::{Call, not_allowed};
use crate::http::{Response, compress, debug, pretty, respond, zpages};
use crate::objects;
use crate::openapi::{Document, GNOSTIC, GNOSTIC_V3};
use crate::registry::{ListOptions, Resource};

/// How names that the text format of Prometheus did not know may be written.
const ESCAPINGS: [&str; 4] = ["allow-utf-8", "underscores", "dots", "values"];
/// Since when the process counts, in seconds since 1970.
const PROCESS_START: HeaderName = HeaderName::from_static("process-start-time-unix");
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
        return match parts.as_slice() {
            ["apis", group, ..] if !is_served(&call, group) => not_found(&call),
            _ => Err(not_allowed()),
        };
    }
    // These are single paths.
    let is_tree = ["/openapi/v3/", "/debug/flags/", "/debug/pprof/"]
        .iter()
        .any(|tree| path.starts_with(tree));
    if path.len() > 1 && path.ends_with('/') && !discovered(&parts) && !is_tree {
        return not_found(&call);
    }
    let available: &[&str] = match parts.first().copied().unwrap_or_default() {
        "api" | "apis" => &ACCEPTED,
        "version" | ".well-known" => &["application/json"],
        "openid" => &["application/jwk-set+json"],
        _ => &[],
    };
    let shared = &call.shared;
    let catalogue = shared.registry.catalogue();
    let version = shared.config.version.git_version.as_str();
    if !available.is_empty() && is_there(catalogue, &parts) {
        produced(&call.headers, available)?;
    }
    match parts.as_slice() {
        ["" | "index.html"] => respond::document(&json!({ "paths": root(&call) })),
        ["api"] => groups(&call, true),
        ["apis"] => groups(&call, false),
        ["apis", group] => {
            let services = objects::all::<APIService>(&shared.registry, "");
            found(&call, registered::one_group(catalogue, &services, group))
        }
        ["api", version] => found(&call, discovery::resource_list(catalogue, "", version)),
        ["apis", group, version] => found(&call, discovery::resource_list(catalogue, group, version)),
        ["version"] => {
            produced(&call.headers, &["application/json"])?;
            respond::document(&told(&shared.config.version))
        }
        ["healthz" | "livez" | "readyz", rest @ ..] => health(&call, &parts, rest).await,
        ["openapi", "v2"] => swagger(&call).await,
        ["openapi", "v3"] if !path.ends_with('/') => {
            let index = shared.documents.index(catalogue, version).await?;
            let content = Content {
                // Whoever joins what several servers tell has no type for it: it is what Go makes of its first bytes.
                type_: TEXT,
                bytes: index.content,
                // It is joined anew for everybody.
                tag: None,
                modified: Timestamp::now(),
            };
            Ok(compress::never(content.answer(&call.method, &call.headers)))
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
        ["metrics"] => {
            let text = metrics(&call).await?;
            Ok(measured(&call, text).await)
        }
        ["debug", rest @ ..] => debug::handle(call, rest).await,
        ["statusz"] => zpages::status(&call, &root(&call)),
        ["flagz"] => zpages::flags(&call),
        ["metrics", "slis"] if call.method == Method::DELETE => {
            shared.metrics.states.reset_checks();
            Ok(respond::text(200, "metrics reset\n"))
        }
        ["metrics", "slis"] => {
            let text = shared.metrics.states.service_levels();
            Ok(measured(&call, text).await)
        }
        [".well-known", "openid-configuration"] => {
            let configuration = openid_configuration(&call).to_string();
            Ok(respond::typed(200, "application/json", configuration))
        }
        ["openid", "v1", "jwks"] => {
            let keys = json!({ "keys": [shared.tokens.jwk()] }).to_string();
            Ok(respond::typed(200, "application/jwk-set+json", keys))
        }
        _ => not_found(&call),
    }
}

/// Whether a path of those that tell what is served is served itself.
fn is_there(catalogue: &Catalogue, parts: &[&str]) -> bool {
    match parts {
        ["apis", group] => discovery::group_versions(catalogue)
            .iter()
            .any(|(its, _)| its == group),
        ["api", version] => {
            discovery::group_versions(catalogue).contains(&(String::new(), (*version).to_string()))
        }
        ["apis", group, version] => {
            discovery::group_versions(catalogue).contains(&((*group).to_string(), (*version).to_string()))
        }
        [_] | [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] => true,
        _ => false,
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
        (Some("apis"), Some(group)) => is_served(call, group),
        _ => false,
    };
    if served {
        return Err(ApiError::no_such_path());
    }
    Ok(respond::page_not_found())
}

/// Whether there is a group of this name.
fn is_served(call: &Call, group: &str) -> bool {
    discovery::group_versions(call.shared.registry.catalogue())
        .into_iter()
        .any(|(its, _)| its == group)
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
    // Whoever accepts the aggregated form anywhere gets it, and the plain one only who does not.
    let aggregated = ranges(&call.headers).into_iter().find_map(|range| {
        let wanted = ["as", "g", "v"].map(|name| range.parameter(name));
        let is_known = wanted
            == [
                Some("APIGroupDiscoveryList"),
                Some("apidiscovery.k8s.io"),
                Some("v2"),
            ];
        let is_plain = range.parameter("stream").is_none() && range.parameter("sv").is_none();
        encodings_of(&range).next().filter(|_| is_known && is_plain)
    });
    match aggregated {
        Some(encoding) => {
            let json: Bytes = discovery::aggregated(catalogue, core).to_string().into();
            let hash = hash_of(&json);
            let bytes = match encoding {
                Encoding::Json => json,
                encoding => respond::transcoded(encoding, &json)?,
            };
            let content_type = discovery::aggregated_content_type(encoding);
            let mut response = tagged(call, content_type, bytes, &hash);
            response
                .headers_mut()
                .insert(CACHE_CONTROL, HeaderValue::from_static("public"));
            Ok(by_accept(response))
        }
        None if core => {
            let config = &call.shared.config;
            let address = std::net::SocketAddr::new(config.advertise_address, config.port);
            found(call, Some(discovery::core_versions(&address.to_string())))
        }
        None => {
            let services = objects::all::<APIService>(&call.shared.registry, "");
            found(call, Some(registered::group_list(catalogue, &services)))
        }
    }
}

/// A document of plain discovery, in the encoding that the client wants.
fn found(call: &Call, value: Option<impl Serialize>) -> ApiResult<Response> {
    let Some(value) = value else {
        return not_found(call);
    };
    let accepted = negotiate(&call.headers, false)?;
    let json = serde_json::to_vec(&value).map_err(ApiError::internal)?;
    if accepted.encoding == Encoding::Json && (accepted.pretty || pretty::wanted(&call.query, &call.headers))
    {
        return Ok(respond::typed(
            200,
            accepted.encoding.content_type(),
            pretty::indented(&json),
        ));
    }
    respond::encoded(200, accepted.encoding, json.into())
}

/// Whether a document is wanted as protobuf rather than as JSON, of what the client accepts first; `None`: as neither.
fn as_protobuf(ranges: &[MediaRange], gnostic: &[&str]) -> Option<bool> {
    ranges.iter().find_map(|range| {
        if range.matches_in_parts("application", "json") {
            return Some(false);
        }
        let is_wanted = |subtype: &&str| range.matches_in_parts("application", subtype);
        gnostic.iter().any(is_wanted).then_some(true)
    })
}

/// Version 2, as JSON or in the protobuf form, whichever the client names first.
async fn swagger(call: &Call) -> ApiResult<Response> {
    let catalogue = call.shared.registry.catalogue();
    let version = call.shared.config.version.git_version.as_str();
    let documents = &call.shared.documents;
    let vary = |response| by_accept(respond::vary(response, "Accept-Encoding"));
    let Some(protobuf) = as_protobuf(&ranges(&call.headers), &GNOSTIC) else {
        return Ok(vary(respond::bare(406)));
    };
    let (found, type_) = if protobuf {
        let type_ = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        (documents.v2_protobuf(catalogue, version).await?, type_)
    } else {
        (documents.v2(catalogue, version).await?, "application/json")
    };
    let response = vary(found.into_content(type_).answer(&call.method, &call.headers));
    if compress::weighed(&call.headers) {
        return Ok(compress::above(response, compress::PAGE).await);
    }
    Ok(compress::never(response))
}

/// A response that would be another one to a client that accepts other types.
fn by_accept(response: Response) -> Response {
    respond::vary(response, "Accept")
}

/// The document of a group version. Whoever names its hash may keep it; who names an old one is led to the new one.
async fn of_version(call: &Call, name: &str, found: Document) -> ApiResult<Response> {
    let ranges = ranges(&call.headers);
    let Some(protobuf) = as_protobuf(&ranges, &GNOSTIC_V3) else {
        // Who names nothing that could be a type gets nothing, and is not told why.
        let code = if ranges.is_empty() { 200 } else { 406 };
        return Ok(by_accept(respond::bare(code)));
    };
    let documents = &call.shared.documents;
    let (found, type_) = if protobuf {
        let type_ = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
        (documents.v3_protobuf(found).await?, type_)
    } else {
        (found, "application/json")
    };
    let hash = found.hash.clone();
    let content = found.into_content(type_);
    let Some(asked) = call.query.text("hash").filter(|asked| !asked.is_empty()) else {
        return Ok(compress::never(by_accept(
            content.answer(&call.method, &call.headers),
        )));
    };
    if asked != hash {
        let place = format!("/openapi/v3/{name}?hash={hash}");
        let mut response = by_accept(respond::typed(301, type_, Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(
            LOCATION,
            HeaderValue::from_str(&place).map_err(ApiError::internal)?,
        );
        let tag = format!("\"{hash}\"");
        headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(ApiError::internal)?);
        return Ok(response);
    }
    let mut response = by_accept(content.answer(&call.method, &call.headers));
    let headers = response.headers_mut();
    if headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    if let Some(date) = content::date(Timestamp::now() + YEAR) {
        headers.insert(EXPIRES, date);
    }
    Ok(compress::never(response))
}

fn hash_of(content: &[u8]) -> String {
    Sha512::digest(content)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// Aggregated discovery, which caches may keep as long as its tag stays; empty when the client has what it stands for.
fn tagged(call: &Call, content_type: &'static str, json: Bytes, hash: &str) -> Response {
    let tag = format!("\"{hash}\"");
    let has_it = call
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|its| its.as_bytes() == tag.as_bytes());
    let mut response = if has_it {
        respond::bare(304)
    } else {
        respond::typed(200, content_type, json)
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// What the names of checks of [`hooks`] begin with.
const HOOK: &str = "poststarthook/";

/// The checks of a health path, in the order in which they are told.
fn checks(path: &str) -> Vec<String> {
    let is_ready = path == "readyz";
    let only_ready = |names: &'static [&'static str]| if is_ready { names } else { &[] };
    let mut all: Vec<String> = ["ping", "log", "etcd"]
        .iter()
        .chain(only_ready(&["etcd-readiness", "informer-sync"]))
        .map(|name| (*name).to_string())
        .collect();
    for hook in hooks::ALL {
        all.push(format!("{HOOK}{hook}"));
        if hook == "kube-apiserver-autoregistration" {
            all.push("autoregister-completion".into());
        }
    }
    all.extend(only_ready(&["shutdown"]).iter().map(|name| (*name).to_string()));
    all
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
        // All APIServices of the server's own are made before it watches over them.
        "autoregister-completion" => call.shared.hooks.check("kube-apiserver-autoregistration"),
        "informer-sync" => call.shared.hooks.check("generic-apiserver-start-informers"),
        _ => match check.strip_prefix(HOOK) {
            Some(hook) => call.shared.hooks.check(hook),
            None => Ok(()),
        },
    }
}

async fn health(call: &Call, parts: &[&str], rest: &[&str]) -> ApiResult<Response> {
    let path = parts.first().copied().unwrap_or_default();
    let all = checks(path);
    if !rest.is_empty() {
        let check = rest.join("/");
        if !all.contains(&check) {
            return not_found(call);
        }
        return Ok(match passes(call, path, &check).await {
            Ok(()) => respond::text(200, "ok"),
            Err(cause) => respond::text(500, format!("internal server error: {cause}\n")),
        });
    }
    let mut excluded: BTreeSet<&str> = call.query.all("exclude").collect();
    let (mut lines, mut failed) = (String::new(), Vec::new());
    for check in &all {
        if excluded.remove(check.as_str()) {
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

async fn metrics(call: &Call) -> ApiResult<String> {
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
    ];
    Ok(text.concat())
}

/// Metrics as Prometheus' own servers send them: compressed for whoever takes that, with how names are written.
async fn measured(call: &Call, text: String) -> Response {
    let ranges = ranges(&call.headers);
    let is_text = |range: &&MediaRange| {
        range.kind == "text"
            && range.subtype == "plain"
            && matches!(range.parameter("version"), None | Some("0.0.4"))
    };
    // What stands before the range that decides has its say as well.
    let until = ranges
        .iter()
        .position(|range| is_text(&range))
        .map_or(ranges.len(), |at| at + 1);
    let escaping = ranges
        .iter()
        .take(until)
        .rev()
        .find_map(|range| range.parameter("escaping").filter(|its| ESCAPINGS.contains(its)));
    let type_ = format!(
        "text/plain; version=0.0.4; charset=utf-8; escaping={}",
        escaping.unwrap_or("underscores")
    );
    let mut response = respond::text(200, text);
    let headers = response.headers_mut();
    if let Ok(type_) = HeaderValue::from_str(&type_) {
        headers.insert(CONTENT_TYPE, type_);
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time in whole seconds"
    )]
    if let Some(started) = process_start() {
        headers.insert(PROCESS_START, HeaderValue::from(started as u64));
    }
    if compress::weighed(&call.headers) {
        return compress::above(response, 0).await;
    }
    compress::never(response)
}

/// What `/version` tells, in upstream's order.
fn told(version: &VersionInfo) -> impl Serialize + use<> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        major: String,
        minor: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        emulation_major: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        emulation_minor: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        min_compatibility_major: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        min_compatibility_minor: Option<String>,
        git_version: String,
        git_commit: String,
        git_tree_state: String,
        build_date: String,
        go_version: String,
        compiler: String,
        platform: String,
    }
    let version = version.clone();
    Told {
        major: version.major,
        minor: version.minor,
        emulation_major: version.emulation_major,
        emulation_minor: version.emulation_minor,
        min_compatibility_major: version.min_compatibility_major,
        min_compatibility_minor: version.min_compatibility_minor,
        git_version: version.git_version,
        git_commit: version.git_commit,
        git_tree_state: version.git_tree_state,
        build_date: version.build_date,
        go_version: version.go_version,
        compiler: version.compiler,
        platform: version.platform,
    }
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
