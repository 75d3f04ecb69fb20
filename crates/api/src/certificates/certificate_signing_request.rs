//! CertificateSigningRequest: a wish for a certificate, its approval, and the certificate.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{request, signer, x509};
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age, human_duration};
use crate::names;

/// The shortest lifetime that can be asked for, in seconds.
const SHORTEST: i32 = 600;
/// What signed for everyone before signers had names.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// The conditions that approve or deny, and all those that are never taken back.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];

/// What a certificate may be asked for (`KeyUsage`), in the order of the texts.
pub const USAGES: [&str; 23] = [
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
                for type_ in DECISIONS {
                    keep_decisions(type_, &before, &mut status);
                }
                status
            }
        });
        if target != Target::Main {
            stamp(self, old);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        check(self, None, errors);
    }

    fn validate_changed(&self, old: &Self, errors: &mut Errors) {
        check(self, Some(old), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            check(self, Some(old), errors);
        }
        let path = Path::new("status.conditions");
        let count = |object: &Self, type_: &str| of_type(conditions(object), type_).count();
        // What has been decided stays decided.
        for type_ in FINAL {
            if count(self, type_) < count(old, type_) {
                let detail = format!("updates may not remove a condition of type {type_:?}");
                errors.forbidden(&path, &detail);
            }
        }
        // Who signs does not approve.
        for type_ in DECISIONS {
            let approves = target == Target::Subresource(Subresource::Approval);
            if !approves && count(self, type_) > count(old, type_) {
                let detail = format!("updates may not add a condition of type {type_:?}");
                errors.forbidden(&path, &detail);
            }
        }
        let before = certificate(old);
        if !before.is_empty() && before != certificate(self) {
            let detail = "updates may not modify existing certificate content";
            errors.forbidden(&Path::new("status.certificate"), detail);
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

fn of_type<'c>(
    conditions: &'c [CertificateSigningRequestCondition],
    type_: &str,
) -> impl Iterator<Item = &'c CertificateSigningRequestCondition> {
    conditions
        .iter()
        .filter(move |condition| condition.type_ == type_)
}

fn certificate(object: &CertificateSigningRequest) -> &[u8] {
    let status = object.status.as_ref();
    let certificate = status.and_then(|status| status.certificate.as_ref());
    certificate
        .map(|certificate| certificate.0.as_slice())
        .unwrap_or_default()
}

/// Puts decisions that were there in the place of those that are written, unless there are more or fewer: that is
/// refused later.
fn keep_decisions(
    type_: &str,
    before: &CertificateSigningRequestStatus,
    after: &mut CertificateSigningRequestStatus,
) {
    let known = before.conditions.as_deref().unwrap_or_default();
    let written = after.conditions.as_deref_mut().unwrap_or_default();
    if of_type(known, type_).count() == of_type(written, type_).count() {
        let places = written.iter_mut().filter(|condition| condition.type_ == type_);
        for (place, known) in places.zip(of_type(known, type_)) {
            place.clone_from(known);
        }
    }
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
        let turned = of_type(conditions(old), &condition.type_)
            .filter(|before| before.status == condition.status)
            .find_map(|before| before.last_transition_time.clone());
        if condition.last_update_time.is_none() {
            condition.last_update_time = Some(Time(now));
        }
        if condition.last_transition_time.is_none() {
            condition.last_transition_time = turned.or(Some(Time(now)));
        }
    }
}

/// Checks the whole of a request. What was wrong with it before stays allowed.
fn check(object: &CertificateSigningRequest, old: Option<&CertificateSigningRequest>, errors: &mut Errors) {
    let (spec, path) = (&object.spec, Path::new("spec"));
    let before = old.map(|old| &old.spec);
    if let Err(message) = request::parse(&spec.request.0) {
        errors.invalid(&path.child("request"), &spec.request, message);
    }
    check_usages(spec, before, &path.child("usages"), errors);
    let at = path.child("signerName");
    if spec.signer_name == LEGACY_SIGNER && before.is_none_or(|before| before.signer_name != LEGACY_SIGNER) {
        errors.invalid(
            &at,
            &spec.signer_name,
            "the legacy signerName is not allowed via this API version",
        );
    } else {
        signer::check(&spec.signer_name, &at, errors);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|&seconds| seconds < SHORTEST) {
        errors.invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    check_conditions(object, old, errors);
    let wrong = |object: &CertificateSigningRequest| x509::check_certificates(certificate(object)).err();
    let kept = old.is_some_and(|old| certificate(old) == certificate(object) || wrong(old).is_some());
    if let Some(message) = wrong(object).filter(|_| !kept) {
        errors.invalid(&Path::new("status.certificate"), "<certificate data>", message);
    }
}

fn check_usages(
    spec: &CertificateSigningRequestSpec,
    old: Option<&CertificateSigningRequestSpec>,
    path: &Path,
    errors: &mut Errors,
) {
    fn usages(spec: &CertificateSigningRequestSpec) -> &[String] {
        spec.usages.as_deref().unwrap_or_default()
    }
    let unknown = |usage: &String| !USAGES.contains(&usage.as_str());
    let repeated = |all: &[String], index: usize| {
        let (before, rest) = all.split_at(index);
        rest.first().is_some_and(|usage| before.contains(usage))
    };
    let (all, before) = (usages(spec), old.map(usages).unwrap_or_default());
    if all.is_empty() {
        errors.required(path, "");
    }
    if !before.iter().any(unknown) {
        for (index, usage) in all.iter().enumerate().filter(|(_, usage)| unknown(usage)) {
            errors.not_supported(&path.index(index), usage, &USAGES);
        }
    }
    if !(0..before.len()).any(|index| repeated(before, index)) {
        let again = all.iter().enumerate().filter(|(index, _)| repeated(all, *index));
        for (index, usage) in again {
            errors.duplicate(&path.index(index), usage);
        }
    }
}

fn check_conditions(
    object: &CertificateSigningRequest,
    old: Option<&CertificateSigningRequest>,
    errors: &mut Errors,
) {
    let path = Path::new("status.conditions");
    let before = old.map(conditions).unwrap_or_default();
    let had = |type_: &str| of_type(before, type_).next().is_some();
    let had_twice = before.iter().any(|one| of_type(before, &one.type_).count() > 1);
    let had_both = DECISIONS.into_iter().all(had);
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions(object).iter().enumerate() {
        let (type_, at) = (condition.type_.as_str(), path.index(index));
        if type_.is_empty() && !had("") {
            errors.required(&at.child("type"), "");
        }
        let allowed: &[&str] = if FINAL.contains(&type_) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        errors.one_of(&at.child("status"), Some(&condition.status), allowed);
        let other = DECISIONS
            .into_iter()
            .find(|other| DECISIONS.contains(&type_) && *other != type_);
        if !had_both && other.is_some_and(|other| seen.contains(other)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path, type_, detail);
        }
        if !seen.insert(type_) && !had_twice {
            errors.duplicate(&at.child("type"), type_);
        }
    }
}
