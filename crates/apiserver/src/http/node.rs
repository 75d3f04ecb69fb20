//! The way to a node: HTTPS to its kubelet with the server's own certificate.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::KubeletClient;

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

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("dial tcp {0}: connect: {1}")]
    Connect(String, String),
    #[error("tls: {0}")]
    Tls(String),
    #[error("{0}")]
    Http(String),
}

/// Makes connections to kubelets.
#[derive(Clone)]
pub(crate) struct NodeClient {
    connector: TlsConnector,
}

impl NodeClient {
    /// A client with this identity.
    pub(crate) fn new(settings: &KubeletClient) -> Result<Self, String> {
        let text = |error: rustls::pki_types::pem::Error| error.to_string();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&settings.ca_pem) {
            roots
                .add(certificate.map_err(text)?)
                .map_err(|error| error.to_string())?;
        }
        let chain = CertificateDer::pem_slice_iter(&settings.certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(text)?;
        let key = PrivateKeyDer::from_pem_slice(&settings.key_pem).map_err(text)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Sends a GET over a connection of its own, which lasts as long as the response's body is read.
    pub(crate) async fn get(
        &self,
        endpoint: &Endpoint,
        path_and_query: &str,
    ) -> Result<Response<Incoming>, NodeError> {
        let request = Request::get(path_and_query)
            .body(Empty::new())
            .map_err(|error| NodeError::Http(error.to_string()))?;
        self.send(endpoint, request).await
    }

    /// Sends a request over a connection of its own, which may be upgraded.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, NodeError> {
        let authority = endpoint.authority();
        let connect = |error: std::io::Error| {
            let text = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
                _ => error.to_string(),
            };
            NodeError::Connect(authority.clone(), text)
        };
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(connect)?;
        let name =
            ServerName::try_from(endpoint.host.clone()).map_err(|error| NodeError::Tls(error.to_string()))?;
        let stream = self
            .connector
            .connect(name, stream)
            .await
            .map_err(|error| NodeError::Tls(error.to_string()))?;
        let http = |error: &dyn std::fmt::Display| NodeError::Http(error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| http(&error))?;
        // Ends when the response has been read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a kubelet");
            }
        });
        let host = http::HeaderValue::from_str(&endpoint.authority()).map_err(|error| http(&error))?;
        request.headers_mut().insert(http::header::HOST, host);
        sender.send_request(request).await.map_err(|error| http(&error))
    }
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
