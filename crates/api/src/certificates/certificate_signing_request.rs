//! CertificateSigningRequest: a wish for a certificate, its approval, and the certificate.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::request;
use super::signer;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age, human_duration};
use crate::names;

/// The shortest lifetime that can be asked for, in seconds.
const SHORTEST: i32 = 600;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Kind for CertificateSigningRequest {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            short_names: &["csr"],
            subresources: &[Subresource::Status, Subresource::Approval],
            selectable_fields: &["spec.signerName"],
            columns: vec![
                Column::object_name(),
                Column::age(),
                Column::new(
                    "SignerName",
                    "string",
                    "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n    \"kubernetes.io/kube-apiserver-client-kubelet\".\n 2. If it's a kubelet serving certificate, it is assigned\n    \"kubernetes.io/kubelet-serving\".\n 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".\nDistribution of trust for signers happens out of band. You can select on this field using `spec.signerName`.",
                ),
                Column::new("Requestor", "string", "Base64-encoded PKCS#10 CSR data"),
                Column::new(
                    "RequestedDuration",
                    "string",
                    "expirationSeconds is the requested duration of validity of the issued certificate. The certificate signer may issue a certificate with a different validity duration so a client must check the delta between the notBefore and and notAfter fields in the issued certificate to determine the actual duration.\n\nThe v1.22+ in-tree implementations of the well-known Kubernetes signers will honor this field as long as the requested duration is not greater than the maximum duration they will honor per the --cluster-signing-duration CLI flag to the Kubernetes controller manager.\n\nCertificate signers may not honor this field for various reasons:\n\n  1. Old signer that is unaware of the field (such as the in-tree\n     implementations prior to v1.22)\n  2. Signer whose configured maximum is shorter than the requested duration\n  3. Signer whose configured minimum is longer than the requested duration\n\nThe minimum valid value for expirationSeconds is 600, i.e. 10 minutes.",
                ),
                Column::new(
                    "Condition",
                    "string",
                    "Conditions applied to the request, such as approval or denial.",
                ),
            ],
            ..KindInfo::of::<Self>("certificatesigningrequest")
        }
    }

    fn default(&mut self) {
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        self.spec.clone_from(&old.spec);
        let after = self.status.take().unwrap_or_default();
        let before = old.status.clone().unwrap_or_default();
        self.status = Some(match target {
            Target::Main => before,
            // Who approves and who signs are different people: each writes its own part.
            Target::Subresource(Subresource::Approval) => {
                let mut status = before;
                status.conditions = after.conditions;
                status
            }
            Target::Subresource(_) => {
                let mut status = after;
                let mut conditions: Vec<_> = status.conditions.take().unwrap_or_default();
                conditions.retain(|condition| !decides(condition));
                let decided = before.conditions.clone().unwrap_or_default();
                let decided = decided.into_iter().filter(decides);
                let conditions: Vec<_> = decided.chain(conditions).collect();
                status.conditions = (!conditions.is_empty()).then_some(conditions);
                status
            }
        });
        if target != Target::Main {
            stamp(self, old);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        if let Err(message) = request::parse(&spec.request.0) {
            errors.invalid(&path.child("request"), &spec.request, message);
        }
        let usages = spec.usages.as_deref().unwrap_or_default();
        if usages.is_empty() {
            errors.required(&path.child("usages"), "");
        }
        let mut seen = BTreeSet::new();
        for (index, usage) in usages.iter().enumerate() {
            let path = path.child("usages").index(index);
            if !USAGES.contains(&usage.as_str()) {
                errors.not_supported(&path, usage, &USAGES);
            }
            if !seen.insert(usage) {
                errors.duplicate(&path, usage);
            }
        }
        signer::check(&spec.signer_name, &path.child("signerName"), errors);
        if spec.signer_name == "kubernetes.io/legacy-unknown" {
            errors.invalid(
                &path.child("signerName"),
                &spec.signer_name,
                "the legacy signerName is not allowed via this API version",
            );
        }
        if let Some(seconds) = spec.expiration_seconds.filter(|&seconds| seconds < SHORTEST) {
            errors.invalid(
                &path.child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        let path = Path::new("status.conditions");
        let (new, old_conditions) = (conditions(self), conditions(old));
        let mut seen = BTreeSet::new();
        for (index, condition) in new.iter().enumerate() {
            let path = path.index(index);
            match condition.status.as_str() {
                _ if decides(condition) && condition.status != "True" => {
                    errors.not_supported(&path.child("status"), &condition.status, &["True"]);
                }
                "True" | "False" | "Unknown" => {}
                "" => errors.required(&path.child("status"), ""),
                other => {
                    errors.not_supported(&path.child("status"), other, &["False", "True", "Unknown"]);
                }
            }
            if condition.type_.is_empty() {
                errors.required(&path.child("type"), "");
            } else if !seen.insert(&condition.type_) {
                errors.duplicate(&path.child("type"), &condition.type_);
            }
        }
        if seen.iter().any(|type_| *type_ == "Approved") && seen.iter().any(|type_| *type_ == "Denied") {
            errors.invalid(
                &path,
                "Denied",
                "Approved and Denied conditions are mutually exclusive",
            );
        }
        // What has been decided stays decided.
        for type_ in ["Approved", "Denied", "Failed"] {
            let find = |all: &[CertificateSigningRequestCondition]| {
                all.iter().find(|condition| condition.type_ == type_).cloned()
            };
            match (find(old_conditions), find(new)) {
                (Some(_), None) => errors.forbidden(
                    &path,
                    &format!("updates may not remove a condition of type {type_:?}"),
                ),
                (None, Some(_)) if target == Target::Main => errors.forbidden(
                    &path,
                    &format!("updates may not add a condition of type {type_:?}"),
                ),
                _ => {}
            }
        }
        if target == Target::Subresource(Subresource::Status) {
            validate_certificate(self, old, errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&self.spec, self.status.clone().unwrap_or_default());
        let duration = match spec.expiration_seconds {
            Some(seconds) => human_duration(seconds.into()),
            None => cell::NONE.into(),
        };
        let has = |type_: &str| conditions(self).iter().any(|condition| condition.type_ == type_);
        let mut condition = match (has("Denied"), has("Approved")) {
            (true, _) => "Denied".to_string(),
            (false, true) => "Approved".into(),
            (false, false) => "Pending".into(),
        };
        if has("Failed") {
            condition += ",Failed";
        }
        if status
            .certificate
            .is_some_and(|certificate| !certificate.0.is_empty())
        {
            condition += ",Issued";
        }
        vec![
            self.metadata.name.clone().into(),
            age(&self.metadata, now),
            spec.signer_name.clone().into(),
            spec.username.clone().unwrap_or_default().into(),
            duration.into(),
            condition.into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "spec.signerName" => self.spec.signer_name.clone(),
            _ => String::new(),
        }
    }

    /// Any name will do that can stand in a path.
    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }
}

fn conditions(object: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    object
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

fn decides(condition: &CertificateSigningRequestCondition) -> bool {
    matches!(condition.type_.as_str(), "Approved" | "Denied")
}

/// Gives each condition its times, where the client left them out.
fn stamp(object: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    for condition in object
        .status
        .iter_mut()
        .filter_map(|status| status.conditions.as_mut())
        .flatten()
    {
        let before = conditions(old)
            .iter()
            .find(|before| before.type_ == condition.type_);
        let turned = match before {
            Some(before) if before.status == condition.status => {
                before.last_transition_time.clone().or(Some(Time(now)))
            }
            _ => Some(Time(now)),
        };
        if condition.last_transition_time.is_none() {
            condition.last_transition_time = turned;
        }
        if condition.last_update_time.is_none() {
            condition.last_update_time = Some(Time(now));
        }
    }
}

fn validate_certificate(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    errors: &mut Errors,
) {
    let path = Path::new("status.certificate");
    let certificate = |object: &CertificateSigningRequest| {
        let status = object.status.clone().unwrap_or_default();
        status
            .certificate
            .map(|certificate| certificate.0)
            .unwrap_or_default()
    };
    let (new, old) = (certificate(new), certificate(old));
    if !old.is_empty() && new != old {
        errors.forbidden(
            &path,
            "updates may not set certificate content from one value to another",
        );
    } else if !new.is_empty() && !String::from_utf8_lossy(&new).contains("-----BEGIN CERTIFICATE-----") {
        errors.invalid(
            &path,
            "<certificate data>",
            "must contain at least one CERTIFICATE PEM block",
        );
    }
}
