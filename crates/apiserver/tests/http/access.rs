//! Who may do what.

use http::Method;
use serde_json::{Value, json};

use crate::harness::*;

#[tokio::test]
async fn nobody_may_see_only_health_and_version() {
    let server = Server::start().await;
    let nobody = server.client(Credential::Nothing).await;
    for path in ["/healthz", "/livez", "/readyz", "/version", "/readyz?verbose"] {
        assert_eq!(get(&nobody, path).await.status, 200, "{path}");
    }
    let refusal = get(&nobody, "/api").await.failure();
    assert_eq!(
        refusal,
        (
            403,
            "forbidden: User \"system:anonymous\" cannot get path \"/api\"".into()
        )
    );
    let refusal = get(&nobody, "/api/v1/nodes").await;
    assert_eq!(
        refusal.failure(),
        (403, "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the cluster scope".into())
    );
    assert_eq!(refusal.json()["reason"], "Forbidden");
    assert_eq!(refusal.json()["details"], json!({ "kind": "nodes" }));
}

#[tokio::test]
async fn a_wrong_credential_is_refused() {
    let server = Server::start().await;
    let stranger = Authority::new().client("admin", &["system:masters"]);
    let refusal = get(
        &server.client(Credential::Certificate(&stranger)).await,
        "/version",
    )
    .await;
    assert_eq!(refusal.failure(), (401, "Unauthorized".into()));
    for token in ["nonsense", "eyJhbGciOiJub25lIn0.e30."] {
        let client = server.client(Credential::Token(token)).await;
        assert_eq!(
            get(&client, "/version").await.failure(),
            (401, "Unauthorized".into())
        );
    }
}

#[tokio::test]
async fn components_are_known_by_their_certificates() {
    let server = Server::start().await;
    for (name, groups, code) in [
        ("system:kube-scheduler", &[][..], 200),
        ("system:node:a", &["system:nodes"][..], 403),
        ("system:node:a", &[][..], 403),
        ("system:kube-controller-manager", &[][..], 200),
        ("jane", &["dev"][..], 403),
    ] {
        let pair = server.authority.client(name, groups);
        let client = server.client(Credential::Certificate(&pair)).await;
        assert_eq!(get(&client, "/api/v1/pods").await.status, code, "{name}");
        assert_eq!(get(&client, "/apis").await.status, 200, "{name}");
    }
}

