//! Certificate signing requests.

mod support;

use base64::Engine;
use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, over, update};

const CSR: &str = "certificates.k8s.io/CertificateSigningRequest";

/// A request in PEM, in base64.
fn request() -> String {
    let request = include_bytes!("../src/certificates/pairs/request.der").as_slice();
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        encode(request)
    );
    encode(pem.as_bytes())
}

fn csr(spec: Value) -> Value {
    let spec = over(
        json!({"request": request(), "signerName": "example.com/signer", "usages": ["client auth"]}),
        spec,
    );
    json!({"metadata": {"name": "a", "creationTimestamp": "2024-12-31T21:00:00Z"}, "spec": spec})
}

fn with(conditions: Value) -> Value {
    over(csr(json!({})), json!({"status": {"conditions": conditions}}))
}

#[test]
fn what_only_has_the_shape_of_a_request_is_none() {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let shape = encode(&[0x30, 0x07, 0x30, 0x00, 0x30, 0x00, 0x03, 0x01, 0x00]);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{shape}\n-----END CERTIFICATE REQUEST-----\n");
    let request = encode(pem.as_bytes());
    let errors = create_errors(CSR, csr(json!({"request": request})));
    assert_eq!(
        errors,
        [format!(
            "spec.request: Invalid value: {request:?}: asn1: structure error: tags don't match"
        )]
    );
}

