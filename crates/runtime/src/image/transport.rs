//! HTTP clients for registries: one for each way of doing TLS, kept for the next pull.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::ImageError;
use super::registries::{Endpoint, Tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a registry may be silent in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// The clients, by how they do TLS and whether they may use a proxy.
#[derive(Default)]
pub(crate) struct Transports {
    clients: Mutex<HashMap<(Tls, bool), reqwest::Client>>,
}

impl Transports {
    /// The client for an endpoint.
    pub(crate) fn get(&self, endpoint: &Endpoint) -> Result<reqwest::Client, ImageError> {
        let key = (endpoint.tls.clone(), endpoint.is_local);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(&endpoint.tls)?)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .user_agent(concat!("skiff/", env!("CARGO_PKG_VERSION")));
        if endpoint.is_local {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| ImageError::Content(format!("no HTTP client: {error}")))?;
        self.clients.lock().insert(key, client.clone());
        Ok(client)
    }
}

/// TLS as the file says.
fn tls_config(tls: &Tls) -> Result<ClientConfig, ImageError> {
    let invalid =
        |what: &str, reason: String| ImageError::Content(format!("invalid TLS settings: {what}: {reason}"));
    let protocol = |error: rustls::Error| invalid("protocol", error.to_string());
    let builder = if tls.insecure_skip_verify {
        skiff_tls::trusting_client().map_err(protocol)?
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = &tls.ca_file {
            let name = file.display().to_string();
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|e| invalid(&name, e.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| invalid(&name, e.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|e| invalid(&name, e.to_string()))?;
            }
        }
        skiff_tls::client()
            .map_err(protocol)?
            .with_root_certificates(roots)
    };
    match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let name = certificate.display().to_string();
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| invalid(&name, e.to_string()))?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| invalid(&key.display().to_string(), e.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| invalid(&name, e.to_string()))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(invalid(
            "client certificate",
            "cert_file and key_file belong together".to_owned(),
        )),
    }
}
