//! PodCertificateRequest: a kubelet asks a signer for a certificate for one of its pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use serde_json::Value;

use super::{issued, key_pair, signer, x509};
use crate::cell;
use crate::conditions;
use crate::field::{Errors, Path};
use crate::halves;
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target};
use crate::meta;
use crate::names;
use crate::same::same;

/// How long a certificate may be valid, in seconds: by default, at least, and at most by Kubernetes' own signers and
/// by others.
const DEFAULT: i32 = 86_400;
const LEAST: i32 = 3_600;
const MOST_BY_KUBERNETES: i32 = 86_400;
const MOST: i32 = 91 * 86_400;
const MAX_UID: usize = 128;
/// Bytes.
const MAX_REQUEST: usize = 10 << 10;
const OUTCOMES: [&str; 3] = ["Issued", "Denied", "Failed"];

impl Kind for PodCertificateRequest {
    fn info() -> KindInfo {
        KindInfo {
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of(
                    "PodName",
                    "string",
                    "certificates.v1.PodCertificateRequestSpec",
                    "podName",
                ),
                Column::of(
                    "ServiceAccountName",
                    "string",
                    "certificates.v1.PodCertificateRequestSpec",
                    "serviceAccountName",
                ),
                Column::of(
                    "NodeName",
                    "string",
                    "certificates.v1.PodCertificateRequestSpec",
                    "nodeName",
                ),
                Column::of(
                    "SignerName",
                    "string",
                    "certificates.v1.PodCertificateRequestSpec",
                    "signerName",
                ),
                Column::new(
                    "State",
                    "string",
                    "Is the request Pending, Issued, Denied, or Failed?",
                ),
                Column::of(
                    "UnverifiedUserAnnotations",
                    "string",
                    "certificates.v1.PodCertificateRequestSpec",
                    "unverifiedUserAnnotations",
                ),
            ],
            selectable_fields: &["spec.nodeName", "spec.podName", "spec.signerName"],
            ..KindInfo::of::<Self>("podcertificaterequest")
        }
    }

    fn default(&mut self) {
        self.spec.max_expiration_seconds.get_or_insert(DEFAULT);
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over_with_metadata(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate_create(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        signer::check(&spec.signer_name, &path.child("signerName"), errors);
        let at = path.child("unverifiedUserAnnotations");
        check_annotations(spec.unverified_user_annotations.as_ref(), &at, errors);
        for (name_field, name, uid_field, uid) in [
            ("podName", &spec.pod_name, "podUID", &spec.pod_uid),
            (
                "serviceAccountName",
                &spec.service_account_name,
                "serviceAccountUID",
                &spec.service_account_uid,
            ),
            ("nodeName", &spec.node_name, "nodeUID", &spec.node_uid),
        ] {
            errors.invalid_each(&path.child(name_field), name, names::dns_subdomain(name, false));
            let at = path.child(uid_field);
            if uid.is_empty() {
                errors.invalid(&at, uid, "must not be empty");
            }
            if uid.len() > MAX_UID {
                errors.too_long(&at, MAX_UID);
            }
        }
        let by_kubernetes = signer::is_kubernetes(&spec.signer_name);
        let most = if by_kubernetes { MOST_BY_KUBERNETES } else { MOST };
        let at = path.child("maxExpirationSeconds");
        match spec.max_expiration_seconds {
            None => errors.required(&at, "must be set"),
            Some(seconds) if !(LEAST..=most).contains(&seconds) => {
                errors.invalid(&at, seconds, format!("must be in the range [{LEAST}, {most}]"));
            }
            Some(_) => {}
        }
        let at = path.child("stubPKCS10Request");
        let request = &spec.stub_pkc_s10_request.0;
        if request.is_empty() {
            errors.required(&at, "");
        } else if request.len() > MAX_REQUEST {
            errors.too_long(&at, MAX_REQUEST);
        } else {
            match x509::requested_key(request).as_ref().map(key_pair::unusable) {
                None => {
                    let detail = "must be a valid PKCS#10 certificate signing request";
                    errors.invalid(&at, &spec.stub_pkc_s10_request, detail);
                }
                Some(Some((Some(what), why))) => errors.invalid(&at, what, why),
                Some(Some((None, why))) => errors.invalid(&at, &spec.stub_pkc_s10_request, why),
                Some(None) => {}
            }
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            if !same(&self.spec, &old.spec) {
                let shown = internal::of("certificates.v1.PodCertificateRequestSpec", &self.spec);
                errors.invalid(&Path::new("spec"), shown, meta::IMMUTABLE);
            }
            return;
        }
        let (status, before) = (
            self.status.clone().unwrap_or_default(),
            old.status.clone().unwrap_or_default(),
        );
        validate_status(&status, &before, &old.spec, errors);
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let outcome = self.status.as_ref().and_then(outcome);
        vec![
            self.metadata.name.clone().into(),
            self.spec.pod_name.clone().into(),
            self.spec.service_account_name.clone().into(),
            self.spec.node_name.clone().into(),
            self.spec.signer_name.clone().into(),
            outcome.unwrap_or("Pending").into(),
            cell::labels(self.spec.unverified_user_annotations.as_ref()).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "spec.nodeName" => self.spec.node_name.clone(),
            "spec.podName" => self.spec.pod_name.clone(),
            "spec.signerName" => self.spec.signer_name.clone(),
            _ => String::new(),
        }
    }
}

/// Checks annotations: each key has a domain in front, and case does not matter in it.
fn check_annotations(annotations: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.len();
        let key = key.to_lowercase();
        let wrong = names::qualified_name(&key);
        if key.is_empty() {
            errors.required(path, "");
        } else if wrong.is_empty() && !key.contains('/') {
            let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.invalid(path, &key, detail);
        } else {
            errors.invalid_each(path, &key, wrong);
        }
    }
    if size > meta::MAX_ANNOTATIONS {
        errors.too_long(path, meta::MAX_ANNOTATIONS);
    }
}

