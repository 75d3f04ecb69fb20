//! The kinds of the networking.k8s.io group.

mod cidr;
mod ingress;
mod ingress_class;
mod ingress_rules;
mod ip_address;
mod network_policy;
mod service_cidr;