async fn token(server: &Server, account: &str, spec: Value) -> Answer {
    let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    post(&server.local(), &path, &body).await
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[tokio::test]
async fn a_service_account_is_known_by_its_token_while_it_is_there() {
    let server = Server::start().await.with_default_account().await;
    let answer = token(&server, "default", json!({})).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let text = answer["status"]["token"].as_str().unwrap();
    let said = claims(text);
    assert_eq!(said["sub"], "system:serviceaccount:default:default");
    assert_eq!(said["aud"], answer["spec"]["audiences"]);
    assert_eq!(
        said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(),
        3600
    );
    assert_eq!(said["kubernetes.io"]["serviceaccount"]["name"], "default");

    let client = server.client(Credential::Token(text)).await;
    assert_eq!(get(&client, "/apis").await.status, 200);
    assert_eq!(
        get(&client, PODS).await.failure(),
        (403, "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"".into())
    );
    assert_eq!(
        get(&client, "/.well-known/openid-configuration").await.json()["issuer"],
        said["iss"]
    );
    assert_eq!(
        get_as(&client, "/openid/v1/jwks", "*/*").await.json()["keys"][0]["crv"],
        "P-256"
    );

    delete(
        &server.local(),
        "/api/v1/namespaces/default/serviceaccounts/default",
    )
    .await;
    assert_eq!(
        get(&client, "/apis").await.failure(),
        (401, "Unauthorized".into())
    );
}

#[tokio::test]
async fn a_token_for_others_or_of_a_pod_that_is_gone_is_refused() {
    let server = Server::start().await.with_default_account().await;
    let answer = token(&server, "default", json!({ "audiences": ["vault"] }))
        .await
        .json();
    let client = server
        .client(Credential::Token(answer["status"]["token"].as_str().unwrap()))
        .await;
    assert_eq!(get(&client, "/apis").await.status, 401);

    let made = post(&server.local(), PODS, &pod("p")).await.json();
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"] });
    let answer = token(
        &server,
        "default",
        json!({ "boundObjectRef": bound, "expirationSeconds": 3607 }),
    )
    .await
    .json();
    let text = answer["status"]["token"].as_str().unwrap();
    let said = claims(text);
    assert_eq!(said["kubernetes.io"]["pod"]["name"], "p");
    assert_eq!(
        said["kubernetes.io"]["warnafter"].as_i64().unwrap(),
        said["iat"].as_i64().unwrap() + 3607
    );
    assert!(said["exp"].as_i64().unwrap() > said["iat"].as_i64().unwrap() + 300 * 24 * 3600);
    let client = server.client(Credential::Token(text)).await;
    assert_eq!(get(&client, "/apis").await.status, 200);
    delete(&server.local(), &format!("{PODS}/p?gracePeriodSeconds=0")).await;
    assert_eq!(get(&client, "/apis").await.status, 401);

    let other = json!({ "boundObjectRef": { "kind": "Pod", "name": "p" } });
    assert_eq!(
        token(&server, "default", other).await.failure(),
        (404, "pods \"p\" not found".into())
    );
    assert_eq!(
        token(&server, "none", json!({})).await.failure(),
        (404, "serviceaccounts \"none\" not found".into())
    );
    assert_eq!(
        token(&server, "default", json!({ "expirationSeconds": 10 }))
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn who_may_acts_as_somebody_else() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let headers = [("impersonate-user", "jane"), ("impersonate-group", "dev")];
    let answer = send(&admin, request(Method::GET, PODS, &headers, "")).await;
    assert_eq!(
        answer.failure(),
        (403, "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"".into())
    );
    let nobody = server.client(Credential::Nothing).await;
    let headers = [
        ("impersonate-user", "system:admin"),
        ("impersonate-group", "system:masters"),
    ];
    let answer = send(&nobody, request(Method::GET, "/version", &headers, "")).await;
    assert_eq!(
        answer.failure(),
        (
            403,
            "forbidden: User \"system:anonymous\" cannot impersonate-on:user-info:get path \"/version\""
                .into()
        )
    );
    let nobody_in_particular = [("impersonate-uid", "u")];
    let answer = send(&admin, request(Method::GET, PODS, &nobody_in_particular, "")).await;
    assert_eq!(
        answer.failure(),
        (400, r#"requested &user.DefaultInfo{Name:"", UID:"u", Groups:[]string(nil), Extra:map[string][]string(nil)} without impersonating a user name"#.into())
    );
    let whole = [
        ("impersonate-user", "jane"),
        ("impersonate-uid", "u"),
        ("impersonate-extra-acme.com%2Fscopes", "view"),
        ("content-type", "application/json"),
    ];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = send(&admin, request(Method::POST, path, &whole, "{}"))
        .await
        .json();
    assert_eq!(
        review["status"]["userInfo"],
        json!({
            "username": "jane",
            "uid": "u",
            "groups": ["system:authenticated"],
            "extra": { "acme.com/scopes": ["view"] },
        })
    );
}

#[tokio::test]
async fn a_token_is_void_as_soon_as_what_it_is_bound_to_is_another_or_gone() {
    let server = Server::start().await.with_default_account().await;
    let admin = server.local();
    let secrets = "/api/v1/namespaces/default/secrets";
    let review = async |token: &str| -> String {
        let body = json!({ "spec": { "token": token } });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let status = post(&admin, path, &body).await.json()["status"].clone();
        status["error"].as_str().unwrap_or_default().to_string()
    };
    let bound = async |kind: &str| -> String {
        let spec = json!({ "boundObjectRef": { "kind": kind, "apiVersion": "v1", "name": "x" } });
        let answer = token(&server, "default", spec).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["status"]["token"].as_str().unwrap().to_string()
    };
    let invalidated = "[invalid bearer token, service account token has been invalidated]";
    let named = json!({ "metadata": { "name": "x" } });
    for (kind, collection, object) in [
        ("Pod", PODS, pod("x")),
        ("Secret", secrets, named.clone()),
        ("Node", "/api/v1/nodes", named),
    ] {
        let made = post(&admin, collection, &object).await.json();
        let old = made["metadata"]["uid"].as_str().unwrap().to_string();
        let text = bound(kind).await;
        assert_eq!(review(&text).await, "", "{kind}");
        let client = server.client(Credential::Token(&text)).await;
        assert_eq!(get(&client, "/apis").await.status, 200);
        delete(&admin, &format!("{collection}/x?gracePeriodSeconds=0")).await;
        assert_eq!(review(&text).await, invalidated, "{kind}");
        assert_eq!(
            get(&client, "/apis").await.failure(),
            (401, "Unauthorized".into())
        );
        let made = post(&admin, collection, &object).await.json();
        let what = kind.to_lowercase();
        let new = made["metadata"]["uid"].as_str().unwrap();
        assert_eq!(
            review(&text).await,
            format!(
                "[invalid bearer token, {what} UID ({new}) does not match service account {what} ref claim ({old})]"
            )
        );
    }
    let text = token(&server, "default", json!({})).await.json()["status"]["token"].clone();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    delete(&admin, &format!("{accounts}/default")).await;
    assert_eq!(
        review(text.as_str().unwrap()).await,
        r#"[invalid bearer token, serviceaccounts "default" not found]"#
    );
}
