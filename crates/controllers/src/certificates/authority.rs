//! The authority that signs certificates (upstream's `PermissiveSigningPolicy`).
//!
//! The certificate is written here and not by rcgen, whose names hold one organization each: a user in two groups asks
//! for two.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{CertificateParams, KeyPair, SigningKey};
use uuid::Uuid;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, DERWriterSeq, Tag};

use super::request::Request;

/// Certificates begin a little before they are made: clocks differ.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Certificates that last shorter than this end as late as was asked for all the same.
const SHORT: Duration = Duration::from_secs(8 * 60 * 60);

/// A certificate and its key, ready to sign.
pub(crate) struct Authority {
    key: KeyPair,
    /// The algorithm of its signatures.
    algorithm_der: Vec<u8>,
    subject_der: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: i64,
}

fn invalid(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Authority {
    /// The authority with this certificate and key, both PEM.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key_pem).map_err(invalid)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(invalid)?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(invalid)?;
        let key_id =
            certificate
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                });
        // What the key calls its algorithm stands in whatever it has signed.
        let sample = CertificateParams::default().self_signed(&key).map_err(invalid)?;
        let algorithm_der = yasna::parse_der(sample.der(), |reader| {
            reader.read_sequence(|reader| {
                reader.next().read_der()?;
                let algorithm = reader.next().read_der()?;
                reader.next().read_der()?;
                Ok(algorithm)
            })
        })
        .map_err(|error| format!("{error:?}"))?;
        Ok(Self {
            algorithm_der,
            subject_der: certificate.subject().as_raw().to_vec(),
            key_id,
            not_after: certificate.validity().not_after.timestamp(),
            key,
        })
    }

    /// A certificate, PEM, for these usages.
    ///
    /// # Errors
    /// When the authority has expired, or a usage is not known.
    pub(super) fn sign(
        &self,
        request: &Request,
        usages: &[String],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, String> {
        let (key_usage, extended) = key_usages(usages)?;
        let now = now.as_second();
        let backdate = seconds(BACKDATE);
        let end = if lifetime < SHORT {
            now + seconds(lifetime)
        } else {
            now + seconds(lifetime) - backdate
        };
        if now >= self.not_after {
            return Err("refusing to sign a certificate that expired in the past".into());
        }
        let validity = (time_der(now - backdate)?, time_der(end.min(self.not_after))?);
        let body = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer
                    .next()
                    .write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                writer.next().write_bigint_bytes(Uuid::new_v4().as_bytes(), true);
                writer.next().write_der(&self.algorithm_der);
                writer.next().write_der(&self.subject_der);
                writer.next().write_sequence(|writer| {
                    writer.next().write_der(&validity.0);
                    writer.next().write_der(&validity.1);
                });
                writer.next().write_der(&request.subject_der);
                writer.next().write_der(&request.key_der);
                writer.next().write_tagged(Tag::context(3), |writer| {
                    writer.write_sequence(|writer| self.extensions(writer, request, key_usage, &extended));
                });
            });
        });
        let signature = self.key.sign(&body).map_err(invalid)?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&body);
                writer.next().write_der(&self.algorithm_der);
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem_of(&der))
    }

    fn extensions(
        &self,
        writer: &mut DERWriterSeq<'_>,
        request: &Request,
        key_usage: u16,
        extended: &[&[u64]],
    ) {
        if key_usage != 0 {
            // A list of named bits ends with its last one that is set.
            let bits = 16 - key_usage.trailing_zeros() as usize;
            let bytes = key_usage.to_be_bytes();
            extension(writer, &[2, 5, 29, 15], true, |writer| {
                writer.write_bitvec_bytes(bytes.get(..bits.div_ceil(8)).unwrap_or(&bytes), bits);
            });
        }
        if !extended.is_empty() {
            extension(writer, &[2, 5, 29, 37], false, |writer| {
                writer.write_sequence(|writer| {
                    for usage in extended {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(usage));
                    }
                });
            });
        }
        // No authority: the absence of `cA` says so.
        extension(writer, &[2, 5, 29, 19], true, |writer| {
            writer.write_sequence(|_| ())
        });
        if let Some(id) = &self.key_id {
            extension(writer, &[2, 5, 29, 35], false, |writer| {
                writer.write_sequence(|writer| {
                    writer
                        .next()
                        .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
        }
        if !names_der(request).is_empty() {
            let is_only_name = request.common_name.is_empty() && request.organizations.is_empty();
            extension(writer, &[2, 5, 29, 17], is_only_name, |writer| {
                writer.write_sequence(|writer| {
                    for name in names_der(request) {
                        writer.next().write_der(&name);
                    }
                });
            });
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}

fn extension(writer: &mut DERWriterSeq<'_>, oid: &[u64], critical: bool, value: impl FnOnce(DERWriter<'_>)) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(&yasna::construct_der(value));
    });
}

