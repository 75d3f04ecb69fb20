//! What a client asks to have signed: a PKCS#10 request in PEM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::x509;

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";
const NOT_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";

/// Reads the request's DER out of its PEM.
///
/// # Errors
/// With upstream's words when the text is no such PEM, or what it holds is no request.
pub(super) fn parse(pem: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| NOT_PEM)?;
    let begin = text.find(BEGIN).ok_or(NOT_PEM)?;
    let rest = text.get(begin + BEGIN.len()..).unwrap_or_default();
    let end = rest.find(END).ok_or(NOT_PEM)?;
    let body: String = rest
        .get(..end)
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let der = STANDARD.decode(body).map_err(|_| NOT_PEM)?;
    if x509::requested_key(&der).is_some() {
        Ok(der)
    } else {
        Err("asn1: structure error: tags don't match".into())
    }
}
