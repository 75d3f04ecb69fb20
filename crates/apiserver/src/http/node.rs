//! The way to a node: HTTPS to its kubelet with the server's own certificate, HTTP to what else it runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::KubeletClient;
use crate::http::BoxError;

/// Where a node's kubelet listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The port of a kubelet whose node does not say.
const DEFAULT_PORT: u16 = 10250;

impl Endpoint {
    /// The endpoint that a node's status names; `None` when it has no address.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let status = node.status.as_ref()?;
        let addresses = status.addresses.as_ref()?;
        let address = ["InternalIP", "Hostname", "ExternalIP"]
            .iter()
            .find_map(|type_| addresses.iter().find(|address| address.type_ == *type_))?;
        let port = status
            .daemon_endpoints
            .as_ref()
            .and_then(|endpoints| endpoints.kubelet_endpoint.as_ref())
            .and_then(|endpoint| u16::try_from(endpoint.port).ok())
            .filter(|port| *port != 0);
        Some(Self {
            host: address.address.clone(),
            port: port.unwrap_or(DEFAULT_PORT),
        })
    }

    /// `host:port`, with an IPv6 address in brackets.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("dial tcp {0}: {1}")]
    Connect(String, String),
    #[error("tls: {0}")]
    Tls(String),
    #[error("{0}")]
    Http(String),
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Not at all.
    Plain,
    /// TLS with the server's own certificate, to a kubelet that shows one of its authority.
    Kubelet,
    /// The same, whatever the kubelet shows (`insecureSkipTLSVerifyBackend`).
    AnyKubelet,
    /// TLS, whatever the other side shows: what pods and services serve is signed by anybody.
    Anybody,
}

/// How long a connection may take to be made (Go's default for what upstream dials).
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes connections to kubelets, and to what runs on nodes.
#[derive(Clone)]
pub(crate) struct NodeClient {
    kubelet: TlsConnector,
    any_kubelet: TlsConnector,
    anybody: TlsConnector,
}

impl NodeClient {
    /// A client with this identity.
    pub(crate) fn new(settings: &KubeletClient) -> Result<Self, String> {
        let text = |error: rustls::pki_types::pem::Error| error.to_string();
        let broken = |error: rustls::Error| error.to_string();
        let roots = skiff_tls::roots(&settings.ca_pem).map_err(|error| error.to_string())?;
        let chain = CertificateDer::pem_slice_iter(&settings.certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(text)?;
        let key = PrivateKeyDer::from_pem_slice(&settings.key_pem).map_err(text)?;
        let with_identity = |builder: ConfigBuilder<ClientConfig, WantsClientCert>| {
            builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(broken)
        };
        let known = skiff_tls::client().map_err(broken)?;
        let kubelet = with_identity(known.with_root_certificates(roots))?;
        let any_kubelet = with_identity(skiff_tls::trusting_client().map_err(broken)?)?;
        let anybody = skiff_tls::trusting_client()
            .map_err(broken)?
            .with_no_client_auth();
        let connector = |config| TlsConnector::from(Arc::new(config));
        Ok(Self {
            kubelet: connector(kubelet),
            any_kubelet: connector(any_kubelet),
            anybody: connector(anybody),
        })
    }

    /// Sends a request over a connection of its own, which lasts as long as the response's body is read, and may be
    /// upgraded. A `Host` that the request does not have is the endpoint's.
    pub(crate) async fn send<B>(
        &self,
        endpoint: &Endpoint,
        trust: Trust,
        request: Request<B>,
    ) -> Result<Response<Incoming>, NodeError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let authority = endpoint.authority();
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let stream = match tokio::time::timeout(PATIENCE, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(NodeError::Connect(authority, told(&error))),
            Err(_) => return Err(NodeError::Connect(authority, "i/o timeout".into())),
        };
        let _ = stream.set_nodelay(true);
        let connector = match trust {
            Trust::Plain => return exchange(stream, &authority, request).await,
            Trust::Kubelet => &self.kubelet,
            Trust::AnyKubelet => &self.any_kubelet,
            Trust::Anybody => &self.anybody,
        };
        let name =
            ServerName::try_from(endpoint.host.clone()).map_err(|error| NodeError::Tls(error.to_string()))?;
        let stream = match tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(NodeError::Tls(error.to_string())),
            Err(_) => return Err(NodeError::Http("net/http: TLS handshake timeout".into())),
        };
        exchange(stream, &authority, request).await
    }
}

/// A failed connection in Go's words.
fn told(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        ErrorKind::HostUnreachable => "connect: no route to host".into(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}

async fn exchange<S, B>(
    stream: S,
    authority: &str,
    mut request: Request<B>,
) -> Result<Response<Incoming>, NodeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let http = |error: &dyn std::fmt::Display| NodeError::Http(error.to_string());
    let body = |error: B::Error| -> BoxError { error.into() };
    let host = HeaderValue::from_str(authority).map_err(|error| http(&error))?;
    request.headers_mut().entry(HOST).or_insert(host);
    let request = request.map(|its| its.map_err(body).boxed_unsync());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http(&error))?;
    // Ends when the response has been read or dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node");
        }
    });
    sender.send_request(request).await.map_err(|error| http(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{DaemonEndpoint, NodeAddress, NodeDaemonEndpoints, NodeStatus};

    #[test]
    fn a_node_says_where_its_kubelet_is() {
        let address = |type_: &str, address: &str| NodeAddress {
            type_: type_.into(),
            address: address.into(),
        };
        let mut node = Node {
            status: Some(NodeStatus {
                addresses: Some(vec![address("Hostname", "n1"), address("InternalIP", "10.0.0.1")]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        assert_eq!(Endpoint::of(&node).unwrap().authority(), "10.0.0.1:10250");
        node.status.as_mut().unwrap().daemon_endpoints = Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: 999 }),
        });
        node.status.as_mut().unwrap().addresses = Some(vec![address("Hostname", "n1")]);
        assert_eq!(Endpoint::of(&node).unwrap().authority(), "n1:999");
        assert_eq!(Endpoint::of(&Node::default()), None);
    }
}
