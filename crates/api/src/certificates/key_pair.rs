//! Whether a certificate and a private key belong together, as Go's `tls.X509KeyPair` asks and words it.

use x509_parser::der_parser::ber::{BerObject, BerObjectContent};
use x509_parser::der_parser::der::{Tag, parse_der};
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::x509::{self, Block};

/// 1.3.132.0.33, a curve that no registry of the library has.
const P224: Oid<'static> = Oid::new(std::borrow::Cow::Borrowed(&[0x2b, 0x81, 0x04, 0x00, 0x21]));

/// The curves that have names in Go, and whether keys on them are good enough.
const CURVES: [(Oid<'static>, &str, bool); 4] = [
    (P224, "P-224", false),
    (OID_EC_P256, "P-256", true),
    (OID_NIST_EC_P384, "P-384", true),
    (OID_NIST_EC_P521, "P-521", true),
];
/// How many bits the modulus of an RSA key may have.
const MODULI: [usize; 2] = [3072, 4096];

/// Why no certificate is given for a public key, and what of it is shown, if not the whole.
pub(super) fn unusable(key: &SubjectPublicKeyInfo<'_>) -> Option<(Option<String>, &'static str)> {
    let unknown = (
        None,
        "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
    );
    match public_key(key) {
        Some(Key::Ed25519(_)) => None,
        Some(Key::Elliptic(_)) => {
            let parameters = key.algorithm.parameters.as_ref();
            let curve = parameters.and_then(|parameters| parameters.as_oid().ok());
            match CURVES.iter().find(|(known, ..)| Some(known) == curve.as_ref()) {
                Some((.., true)) => None,
                Some((_, name, false)) => Some((
                    Some(format!("curve {name}")),
                    "elliptic public keys must use curve P256 or P384",
                )),
                None => Some(unknown),
            }
        }
        Some(Key::Rsa(modulus)) => {
            let bits = modulus.len() * 8;
            let detail = "RSA keys must have modulus size 3072 or 4096";
            (!MODULI.contains(&bits)).then(|| (Some(format!("{bits}-bit modulus")), detail))
        }
        None => Some(unknown),
    }
}

/// The public half of a key.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// The modulus.
    Rsa(Vec<u8>),
    /// The point, where it is told.
    Elliptic(Option<Vec<u8>>),
    /// The point, where it is told.
    Ed25519(Option<Vec<u8>>),
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
    let Some(published) = x509::public_key(&first.der).and_then(|key| public_key(&key)) else {
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
fn unsigned(number: &[u8]) -> Vec<u8> {
    number.strip_prefix(&[0]).unwrap_or(number).to_vec()
}

/// `None` where the algorithm is none that is known, or the key is none of its keys.
fn public_key(key: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    if key.algorithm.algorithm == OID_SIG_ED25519 {
        return Some(Key::Ed25519(Some(key.subject_public_key.data.to_vec())));
    }
    match key.parsed().ok()? {
        PublicKey::RSA(rsa) => Some(Key::Rsa(unsigned(rsa.modulus))),
        PublicKey::EC(point) => Some(Key::Elliptic(Some(point.data().to_vec()))),
        _ => None,
    }
}

/// A private key in any of its forms: PKCS #1, PKCS #8, SEC 1.
fn private_key(der: &[u8]) -> Option<Key> {
    let (_, whole) = parse_der(der).ok()?;
    let parts = whole.as_sequence().ok()?;
    // The version comes first.
    let second = parts.get(1)?;
    match &second.content {
        BerObjectContent::Integer(modulus) => Some(Key::Rsa(unsigned(modulus))),
        BerObjectContent::OctetString(_) => Some(Key::Elliptic(point(parts))),
        BerObjectContent::Sequence(algorithm) => {
            let algorithm = algorithm.first()?.as_oid().ok()?;
            let inner = parts.get(2)?.as_slice().ok()?;
            if *algorithm == OID_PKCS1_RSAENCRYPTION {
                private_key(inner).filter(|key| matches!(key, Key::Rsa(_)))
            } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
                private_key(inner).filter(|key| matches!(key, Key::Elliptic(_)))
            } else if *algorithm == OID_SIG_ED25519 {
                Some(Key::Ed25519(None))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// The public point among the parts of an elliptic key, which stands in the field `[1]`.
fn point(parts: &[BerObject<'_>]) -> Option<Vec<u8>> {
    let is_public = |part: &&BerObject<'_>| part.header.is_contextspecific() && part.header.tag() == Tag(1);
    let public = parts.iter().find(is_public)?;
    let (_, bits) = parse_der(public.as_slice().ok()?).ok()?;
    match bits.content {
        BerObjectContent::BitString(_, bits) => Some(bits.data.to_vec()),
        _ => None,
    }
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
