//! What the TLS of every part is made of: one cryptography, roots, and clients that ask whoever is there.
//!
//! The cryptography is named here and nowhere taken from the process' default, which a library must not count on.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};

/// Why certificates cannot be trusted as roots.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The text is no PEM.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// A certificate is none.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
}

/// The cryptography of all connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a PEM, as roots of trust.
///
/// # Errors
/// When one of them is none.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, RootError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// A client, yet to be told whom it trusts.
///
/// # Errors
/// When the cryptography knows none of the protocol's versions.
pub fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

/// A client that takes every certificate, but wants it to be the other side's own. For where there is nothing to check it
/// against: probes, registries that are called insecure, kubelets without a certificate of the cluster's.
///
/// # Errors
/// When the cryptography knows none of the protocol's versions.
pub fn trusting_client() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = client()?;
    let known = builder.crypto_provider().signature_verification_algorithms;
    let anybody = Arc::new(Anybody(known));
    Ok(builder.dangerous().with_custom_certificate_verifier(anybody))
}

#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::ServerConnection;
    use rustls::{ClientConnection, ServerConfig};

    /// A certificate that nobody knows, and a key.
    fn unknown() -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["other.example".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        (
            certificate.into(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            pem,
        )
    }

    /// What comes of a handshake with a server that shows the certificate and has the key.
    fn shake(
        client: ClientConfig,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        let provider = provider();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], key));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
        let name = ServerName::try_from("asked.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn whoever_shows_a_certificate_of_its_own_is_trusted_by_who_trusts_all() {
        let (certificate, key, pem) = unknown();
        let trusting = || trusting_client().unwrap().with_no_client_auth();
        shake(trusting(), certificate.clone(), key.clone_key()).unwrap();
        // Whoever only shows another's has not its key.
        let (_, other, _) = unknown();
        let error = shake(trusting(), certificate.clone(), other).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
        // Others want to know the name, even of a root.
        let known = client()
            .unwrap()
            .with_root_certificates(roots(pem.as_bytes()).unwrap())
            .with_no_client_auth();
        let error = shake(known, certificate, key).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
    }

    #[test]
    fn roots_are_certificates() {
        let (_, _, pem) = unknown();
        assert_eq!(roots(format!("{pem}{pem}").as_bytes()).unwrap().len(), 2);
        assert!(roots(b"").unwrap().is_empty());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(roots(broken.as_bytes()), Err(RootError::Certificate(_))));
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(roots(torn.as_bytes()), Err(RootError::Pem(_))));
    }
}
