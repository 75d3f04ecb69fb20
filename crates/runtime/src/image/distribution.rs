//! The OCI distribution protocol: asking registries and their mirrors for manifests and blobs.
//!
//! Spoken directly rather than through a library: a mirror has a path of its own, rewritten names, another client
//! certificate or no TLS at all, and errors must read as those that users of Kubernetes know from containerd.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, RANGE, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::auth::{Challenge, basic_header, challenges, token_url};
use super::digest::Digest;
use super::error::innermost;
use super::manifest::{self, Descriptor};
use super::reference::{Reference, Version};
use super::registries::Endpoint;
use super::transport::Transports;
use super::{Auth, ImageError};

/// The largest manifest or configuration that is read.
pub(crate) const DOCUMENT_LIMIT: u64 = 8 << 20;
/// How often a download that breaks off is taken up again where it ended.
const RESUMPTIONS: usize = 3;

/// One repository, at all servers that may have it.
pub(crate) struct Remote {
    reference: Reference,
    endpoints: Vec<Endpoint>,
    auth: Option<Auth>,
    transports: Arc<Transports>,
    /// What an endpoint wants to see, once it has said so.
    authorizations: Mutex<HashMap<String, String>>,
    /// The endpoint that knew the name; it is asked first for the rest.
    preferred: AtomicUsize,
}

/// How much an error tells about why no endpoint had the content; containerd ranks them so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Unreachable,
    NotFound,
    Refused,
}