#[test]
fn requests_are_checked() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"usages": [], "signerName": "", "expirationSeconds": 599}),
            vec![
                "spec.usages: Required value",
                "spec.signerName: Required value",
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
            ],
        ),
        (
            json!({"signerName": "x"}),
            vec![
                "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form \
                 'example.com/signer-name'",
            ],
        ),
        (
            json!({"signerName": "kubernetes.io/legacy-unknown", "usages": ["any", "any"]}),
            vec![
                "spec.usages[1]: Duplicate value: \"any\"",
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed \
                 via this API version",
            ],
        ),
        (
            json!({"signerName": "Example_.x/y..Z"}),
            vec![
                "spec.signerName: Invalid value: \"Example_.x\": validating label \"Example_\": a lowercase RFC 1123 \
                 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
                 alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.signerName: Invalid value: \"y..Z\": validating label \"\": a lowercase RFC 1123 subdomain must \
                 consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric \
                 character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            json!({"request": "bm90aGluZw=="}),
            vec!["spec.request: Invalid value: \"bm90aGluZw==\": PEM block type must be CERTIFICATE REQUEST"],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(create_errors(CSR, csr(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn approval_and_status_each_change_their_own_part() {
    let approval = Target::Subresource(Subresource::Approval);
    let status = Target::Subresource(Subresource::Status);
    let approved = json!([{"type": "Approved", "status": "True", "reason": "r"}]);
    let denied = json!([{"type": "Denied", "status": "True"}]);

    let (new, errors) = update(CSR, csr(json!({})), with(approved.clone()), approval);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["status"]["conditions"][0]["type"], "Approved");
    assert!(new["status"]["conditions"][0]["lastUpdateTime"].is_string());
    assert!(new["status"]["conditions"][0]["lastTransitionTime"].is_string());

    let (_, errors) = update(CSR, csr(json!({})), with(approved.clone()), status);
    assert_eq!(
        errors,
        ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
        "who signs does not approve"
    );
    let otherwise = over(
        with(
            json!([{"type": "Approved", "status": "False", "reason": "x"}, {"type": "Other", "status": "Unknown"}]),
        ),
        json!({}),
    );
    let (new, errors) = update(CSR, with(approved.clone()), otherwise, status);
    assert_eq!(errors, Vec::<String>::new());
    let reasons = |index: usize| new["status"]["conditions"][index]["reason"].clone();
    assert_eq!(
        (reasons(0), reasons(1)),
        (json!("r"), Value::Null),
        "nor changes an approval"
    );

    let (new, errors) = update(CSR, csr(json!({})), with(approved.clone()), Target::Main);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["status"], json!({}), "only the subresources write the status");

    let (_, errors) = update(CSR, with(approved.clone()), with(denied.clone()), approval);
    assert_eq!(
        errors,
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let both = json!([approved[0], denied[0]]);
    let (_, errors) = update(CSR, with(approved.clone()), with(both), approval);
    assert_eq!(
        errors,
        [
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let pem = include_str!("../src/certificates/pairs/rsa.crt");
    let issued = over(
        with(approved.clone()),
        json!({"status": {"certificate": encode(pem)}}),
    );
    let (new, errors) = update(CSR, with(approved), issued.clone(), status);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(cells(CSR, new)[5], "Approved,Issued");
    let other = include_str!("../src/certificates/pairs/elliptic.crt");
    let other = over(issued.clone(), json!({"status": {"certificate": encode(other)}}));
    let (_, errors) = update(CSR, issued, other, status);
    assert_eq!(
        errors,
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
    let key = include_str!("../src/certificates/pairs/rsa.key");
    let headed = pem.replacen("-----\n", "-----\nA: b\n\n", 1);
    for (text, message) in [
        ("x", "must contain at least one CERTIFICATE PEM block"),
        (
            key,
            "only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"",
        ),
        (headed.as_str(), "no PEM block headers are permitted"),
        (
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            "found CERTIFICATE PEM block containing 0 certificates",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "x509: malformed certificate",
        ),
    ] {
        let issued = over(csr(json!({})), json!({"status": {"certificate": encode(text)}}));
        let (_, errors) = update(CSR, csr(json!({})), issued, status);
        assert_eq!(
            errors,
            [format!(
                "status.certificate: Invalid value: \"<certificate data>\": {message}"
            )]
        );
    }
}

#[test]
fn conditions_of_requests_are_checked() {
    let approval = Target::Subresource(Subresource::Approval);
    let cases = [
        (
            json!([{"type": "", "status": "True"}]),
            vec!["status.conditions[0].type: Required value"],
        ),
        (
            json!([{"type": "Approved", "status": ""}]),
            vec!["status.conditions[0].status: Required value"],
        ),
        (
            json!([{"type": "Failed", "status": "False"}, {"type": "Other", "status": "x"}]),
            vec![
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
                "status.conditions[1].status: Unsupported value: \"x\": supported values: \"False\", \"True\", \"Unknown\"",
            ],
        ),
        (
            json!([{"type": "Denied", "status": "True"}, {"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]),
            vec![
                "status.conditions: Invalid value: \"Approved\": Approved and Denied conditions are mutually exclusive",
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
                "status.conditions[2].type: Duplicate value: \"Denied\"",
            ],
        ),
    ];
    for (conditions, expected) in cases {
        let (_, errors) = update(CSR, csr(json!({})), with(conditions.clone()), approval);
        assert_eq!(errors, expected, "{conditions}");
    }
    // What was wrong before is not asked for again.
    let old = over(
        with(
            json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"},
            {"type": "", "status": "True"}, {"type": "", "status": "True"}]),
        ),
        json!({"spec": {"usages": ["any", "any", "x"], "signerName": "kubernetes.io/legacy-unknown"},
            "status": {"certificate": "eA=="}}),
    );
    for target in [Target::Main, approval, Target::Subresource(Subresource::Status)] {
        let (_, errors) = update(CSR, old.clone(), old.clone(), target);
        assert_eq!(errors, Vec::<String>::new(), "{target:?}");
    }
}

#[test]
fn tables_show_requests() {
    let row = cells(CSR, csr(json!({"username": "jane", "expirationSeconds": 3600})));
    assert_eq!(row, ["a", "5h", "example.com/signer", "jane", "60m", "Pending"]);
    let row = cells(
        CSR,
        with(json!([{"type": "Denied", "status": "True"}, {"type": "Failed", "status": "True"}])),
    );
    assert_eq!(
        row,
        ["a", "5h", "example.com/signer", "", "<none>", "Denied,Failed"]
    );
}
