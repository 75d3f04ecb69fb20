//! The kinds that upstream serves by default, as clients find them.

use serde_json::{Value, json};

use crate::harness::*;

#[tokio::test]
async fn every_stable_resource_of_upstream_is_served() {
    let server = Server::start().await;
    let client = server.local();
    let expected = [
        (
            "admissionregistration.k8s.io/v1",
            "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicies/status validatingadmissionpolicybindings validatingwebhookconfigurations",
        ),
        (
            "autoscaling/v1",
            "horizontalpodautoscalers horizontalpodautoscalers/status",
        ),
        (
            "certificates.k8s.io/v1",
            "certificatesigningrequests certificatesigningrequests/approval certificatesigningrequests/status clustertrustbundles podcertificaterequests podcertificaterequests/status",
        ),
        ("events.k8s.io/v1", "events"),
        (
            "resource.k8s.io/v1",
            "deviceclasses devicetaintrules devicetaintrules/status resourceclaims resourceclaims/status resourceclaimtemplates resourceslices",
        ),
        (
            "storagemigration.k8s.io/v1",
            "storageversionmigrations storageversionmigrations/status",
        ),
    ];
    for (group_version, names) in expected {
        let list = get(&client, &format!("/apis/{group_version}")).await.json();
        let resources: Vec<&str> = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| resource["name"].as_str().unwrap())
            .collect();
        assert_eq!(resources.join(" "), names, "{group_version}");
    }
}

