//! The kinds of the networking.k8s.io group.

mod cidr;
mod ingress;
mod ingress_class;
mod ingress_rules;
mod ip_address;
mod network_policy;
mod service_cidr;

/// Whether a text is an address with the length of its network: `10.9.8.7/24`.
pub(crate) fn is_address_with_length(text: &str) -> bool {
    cidr::Cidr::parse(text).is_some()
}