impl Remote {
    pub(crate) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        auth: Option<Auth>,
        transports: Arc<Transports>,
    ) -> Self {
        Self {
            reference,
            endpoints,
            auth,
            transports,
            authorizations: Mutex::default(),
            preferred: AtomicUsize::new(0),
        }
    }

    /// The digest that the reference stands for now.
    pub(crate) async fn resolve(&self) -> Result<Digest, ImageError> {
        let path = format!("manifests/{}", self.reference.version_text());
        let missing = || ImageError::NotFound(self.reference.to_string());
        let response = self.first(&Method::HEAD, &path, &missing).await?;
        if let Version::Digest(digest) = &self.reference.version {
            return Ok(digest.clone());
        }
        let stated = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok());
        if let Some(digest) = stated.and_then(|text| Digest::parse(text).ok()) {
            return Ok(digest);
        }
        // The header is optional; the content has the same digest.
        let response = self.first(&Method::GET, &path, &missing).await?;
        Ok(Digest::of(&read_document(response).await?))
    }

    /// A manifest or index, verified.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = format!("manifests/{digest}");
        let missing = || ImageError::NotFound(format!("content at {path}"));
        let bytes = read_document(self.first(&Method::GET, &path, &missing).await?).await?;
        digest.verify(&bytes)?;
        Ok(bytes)
    }

    /// A small blob, verified.
    pub(crate) async fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let path = format!("blobs/{}", descriptor.digest);
        let missing = || ImageError::NotFound(format!("content at {path}"));
        let bytes = read_document(self.first(&Method::GET, &path, &missing).await?).await?;
        descriptor.digest.verify(&bytes)?;
        Ok(bytes)
    }

    /// Sends a blob's bytes to `to`, and takes a broken download up again. The receiver verifies.
    ///
    /// Ends without an error when the receiver has gone: it knows why.
    pub(crate) async fn blob(&self, blob: &Descriptor, to: mpsc::Sender<Bytes>) -> Result<(), ImageError> {
        let path = format!("blobs/{}", blob.digest);
        let missing = || ImageError::NotFound(format!("content at {path}"));
        let mut received: u64 = 0;
        let mut resumptions = 0;
        loop {
            let response = self.first_from(&Method::GET, &path, received, &missing).await?;
            let url = response.url().to_string();
            // A server that does not know ranges begins anew; what is already here is passed over.
            let mut pass_over = if response.status() == StatusCode::PARTIAL_CONTENT {
                0
            } else {
                received
            };
            let before = received;
            let mut body = response.bytes_stream();
            let broken = loop {
                match body.next().await {
                    None if received < blob.size => break "unexpected EOF".to_owned(),
                    None => return Ok(()),
                    Some(Err(error)) => break reason(&error),
                    Some(Ok(mut chunk)) => {
                        let passed = usize::try_from(pass_over).unwrap_or(usize::MAX).min(chunk.len());
                        pass_over -= passed as u64;
                        let chunk = chunk.split_off(passed);
                        received += chunk.len() as u64;
                        if received > blob.size {
                            let size = blob.size;
                            return Err(ImageError::Content(format!(
                                "failed size validation: {received} != {size}: failed precondition"
                            )));
                        }
                        if to.send(chunk).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            };
            resumptions += 1;
            if resumptions > RESUMPTIONS || received == before {
                return Err(ImageError::Request {
                    method: "Get",
                    url,
                    reason: broken,
                });
            }
            tracing::debug!(%url, received, reason = broken, "download broke off, resuming");
        }
    }

    async fn first(
        &self,
        method: &Method,
        path: &str,
        missing: &(dyn Fn() -> ImageError + Send + Sync),
    ) -> Result<Response, ImageError> {
        self.first_from(method, path, 0, missing).await
    }

    /// The first endpoint's answer that is a success, else the error that tells most.
    async fn first_from(
        &self,
        method: &Method,
        path: &str,
        offset: u64,
        missing: &(dyn Fn() -> ImageError + Send + Sync),
    ) -> Result<Response, ImageError> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let order = std::iter::once(preferred).chain((0..self.endpoints.len()).filter(|n| *n != preferred));
        let mut worst: Option<(Rank, ImageError)> = None;
        for number in order {
            let Some(endpoint) = self.endpoints.get(number) else {
                continue;
            };
            let (rank, error) = match self.ask(endpoint, method, path, offset).await {
                Ok(response) if response.status().is_success() => {
                    self.preferred.store(number, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(response) if response.status() == StatusCode::NOT_FOUND => (Rank::NotFound, missing()),
                Ok(response) => {
                    let status = response.status();
                    let text = status.canonical_reason().unwrap_or_default();
                    let (method, url) = (upper(method), response.url().to_string());
                    let status = format!("{} {text}", status.as_u16());
                    (Rank::Refused, ImageError::Status { method, url, status })
                }
                Err(error) => (Rank::Unreachable, error),
            };
            tracing::debug!(host = endpoint.host, path, %error, "trying the next endpoint");
            if worst.as_ref().is_none_or(|(known, _)| *known < rank) {
                worst = Some((rank, error));
            }
        }
        Err(worst.map_or_else(missing, |(_, error)| error))
    }

    /// Asks one endpoint, and does what it wants to see for authorization.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        path: &str,
        offset: u64,
    ) -> Result<Response, ImageError> {
        let client = self.transports.get(endpoint)?;
        let text = format!("{}/{}/{path}", endpoint.base, endpoint.repository);
        let mut url = Url::parse(&text).map_err(|error| ImageError::Content(format!("{text}: {error}")))?;
        if let Some(registry) = &endpoint.mirror_of {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        let mut fresh = false;
        let mut known = self.authorizations.lock().get(&endpoint.base).cloned();
        loop {
            let mut request = client
                .request(method.clone(), url.clone())
                .header(ACCEPT, manifest::ACCEPT);
            if let Some(authorization) = &known {
                request = request.header(AUTHORIZATION, authorization);
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            let response = request
                .send()
                .await
                .map_err(|error| failed(method, &url, &error))?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            // A token may have expired, so a known one may be replaced; a new one that is refused is a final answer.
            if std::mem::replace(&mut fresh, true) {
                return Err(ImageError::Denied("authorization failed".to_owned()));
            }
            let authorization = self.authorize(endpoint, &client, response.headers()).await?;
            self.authorizations
                .lock()
                .insert(endpoint.base.clone(), authorization.clone());
            known = Some(authorization);
        }
    }

    /// What to send to an endpoint that answered with a challenge.
    async fn authorize(
        &self,
        endpoint: &Endpoint,
        client: &reqwest::Client,
        headers: &HeaderMap,
    ) -> Result<String, ImageError> {
        let given = self
            .auth
            .as_ref()
            .filter(|auth| auth.is_for(endpoint))
            .or(endpoint.auth.as_ref());
        if let Some(token) = given
            .map(|auth| &auth.registry_token)
            .filter(|token| !token.is_empty())
        {
            return Ok(format!("Bearer {token}"));
        }
        let user = given.map(Auth::basic).transpose()?.flatten();
        let all: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenges)
            .collect();
        if let Some(challenge) = all.iter().find(|challenge| challenge.scheme == "bearer") {
            let identity = given
                .map(|auth| auth.identity_token.as_str())
                .filter(|token| !token.is_empty());
            let url = token_url(challenge, &endpoint.repository)?;
            return fetch_token(client, url, user.as_ref(), identity).await;
        }
        if all.iter().any(|challenge| challenge.scheme == "basic") {
            return user.as_ref().map(basic_header).ok_or_else(|| {
                ImageError::Denied("authorization failed: no basic auth credentials".to_owned())
            });
        }
        Err(ImageError::Denied("authorization failed".to_owned()))
    }
}

/// Asks a token service: as a user, with a refresh token, or as nobody.
async fn fetch_token(
    client: &reqwest::Client,
    url: Url,
    user: Option<&(String, String)>,
    identity: Option<&str>,
) -> Result<String, ImageError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let (method, request) = match identity {
        Some(identity) => {
            // The form is encoded as a query is.
            let mut form = url.clone();
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", identity)
                .append_pair("client_id", "skiff");
            let mut bare = url.clone();
            bare.set_query(None);
            let request = client
                .post(bare)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned());
            (Method::POST, request)
        }
        None => {
            let request = client.get(url.clone());
            let request = match user {
                Some(user) => request.header(AUTHORIZATION, basic_header(user)),
                None => request,
            };
            (Method::GET, request)
        }
    };
    let response = request
        .send()
        .await
        .map_err(|error| failed(&method, &url, &error))?;
    let status = response.status();
    if !status.is_success() {
        let text = status.canonical_reason().unwrap_or_default();
        return Err(ImageError::Denied(format!(
            "authorization failed: failed to fetch oauth token: unexpected status from {} request to {url}: {} {text}",
            upper(&method),
            status.as_u16(),
        )));
    }
    let invalid = || ImageError::Denied(format!("authorization failed: invalid token response from {url}"));
    let answer: Answer = serde_json::from_slice(&read_document(response).await?).map_err(|_| invalid())?;
    match (answer.token.as_str(), answer.access_token.as_str()) {
        ("", "") => Err(invalid()),
        ("", token) | (token, _) => Ok(format!("Bearer {token}")),
    }
}

