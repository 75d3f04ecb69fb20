//! The cluster's certificates and keys: one authority, short-lived leaves that are renewed at start.
//!
//! Keys are ECDSA P-256: made in well under a millisecond. Files are as kubeadm names them, keys readable by root
//! alone.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The authority is valid for ten years.
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A leaf is valid for a year…
const LEAF_VALIDITY: Duration = Duration::from_secs(365 * 86_400);
/// …and renewed at the first start at which less than this is left.
const RENEW_BEFORE: Duration = Duration::from_secs(90 * 86_400);

/// A certificate (or a chain) and its key, both PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) certificate: String,
    /// The key, PKCS#8.
    pub(crate) key: String,
}

/// Everything that the parts of a cluster show and trust.
pub(crate) struct Pki {
    /// The authority's certificate.
    pub(crate) ca: String,
    /// The authority's key.
    pub(crate) ca_key: String,
    /// The API server's serving certificate.
    pub(crate) apiserver: Pair,
    /// What the API server shows to kubelets.
    pub(crate) apiserver_kubelet_client: Pair,
    /// The kubelet's serving certificate.
    pub(crate) kubelet: Pair,
    /// The administrator's client certificate.
    pub(crate) admin: Pair,
    /// The key that service-account tokens are signed with.
    pub(crate) service_account_key: String,
}

/// Who and where the cluster is, as its certificates say.
pub(crate) struct Names<'a> {
    /// The node's name.
    pub(crate) node_name: &'a str,
    /// The node's address.
    pub(crate) node_ip: IpAddr,
    /// The first address of the service range.
    pub(crate) service_ip: IpAddr,
    /// The cluster's DNS domain.
    pub(crate) cluster_domain: &'a str,
}

/// What a leaf certificate is for.
struct Leaf {
    file: &'static str,
    common_name: String,
    organization: Option<&'static str>,
    server_names: Vec<SanType>,
    client: bool,
}

impl Pki {
    /// Reads the certificates below `directory`, and makes those that are missing, near their end, or for other names.
    pub(crate) fn open(directory: &Path, names: &Names<'_>) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let (ca, issuer) = authority(directory)?;
        let apiserver = Leaf {
            file: "apiserver",
            common_name: "kube-apiserver".into(),
            organization: None,
            server_names: api_server_names(names)?,
            client: false,
        };
        let kubelet = Leaf {
            file: "kubelet",
            common_name: format!("system:node:{}", names.node_name),
            organization: Some("system:nodes"),
            server_names: vec![
                dns(names.node_name)?,
                dns("localhost")?,
                SanType::IpAddress(names.node_ip),
            ],
            client: false,
        };
        let client = |file, common_name: &str| Leaf {
            file,
            common_name: common_name.into(),
            organization: Some("system:masters"),
            server_names: Vec::new(),
            client: true,
        };
        Ok(Self {
            apiserver: leaf(directory, &issuer, &apiserver)?,
            apiserver_kubelet_client: leaf(
                directory,
                &issuer,
                &client("apiserver-kubelet-client", "kube-apiserver-kubelet-client"),
            )?,
            kubelet: leaf(directory, &issuer, &kubelet)?,
            admin: leaf(directory, &issuer, &client("admin", "kubernetes-admin"))?,
            service_account_key: key_file(&directory.join("sa.key"))?,
            ca_key: issuer.key().serialize_pem(),
            ca,
        })
    }
}

fn api_server_names(names: &Names<'_>) -> anyhow::Result<Vec<SanType>> {
    let mut sans = Vec::new();
    for name in [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        names.node_name,
    ] {
        sans.push(dns(name)?);
    }
    sans.push(dns(&format!("kubernetes.default.svc.{}", names.cluster_domain))?);
    for address in [
        IpAddr::from([127, 0, 0, 1]),
        "::1".parse()?,
        names.service_ip,
        names.node_ip,
    ] {
        if !sans.contains(&SanType::IpAddress(address)) {
            sans.push(SanType::IpAddress(address));
        }
    }
    Ok(sans)
}

fn dns(name: &str) -> anyhow::Result<SanType> {
    let name = name
        .try_into()
        .with_context(|| format!("{name:?} cannot stand in a certificate"))?;
    Ok(SanType::DnsName(name))
}

