//! ClusterTrustBundle: the authorities that whoever trusts a signer trusts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use serde_json::Value;

use super::signer;
use super::x509::{blocks, is_authority};
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target};
use crate::{meta, names};

/// The most bytes of a bundle.
const MAX_SIZE: usize = 1024 * 1024;
const OMITTED: &str = "<value omitted>";

impl Kind for ClusterTrustBundle {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::of(
                    "SignerName",
                    "string",
                    "certificates.v1.ClusterTrustBundleSpec",
                    "signerName",
                ),
            ],
            selectable_fields: &["spec.signerName"],
            unconditional_update: false,
            ..KindInfo::of::<Self>("clustertrustbundle")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let signer = self.spec.signer_name.as_deref().unwrap_or_default();
        errors.invalid_each(&Path::new("metadata.name"), name, check_name_for(signer, name));
        if !signer.is_empty() {
            signer::check(signer, &Path::new("spec.signerName"), errors);
        }
    }

    fn validate_create(&self, errors: &mut Errors) {
        check_bundle(&self.spec.trust_bundle, errors);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        if self.spec.trust_bundle != old.spec.trust_bundle {
            check_bundle(&self.spec.trust_bundle, errors);
        }
        let path = Path::new("spec.signerName");
        meta::immutable(&self.spec.signer_name, &old.spec.signer_name, &path, errors);
    }

    /// Which names are valid depends on the signer: [`Kind::validate`] asks.
    fn check_name(_name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            cell::or(self.spec.signer_name.as_deref(), cell::NONE).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "spec.signerName" => self.spec.signer_name.clone().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

fn check_name_for(signer: &str, name: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".into()];
        }
        return names::dns_subdomain(name, false);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns_subdomain(rest, false),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

fn check_bundle(text: &str, errors: &mut Errors) {
    let path = Path::new("spec.trustBundle");
    if text.len() > MAX_SIZE {
        return errors.too_long(&path, MAX_SIZE);
    }
    let before = errors.iter().len();
    let mut anchors: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for (index, block) in blocks(text).into_iter().enumerate() {
        let wrong = if block.type_ != "CERTIFICATE" {
            format!("has bad block type: {}", block.type_)
        } else if block.has_headers {
            "has PEM block headers".into()
        } else {
            match is_authority(&block.der) {
                None => "does not parse as X.509".into(),
                Some(false) => "does not have the CA bit set".into(),
                Some(true) => {
                    anchors.entry(block.der).or_default().push(index.to_string());
                    continue;
                }
            }
        };
        errors.invalid(&path, OMITTED, format!("entry {index} {wrong}"));
    }
    if errors.iter().len() > before {
        return;
    }
    if anchors.is_empty() {
        errors.invalid(&path, OMITTED, "at least one trust anchor must be provided");
    }
    for indices in anchors.values().filter(|indices| indices.len() > 1) {
        let detail = format!("duplicate trust anchor (indices [{}])", indices.join(" "));
        errors.invalid(&path, OMITTED, detail);
    }
}
