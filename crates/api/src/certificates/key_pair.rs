//! Whether a certificate and a private key belong together, as Go's `tls.X509KeyPair` asks and words it.

use super::x509::{
    self, BIT_STRING, Block, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, element, take,
};

/// `[1]`: the public half in an elliptic private key.
const PUBLIC: u8 = 0xa1;
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The curves that have names in Go, and whether keys on them are good enough.
const CURVES: [(&[u8], &str, bool); 4] = [
    (&[0x2b, 0x81, 0x04, 0x00, 0x21], "P-224", false),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "P-256", true),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], "P-384", true),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], "P-521", true),
];
/// How many bits the modulus of an RSA key may have.
const MODULI: [usize; 2] = [3072, 4096];

/// Why no certificate is given for a public key (a `SubjectPublicKeyInfo` without its outer tag), and what of it is
/// shown, if not the whole.
pub(super) fn unusable(key: &[u8]) -> Option<(Option<String>, &'static str)> {
    let unknown = (
        None,
        "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
    );
    let parts = || {
        let (algorithm, bits) = take(key, SEQUENCE)?;
        let (algorithm, parameters) = take(algorithm, OBJECT_IDENTIFIER)?;
        Some((
            algorithm,
            parameters,
            take(bits, BIT_STRING)?.0.strip_prefix(&[0])?,
        ))
    };
    let Some((algorithm, parameters, bits)) = parts() else {
        return Some(unknown);
    };
    match algorithm {
        ED25519 => None,
        ELLIPTIC => {
            let curve = take(parameters, OBJECT_IDENTIFIER).map(|(curve, _)| curve);
            match CURVES.iter().find(|(known, ..)| Some(*known) == curve) {
                Some((.., true)) => None,
                Some((_, name, false)) => Some((
                    Some(format!("curve {name}")),
                    "elliptic public keys must use curve P256 or P384",
                )),
                None => Some(unknown),
            }
        }
        RSA => {
            let modulus = || Some(number(take(bits, SEQUENCE)?.0)?.0);
            let bits = modulus().unwrap_or_default().len() * 8;
            let detail = "RSA keys must have modulus size 3072 or 4096";
            (!MODULI.contains(&bits)).then(|| (Some(format!("{bits}-bit modulus")), detail))
        }
        _ => Some(unknown),
    }
}

/// The public half of a key.
#[derive(Debug, PartialEq, Eq)]
enum Key<'a> {
    /// The modulus.
    Rsa(&'a [u8]),
    /// The point, where it is told.
    Elliptic(Option<&'a [u8]>),
    /// The point, where it is told.
    Ed25519(Option<&'a [u8]>),
}

/// What is wrong with a certificate, in PEM, and its key.
pub(crate) fn mismatch(certificate: &[u8], key: &[u8]) -> Option<String> {
    let (certificate, key) = (String::from_utf8_lossy(certificate), String::from_utf8_lossy(key));
    let blocks = x509::blocks(&certificate);
    let types = |blocks: &[Block]| {
        let types: Vec<&str> = blocks.iter().map(|block| block.type_.as_str()).collect();
        types.join(" ")
    };
    let Some(first) = blocks.iter().find(|block| block.type_ == "CERTIFICATE") else {
        return Some(match blocks.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".into(),
            [one] if one.type_.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs \
                 may have been switched"
                    .into()
            }
            all => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [{}]",
                types(all)
            ),
        });
    };
    let blocks = x509::blocks(&key);
    let is_key = |block: &&Block| block.type_ == "PRIVATE KEY" || block.type_.ends_with(" PRIVATE KEY");
    let Some(key) = blocks.iter().find(is_key) else {
        return Some(match blocks.as_slice() {
            [] => "tls: failed to find any PEM data in key input".into(),
            [one] if one.type_ == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".into()
            }
            all => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM \
                 blocks of the following types: [{}]",
                types(all)
            ),
        });
    };
    let Some(published) = public_key(&first.der) else {
        return Some("x509: malformed certificate".into());
    };
    let Some(own) = private_key(&key.der) else {
        return Some("tls: failed to parse private key".into());
    };
    let (same_type, same) = match (&published, &own) {
        (Key::Rsa(one), Key::Rsa(other)) => (true, one == other),
        (Key::Elliptic(one), Key::Elliptic(other)) | (Key::Ed25519(one), Key::Ed25519(other)) => {
            (true, one.is_none() || other.is_none() || one == other)
        }
        _ => (false, false),
    };
    match (same_type, same) {
        (true, true) => None,
        (true, false) => Some("tls: private key does not match public key".into()),
        (false, _) => Some("tls: private key type does not match public key type".into()),
    }
}