/// The authority: read, or made once and for all.
fn authority(directory: &Path) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let (certificate_path, key_path) = paths(directory, "ca");
    let key = KeyPair::from_pem(&key_file(&key_path)?).context("the authority's key cannot be read")?;
    let certificate = match fs::read_to_string(&certificate_path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "kubernetes");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
            set_validity(&mut params, CA_VALIDITY)?;
            let pem = params.self_signed(&key)?.pem();
            write(&certificate_path, &pem, 0o644)?;
            pem
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", certificate_path.display()));
        }
    };
    let issuer = Issuer::from_ca_cert_pem(&certificate, key).context("the authority cannot be read")?;
    Ok((certificate, issuer))
}

fn leaf(directory: &Path, issuer: &Issuer<'_, KeyPair>, leaf: &Leaf) -> anyhow::Result<Pair> {
    let (certificate_path, key_path) = paths(directory, leaf.file);
    let key_pem = key_file(&key_path)?;
    let key = KeyPair::from_pem(&key_pem).with_context(|| format!("cannot read {}", key_path.display()))?;
    if let Ok(pem) = fs::read_to_string(&certificate_path)
        && is_current(&pem, leaf, &key)
    {
        return Ok(Pair {
            certificate: pem,
            key: key_pem,
        });
    }
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, leaf.common_name.as_str());
    if let Some(organization) = leaf.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.subject_alt_names.clone_from(&leaf.server_names);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if leaf.client {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, LEAF_VALIDITY)?;
    let pem = params.signed_by(&key, issuer)?.pem();
    write(&certificate_path, &pem, 0o644)?;
    Ok(Pair {
        certificate: pem,
        key: key_pem,
    })
}

/// Whether a certificate lasts long enough, belongs to the key and is for all the names.
fn is_current(pem: &str, leaf: &Leaf, key: &KeyPair) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else {
        return false;
    };
    let left = certificate
        .validity()
        .time_to_expiration()
        .map(|left| left.unsigned_abs());
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().map(name_text).collect(),
        _ => Vec::new(),
    };
    let same_subject = certificate
        .subject()
        .iter_common_name()
        .any(|name| name.as_str() == Ok(leaf.common_name.as_str()));
    left.is_some_and(|left| left > RENEW_BEFORE)
        && same_subject
        && certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        && leaf
            .server_names
            .iter()
            .all(|name| names.contains(&san_text(name)))
}

fn name_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_string(),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => IpAddr::from(v4).to_string(),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .map(|v6| IpAddr::from(v6).to_string())
                .unwrap_or_default(),
        },
        _ => String::new(),
    }
}

fn san_text(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.to_string(),
        SanType::IpAddress(address) => address.to_string(),
        _ => String::new(),
    }
}

fn set_validity(params: &mut CertificateParams, validity: Duration) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now();
    // The clocks of other machines may be a little behind.
    params.not_before = (now - Duration::from_secs(300)).into();
    params.not_after = (now + validity).into();
    Ok(())
}

/// The key in a file, which is made if it is not there.
fn key_file(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(pem) => Ok(pem),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pem = KeyPair::generate()?.serialize_pem();
            write(path, &pem, 0o600)?;
            Ok(pem)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn paths(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (
        directory.join(format!("{name}.crt")),
        directory.join(format!("{name}.key")),
    )
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("new{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(node_name: &str) -> Names<'_> {
        Names {
            node_name,
            node_ip: "192.0.2.2".parse().unwrap(),
            service_ip: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local",
        }
    }

    #[test]
    fn a_second_start_finds_the_same_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let first = Pki::open(directory.path(), &names("n1")).unwrap();
        let second = Pki::open(directory.path(), &names("n1")).unwrap();
        assert_eq!(first.ca, second.ca);
        assert_eq!(first.apiserver.certificate, second.apiserver.certificate);
        assert_eq!(first.service_account_key, second.service_account_key);
    }

    #[test]
    fn a_new_node_name_renews_the_serving_certificates_but_not_the_authority() {
        let directory = tempfile::tempdir().unwrap();
        let first = Pki::open(directory.path(), &names("n1")).unwrap();
        let second = Pki::open(directory.path(), &names("n2")).unwrap();
        assert_eq!(first.ca, second.ca);
        assert_ne!(first.apiserver.certificate, second.apiserver.certificate);
        assert_ne!(first.kubelet.certificate, second.kubelet.certificate);
        assert_eq!(first.admin.certificate, second.admin.certificate);
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        Pki::open(directory.path(), &names("n1")).unwrap();
        let mut keys = 0;
        for entry in fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "key")
            {
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
                keys += 1;
            }
        }
        assert_eq!(keys, 6);
    }
}
