//! Whether who asks for a certificate has the key: a request is signed with the key that it is about (upstream asks this
//! beside the kinds' other rules, which know nothing of cryptography here).
//!
//! Keys and algorithms are those of Go's `x509.CheckSignature`, in its words.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, PodCertificateRequest};
use p521::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use skiff_api::{Errors, Object, Path};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_MD5WITHRSAENC, OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::registry::{AdmissionRequest, Operation};

/// `secp224r1`.
const P224: Oid<'static> = Oid::new(std::borrow::Cow::Borrowed(&[0x2b, 0x81, 0x04, 0x00, 0x21]));
/// RSA keys of fewer bits are no keys to Go.
const LEAST_RSA_BITS: usize = 1024;
/// The largest RSA keys that are looked at, in bits.
const MOST_RSA_BITS: usize = 16 << 10;
const UNIMPLEMENTED: &str = "x509: cannot verify signature: algorithm unimplemented";
const INSECURE: &str = "x509: cannot verify signature: insecure algorithm MD5-RSA";
const RSA_FAILURE: &str = "crypto/rsa: verification error";

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
fn wrong(der: &[u8]) -> Option<String> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    let key = &request.certification_request_info.subject_pki;
    let signature = request.signature_value.data.as_ref();
    let is_ed25519 = key.algorithm.algorithm == OID_SIG_ED25519;
    let algorithm = match Algorithm::of(&request.signature_algorithm) {
        Ok(algorithm) => algorithm,
        Err(why) => return Some(why.into()),
    };
    let kind = match key.parsed() {
        _ if is_ed25519 => Keys::Ed25519,
        Ok(PublicKey::RSA(_)) => Keys::Rsa,
        Ok(PublicKey::EC(_)) => Keys::Elliptic,
        _ => return Some(UNIMPLEMENTED.into()),
    };
    if kind != algorithm.keys {
        return Some(format!(
            "x509: signature algorithm specifies an {} public key, but have public key of type {}",
            algorithm.keys.name(),
            kind.type_()
        ));
    }
    let signed = request.certification_request_info.raw;
    match kind {
        Keys::Ed25519 => {
            let fits = request.verify_signature().is_ok();
            (!fits).then(|| "x509: Ed25519 verification failure".into())
        }
        Keys::Rsa => rsa(key, &algorithm, signed, signature).err(),
        Keys::Elliptic => {
            let fits = elliptic(key, &algorithm.hash.of(signed), signature)?;
            (!fits).then(|| "x509: ECDSA verification failure".into())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Rsa,
    Elliptic,
    Ed25519,
}

impl Keys {
    /// As Go names the kind of algorithm.
    fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Elliptic => "ECDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// As Go names the type of such a key.
    fn type_(self) -> &'static str {
        match self {
            Self::Rsa => "*rsa.PublicKey",
            Self::Elliptic => "*ecdsa.PublicKey",
            Self::Ed25519 => "ed25519.PublicKey",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => {
                let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text);
                digest.as_ref().to_vec()
            }
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha384 => Sha384::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    /// By the last part of its name among NIST's algorithms.
    fn named(oid: &str) -> Option<Self> {
        match oid {
            "2.16.840.1.101.3.4.2.1" => Some(Self::Sha256),
            "2.16.840.1.101.3.4.2.2" => Some(Self::Sha384),
            "2.16.840.1.101.3.4.2.3" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// What stands before the hash in a signature of PKCS #1 v1.5.
    fn prefix(self) -> Vec<u8> {
        // An AlgorithmIdentifier and the length of the hash: RFC 8017, 9.2.
        let nist = |last: u8, length: u8| {
            let all = length + 17;
            let mut prefix = vec![0x30, all, 0x30, 0x0d, 0x06, 0x09];
            prefix.extend([0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last]);
            prefix.extend([0x05, 0x00, 0x04, length]);
            prefix
        };
        match self {
            Self::Sha1 => vec![
                0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14,
            ],
            Self::Sha256 => nist(1, 32),
            Self::Sha384 => nist(2, 48),
            Self::Sha512 => nist(3, 64),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Algorithm {
    keys: Keys,
    hash: Hash,
    is_pss: bool,
}

impl Algorithm {
    /// # Errors
    /// What Go says of an algorithm that it does not know, or knows to be none.
    fn of(identifier: &AlgorithmIdentifier<'_>) -> Result<Self, &'static str> {
        if identifier.algorithm == OID_PKCS1_MD5WITHRSAENC {
            return Err(INSECURE);
        }
        let plain = |keys, hash| {
            Ok(Self {
                keys,
                hash,
                is_pss: false,
            })
        };
        match identifier.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => plain(Keys::Rsa, Hash::Sha1),
            "1.2.840.113549.1.1.11" => plain(Keys::Rsa, Hash::Sha256),
            "1.2.840.113549.1.1.12" => plain(Keys::Rsa, Hash::Sha384),
            "1.2.840.113549.1.1.13" => plain(Keys::Rsa, Hash::Sha512),
            "1.2.840.10045.4.1" => plain(Keys::Elliptic, Hash::Sha1),
            "1.2.840.10045.4.3.2" => plain(Keys::Elliptic, Hash::Sha256),
            "1.2.840.10045.4.3.3" => plain(Keys::Elliptic, Hash::Sha384),
            "1.2.840.10045.4.3.4" => plain(Keys::Elliptic, Hash::Sha512),
            // It hashes by itself.
            "1.3.101.112" => plain(Keys::Ed25519, Hash::Sha512),
            "1.2.840.113549.1.1.10" => Self::pss(identifier).ok_or(UNIMPLEMENTED),
            _ => Err(UNIMPLEMENTED),
        }
    }

    /// With one hash for all, and a salt as long as it.
    fn pss(identifier: &AlgorithmIdentifier<'_>) -> Option<Self> {
        let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(identifier) else {
            return None;
        };
        let hash = Hash::named(&parameters.hash_algorithm_oid().to_id_string())?;
        let mask = parameters.mask_gen_algorithm().ok()?;
        let fits = Hash::named(&mask.hash.to_id_string()) == Some(hash)
            && parameters.salt_length() as usize == hash.of(b"").len()
            && parameters.trailer_field() == 1;
        fits.then_some(Self {
            keys: Keys::Rsa,
            hash,
            is_pss: true,
        })
    }
}

fn rsa(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &Algorithm,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let Ok(PublicKey::RSA(given)) = key.parsed() else {
        return Err(UNIMPLEMENTED.into());
    };
    let modulus = BigUint::from_bytes_be(given.modulus);
    let bits = modulus.bits();
    if bits < LEAST_RSA_BITS {
        return Err(format!(
            "crypto/rsa: {bits}-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)"
        ));
    }
    let exponent = BigUint::from_bytes_be(given.exponent);
    let key = RsaPublicKey::new_with_max_size(modulus, exponent, MOST_RSA_BITS);
    let key = key.map_err(|_| RSA_FAILURE.to_string())?;
    let hash = algorithm.hash.of(signed);
    let fits = if algorithm.is_pss {
        let scheme = match algorithm.hash {
            Hash::Sha384 => Pss::new::<Sha384>(),
            Hash::Sha512 => Pss::new::<Sha512>(),
            Hash::Sha256 | Hash::Sha1 => Pss::new::<Sha256>(),
        };
        key.verify(scheme, &hash, signature)
    } else {
        let scheme = Pkcs1v15Sign {
            hash_len: Some(hash.len()),
            prefix: algorithm.hash.prefix().into(),
        };
        key.verify(scheme, &hash, signature)
    };
    fits.map_err(|_| RSA_FAILURE.into())
}

/// Whether a hash was signed with a key; `None` for a curve that is not known here.
fn elliptic(key: &SubjectPublicKeyInfo<'_>, hash: &[u8], signature: &[u8]) -> Option<bool> {
    let parameters = key.algorithm.parameters.as_ref()?;
    let curve = parameters.as_oid().ok()?;
    let point = key.subject_public_key.data.as_ref();
    macro_rules! verify {
        ($curve:ident, $length:literal) => {{
            use $curve::ecdsa::{Signature, VerifyingKey};
            // A hash that is shorter than the field is the same number with zeros before it.
            let zeros = vec![0; usize::saturating_sub($length, hash.len())];
            let hash = [&zeros, hash].concat();
            let fits = VerifyingKey::from_sec1_bytes(point)
                .ok()
                .zip(Signature::from_der(signature).ok())
                .is_some_and(|(key, signature)| key.verify_prehash(&hash, &signature).is_ok());
            Some(fits)
        }};
    }
    match curve {
        curve if curve == P224 => verify!(p224, 28),
        curve if curve == OID_EC_P256 => verify!(p256, 32),
        curve if curve == OID_NIST_EC_P384 => verify!(p384, 48),
        curve if curve == OID_NIST_EC_P521 => verify!(p521, 66),
        _ => None,
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
            assert_eq!(wrong(&der).as_deref(), Some(expected));
        }
        assert_eq!(wrong(b"x"), None, "is told by other rules");
    }

    /// The requests of a file, each under the name of its key and its algorithm.
    fn requests() -> Vec<(String, Vec<u8>)> {
        let text = include_str!("requests.pem");
        let named = text.split("# ").skip(1).map(|part| {
            let (name, pem) = part.split_once('\n').unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            (name.to_string(), pem.contents)
        });
        named.collect()
    }

    #[test]
    fn signatures_are_checked_as_go_checks_them() {
        let mut seen = 0;
        for (name, mut der) in requests() {
            seen += 1;
            let (fits, spoiled) = match name.split(' ').next().unwrap() {
                "rsa512" => {
                    let why = "crypto/rsa: 512-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)";
                    (Some(why), why)
                }
                _ if name.ends_with("md5") => (Some(INSECURE), INSECURE),
                "rsa1024" | "rsa2048" => (None, RSA_FAILURE),
                _ => (None, "x509: ECDSA verification failure"),
            };
            assert_eq!(wrong(&der).as_deref(), fits, "{name}");
            *der.last_mut().unwrap() ^= 1;
            assert_eq!(wrong(&der).as_deref(), Some(spoiled), "{name}");
        }
        assert_eq!(seen, 14);
    }

    #[test]
    fn a_signature_is_of_the_kind_of_its_key() {
        let all = requests();
        let of = |name: &str| &all.iter().find(|(its, _)| its == name).unwrap().1;
        let swapped = |der: &[u8], from: &[u8], to: &[u8]| {
            let at = der.windows(from.len()).rposition(|part| part == from).unwrap();
            [&der[..at], to, &der[at + from.len()..]].concat()
        };
        // ecdsa-with-SHA256 and -SHA512, and the same arc's end of something that nobody knows.
        let sha = |last| [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last];
        let unknown = swapped(of("p521 sha512"), &sha(4), &sha(9));
        assert_eq!(wrong(&unknown).as_deref(), Some(UNIMPLEMENTED));
        let other = swapped(of("p521 sha512"), &sha(4), &sha(3));
        assert_eq!(wrong(&other).as_deref(), Some("x509: ECDSA verification failure"));
        // sha1WithRSA is as long as md5WithRSA.
        let rsa = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
        let insecure = swapped(of("rsa2048 sha256"), &rsa(11), &rsa(4));
        assert_eq!(wrong(&insecure).as_deref(), Some(INSECURE));
    }
}
