//! `pods/exec`, `pods/attach` and `pods/portforward`: an upgraded connection, tunnelled to the pod's node byte for byte.

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_api::{KindInfo, Subresource};
use tokio_util::sync::CancellationToken;

use crate::auth::authorize::{Attributes, Authorizer, Decision, forbidden};
use crate::error::{ApiError, ApiResult};
use crate::http::logs::{container, escape};
use crate::http::node::Endpoint;
use crate::http::query::Query;
use crate::http::resources::Call;
use crate::http::{Response, ResponseBody};
use crate::objects::find;

/// As much of a node's refusal as is passed on, in bytes.
const LONGEST_REFUSAL: usize = 1 << 20;

/// Connects the client with its pod's node.
pub(crate) async fn handle(call: Call, subresource: Subresource) -> ApiResult<Response> {
    permit(&call).await?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.path_name());
    let registry = &call.shared.registry;
    let pod: Pod = find(registry, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Pod>("pod"), name))?;
    let path = path(&call.query, &pod, namespace, name, subresource)?;
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let endpoint = find::<Node>(registry, "", node)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Node>("node"), node))
        .map(|node| Endpoint::of(&node))?
        .ok_or_else(|| ApiError::internal("no preferred addresses found; known addresses: []"))?;
    let upgrade = call.upgrade.lock().take();
    let Some(client) = upgrade.filter(|_| is_upgrade(&call.headers)) else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    let mut request = http::Request::new(http_body_util::Empty::new());
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = path.parse().map_err(ApiError::internal)?;
    *request.headers_mut() = call.headers.clone();
    request.headers_mut().remove(HOST);
    let answer = call.shared.nodes.send(&endpoint, request).await;
    let mut answer = answer.map_err(|error| {
        let mut error = ApiError::internal(format!("error dialing backend: {error}"));
        error.0.message = error
            .0
            .message
            .map(|text| text.trim_start_matches("Internal error occurred: ").to_owned());
        error.0.reason = None;
        error
    })?;
    let accepted = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let body = if accepted {
        let node = hyper::upgrade::on(&mut answer);
        tokio::spawn(relay(client, node, call.shared.shutdown.clone()));
        bytes::Bytes::new()
    } else {
        let body = Limited::new(answer.body_mut(), LONGEST_REFUSAL).collect().await;
        body.map(|body| body.to_bytes()).unwrap_or_default()
    };
    let mut response = http::Response::new(ResponseBody::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    if !accepted {
        // They were about the connection to the node and the body as it came from there.
        for header in [
            CONNECTION,
            http::header::TRANSFER_ENCODING,
            http::header::CONTENT_LENGTH,
        ] {
            response.headers_mut().remove(header);
        }
    }
    Ok(response)
}

/// A WebSocket begins with a GET; who may only `get` shall not be able to run commands for that.
async fn permit(call: &Call) -> ApiResult<()> {
    if call.info.verb == "create" {
        return Ok(());
    }
    let mut attributes = Attributes::of(&call.user, &call.info);
    attributes.verb = "create";
    match call.shared.authorizer.authorize(&attributes).await {
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&attributes, &reason)),
        _ => Ok(()),
    }
}

/// Whether a client wants to go on in another protocol.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut tokens = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    headers.contains_key(UPGRADE) && tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// The kubelet's path and query for a request.
fn path(
    query: &Query,
    pod: &Pod,
    namespace: &str,
    name: &str,
    subresource: Subresource,
) -> ApiResult<String> {
    let mut pairs = Vec::new();
    let kind = match subresource {
        Subresource::PortForward => {
            pairs.extend(query.all("ports").map(|port| ("port", port)));
            "portForward"
        }
        Subresource::Attach => "attach",
        _ => {
            pairs.extend(query.all("command").map(|part| ("command", part)));
            "exec"
        }
    };
    let mut path = format!("/{kind}/{}/{}", escape(namespace), escape(name));
    if subresource != Subresource::PortForward {
        let container = container(pod, query.get("container").unwrap_or_default())?;
        path.push('/');
        path.push_str(&escape(&container));
        for (asked, passed_on) in [
            ("stdin", "input"),
            ("stdout", "output"),
            ("stderr", "error"),
            ("tty", "tty"),
        ] {
            // Only these two are on unless said otherwise.
            let default = kind == "attach" && matches!(asked, "stdout" | "stderr");
            if query.optional_flag(asked).unwrap_or(default) {
                pairs.push((passed_on, "1"));
            }
        }
    }
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    if !pairs.is_empty() {
        path.push('?');
        path.push_str(&pairs.join("&"));
    }
    Ok(path)
}

async fn relay(client: OnUpgrade, node: OnUpgrade, shutdown: CancellationToken) {
    match tokio::try_join!(client, node) {
        Ok((client, node)) => tokio::select! {
            () = copy(client, node) => {}
            () = shutdown.cancelled() => {}
        },
        Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
    }
}

/// Copies both ways until one side has ended: neither WebSocket nor SPDY knows a connection that is half open.
async fn copy(client: Upgraded, node: Upgraded) {
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_node, mut to_node) = tokio::io::split(TokioIo::new(node));
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_node) => ended,
        ended = tokio::io::copy(&mut from_node, &mut to_client) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnel broke");
    }
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut to_client).await;
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut to_node).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kubelet_is_asked_in_its_own_words() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c" }] }
        }))
        .unwrap();
        let cases = [
            (
                Subresource::Exec,
                "command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=true&tty=false",
                "/exec/ns/p/c?command=sh&command=-c&command=echo%20a%26b&input=1&output=1",
            ),
            (
                Subresource::Attach,
                "container=c&stdin=true&tty=true&stderr=false",
                "/attach/ns/p/c?input=1&output=1&tty=1",
            ),
            (Subresource::PortForward, "", "/portForward/ns/p"),
            (Subresource::PortForward, "ports=80", "/portForward/ns/p?port=80"),
        ];
        for (subresource, query, expected) in cases {
            let asked = path(&Query::parse(Some(query)), &pod, "ns", "p", subresource).unwrap();
            assert_eq!(asked, expected);
        }
        let nobody = Query::parse(Some("container=nobody"));
        let error = path(&nobody, &pod, "ns", "p", Subresource::Exec).unwrap_err();
        assert_eq!(
            error.0.message.as_deref(),
            Some("container nobody is not valid for pod p")
        );
    }

    #[test]
    fn an_upgrade_is_asked_for_in_two_headers() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect()
        };
        assert!(is_upgrade(&headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "SPDY/3.1")
        ])));
        assert!(!is_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!is_upgrade(&headers(&[("connection", "upgrade")])));
    }
}
