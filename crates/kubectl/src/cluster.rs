//! The cluster that commands talk to: the kubeconfig, and plain requests with the server's refusals as failures.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::Value;

use crate::Global;
use crate::failure::Failure;
use crate::fields::text;

/// What `Accept` says for plain objects.
pub(crate) const JSON: &str = "application/json";
/// What `Accept` says for tables, with plain objects where a server has none.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// How many objects a request asks for.
pub(crate) const CHUNK: &str = "500";

/// The cluster of the current context.
pub(crate) struct Cluster {
    client: Client,
    /// The server's URL.
    pub(crate) url: String,
    /// The namespace of the flag, else of the context, else `default`.
    pub(crate) namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is sent yet.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let config = match kubeconfig(global)? {
            Some(kubeconfig) => in_context(kubeconfig, global).await?,
            None => outside_of_any_file()?,
        };
        let url = config.cluster_url.to_string().trim_end_matches('/').to_string();
        let namespace = global
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self {
            client,
            url,
            namespace,
        })
    }

    /// GET, as JSON.
    pub(crate) async fn get(&self, path: &str, accept: &str) -> Result<Value, Failure> {
        let response = self.send(Method::GET, path, accept, None).await?;
        read_json(response).await
    }

    /// The items of a collection, in as many requests as it takes.
    pub(crate) async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let mut pairs = query.to_vec();
            pairs.extend([("limit", CHUNK), ("continue", token.as_str())]);
            let page = self.get(&with_query(path, &pairs), JSON).await?;
            token = text(&page, "/metadata/continue").to_string();
            items.extend(members(page));
            if token.is_empty() {
                return Ok(items);
            }
        }
    }

    /// A request with a JSON body, answered in JSON.
    pub(crate) async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write_as(method, path, JSON, body).await
    }

    /// A request with a body of another content type than JSON's (the patches).
    pub(crate) async fn write_as(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let bytes = serde_json::to_vec(body).map_err(|error| Failure::usage(error.to_string()))?;
        let response = self.send(method, path, JSON, Some((content_type, bytes))).await?;
        read_json(response).await
    }

    /// GET, as it comes.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Chunks, Failure> {
        let response = self.send(Method::GET, path, accept, None).await?;
        Ok(Chunks {
            body: response.into_body(),
            rest: Vec::new(),
        })
    }

    /// The server's host and port.
    fn address(&self) -> &str {
        let behind = self
            .url
            .split_once("://")
            .map_or(self.url.as_str(), |(_, behind)| behind);
        behind.split('/').next().unwrap_or(behind)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept);
        let mut bytes = Vec::new();
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type);
            bytes = body;
        }
        let request = request
            .body(Body::from(bytes))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| match is_refused(&error) {
                true => Failure::Refused(self.address().to_string()),
                false => unreachable(error),
            })?;
        for warning in response.headers().get_all("warning") {
            warn(warning.to_str().unwrap_or_default());
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(unreachable)?
            .to_bytes();
        Err(Failure::Server(Box::new(status(code, &body))))
    }
}

/// The kubeconfig of the flag, else those of `$KUBECONFIG` and `~/.kube/config`; `None` when there is none.
fn kubeconfig(global: &Global) -> Result<Option<Kubeconfig>, Failure> {
    let read = match &global.kubeconfig {
        Some(path) => {
            if let Err(error) = std::fs::metadata(path)
                && error.kind() == std::io::ErrorKind::NotFound
            {
                let path = path.display();
                return Err(Failure::usage(format!("stat {path}: no such file or directory")));
            }
            Kubeconfig::read_from(path)
        }
        None => Kubeconfig::read(),
    };
    match read {
        Ok(kubeconfig) => Ok(Some(kubeconfig)),
        Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(KubeconfigError::FindPath) => Ok(None),
        Err(error) => Err(Failure::usage(format!(
            "error loading config file: {}",
            innermost(&error)
        ))),
    }
}

async fn in_context(kubeconfig: Kubeconfig, global: &Global) -> Result<Config, Failure> {
    if let Some(context) = &global.context
        && !kubeconfig.contexts.iter().any(|named| named.name == *context)
    {
        return Err(Failure::Plain(format!(
            "Error in configuration: context was not found for specified context: {context}"
        )));
    }
    if global.context.is_none()
        && kubeconfig
            .current_context
            .as_deref()
            .unwrap_or_default()
            .is_empty()
    {
        return outside_of_any_file();
    }
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| Failure::usage(innermost(&error)))
}

/// Inside a pod, the cluster that it belongs to; elsewhere the address that kubectl falls back on.
fn outside_of_any_file() -> Result<Config, Failure> {
    match Config::incluster() {
        Ok(config) => Ok(config),
        Err(_) => Ok(Config::new(Uri::from_static("http://localhost:8080"))),
    }
}

/// The innermost cause, which is the one that says something: a refused connection, an unknown authority.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn unreachable(error: kube::Error) -> Failure {
    Failure::Unreachable(innermost(&error))
}

/// Whether nobody listens where the server should.
fn is_refused(error: &kube::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The server's refusal; one that is no `Status` becomes one.
fn status(code: StatusCode, body: &Bytes) -> Status {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if status.message.is_some() => status,
        _ => Status {
            code: Some(code.as_u16().into()),
            message: Some(String::from_utf8_lossy(body).trim().to_string()),
            reason: code.canonical_reason().map(|reason| reason.replace(' ', "")),
            ..Status::default()
        },
    }
}

/// `299 - "text"` as kubectl shows it: `Warning: text`.
fn warn(header: &str) {
    let Some((_, rest)) = header.split_once('"') else {
        return;
    };
    let text = rest.strip_suffix('"').unwrap_or(rest);
    crate::output::error(&format!(
        "Warning: {}",
        text.replace("\\\"", "\"").replace("\\\\", "\\")
    ));
}

async fn read_json(response: Response<Body>) -> Result<Value, Failure> {
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(unreachable)?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| Failure::usage(format!("the server's answer: {error}")))
}

/// A body as it comes.
pub(crate) struct Chunks {
    body: Body,
    rest: Vec<u8>,
}

impl Chunks {
    /// The next part; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next line, as JSON; `None` at the end.
    pub(crate) async fn next_json(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| Failure::usage(format!("the server's watch: {error}")));
            }
            match self.next().await? {
                Some(bytes) => self.rest.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// The items of a list, or the object itself. An item says no kind of its own: its list does.
pub(crate) fn members(mut page: Value) -> Vec<Value> {
    let Some(Value::Array(mut items)) = page.get_mut("items").map(Value::take) else {
        return vec![page];
    };
    let kind = text(&page, "/kind");
    let kind = kind.strip_suffix("List").unwrap_or(kind);
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("apiVersion")
            .or_insert_with(|| text(&page, "/apiVersion").into());
        item.entry("kind").or_insert_with(|| kind.into());
    }
    items
}

/// A path with a query of these pairs; empty values are left out.
pub(crate) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let query: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    if query.is_empty() {
        path.to_string()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

/// A query value, percent-encoded.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_are_of_the_kind_of_their_list() {
        let page = json!({"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {}}]});
        assert_eq!(
            members(page),
            [json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}})]
        );
        let object = json!({"kind": "Pod"});
        assert_eq!(members(object.clone()), [object]);
    }

    #[test]
    fn queries_are_escaped_and_empty_values_left_out() {
        let path = with_query(
            "/api/v1/pods",
            &[("labelSelector", "a in (b,c),!d"), ("fieldSelector", "")],
        );
        assert_eq!(path, "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29%2C%21d");
        assert_eq!(with_query("/x", &[]), "/x");
    }
}
