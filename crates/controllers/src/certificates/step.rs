//! What is to be done next about a certificate request.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::request::Request;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// How long a request is kept that was decided, and one that was not.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);
/// The shortest lifetime of a certificate.
const SHORTEST: Duration = Duration::from_secs(600);

/// As what a request may be approved without anybody looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A node renews its own certificate.
    SelfNodeClient,
    /// Somebody asks for the certificate of a node.
    NodeClient,
}

impl Way {
    /// The subresource that the sender must be allowed to create.
    pub(super) fn subresource(&self) -> &'static str {
        match self {
            Self::SelfNodeClient => "selfnodeclient",
            Self::NodeClient => "nodeclient",
        }
    }

    /// What the approval says.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::SelfNodeClient => {
                "Auto approving self kubelet client certificate after SubjectAccessReview."
            }
            Self::NodeClient => "Auto approving kubelet client certificate after SubjectAccessReview.",
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody needs it any more.
    Delete,
    /// Approve it, if its sender may ask in one of these ways.
    Approve(Vec<Way>),
    /// Sign it.
    Sign(Box<Request>),
    /// Say that it will never be signed, and why.
    Fail(String),
    /// Nothing.
    Rest,
}

fn condition<'a>(
    wish: &'a CertificateSigningRequest,
    type_: &str,
) -> Option<&'a k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition> {
    let conditions = wish.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")
}

fn certificate(wish: &CertificateSigningRequest) -> Option<&[u8]> {
    let bytes = &wish.status.as_ref()?.certificate.as_ref()?.0;
    (!bytes.is_empty()).then_some(bytes)
}

fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// When a request in its present state is to be deleted.
pub(super) fn due(wish: &CertificateSigningRequest) -> Option<Timestamp> {
    let mut dues = Vec::new();
    for type_ in ["Approved", "Denied", "Failed"] {
        let updated = condition(wish, type_).and_then(|condition| condition.last_update_time.as_ref());
        dues.extend(updated.map(|time| time.0.saturating_add(DECIDED)));
    }
    if condition(wish, "Approved").is_some() {
        dues.extend(certificate(wish).and_then(expiry).map(Ok));
    }
    let conditions = wish
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    if conditions.unwrap_or_default().is_empty() {
        let created = wish.metadata.creation_timestamp.as_ref();
        dues.extend(created.map(|time| time.0.saturating_add(PENDING)));
    }
    dues.into_iter().filter_map(Result::ok).min()
}

/// What is to be done about a request now.
pub(super) fn step(wish: &CertificateSigningRequest, now: Timestamp) -> Step {
    if due(wish).is_some_and(|due| due < now) {
        return Step::Delete;
    }
    if certificate(wish).is_some() {
        return Step::Rest;
    }
    let is = |type_: &str| condition(wish, type_).is_some();
    let Ok(request) = Request::read(&wish.spec.request.0) else {
        return Step::Rest;
    };
    let usages: BTreeSet<&str> = wish.spec.usages.iter().flatten().map(String::as_str).collect();
    let signer = wish.spec.signer_name.as_str();
    if !is("Approved") && !is("Denied") {
        if signer != KUBELET_CLIENT || kubelet_client(&request, &usages).is_err() {
            return Step::Rest;
        }
        let own = wish.spec.username.as_deref() == Some(&request.common_name);
        let ways = own.then_some(Way::SelfNodeClient).into_iter();
        return Step::Approve(ways.chain([Way::NodeClient]).collect());
    }
    if is("Denied") || is("Failed") {
        return Step::Rest;
    }
    let recognized = match signer {
        CLIENT => client(wish.spec.usages.as_deref().unwrap_or_default()),
        KUBELET_CLIENT => kubelet_client(&request, &usages),
        KUBELET_SERVING => kubelet_serving(&request, &usages),
        LEGACY => Ok(()),
        _ => return Step::Rest,
    };
    match recognized {
        Ok(()) => Step::Sign(Box::new(request)),
        Err(why) => Step::Fail(why),
    }
}

