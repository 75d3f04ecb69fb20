//! What a server is started with: addresses, keys and ranges. Nothing here is read from a global.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What `/version` answers.
pub type VersionInfo = k8s_openapi::apimachinery::pkg::version::Info;

/// The settings of an [`ApiServer`](crate::ApiServer).
#[derive(Clone, Debug)]
pub struct Config {
    /// The address that the endpoints of the `kubernetes` service name.
    pub advertise_address: IpAddr,
    /// The port that they name.
    pub port: u16,
    /// The host's name, by which servers of one cluster are told apart.
    pub host_name: String,
    /// The serving certificate and its chain.
    pub tls_certificate_pem: Vec<u8>,
    /// The serving certificate's key.
    pub tls_key_pem: Vec<u8>,
    /// The authority whose client certificates are users: CN is the name, O the groups.
    pub client_ca_pem: Vec<u8>,
    /// How service-account tokens are signed and known.
    pub service_account: ServiceAccountKeys,
    /// Where cluster IPs come from: an address and the length of its prefix.
    pub service_cidr: (IpAddr, u8),
    /// Where node ports come from.
    pub node_port_range: RangeInclusive<u16>,
    /// How the server reaches a node's kubelet.
    pub kubelet: KubeletClient,
    /// How many requests are handled at once, besides those that last as long as the client likes; priority levels
    /// divide them.
    pub max_requests_in_flight: usize,
    /// What `/version` answers.
    pub version: VersionInfo,
    /// How much is logged can be set through the API, if the process lets it.
    pub verbosity: Option<Verbosity>,
}

/// Sets how much the process logs, in the levels of Kubernetes' programs: 0 is least, 4 is for those who look for what
/// is wrong, 6 and more tell of each request.
#[derive(Clone)]
pub struct Verbosity(std::sync::Arc<dyn Fn(u32) + Send + Sync>);

impl Verbosity {
    /// What sets it.
    pub fn new(set: impl Fn(u32) + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(set))
    }

    /// Sets it.
    pub(crate) fn set(&self, level: u32) {
        (self.0)(level);
    }
}

impl std::fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verbosity").finish_non_exhaustive()
    }
}

/// How many requests upstream handles at once: `--max-requests-inflight` and `--max-mutating-requests-inflight`.
pub const MAX_REQUESTS_IN_FLIGHT: usize = 400 + 200;

/// How service-account tokens are signed and known.
#[derive(Clone)]
pub struct ServiceAccountKeys {
    /// The tokens' `iss`, an https URL.
    pub issuer: String,
    /// The audiences that this server answers to; the first ones are those of a token that asks for none.
    pub audiences: Vec<String>,
    /// The signing key: EC P-256 in PKCS#8; tokens are ES256.
    pub signing_key_pem: Vec<u8>,
}

impl std::fmt::Debug for ServiceAccountKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountKeys")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

/// The server's identity towards kubelets, and how it knows theirs.
#[derive(Clone)]
pub struct KubeletClient {
    /// The client certificate that the server shows.
    pub certificate_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Vec<u8>,
    /// The authority that the kubelets' serving certificates come from.
    pub ca_pem: Vec<u8>,
}

impl std::fmt::Debug for KubeletClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeletClient").finish_non_exhaustive()
    }
}

/// The Kubernetes version whose API this server serves, on this machine's platform.
pub fn kubernetes_version() -> VersionInfo {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    VersionInfo {
        major: "1".into(),
        minor: "37".into(),
        emulation_major: Some("1".into()),
        emulation_minor: Some("37".into()),
        min_compatibility_major: Some("1".into()),
        min_compatibility_minor: Some("36".into()),
        git_version: "v1.37.0".into(),
        git_commit: String::new(),
        git_tree_state: "clean".into(),
        build_date: "1970-01-01T00:00:00Z".into(),
        go_version: String::new(),
        compiler: "rustc".into(),
        platform: format!("{}/{arch}", std::env::consts::OS),
    }
}
