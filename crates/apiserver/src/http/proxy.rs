//! `pods/proxy`, `services/proxy` and `nodes/proxy`: a request passed on to what the object stands for.

use std::net::IpAddr;

use http::header::{EXPECT, HOST, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Node, Pod, Service};
use rand::seq::SliceRandom;
use skiff_api::KindInfo;

use crate::error::{ApiError, ApiResult};
use crate::http::node::{Endpoint, Trust};
use crate::http::relay::{self, is_upgrade, streamed, without_hop};
use crate::http::resources::Call;
use crate::http::{Response, ResponseBody};
use crate::objects::find;
use crate::registry::Registry;

/// How many parts of the path come before the one that is passed on: the resource, the name, and `proxy`.
const OWN_PARTS: usize = 3;
/// What a pod may not say for the server that it is seen through.
const CORS: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// Passes the request on.
pub(crate) async fn handle(mut call: Call) -> ApiResult<Response> {
    let path = passed_on(&call.info.parts, &call.info.path);
    let (endpoint, trust) = locate(&call).await?;
    let query = call
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    if is_upgrade(&call.headers) {
        forget_credentials(&mut call.headers);
        let path = if path.is_empty() { "/" } else { path.as_str() };
        return relay::upgraded(&call, &endpoint, trust, &format!("{path}{query}")).await;
    }
    if path.is_empty() && matches!(call.method, Method::GET | Method::HEAD) {
        // So that relative links in the page lead to the same place.
        return redirect(&format!("{}/{query}", call.info.path));
    }
    let before = prefix(&call.info.path, &path);
    let request = request(&mut call, &before, &path, &query)?;
    let host = request.headers().get(HOST).cloned();
    let answer = call.shared.nodes.send(&endpoint, trust, request).await;
    let answer =
        answer.map_err(|error| ApiError::unavailable(format!("error trying to reach service: {error}")))?;
    let (head, body) = answer.into_parts();
    let mut response = http::Response::new(streamed(body, call.shared.shutdown.clone()));
    *response.status_mut() = head.status;
    let mut headers = head.headers;
    without_hop(&mut headers);
    for name in CORS {
        headers.remove(name);
    }
    if let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        let host = host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let rewritten = rewrite(location, &before, &endpoint.authority(), host);
        if let Ok(rewritten) = HeaderValue::from_str(&rewritten) {
            headers.insert(LOCATION, rewritten);
        }
    }
    *response.headers_mut() = headers;
    Ok(response)
}

fn redirect(to: &str) -> ApiResult<Response> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let to = HeaderValue::from_str(to).map_err(ApiError::internal)?;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

/// The path that is passed on: cleaned, encoded, with the slash that the request ended with.
fn passed_on(parts: &[String], whole: &str) -> String {
    let below = parts.get(OWN_PARTS..).unwrap_or_default().join("/");
    let mut clean: Vec<&str> = Vec::new();
    for part in below.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    let mut path: String = clean.iter().map(|part| format!("/{}", encoded(part))).collect();
    if whole.ends_with('/') {
        path.push('/');
    }
    path
}

