//! The kinds of the networking.k8s.io group.

mod cidr;
mod ingress;
mod ingress_class;
mod ingress_rules;
mod ip_address;
mod network_policy;
mod service_cidr;

use crate::field::{Errors, Path};

/// Whether a text is an address with the length of its network: `10.9.8.7/24`.
pub(crate) fn is_address_with_length(text: &str) -> bool {
    cidr::Cidr::parse(text).is_some()
}

/// Checks that a text is a range of addresses, written without needless parts: `10.9.8.0/24`.
pub(crate) fn check_range(text: &str, path: &Path, errors: &mut Errors) {
    cidr::check(text, path, errors);
}
