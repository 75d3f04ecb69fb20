//! The server's TLS: its certificate, and the clients' if they have one.

use std::sync::Arc;

use rustls::ServerConfig as TlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::KubeletError;
use crate::config::ServerConfig;

/// Asks clients for a certificate; one without gets no further than the health check.
pub(crate) fn acceptor(config: &ServerConfig) -> Result<TlsAcceptor, KubeletError> {
    let bad = |what: &str, error: &dyn std::fmt::Display| KubeletError::Server(format!("{what}: {error}"));
    let chain = CertificateDer::pem_slice_iter(config.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad("certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(config.key_pem.as_bytes()).map_err(|error| bad("key", &error))?;
    let roots =
        skiff_tls::roots(config.client_ca_pem.as_bytes()).map_err(|error| bad("client CA", &error))?;
    let provider = skiff_tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad("client CA", &error))?;
    let mut tls = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("TLS", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| bad("certificate", &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