/// Encodes what cannot stand in a part of a path.
fn encoded(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            b'-' | b'.' | b'_' | b'~' | b'$' | b'&' | b'+' | b':' | b'=' | b'@' | b',' | b';' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What of the request's path stands before the part that is passed on.
fn prefix(whole: &str, path: &str) -> String {
    whole.strip_suffix(path).unwrap_or(whole).to_string()
}

/// The credentials that were meant for this server.
fn forget_credentials(headers: &mut HeaderMap) {
    let impersonation: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in impersonation {
        headers.remove(name);
    }
}

fn request(
    call: &mut Call,
    before: &str,
    path: &str,
    query: &str,
) -> ApiResult<http::Request<crate::http::RequestBody>> {
    let mut headers = std::mem::take(&mut call.headers);
    forget_credentials(&mut headers);
    without_hop(&mut headers);
    headers.remove(EXPECT);
    if !headers.contains_key(HOST)
        && let Some(authority) = call.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
    let forwarded = |text: &str| HeaderValue::from_str(text).map_err(ApiError::internal);
    headers.insert("x-forwarded-uri", forwarded(&format!("{before}{path}"))?);
    if let Some(peer) = call.peer {
        let known: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let all = [known, vec![peer.0.to_string().as_str()]].concat().join(", ");
        headers.insert("x-forwarded-for", forwarded(&all)?);
    }
    let path = if path.is_empty() { "/" } else { path };
    let mut request = http::Request::new(std::mem::take(call.body.get_mut()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = format!("{path}{query}").parse().map_err(ApiError::internal)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// A redirect as the client must follow it: one that stays with the other side leads through the proxy again.
fn rewrite(location: &str, before: &str, other: &str, asked: &str) -> String {
    let (origin, host, rest) = match location.split_once("//") {
        Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (host, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (format!("{scheme}//{host}"), host, rest)
        }
        _ => (String::new(), "", location),
    };
    let elsewhere = !host.is_empty() && host != other && host != asked;
    if elsewhere || !rest.starts_with('/') {
        return location.to_string();
    }
    // Where the client named this server by itself, it can go on doing so.
    let origin = if host == asked { origin } else { String::new() };
    if rest.starts_with(before) {
        format!("{origin}{rest}")
    } else {
        format!("{origin}{before}{rest}")
    }
}

/// `name`, `name:port` or `scheme:name:port`.
struct Id<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let valid = !name.is_empty() && matches!(scheme, "" | "http" | "https");
        valid.then_some(Self { scheme, name, port })
    }

    fn trust(&self) -> Trust {
        if self.scheme == "https" {
            Trust::Anybody
        } else {
            Trust::Plain
        }
    }

    /// The port as a number, else the scheme's own.
    fn port_number(&self) -> ApiResult<u16> {
        if self.port.is_empty() {
            return Ok(if self.scheme == "https" { 443 } else { 80 });
        }
        let port = self.port.parse();
        port.map_err(|_| {
            let port = self.port;
            ApiError::unavailable(format!(
                "error trying to reach service: dial tcp: lookup tcp/{port}: unknown port"
            ))
        })
    }
}

async fn locate(call: &Call) -> ApiResult<(Endpoint, Trust)> {
    let text = call.info.path_name();
    let registry = &call.shared.registry;
    let kind = match call.info.resource.as_str() {
        "pods" => "pod",
        "services" => "service",
        _ => "node",
    };
    let id =
        Id::parse(text).ok_or_else(|| ApiError::bad_request(format!("invalid {kind} request {text:?}")))?;
    match kind {
        "pod" => of_pod(registry, &call.info.namespace, &id).await,
        "service" => of_service(registry, &call.info.namespace, text, &id).await,
        _ => of_node(registry, &id).await,
    }
}

/// Whether the server connects to an address for others: not to itself, nor to what only its own link knows.
fn is_allowed(address: &str) -> bool {
    match address.parse() {
        Ok(IpAddr::V4(four)) => {
            !(four.is_loopback()
                || four.is_unspecified()
                || four.is_broadcast()
                || four.is_multicast()
                || four.is_link_local())
        }
        Ok(IpAddr::V6(six)) => match six.to_ipv4_mapped() {
            Some(four) => is_allowed(&four.to_string()),
            None => {
                !(six.is_loopback()
                    || six.is_unspecified()
                    || six.is_multicast()
                    || six.is_unicast_link_local())
            }
        },
        Err(_) => false,
    }
}

fn not_allowed() -> ApiError {
    ApiError::bad_request("address not allowed")
}

async fn pod(registry: &Registry, namespace: &str, name: &str) -> ApiResult<Pod> {
    find(registry, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Pod>("pod"), name))
}

async fn of_pod(registry: &Registry, namespace: &str, id: &Id<'_>) -> ApiResult<(Endpoint, Trust)> {
    let pod = pod(registry, namespace, id.name).await?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let first = containers
        .filter_map(|container| container.ports.as_ref()?.first())
        .map(|port| port.container_port)
        .next();
    let port = match (id.port, first.and_then(|port| u16::try_from(port).ok())) {
        ("", Some(port)) => port,
        _ => id.port_number()?,
    };
    let host = addresses(&pod).next().unwrap_or_default().to_string();
    if !is_allowed(&host) {
        return Err(not_allowed());
    }
    Ok((Endpoint { host, port }, id.trust()))
}

fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status
        .and_then(|status| status.pod_ips.as_ref())
        .into_iter()
        .flatten();
    all.map(|address| address.ip.as_str())
}

async fn of_service(
    registry: &Registry,
    namespace: &str,
    text: &str,
    id: &Id<'_>,
) -> ApiResult<(Endpoint, Trust)> {
    let name = id.name;
    let mut port_name = id.port.to_string();
    if let Ok(number) = id.port.parse::<i64>() {
        let service: Service = find(registry, namespace, name)
            .await?
            .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Service>("service"), name))?;
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let port = ports.into_iter().find(|port| i64::from(port.port) == number);
        let why = format!("no service port {number} found for service {name:?}");
        let port = port.ok_or_else(|| ApiError::unavailable(why))?;
        port_name = port.name.unwrap_or_default();
    }
    let endpoints: Endpoints = find(registry, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Endpoints>("endpoints"), name))?;
    let none = |of: &str| ApiError::unavailable(format!("no endpoints available for service {of:?}"));
    let mut subsets = endpoints.subsets.unwrap_or_default();
    if subsets.is_empty() {
        return Err(none(name));
    }
    subsets.shuffle(&mut rand::rng());
    for subset in subsets {
        let port = subset
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
            .and_then(|port| u16::try_from(port.port).ok());
        let Some(port) = port else { continue };
        let mut candidates = subset.addresses.unwrap_or_default();
        candidates.shuffle(&mut rand::rng());
        for candidate in candidates {
            if is_a_pods(registry, namespace, &candidate).await {
                let host = candidate.ip;
                return Ok((Endpoint { host, port }, id.trust()));
            }
        }
    }
    Err(none(text))
}

