//! Certificate signing requests.

mod support;

use base64::Engine;
use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, over, update};

const CSR: &str = "certificates.k8s.io/CertificateSigningRequest";

/// A request in PEM, in base64: it has the shape of one, and no meaning.
fn request() -> String {
    let shape = [0x30, 0x07, 0x30, 0x00, 0x30, 0x00, 0x03, 0x01, 0x00];
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        encode(&shape)
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

    let (new, errors) = update(CSR, csr(json!({})), with(approved.clone()), status);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["status"], json!({}), "who signs does not approve");

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
    let pem = base64::engine::general_purpose::STANDARD.encode("-----BEGIN CERTIFICATE-----\n");
    let issued = over(with(approved.clone()), json!({"status": {"certificate": pem}}));
    let (new, errors) = update(CSR, with(approved), issued.clone(), status);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(cells(CSR, new)[5], "Approved,Issued");
    let other = over(issued.clone(), json!({"status": {"certificate": "b3RoZXI="}}));
    let (_, errors) = update(CSR, issued, other, status);
    assert_eq!(
        errors,
        ["status.certificate: Forbidden: updates may not set certificate content from one value to another"]
    );
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