/// Reads a body that is meant to be small.
async fn read_document(response: Response) -> Result<Vec<u8>, ImageError> {
    let url = response.url().to_string();
    let mut bytes = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| ImageError::Request {
            method: "Get",
            url: url.clone(),
            reason: reason(&error),
        })?;
        if (bytes.len() + chunk.len()) as u64 > DOCUMENT_LIMIT {
            return Err(ImageError::Content(format!(
                "{url}: larger than {DOCUMENT_LIMIT} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn upper(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        _ => "GET",
    }
}

/// A request that got no answer, told as Go's HTTP client does.
fn failed(method: &Method, url: &Url, error: &reqwest::Error) -> ImageError {
    let method = match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        _ => "Get",
    };
    let reason = if error.is_connect() || error.is_timeout() {
        let host = url.host_str().unwrap_or_default();
        connect_reason(
            host,
            url.port_or_known_default().unwrap_or_default(),
            &reason(error),
        )
    } else {
        reason(error)
    };
    ImageError::Request {
        method,
        url: url.to_string(),
        reason,
    }
}

fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "i/o timeout".to_owned()
    } else {
        innermost(error)
    }
}

fn connect_reason(host: &str, port: u16, inner: &str) -> String {
    if let Some(lookup) = inner.strip_prefix("failed to lookup address information: ") {
        return format!("dial tcp: lookup {host}: {lookup}");
    }
    if inner.contains("certificate") {
        return format!("tls: failed to verify certificate: {inner}");
    }
    if inner.contains("corrupt message") || inner.contains("InvalidContentType") {
        return "http: server gave HTTP response to HTTPS client".to_owned();
    }
    match inner {
        "i/o timeout" => format!("dial tcp {host}:{port}: i/o timeout"),
        other => format!("dial tcp {host}:{port}: connect: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_fails_is_told_as_go_does() {
        let cases = [
            ("connection refused", "dial tcp h:1: connect: connection refused"),
            ("i/o timeout", "dial tcp h:1: i/o timeout"),
            (
                "failed to lookup address information: Name or service not known",
                "dial tcp: lookup h: Name or service not known",
            ),
            (
                "invalid peer certificate: UnknownIssuer",
                "tls: failed to verify certificate: invalid peer certificate: UnknownIssuer",
            ),
            (
                "received corrupt message of type InvalidContentType",
                "http: server gave HTTP response to HTTPS client",
            ),
        ];
        for (inner, wanted) in cases {
            assert_eq!(connect_reason("h", 1, inner), wanted);
        }
    }
}
