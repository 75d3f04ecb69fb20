//! As much of X.509 as it takes to tell a certificate, and an authority's, from other bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`: the version of a certificate.
const VERSION: u8 = 0xa0;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// `[3]`: the extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const TRUE: (u8, &[u8]) = (0x01, &[0xff]);

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
            let after = element(rest).map_or(0, |(_, _, after)| after.len());
            let (certificate, after) = rest.split_at(rest.len() - after);
            if public_key(certificate).is_none() {
                return Err("x509: malformed certificate".into());
            }
            rest = after;
        }
    }
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}

/// Whether a certificate is an authority's; `None` where the bytes are no certificate.
pub(super) fn is_authority(der: &[u8]) -> Option<bool> {
    let body = signed(der)?;
    let mut rest = body;
    while let Some((tag, contents, after)) = element(rest) {
        if tag == EXTENSIONS {
            let (SEQUENCE, mut extensions, _) = element(contents)? else {
                return None;
            };
            while let Some((_, extension, after)) = element(extensions) {
                if let Some(authority) = constrains(extension) {
                    return Some(authority);
                }
                extensions = after;
            }
        }
        rest = after;
    }
    Some(false)
}

/// What an extension says of its certificate being an authority's; `None` where it is another extension.
fn constrains(extension: &[u8]) -> Option<bool> {
    let (OBJECT_IDENTIFIER, BASIC_CONSTRAINTS, rest) = element(extension)? else {
        return None;
    };
    // Whether it is critical may stand before the value.
    let (tag, contents, rest) = element(rest)?;
    let value = if tag == OCTET_STRING {
        contents
    } else {
        element(rest)?.1
    };
    let (SEQUENCE, constraints, _) = element(value)? else {
        return Some(false);
    };
    Some(element(constraints).is_some_and(|(tag, contents, _)| (tag, contents) == TRUE))
}

/// The contents of the first element, which must have this tag, and what follows it.
pub(super) fn take(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, contents, rest) = element(der)?;
    (tag == wanted).then_some((contents, rest))
}

/// What follows the algorithm of a certificate: who issued it, when it is valid, whose it is, and the key.
fn names_and_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut rest = signed(certificate)?;
    if let Some((_, after)) = take(rest, VERSION) {
        rest = after;
    }
    let (_, rest) = take(rest, INTEGER)?;
    Some(take(rest, SEQUENCE)?.1)
}

/// The public key of a certificate: its algorithm, and the bits.
pub(super) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut rest = names_and_key(certificate)?;
    for _ in 0..3 {
        (_, rest) = take(rest, SEQUENCE)?;
    }
    Some(take(rest, SEQUENCE)?.0)
}

/// The public key that a request for a certificate is about.
pub(super) fn requested_key(request: &[u8]) -> Option<&[u8]> {
    let (_, rest) = take(signed(request)?, INTEGER)?;
    let (_, rest) = take(rest, SEQUENCE)?;
    Some(take(rest, SEQUENCE)?.0)
}

/// From when and until when a certificate is valid.
pub(super) fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, rest) = take(names_and_key(certificate)?, SEQUENCE)?;
    let (both, _) = take(rest, SEQUENCE)?;
    let (tag, from, rest) = element(both)?;
    let from = time(tag, from)?;
    let (tag, until, _) = element(rest)?;
    Some((from, time(tag, until)?))
}

/// `260101000000Z`, or `20500101000000Z` after the years that two digits tell.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let whole = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let century = if text < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        (GENERALIZED_TIME, 14) => text.to_string(),
        _ => return None,
    };
    let (date, clock) = whole.split_at_checked(8)?;
    format!("{date}T{clock}Z").parse().ok()
}

/// What is signed in a signed structure, be it a certificate or a request for one: a sequence of it, the algorithm and
/// the signature.
pub(super) fn signed(der: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, whole, []) = element(der)? else {
        return None;
    };
    let (SEQUENCE, body, rest) = element(whole)? else {
        return None;
    };
    let (SEQUENCE, _, rest) = element(rest)? else {
        return None;
    };
    matches!(element(rest), Some((BIT_STRING, _, []))).then_some(body)
}

/// The first DER element: its tag, its contents, and what follows it.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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
