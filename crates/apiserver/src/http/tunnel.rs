//! `pods/exec`, `pods/attach` and `pods/portforward`: an upgraded connection, tunnelled to the pod's node byte for byte.

use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_api::{KindInfo, Subresource};

use crate::auth::authorize::{Attributes, Authorizer, Decision, forbidden};
use crate::error::{ApiError, ApiResult};
use crate::http::Response;
use crate::http::logs::{container, escape};
use crate::http::node::{Endpoint, Trust};
use crate::http::query::Query;
use crate::http::relay::{self, is_upgrade};
use crate::http::resources::Call;
use crate::objects::find;

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
    if !is_upgrade(&call.headers) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    relay::upgraded(&call, &endpoint, Trust::Kubelet, &path).await
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
            // None is on unless said so, whatever the documentation of attach says: what a client has no stream for it
            // leaves away.
            if query.flag(asked) {
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
                "container=c&stdin=true&stdout=true&tty=true",
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
}
