//! What a client asks to have signed: a PKCS#10 request in PEM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
    if is_request(&der) {
        Ok(der)
    } else {
        Err("asn1: structure error: tags don't match".into())
    }
}

/// Whether the bytes have a request's shape: a sequence of what is to be signed, the algorithm and the signature.
fn is_request(der: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let Some((SEQUENCE, request, [])) = element(der) else {
        return false;
    };
    let Some((SEQUENCE, _, rest)) = element(request) else {
        return false;
    };
    let Some((SEQUENCE, _, rest)) = element(rest) else {
        return false;
    };
    matches!(element(rest), Some((BIT_STRING, _, [])))
}

/// The first DER element: its tag, its contents, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (bytes, rest) = rest.split_at(count);
        let length = bytes
            .iter()
            .fold(0_usize, |length, &byte| length << 8 | usize::from(byte));
        (length, rest)
    };
    (length <= rest.len()).then(|| {
        let (contents, rest) = rest.split_at(length);
        (tag, contents, rest)
    })
}