/// How long the certificate of a request is to last.
pub(super) fn lifetime(asked: Option<i32>, longest: Duration) -> Duration {
    let Some(asked) = asked else { return longest };
    Duration::from_secs(u64::try_from(asked).unwrap_or_default()).clamp(SHORTEST, longest)
}

type Verdict = Result<(), String>;

fn client(usages: &[String]) -> Verdict {
    for usage in usages {
        if !matches!(
            usage.as_str(),
            "digital signature" | "key encipherment" | "client auth"
        ) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".into())
    }
}

fn named_as_node(request: &Request) -> Verdict {
    if request.common_name.starts_with("system:node:") {
        Ok(())
    } else {
        Err("subject common name does not begin with system:node:".into())
    }
}

/// The usages of a node's certificate: these two, and with RSA keys key encipherment as well.
fn node_usages(usages: &BTreeSet<&str>, auth: &'static str) -> Verdict {
    let mut with = BTreeSet::from(["digital signature", auth]);
    if *usages == with {
        return Ok(());
    }
    with.insert("key encipherment");
    if *usages == with {
        return Ok(());
    }
    let shown: Vec<&str> = with.into_iter().collect();
    Err(format!("usages did not match [{}]", shown.join(" ")))
}

fn kubelet_client(request: &Request, usages: &BTreeSet<&str>) -> Verdict {
    in_nodes(request)?;
    for (names, what) in [
        (request.dns.is_empty(), "DNS"),
        (request.emails.is_empty(), "Email"),
        (request.addresses.is_empty(), "IP"),
        (request.uris.is_empty(), "URI"),
    ] {
        if !names {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    named_as_node(request)?;
    node_usages(usages, "client auth")
}

fn kubelet_serving(request: &Request, usages: &BTreeSet<&str>) -> Verdict {
    in_nodes(request)?;
    if request.dns.is_empty() && request.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if !request.emails.is_empty() {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if !request.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed".into());
    }
    node_usages(usages, "server auth")?;
    named_as_node(request)
}

fn in_nodes(request: &Request) -> Verdict {
    if request.organizations == ["system:nodes"] {
        Ok(())
    } else {
        Err("subject organization is not system:nodes".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    fn wish(
        signer: &str,
        subject: (&str, &str),
        names: &[&str],
        usages: &[&str],
    ) -> CertificateSigningRequest {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.0);
        params
            .distinguished_name
            .push(DnType::OrganizationName, subject.1);
        let request = params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let mut wish = CertificateSigningRequest::default();
        wish.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        wish.spec.request.0 = request.into_bytes();
        wish.spec.signer_name = signer.into();
        wish.spec.username = Some("system:node:n".into());
        wish.spec.usages = Some(usages.iter().map(ToString::to_string).collect());
        wish
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn with(mut wish: CertificateSigningRequest, conditions: &[&str]) -> CertificateSigningRequest {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|type_| json!({"type": type_, "status": "True", "lastUpdateTime": now().to_string()}))
            .collect();
        wish.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        wish
    }

    const NODE: (&str, &str) = ("system:node:n", "system:nodes");
    const OTHER: (&str, &str) = ("system:node:m", "system:nodes");
    const KUBELET: [&str; 2] = ["digital signature", "client auth"];

    #[test]
    fn only_requests_of_kubelets_may_be_approved_unseen() {
        let cases = [
            (
                wish(KUBELET_CLIENT, NODE, &[], &KUBELET),
                Step::Approve(vec![Way::SelfNodeClient, Way::NodeClient]),
            ),
            (
                wish(KUBELET_CLIENT, OTHER, &[], &KUBELET),
                Step::Approve(vec![Way::NodeClient]),
            ),
            (wish(KUBELET_CLIENT, NODE, &["a.b"], &KUBELET), Step::Rest),
            (
                wish(KUBELET_CLIENT, ("jane", "system:nodes"), &[], &KUBELET),
                Step::Rest,
            ),
            (wish(CLIENT, NODE, &[], &KUBELET), Step::Rest),
            (
                wish(
                    KUBELET_SERVING,
                    NODE,
                    &["a.b"],
                    &["digital signature", "server auth"],
                ),
                Step::Rest,
            ),
            (
                with(wish(KUBELET_CLIENT, NODE, &[], &KUBELET), &["Denied"]),
                Step::Rest,
            ),
        ];
        for (wish, expected) in cases {
            assert_eq!(step(&wish, now()), expected, "{wish:?}");
        }
    }

    #[test]
    fn what_is_approved_is_signed_or_fails() {
        let sign = |wish: CertificateSigningRequest| match step(&with(wish, &["Approved"]), now()) {
            Step::Sign(_) => Ok(()),
            Step::Fail(why) => Err(why),
            other => panic!("{other:?}"),
        };
        let serving = ["digital signature", "server auth", "key encipherment"];
        let cases = [
            (wish(CLIENT, ("jane", "dev"), &[], &["client auth"]), Ok(())),
            (
                wish(CLIENT, ("jane", "dev"), &[], &["client auth", "server auth"]),
                Err("invalid usage for client certificate: server auth"),
            ),
            (
                wish(CLIENT, ("jane", "dev"), &[], &["digital signature"]),
                Err("missing required usage for client certificate: client auth"),
            ),
            (wish(KUBELET_CLIENT, NODE, &[], &KUBELET), Ok(())),
            (
                wish(KUBELET_CLIENT, ("system:node:n", "nodes"), &[], &KUBELET),
                Err("subject organization is not system:nodes"),
            ),
            (
                wish(KUBELET_CLIENT, NODE, &["10.0.0.1"], &KUBELET),
                Err("IP subjectAltNames are not allowed"),
            ),
            (
                wish(KUBELET_CLIENT, NODE, &[], &["client auth"]),
                Err("usages did not match [client auth digital signature key encipherment]"),
            ),
            (wish(KUBELET_SERVING, NODE, &["10.0.0.1", "n"], &serving), Ok(())),
            (
                wish(KUBELET_SERVING, NODE, &[], &serving),
                Err("DNS or IP subjectAltName is required"),
            ),
            (
                wish(KUBELET_SERVING, ("jane", "system:nodes"), &["n"], &serving),
                Err("subject common name does not begin with system:node:"),
            ),
        ];
        for (wish, expected) in cases {
            assert_eq!(sign(wish.clone()), expected.map_err(String::from), "{wish:?}");
        }
        let foreign = wish("example.com/signer", NODE, &[], &KUBELET);
        assert_eq!(step(&with(foreign, &["Approved"]), now()), Step::Rest);
        let failed = wish(CLIENT, NODE, &[], &["client auth"]);
        assert_eq!(step(&with(failed, &["Approved", "Failed"]), now()), Step::Rest);
    }

    #[test]
    fn requests_are_deleted_when_they_are_done_with() {
        let plain = wish(CLIENT, NODE, &[], &["client auth"]);
        let hours = |hours: i64| now() + SignedDuration::from_hours(hours) + SignedDuration::from_secs(1);
        let cases = [
            (plain.clone(), 23, false),
            (plain.clone(), 24, true),
            (with(plain.clone(), &["Approved"]), 0, false),
            (with(plain.clone(), &["Approved"]), 1, true),
            (with(plain.clone(), &["Denied"]), 1, true),
            (with(plain, &["Approved", "Failed"]), 1, true),
        ];
        for (wish, after, expected) in cases {
            assert_eq!(
                step(&wish, hours(after)) == Step::Delete,
                expected,
                "{after} {wish:?}"
            );
        }
    }

    #[test]
    fn a_lifetime_is_what_was_asked_for_within_bounds() {
        let hour = Duration::from_secs(3600);
        for (asked, expected) in [
            (None, 3600),
            (Some(60), 600),
            (Some(1200), 1200),
            (Some(7200), 3600),
        ] {
            assert_eq!(lifetime(asked, hour).as_secs(), expected);
        }
    }
}
