//! The kinds of the group `certificates.k8s.io`.

mod certificate_signing_request;
mod cluster_trust_bundle;
mod issued;
pub(crate) mod key_pair;
mod pod_certificate_request;
mod request;
mod signer;
mod x509;

pub use certificate_signing_request::USAGES;
