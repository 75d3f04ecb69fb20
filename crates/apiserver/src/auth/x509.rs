//! Client certificates: which are accepted, and which user they name.
//!
//! The TLS handshake takes any certificate whose key the client proves to have; whether it is from the right authority
//! is decided here, so that a client with a wrong one is told 401 and not cut off.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::auth::PeerIdentity;
use crate::user::UserInfo;

/// What an extra of a user whose credential can be told apart is called.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The authority of client certificates.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuthority {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuthority {
    /// The authority with these root certificates.
    pub(crate) fn new(ca_pem: &[u8]) -> Result<Self, String> {
        let roots = skiff_tls::roots(ca_pem).map_err(|error| error.to_string())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), skiff_tls::provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { verifier })
    }

    /// Lets every certificate through the handshake whose key the client has.
    pub(crate) fn handshake_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyCertificate(self.verifier.clone()))
    }

    /// The user that a connection's certificates name.
    pub(crate) fn identify(&self, certificates: Option<&[CertificateDer<'_>]>) -> PeerIdentity {
        let Some((certificate, intermediates)) = certificates.and_then(<[_]>::split_first) else {
            return PeerIdentity(None);
        };
        let verified = self
            .verifier
            .verify_client_cert(certificate, intermediates, UnixTime::now())
            .map_err(|error| error.to_string());
        let user = verified.and_then(|_| user(certificate));
        PeerIdentity(Some(user.map(Arc::new).map_err(Arc::from)))
    }
}

/// The user that a certificate names: the common name, in the groups of its organizations.
fn user(certificate: &[u8]) -> Result<UserInfo, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let subject = parsed.subject();
    let name = subject
        .iter_common_name()
        .find_map(|attribute| attribute.as_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or("the certificate's subject has no common name")?;
    let groups = subject
        .iter_organization()
        .filter_map(|attribute| attribute.as_str().ok());
    let mut user = UserInfo::new(name, groups);
    let digest: String = Sha256::digest(certificate)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    user.extra
        .insert(CREDENTIAL_ID.into(), vec![format!("X509SHA256={digest}")]);
    Ok(user)
}

#[derive(Debug)]
struct AnyCertificate(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyCertificate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn authority() -> (Issuer<'static, KeyPair>, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    fn client(issuer: &Issuer<'static, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:a");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_names_a_user_and_groups() {
        let (issuer, pem) = authority();
        let authority = ClientAuthority::new(pem.as_bytes()).unwrap();
        let PeerIdentity(Some(Ok(user))) = authority.identify(Some(&[client(&issuer)])) else {
            panic!("not accepted");
        };
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }

    #[test]
    fn a_certificate_of_another_authority_is_refused() {
        let (other, _) = authority();
        let (_, pem) = authority();
        let authority = ClientAuthority::new(pem.as_bytes()).unwrap();
        assert!(matches!(
            authority.identify(Some(&[client(&other)])),
            PeerIdentity(Some(Err(_)))
        ));
        assert!(matches!(authority.identify(None), PeerIdentity(None)));
    }
}