/// A valid object of each kind that has no test of its own over HTTP.
fn objects() -> Vec<(&'static str, Value)> {
    let webhook = json!([{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
        "clientConfig": {"url": "https://127.0.0.1:1"},
        "rules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"]}]}]);
    let constraints = json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"]}]});
    let claim = json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}});
    vec![
        (
            "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            json!({"webhooks": webhook}),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            json!({"webhooks": webhook}),
        ),
        (
            "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            json!({"spec": {"failurePolicy": "Ignore", "matchConstraints": constraints, "validations": [{"expression": "true"}]}}),
        ),
        (
            "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
            json!({"spec": {"policyName": "x", "validationActions": ["Audit"]}}),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
            json!({"spec": {"failurePolicy": "Ignore", "matchConstraints": constraints, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
            json!({"spec": {"policyName": "x"}}),
        ),
        (
            "resource.k8s.io/v1/deviceclasses",
            json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
        ),
        (
            "resource.k8s.io/v1/devicetaintrules",
            json!({"spec": {"deviceSelector": {"driver": "d.example.com"}, "taint": {"key": "k", "effect": "NoSchedule"}}}),
        ),
        (
            "resource.k8s.io/v1/namespaces/default/resourceclaims",
            json!({"spec": claim}),
        ),
        (
            "resource.k8s.io/v1/namespaces/default/resourceclaimtemplates",
            json!({"spec": {"spec": claim}}),
        ),
        (
            "resource.k8s.io/v1/resourceslices",
            json!({"spec": {"driver": "d.example.com", "nodeName": "n", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}}}),
        ),
        (
            "storagemigration.k8s.io/v1/storageversionmigrations",
            json!({"spec": {"resource": {"group": "apps", "resource": "deployments"}}}),
        ),
    ]
}

#[tokio::test]
async fn the_kinds_live_their_lives_in_json_and_in_protobuf() {
    let server = Server::start().await;
    let client = server.local();
    for (path, mut object) in objects() {
        let path = format!("/apis/{path}");
        object["metadata"] = json!({"name": "x"});
        let made = post(&client, &format!("{path}?fieldValidation=Strict"), &object).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text());
        let made = made.json();
        let protobuf = get_as(
            &client,
            &format!("{path}/x"),
            "application/vnd.kubernetes.protobuf",
        )
        .await;
        assert_eq!(
            (protobuf.status.as_u16(), &protobuf.body[..4]),
            (200, &b"k8s\0"[..]),
            "{path}"
        );
        let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
        let put = send(
            &client,
            request(
                http::Method::PUT,
                &format!("{path}/x"),
                &headers,
                protobuf.body.to_vec(),
            ),
        )
        .await;
        assert_eq!(put.status, 200, "{path}: {}", put.text());
        assert_eq!(
            put.json()["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"],
            "{path}: what came by protobuf is what was there: {} {made}",
            put.text()
        );
        let table = get_as(&client, &path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
        assert_eq!(table.json()["rows"][0]["cells"][0], "x", "{path}");
        assert_eq!(delete(&client, &format!("{path}/x")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_bundles_authorities_are_looked_at() {
    let server = Server::start().await;
    let client = server.local();
    let path = "/apis/certificates.k8s.io/v1/clustertrustbundles";
    let bundle = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let authority = server.authority.pem.clone();
    let leaf = server.authority.client("nobody", &[]).certificate;
    let made = post(&client, path, &bundle("plain", json!({"trustBundle": authority}))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let named = json!({"signerName": "example.com/signer", "trustBundle": authority});
    let made = post(&client, path, &bundle("example.com:signer:v1", named.clone())).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let selected = get(
        &client,
        &format!("{path}?fieldSelector=spec.signerName%3Dexample.com/signer"),
    )
    .await
    .json();
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let invalid = |name: &str, detail: &str| {
        format!("ClusterTrustBundle.certificates.k8s.io \"{name}\" is invalid: {detail}")
    };
    let omitted = "spec.trustBundle: Invalid value: \"<value omitted>\":";
    for (name, spec, detail) in [
        ("a", json!({"trustBundle": ""}), format!("{omitted} at least one trust anchor must be provided")),
        ("a", json!({"trustBundle": leaf}), format!("{omitted} entry 0 does not have the CA bit set")),
        ("a", json!({"trustBundle": format!("{authority}{authority}")}), format!("{omitted} duplicate trust anchor (indices [0 1])")),
        ("a", json!({"trustBundle": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}), format!("{omitted} entry 0 does not parse as X.509")),
        ("a", named, "metadata.name: Invalid value: \"a\": ClusterTrustBundle for signerName example.com/signer must be named with prefix example.com:signer:".into()),
    ] {
        let refused = post(&client, path, &bundle(name, spec)).await;
        assert_eq!(refused.failure(), (422, invalid(name, &detail)));
    }
}

fn warnings(answer: &Answer) -> Vec<&str> {
    let all = answer.headers.get_all("warning").iter();
    all.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn whoever_uses_a_deprecated_kind_is_told() {
    let server = Server::start().await;
    let client = server.local();
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let expected = [r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#];
    assert_eq!(warnings(&get(&client, endpoints).await), expected);
    let made = post(&client, endpoints, &json!({"metadata": {"name": "e"}})).await;
    assert_eq!((made.status.as_u16(), warnings(&made)), (201, expected.to_vec()));
    assert_eq!(warnings(&get(&client, &format!("{endpoints}/e")).await), expected);
    let slices = get(
        &client,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    )
    .await;
    assert_eq!(warnings(&slices), [""; 0]);
}

#[tokio::test]
async fn the_stores_health_is_a_component_status() {
    let server = Server::start().await;
    let client = server.local();
    let path = "/api/v1/componentstatuses";
    let list = get(&client, path).await;
    assert_eq!(
        warnings(&list),
        [r#"299 - "v1 ComponentStatus is deprecated in v1.19+""#]
    );
    let list = list.json();
    assert_eq!(list["kind"], "ComponentStatusList");
    assert_eq!(
        list["items"][0]["conditions"],
        json!([{"type": "Healthy", "status": "True", "message": "ok"}])
    );
    let table = get_as(&client, path, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
    assert_eq!(
        get(&client, &format!("{path}/etcd-0")).await.json()["kind"],
        "ComponentStatus"
    );
    assert_eq!(
        get(&client, &format!("{path}/moon")).await.failure(),
        (404, "componentstatuses \"moon\" not found".into())
    );
    assert_eq!(delete(&client, &format!("{path}/etcd-0")).await.status, 405);
    let Some(shown) = server.kubectl(&["get", "cs", "--no-headers"], "").await else {
        return;
    };
    assert_eq!(
        shown.out.split_whitespace().collect::<Vec<_>>(),
        ["etcd-0", "Healthy", "ok"],
        "{shown:?}"
    );
}