/// How a request ended; `None` while it has not.
fn outcome(status: &PodCertificateRequestStatus) -> Option<&'static str> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    OUTCOMES
        .into_iter()
        .find(|outcome| conditions.iter().any(|condition| condition.type_ == *outcome))
}

fn validate_status(
    status: &PodCertificateRequestStatus,
    old: &PodCertificateRequestStatus,
    spec: &PodCertificateRequestSpec,
    errors: &mut Errors,
) {
    let path = Path::new("status");
    let before = errors.iter().len();
    let (list, at) = (
        status.conditions.as_deref().unwrap_or_default(),
        path.child("conditions"),
    );
    let mut known = 0;
    for (index, condition) in list.iter().enumerate() {
        let at = at.index(index);
        if !OUTCOMES.contains(&condition.type_.as_str()) {
            errors.not_supported(&at.child("type"), &condition.type_, &OUTCOMES);
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&at.child("type"), &condition.type_, detail);
        }
        if condition.status != "True" {
            errors.not_supported(&at.child("status"), &condition.status, &["True"]);
        }
    }
    conditions::validate(list, &at, errors);
    if errors.iter().len() > before {
        return;
    }
    if outcome(old).is_some() {
        if !same(status, old) {
            let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
            errors.invalid_as_a_whole(&path, detail);
        }
        return;
    }
    let only_conditions = PodCertificateRequestStatus {
        conditions: status.conditions.clone(),
        ..Default::default()
    };
    match outcome(status) {
        Some("Issued") => issued::validate(status, spec, Timestamp::now(), errors),
        Some(_) if !same(status, &only_conditions) => {
            let detail =
                "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            errors.invalid_as_a_whole(&path, detail);
        }
        Some(_) => {}
        None if !same(status, old) => {
            let detail = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid_as_a_whole(&path, detail);
        }
        None => {}
    }
}