/// The names of a request besides its subject, as general names, in the order in which upstream writes them.
fn names_der(request: &Request) -> Vec<Vec<u8>> {
    let text = |tag: u64, text: &String| {
        yasna::construct_der(|writer| {
            writer.write_tagged_implicit(Tag::context(tag), |writer| writer.write_bytes(text.as_bytes()));
        })
    };
    let address = |address: &IpAddr| {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        yasna::construct_der(|writer| {
            writer.write_tagged_implicit(Tag::context(7), |writer| writer.write_bytes(&bytes));
        })
    };
    let dns = request.dns.iter().map(|name| text(2, name));
    let emails = request.emails.iter().map(|name| text(1, name));
    let uris = request.uris.iter().map(|name| text(6, name));
    dns.chain(emails)
        .chain(request.addresses.iter().map(address))
        .chain(uris)
        .collect()
}

/// A moment as certificates write it: with two digits for the year up to 2049, with four from then on.
fn time_der(second: i64) -> Result<Vec<u8>, String> {
    let time = Timestamp::from_second(second)
        .map_err(invalid)?
        .to_zoned(TimeZone::UTC);
    let (tag, text) = if time.year() < 2050 {
        (0x17, time.strftime("%y%m%d%H%M%SZ").to_string())
    } else {
        (0x18, time.strftime("%Y%m%d%H%M%SZ").to_string())
    };
    let length = u8::try_from(text.len()).map_err(invalid)?;
    Ok([&[tag, length], text.as_bytes()].concat())
}

fn pem_of(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The bits of the key usage, the first one highest, and the extended usages.
fn key_usages(usages: &[String]) -> Result<(u16, Vec<&'static [u64]>), String> {
    let mut bits = 0;
    let mut extended: Vec<&'static [u64]> = Vec::new();
    for usage in usages {
        let bit = match usage.as_str() {
            "signing" | "digital signature" => 0,
            "content commitment" => 1,
            "key encipherment" => 2,
            "data encipherment" => 3,
            "key agreement" => 4,
            "cert sign" => 5,
            "crl sign" => 6,
            "encipher only" => 7,
            "decipher only" => 8,
            other => {
                let known = EXTENDED.iter().find(|(name, _)| *name == other);
                let (_, oid) = known.ok_or_else(|| format!("unrecognized usage values: [{other:?}]"))?;
                if !extended.contains(oid) {
                    extended.push(oid);
                }
                continue;
            }
        };
        bits |= 0x8000 >> bit;
    }
    extended.sort_by_key(|oid| EXTENDED.iter().position(|(_, its)| its == oid));
    Ok((bits, extended))
}

const EXTENDED: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, DnType, IsCa, KeyUsagePurpose, SanType};

    fn authority() -> (Authority, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let pem = params.self_signed(&key).unwrap().pem();
        (Authority::new(&pem, &key.serialize_pem()).unwrap(), pem)
    }

    #[test]
    fn a_certificate_says_what_was_asked_for_and_is_signed() {
        let (authority, authority_pem) = authority();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params.subject_alt_names = vec![
            SanType::DnsName("n".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = Request::read(request.as_bytes()).unwrap();
        let usages = ["digital signature", "key encipherment", "server auth"].map(String::from);
        let now = Timestamp::now();
        let hour = Duration::from_secs(3600);
        let pem = authority.sign(&request, &usages, hour, now).unwrap();

        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
        let (_, issuer) = x509_parser::pem::parse_x509_pem(authority_pem.as_bytes()).unwrap();
        let (_, issuer) = X509Certificate::from_der(&issuer.contents).unwrap();
        certificate.verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
        assert_eq!(
            certificate.subject().to_string(),
            "CN=system:node:n, O=system:nodes"
        );
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), now.as_second() - 300);
        assert_eq!(validity.not_after.timestamp(), now.as_second() + 3600);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
        assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 2);
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let (mut authority, _) = authority();
        let now = Timestamp::now();
        authority.not_after = now.as_second() + 60;
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let request = Request::read(request.pem().unwrap().as_bytes()).unwrap();
        let usages = ["client auth".to_string()];
        let pem = authority
            .sign(&request, &usages, Duration::from_secs(3600), now)
            .unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp(), now.as_second() + 60);
        authority.not_after = now.as_second() - 1;
        assert!(
            authority
                .sign(&request, &usages, Duration::from_secs(3600), now)
                .is_err()
        );
    }

    #[test]
    fn a_request_that_was_changed_after_signing_is_refused() {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let mut der = request.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let pem = pem_of(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        assert!(Request::read(pem.as_bytes()).is_err());
    }
}