/// Whether an address is what it says: anybody who may write endpoints could name any other.
async fn is_a_pods(registry: &Registry, namespace: &str, address: &EndpointAddress) -> bool {
    let Some(target) = &address.target_ref else {
        return false;
    };
    if target.namespace.as_deref() != Some(namespace) {
        return false;
    }
    let name = target.name.as_deref().unwrap_or_default();
    pod(registry, namespace, name)
        .await
        .is_ok_and(|pod| addresses(&pod).any(|its| its == address.ip))
}

async fn of_node(registry: &Registry, id: &Id<'_>) -> ApiResult<(Endpoint, Trust)> {
    let node: Node = find(registry, "", id.name)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Node>("node"), id.name))?;
    let kubelet = Endpoint::of(&node)
        .ok_or_else(|| ApiError::unclassified("no preferred addresses found; known addresses: []"))?;
    if id.port.is_empty() || id.port == kubelet.port.to_string() {
        return Ok((kubelet, Trust::Kubelet));
    }
    let host = kubelet.host;
    let resolved: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host((host.as_str(), 0))
            .await
            .map_err(|error| ApiError::bad_request(format!("lookup {host}: {error}")))?
            .map(|address| address.ip())
            .collect(),
    };
    if !resolved.iter().all(|address| is_allowed(&address.to_string())) {
        return Err(not_allowed());
    }
    let port = id.port_number()?;
    Ok((Endpoint { host, port }, id.trust()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proxied_to_is_named_in_three_forms() {
        let parse = |text| Id::parse(text).map(|id| (id.scheme, id.name, id.port));
        assert_eq!(parse("a"), Some(("", "a", "")));
        assert_eq!(parse("a:web"), Some(("", "a", "web")));
        assert_eq!(parse("https:a:443"), Some(("https", "a", "443")));
        assert_eq!(parse("https:a:"), Some(("https", "a", "")));
        for wrong in ["", ":80", "ftp:a:1", "http::1", "a:b:c:d"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_path_behind_is_passed_on_and_leads_nowhere_above() {
        let parts = |path: &str| -> Vec<String> {
            path.trim_matches('/')
                .split('/')
                .map(|part| crate::http::query::decode(part, false))
                .collect()
        };
        let cases = [
            ("/pods/p/proxy", ""),
            ("/pods/p/proxy/", "/"),
            ("/pods/p/proxy/a/b", "/a/b"),
            ("/pods/p/proxy/a/b/", "/a/b/"),
            ("/pods/p/proxy/../../x", "/x"),
            ("/pods/p/proxy/%2e%2e/x", "/x"),
            ("/pods/p/proxy/a%2Fb//c%20d%3F", "/a/b/c%20d%3F"),
        ];
        for (whole, expected) in cases {
            assert_eq!(passed_on(&parts(whole), whole), expected, "{whole}");
        }
    }

    #[test]
    fn redirects_lead_through_the_proxy() {
        let before = "/api/v1/namespaces/n/pods/p/proxy";
        let cases = [
            ("/login?x=1", "/api/v1/namespaces/n/pods/p/proxy/login?x=1"),
            (
                "http://10.0.0.1:80/login",
                "/api/v1/namespaces/n/pods/p/proxy/login",
            ),
            (
                "https://server:6443/login",
                "https://server:6443/api/v1/namespaces/n/pods/p/proxy/login",
            ),
            (
                "/api/v1/namespaces/n/pods/p/proxy/there",
                "/api/v1/namespaces/n/pods/p/proxy/there",
            ),
            ("http://elsewhere/x", "http://elsewhere/x"),
            ("login", "login"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
        ];
        for (location, expected) in cases {
            assert_eq!(
                rewrite(location, before, "10.0.0.1:80", "server:6443"),
                expected,
                "{location}"
            );
        }
    }

    #[test]
    fn the_server_does_not_connect_to_itself_for_others() {
        for address in ["10.0.0.1", "192.0.2.1", "fd00::1"] {
            assert!(is_allowed(address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "",
            "name",
        ] {
            assert!(!is_allowed(address), "{address}");
        }
    }
}
