//! NetworkPolicy: who may talk to the pods of a namespace, and to whom they may talk.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::cidr;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target, age};
use crate::same::same;
use crate::{meta, names, selector};

impl Kind for NetworkPolicy {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["netpol"],
            columns: vec![
                Column::object_name(),
                Column::of(
                    "Pod-Selector",
                    "string",
                    "networking.v1.NetworkPolicySpec",
                    "podSelector",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("networkpolicy")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let mut types = vec!["Ingress".to_string()];
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".into());
            }
            spec.policy_types = Some(types);
        }
        let incoming = spec.ingress.iter_mut().flatten().map(|rule| &mut rule.ports);
        let outgoing = spec.egress.iter_mut().flatten().map(|rule| &mut rule.ports);
        for port in incoming.chain(outgoing).flatten().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = meta::generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        if let Some(pods) = &spec.pod_selector {
            selector::validate(pods, &path.child("podSelector"), errors);
        }
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(index);
            validate_rule(rule.ports.as_deref(), rule.from.as_deref(), "from", &path, errors);
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(index);
            validate_rule(rule.ports.as_deref(), rule.to.as_deref(), "to", &path, errors);
        }
        let types = spec.policy_types.unwrap_or_default();
        let path = path.child("policyTypes");
        if types.len() > 2 {
            return errors.invalid(&path, types, "may not specify more than two policyTypes");
        }
        for (index, type_) in types.iter().enumerate() {
            if !matches!(type_.as_str(), "Ingress" | "Egress") {
                errors.not_supported(&path.index(index), type_, &["Egress", "Ingress"]);
            }
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let spec = self.spec.clone().unwrap_or_default();
        let mut warnings = Vec::new();
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = Path::new("spec.ingress").index(index).child("from");
            warn(rule.from.as_deref(), &path, &mut warnings);
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let path = Path::new("spec.egress").index(index).child("to");
            warn(rule.to.as_deref(), &path, &mut warnings);
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let pods = self.spec.clone().unwrap_or_default().pod_selector;
        vec![
            self.metadata.name.clone().into(),
            cell::selector(&pods.unwrap_or_default()).into(),
            age(&self.metadata, now),
        ]
    }
}

fn validate_rule(
    ports: Option<&[NetworkPolicyPort]>,
    peers: Option<&[NetworkPolicyPeer]>,
    direction: &str,
    path: &Path,
    errors: &mut Errors,
) {
    for (index, port) in ports.into_iter().flatten().enumerate() {
        validate_port(port, &path.child("ports").index(index), errors);
    }
    for (index, peer) in peers.into_iter().flatten().enumerate() {
        validate_peer(peer, &path.child(direction).index(index), errors);
    }
}

fn validate_port(port: &NetworkPolicyPort, path: &Path, errors: &mut Errors) {
    if let Some(protocol) = &port.protocol
        && !matches!(protocol.as_str(), "TCP" | "UDP" | "SCTP")
    {
        errors.not_supported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    let at = path.child("endPort");
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(first)), end) => {
            for message in names::port_number(*first) {
                errors.invalid(&path.child("port"), first, message);
            }
            let Some(end) = end else { return };
            if end < *first {
                errors.invalid(&at, end, "must be greater than or equal to `port`");
            }
            for message in names::port_number(end) {
                errors.invalid(&at, end, message);
            }
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                errors.invalid(&at, end, "may not be specified when `port` is non-numeric");
            }
            for message in names::port_name(name) {
                errors.invalid(&path.child("port"), name, message);
            }
        }
        (None, Some(end)) => errors.invalid(&at, end, "may not be specified when `port` is not specified"),
        (None, None) => {}
    }
}

fn validate_peer(peer: &NetworkPolicyPeer, path: &Path, errors: &mut Errors) {
    if let Some(pods) = &peer.pod_selector {
        selector::validate(pods, &path.child("podSelector"), errors);
    }
    if let Some(namespaces) = &peer.namespace_selector {
        selector::validate(namespaces, &path.child("namespaceSelector"), errors);
    }
    if let Some(block) = &peer.ip_block {
        validate_block(block, &path.child("ipBlock"), errors);
    }
    let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match (&peer.ip_block, selects) {
        (None, false) => errors.required(path, "must specify a peer"),
        (Some(_), true) => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

/// What is said of ranges that are not written the way everyone writes them.
fn warn(peers: Option<&[NetworkPolicyPeer]>, path: &Path, warnings: &mut Vec<String>) {
    for (index, peer) in peers.into_iter().flatten().enumerate() {
        let Some(block) = &peer.ip_block else { continue };
        let path = path.index(index).child("ipBlock");
        warnings.extend(cidr::unusual_form(&path.child("cidr"), &block.cidr));
        for (index, except) in block.except.iter().flatten().enumerate() {
            warnings.extend(cidr::unusual_form(&path.child("except").index(index), except));
        }
    }
}

fn validate_block(block: &IPBlock, path: &Path, errors: &mut Errors) {
    if block.cidr.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    let Some(range) = cidr::check(&block.cidr, &path.child("cidr"), errors) else {
        return;
    };
    for (index, text) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(index);
        if let Some(except) = cidr::check(text, &path, errors)
            && !range.strictly_contains(except)
        {
            errors.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}
