//! Endpoints: the addresses behind a service, in the older form.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;

use super::address;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, age};
use crate::names;
use crate::same::same;

impl Kind for Endpoints {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["ep"],
            create_on_update: true,
            columns: vec![
                Column::object_name(),
                Column::of("Endpoints", "string", "core.v1.Endpoints", "subsets"),
                Column::age(),
            ],
            store_prefix: "services/endpoints".into(),
            deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
            ..KindInfo::of::<Self>("endpoints")
        }
    }

    fn default(&mut self) {
        for port in self
            .subsets
            .iter_mut()
            .flatten()
            .flat_map(|subset| subset.ports.iter_mut().flatten())
        {
            if port.protocol.as_deref().unwrap_or_default().is_empty() {
                port.protocol = Some("TCP".into());
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let path = Path::new("subsets").index(index);
            let (ready, not_ready) = (subset.addresses.as_deref(), subset.not_ready_addresses.as_deref());
            if ready.unwrap_or_default().is_empty() && not_ready.unwrap_or_default().is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (name, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
                for (index, address) in addresses.unwrap_or_default().iter().enumerate() {
                    let path = path.child(name).index(index);
                    address::check(&address.ip, &[], &path.child("ip"), errors);
                    if let Some(hostname) = address.hostname.as_deref().filter(|name| !name.is_empty()) {
                        for message in names::dns_label(hostname, false) {
                            errors.invalid(&path.child("hostname"), hostname, message);
                        }
                    }
                    if let Some(node) = &address.node_name {
                        for message in names::dns_subdomain(node, false) {
                            errors.invalid(&path.child("nodeName"), node, message);
                        }
                    }
                    check_range(&address.ip, &path.child("ip"), errors);
                }
            }
            let ports = subset.ports.as_deref().unwrap_or_default();
            for (index, port) in ports.iter().enumerate() {
                let path = path.child("ports").index(index);
                match port.name.as_deref().unwrap_or_default() {
                    "" if ports.len() > 1 => errors.required(&path.child("name"), ""),
                    "" => {}
                    name => {
                        for message in names::dns_label(name, false) {
                            errors.invalid(&path.child("name"), name, message);
                        }
                    }
                }
                for message in names::port_number(port.port) {
                    errors.invalid(&path.child("port"), port.port, message);
                }
                super::service::check_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
                if let Some(protocol) = &port.app_protocol {
                    for message in names::qualified_name(protocol) {
                        errors.invalid(&path.child("appProtocol"), protocol, message);
                    }
                }
            }
        }
    }

    fn validate_changed(&self, old: &Self, errors: &mut Errors) {
        // What was valid once, and is left as it was, stays so.
        if !same(&self.subsets, &old.subsets) {
            self.validate(errors);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let path = Path::new("subsets").index(index);
            for (name, addresses) in [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ] {
                for (index, address) in addresses.iter().flatten().enumerate() {
                    let at = path.child(name).index(index).child("ip");
                    warnings.extend(address::warning(&at, &address.ip));
                }
            }
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut all = Vec::new();
        for subset in self.subsets.iter().flatten() {
            let addresses = subset.addresses.as_deref().unwrap_or_default();
            match subset.ports.as_deref().unwrap_or_default() {
                [] => all.extend(addresses.iter().map(|address| address.ip.clone())),
                ports => {
                    for port in ports {
                        all.extend(addresses.iter().map(|address| host_port(&address.ip, port.port)));
                    }
                }
            }
        }
        let shown = match self.subsets.as_deref().unwrap_or_default() {
            [] => cell::NONE.to_string(),
            _ => cell::first_three(&all),
        };
        vec![
            self.metadata.name.clone().into(),
            shown.into(),
            age(&self.metadata, now),
        ]
    }
}

fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Checks the address of an endpoint: an IP address that another machine can mean.
pub(super) fn check_address(text: &str, path: &Path, errors: &mut Errors) {
    if address::parse_sloppily(text).is_none() {
        return errors.invalid(path, text, names::NOT_AN_ADDRESS);
    }
    check_range(text, path, errors);
}

/// Checks that an address is in a range that another machine can mean (`ValidateEndpointIP`).
pub(crate) fn check_range(text: &str, path: &Path, errors: &mut Errors) {
    let Some(address) = address::parse_sloppily(text) else {
        return errors.invalid(path, text, "must be a valid IP address");
    };
    let address = address.to_canonical();
    if address.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        errors.invalid(
            path,
            text,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    let (link_local, link_local_multicast) = match address {
        std::net::IpAddr::V4(address) => (
            address.is_link_local(),
            address.octets().starts_with(&[224, 0, 0]),
        ),
        std::net::IpAddr::V6(address) => (
            address
                .segments()
                .first()
                .is_some_and(|first| first & 0xffc0 == 0xfe80),
            address
                .segments()
                .first()
                .is_some_and(|first| first & 0xff0f == 0xff02),
        ),
    };
    if link_local {
        errors.invalid(
            path,
            text,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    if link_local_multicast {
        errors.invalid(
            path,
            text,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}
