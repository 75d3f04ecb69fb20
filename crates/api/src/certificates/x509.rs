//! Certificates and requests for them, read as far as the rules about them ask.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A block of a PEM text.
pub(super) struct Block {
    pub(super) type_: String,
    pub(super) has_headers: bool,
    pub(super) der: Vec<u8>,
}

/// The blocks of a PEM text; what is between them, or is none, is passed over, as Go does.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        rest = after;
        let Some((type_, body)) = after.split_once("-----") else {
            break;
        };
        let Some((body, after)) = body.split_once(&format!("-----END {type_}-----")) else {
            continue;
        };
        let has_headers = body.contains(':');
        let base64: String = match body.trim_start().split_once("\n\n") {
            Some((_, base64)) if has_headers => base64,
            _ => body,
        }
        .split_whitespace()
        .collect();
        if let Ok(der) = STANDARD.decode(base64) {
            let type_ = type_.to_string();
            found.push(Block {
                type_,
                has_headers,
                der,
            });
            rest = after;
        }
    }
    found
}

/// Checks that a PEM text holds certificates and nothing else; of an empty one nothing is asked.
///
/// # Errors
/// What is wrong, in upstream's words.
pub(super) fn check_certificates(pem: &[u8]) -> Result<(), String> {
    if pem.is_empty() {
        return Ok(());
    }
    let blocks = blocks(&String::from_utf8_lossy(pem));
    for block in &blocks {
        if block.type_ != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.type_
            ));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".into());
        }
        let mut rest = block.der.as_slice();
        if rest.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        while !rest.is_empty() {
            (rest, _) = X509Certificate::from_der(rest).map_err(|_| "x509: malformed certificate")?;
        }
    }
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}

/// A certificate; `None` where the bytes are none.
fn certificate(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// Whether a certificate is an authority's; `None` where the bytes are no certificate.
pub(super) fn is_authority(der: &[u8]) -> Option<bool> {
    Some(certificate(der)?.is_ca())
}

/// The domain names that a certificate is for.
pub(super) fn domains(der: &[u8]) -> Vec<String> {
    let certificate = certificate(der);
    let names = certificate.as_ref().and_then(|certificate| {
        let extension = certificate.subject_alternative_name().ok()??;
        Some(&extension.value.general_names)
    });
    let names = names.into_iter().flatten();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(domain) => Some((*domain).to_string()),
            _ => None,
        })
        .collect()
}

/// The public key of a certificate.
pub(super) fn public_key(der: &[u8]) -> Option<SubjectPublicKeyInfo<'_>> {
    Some(certificate(der)?.tbs_certificate.subject_pki)
}

/// The public key that a request for a certificate is about; `None` where the bytes are no request.
pub(super) fn requested_key(der: &[u8]) -> Option<SubjectPublicKeyInfo<'_>> {
    match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => Some(request.certification_request_info.subject_pki),
        _ => None,
    }
}

/// From when and until when a certificate is valid.
pub(super) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let certificate = certificate(der)?;
    let validity = certificate.validity();
    let [from, until] =
        [validity.not_before, validity.not_after].map(|time| Timestamp::from_second(time.timestamp()));
    Some((from.ok()?, until.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_of_a_certificate_are_among_its_names() {
        let of = |pem: &str| blocks(pem).iter().flat_map(|block| domains(&block.der)).collect();
        let named: Vec<String> = of(include_str!("pairs/named.crt"));
        assert_eq!(named, ["a..b", "c.example.com"]);
        let plain: Vec<String> = of(include_str!("pairs/rsa.crt"));
        assert_eq!(plain, [""; 0]);
    }
}
