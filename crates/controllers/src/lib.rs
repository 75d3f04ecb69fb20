//! The controllers, one file each: what Kubernetes' kube-controller-manager and cloud-independent node controllers do.
//!
//! Each controller is a pure decision over plain values and a thin shell that gathers the values from shared informers
//! and carries the decision out through the API. Informer callbacks put keys into a work queue; a conflict or an error
//! puts the key back with back-off, so every pass starts from what the cluster looks like now.

mod certificates;
mod deployment;
mod discovered;
mod disruption;
mod endpoints;
mod expectations;
mod garbage;
mod namespace;
mod node;
mod ownership;
mod pod_gc;
mod pods;
mod replica_set;
mod resource_quota;
mod role_aggregation;
mod root_ca;
mod secret_token_cleaner;
mod secret_tokens;
mod service_account;
mod storage_protection;
mod worker;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use skiff_informer::Informers;
use tokio_util::sync::CancellationToken;

/// What the controllers are told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The certificates that clients in pods trust, published as ConfigMap `kube-root-ca.crt`.
    pub root_ca_pem: String,
    /// The certificate and the key, PEM, by which requests of Kubernetes' own signers are signed; `None` leaves them to
    /// somebody else.
    pub signing_authority: Option<SigningAuthority>,
    /// Signs the tokens that stand in Secrets; `None` leaves such Secrets as they are.
    pub token_signer: Option<TokenSigner>,
    /// The pod network, of which each node gets a part in `spec.podCIDR`; `None` leaves `spec.podCIDR` alone.
    pub cluster_cidr: Option<(IpAddr, u8)>,
    /// The prefix length of a node's part of an IPv4 `cluster_cidr`.
    pub node_cidr_mask_ipv4: u8,
    /// The prefix length of a node's part of an IPv6 `cluster_cidr`.
    pub node_cidr_mask_ipv6: u8,
    /// How long a node may be silent before its conditions become `Unknown`.
    pub node_monitor_grace: Duration,
    /// How many terminated pods are kept before the oldest are deleted; 0 keeps all.
    pub terminated_pod_threshold: usize,
}

/// A certificate authority.
#[derive(Clone)]
pub struct SigningAuthority {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for SigningAuthority {
    /// The key is nobody's to read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningAuthority").finish_non_exhaustive()
    }
}

/// Signs the token of a service account for the Secret of a name.
#[derive(Clone)]
pub struct TokenSigner(Arc<SignToken>);

type SignToken = dyn Fn(&ServiceAccount, &str) -> Result<String, String> + Send + Sync;

impl TokenSigner {
    /// Signs by a function.
    pub fn new(
        sign: impl Fn(&ServiceAccount, &str) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(sign))
    }

    fn sign(&self, account: &ServiceAccount, secret: &str) -> Result<String, String> {
        (self.0)(account, secret)
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").finish_non_exhaustive()
    }
}

impl Default for Config {
    /// kube-controller-manager's defaults, with the pod network 10.244.0.0/16.
    fn default() -> Self {
        Self {
            root_ca_pem: String::new(),
            signing_authority: None,
            token_signer: None,
            cluster_cidr: Some((IpAddr::from([10, 244, 0, 0]), 16)),
            node_cidr_mask_ipv4: 24,
            node_cidr_mask_ipv6: 64,
            node_monitor_grace: Duration::from_secs(50),
            terminated_pod_threshold: 12_500,
        }
    }
}

/// Why the controllers could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pod network cannot be cut into parts for nodes.
    #[error("cluster CIDR {cidr} has no room for node CIDRs of /{mask}")]
    ClusterCidr {
        /// The pod network.
        cidr: String,
        /// The prefix length of a node's part.
        mask: u8,
    },
    /// The certificate or the key of the signing authority cannot be used.
    #[error("the signing authority: {0}")]
    SigningAuthority(String),
}

/// Runs all controllers until `shutdown`.
///
/// # Errors
/// When the configuration makes no sense. Errors of the API are retried, not returned.
pub async fn run(config: Config, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
    let parts = node::parts(&config)?;
    let authority = config
        .signing_authority
        .map(|pair| certificates::Authority::new(&pair.certificate_pem, &pair.key_pem))
        .transpose()
        .map_err(Error::SigningAuthority)?;
    let pods_by_node = node::pods_by_node(&informers);
    let vacancies = namespace::Vacancies::new(&informers);
    let releases = resource_quota::Releases::new(&informers);
    let ipam = {
        let (informers, shutdown) = (informers.clone(), shutdown.clone());
        async move {
            if let Some(parts) = parts {
                node::run_ipam(parts, informers, shutdown).await;
            }
        }
    };
    let secret_tokens = {
        let (informers, shutdown) = (informers.clone(), shutdown.clone());
        let (signer, root_ca_pem) = (config.token_signer, config.root_ca_pem.clone());
        async move {
            if let Some(signer) = signer {
                secret_tokens::run(root_ca_pem, signer, informers, shutdown).await;
            }
        }
    };
    tokio::join!(
        certificates::run(authority, informers.clone(), shutdown.clone()),
        deployment::run(informers.clone(), shutdown.clone()),
        disruption::run(informers.clone(), shutdown.clone()),
        endpoints::run(informers.clone(), shutdown.clone()),
        garbage::run(
            vacancies.clone(),
            releases.clone(),
            informers.clone(),
            shutdown.clone()
        ),
        namespace::run(vacancies, informers.clone(), shutdown.clone()),
        ipam,
        node::run_lifecycle(
            config.node_monitor_grace,
            pods_by_node.clone(),
            informers.clone(),
            shutdown.clone()
        ),
        pod_gc::run(
            config.terminated_pod_threshold,
            pods_by_node,
            informers.clone(),
            shutdown.clone()
        ),
        replica_set::run(informers.clone(), shutdown.clone()),
        resource_quota::run(releases, informers.clone(), shutdown.clone()),
        role_aggregation::run(informers.clone(), shutdown.clone()),
        root_ca::run(config.root_ca_pem, informers.clone(), shutdown.clone()),
        secret_token_cleaner::run(informers.clone(), shutdown.clone()),
        secret_tokens,
        service_account::run(informers.clone(), shutdown.clone()),
        storage_protection::run(informers, shutdown),
    );
    Ok(())
}
