//! Whether who asks for a certificate has the key: a request is signed with the key that it is about (upstream asks this
//! beside the kinds' other rules, which know nothing of cryptography here).

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, PodCertificateRequest};
use skiff_api::{Errors, Object, Path};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::registry::{AdmissionRequest, Operation};

/// RSA keys of fewer bits cannot be checked here; Go can, and lets them pass.
const LEAST_RSA_BITS: usize = 2048;

/// Refuses a new request that is not signed with its own key.
pub(super) fn examine(request: &AdmissionRequest<'_>, object: &dyn Object, errors: &mut Errors) {
    if request.operation != Operation::Create {
        return;
    }
    let object = object.as_any();
    let mut check = |path: &str, given: &ByteString, der: &[u8]| {
        if let Some(wrong) = wrong(der) {
            errors.invalid(&Path::new(path), given, wrong);
        }
    };
    if let Some(wish) = object.downcast_ref::<CertificateSigningRequest>() {
        let pem = x509_parser::pem::parse_x509_pem(&wish.spec.request.0);
        // What is no such PEM is refused by the kind's own rules.
        if let Ok((_, pem)) = pem {
            check("spec.request", &wish.spec.request, &pem.contents);
        }
    } else if let Some(wish) = object.downcast_ref::<PodCertificateRequest>() {
        let given = &wish.spec.stub_pkc_s10_request;
        check("spec.stubPKCS10Request", given, &given.0);
    }
}

/// What Go says of a signature that is another one's. What cannot be checked is not refused.
fn wrong(der: &[u8]) -> Option<&'static str> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    if !matches!(
        request.verify_signature(),
        Err(X509Error::SignatureVerificationError)
    ) {
        return None;
    }
    match request.certification_request_info.subject_pki.parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < LEAST_RSA_BITS => None,
        Ok(PublicKey::RSA(_)) => Some("crypto/rsa: verification error"),
        Ok(PublicKey::EC(_)) => Some("x509: ECDSA verification failure"),
        _ => Some("x509: Ed25519 verification failure"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn a_request_is_signed_with_its_own_key() {
        for (algorithm, expected) in [
            (&PKCS_ECDSA_P256_SHA256, "x509: ECDSA verification failure"),
            (&PKCS_ECDSA_P384_SHA384, "x509: ECDSA verification failure"),
            (&PKCS_ED25519, "x509: Ed25519 verification failure"),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let request = CertificateParams::default().serialize_request(&key).unwrap();
            let mut der = request.der().to_vec();
            assert_eq!(wrong(&der), None);
            // The last byte is the signature's.
            *der.last_mut().unwrap() ^= 1;
            assert_eq!(wrong(&der), Some(expected));
        }
        assert_eq!(wrong(b"x"), None, "is told by other rules");
    }
}