/// A whole number without the zero that keeps it positive.
fn number(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (contents, rest) = take(der, INTEGER)?;
    Some((contents.strip_prefix(&[0]).unwrap_or(contents), rest))
}

fn public_key(certificate: &[u8]) -> Option<Key<'_>> {
    let key = x509::public_key(certificate)?;
    let (algorithm, bits) = take(key, SEQUENCE)?;
    let (algorithm, _) = take(algorithm, OBJECT_IDENTIFIER)?;
    let bits = take(bits, BIT_STRING)?.0.strip_prefix(&[0])?;
    match algorithm {
        RSA => Some(Key::Rsa(number(take(bits, SEQUENCE)?.0)?.0)),
        ELLIPTIC => Some(Key::Elliptic(Some(bits))),
        ED25519 => Some(Key::Ed25519(Some(bits))),
        _ => None,
    }
}

/// A private key in any of its forms: PKCS #1, PKCS #8, SEC 1.
fn private_key(der: &[u8]) -> Option<Key<'_>> {
    let (whole, _) = take(der, SEQUENCE)?;
    let (_, rest) = number(whole)?;
    if let Some((modulus, _)) = number(rest) {
        return Some(Key::Rsa(modulus));
    }
    if let Some((_, rest)) = take(rest, OCTET_STRING) {
        return Some(Key::Elliptic(point(rest)));
    }
    let (algorithm, rest) = take(rest, SEQUENCE)?;
    let (algorithm, _) = take(algorithm, OBJECT_IDENTIFIER)?;
    let (inner, _) = take(rest, OCTET_STRING)?;
    match algorithm {
        RSA => private_key(inner).filter(|key| matches!(key, Key::Rsa(_))),
        ELLIPTIC => private_key(inner).filter(|key| matches!(key, Key::Elliptic(_))),
        ED25519 => Some(Key::Ed25519(None)),
        _ => None,
    }
}

/// The public point among what follows in an elliptic key.
fn point(mut rest: &[u8]) -> Option<&[u8]> {
    while let Some((tag, contents, after)) = element(rest) {
        if tag == PUBLIC {
            return take(contents, BIT_STRING)?.0.strip_prefix(&[0]);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_bytes!(concat!("pairs/", $name)).as_slice()
        };
    }

    #[test]
    fn certificates_and_keys_that_belong_together_are_told_from_others() {
        let (rsa, elliptic, ed25519) = (pem!("rsa.crt"), pem!("elliptic.crt"), pem!("ed25519.crt"));
        let other = "tls: private key does not match public key";
        let other_type = "tls: private key type does not match public key type";
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_slice();
        let broken_key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".as_slice();
        let request =
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".as_slice();
        let cases = [
            (rsa, pem!("rsa.key"), ""),
            (rsa, pem!("rsa-pkcs1.key"), ""),
            (rsa, pem!("rsa-other.key"), other),
            (rsa, pem!("elliptic.key"), other_type),
            (elliptic, pem!("elliptic.key"), ""),
            (elliptic, pem!("elliptic-pkcs8.key"), ""),
            (elliptic, pem!("elliptic-other.key"), other),
            (ed25519, pem!("ed25519.key"), ""),
            (ed25519, pem!("rsa.key"), other_type),
            (b"", b"", "tls: failed to find any PEM data in certificate input"),
            (
                pem!("rsa.key"),
                rsa,
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM \
                 inputs may have been switched",
            ),
            (
                request,
                b"",
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [CERTIFICATE REQUEST]",
            ),
            (rsa, b"key", "tls: failed to find any PEM data in key input"),
            (
                rsa,
                rsa,
                "tls: found a certificate rather than a key in the PEM for the private key",
            ),
            (
                rsa,
                request,
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM \
                 blocks of the following types: [CERTIFICATE REQUEST]",
            ),
            (broken, pem!("rsa.key"), "x509: malformed certificate"),
            (rsa, broken_key, "tls: failed to parse private key"),
        ];
        for (certificate, key, expected) in cases {
            assert_eq!(mismatch(certificate, key).unwrap_or_default(), expected);
        }
    }
}
