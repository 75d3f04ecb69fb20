//! Tokens that stand in Secrets.

use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};

use crate::harness::*;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// An account and its Secret, filled as the tokens controller fills it; the token.
async fn robot(server: &Server) -> String {
    let client = server.local();
    let account = json!({ "metadata": { "name": "robot" } });
    let account = post(&client, ACCOUNTS, &account).await.json();
    let account: ServiceAccount = serde_json::from_value(account).unwrap();
    let token = server.api.sign_secret_token(&account, "robot").unwrap();
    let secret = json!({
        "metadata": { "name": "robot", "annotations": { "kubernetes.io/service-account.name": "robot" } },
        "type": "kubernetes.io/service-account-token",
        "stringData": { "token": token },
    });
    let made = post(&client, SECRETS, &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    token
}

async fn review(server: &Server, token: &str, audiences: Value) -> Value {
    let body = json!({ "spec": { "token": token, "audiences": audiences } });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    post(&server.local(), path, &body).await.json()["status"].clone()
}

async fn labels(server: &Server) -> Value {
    let secret = get(&server.local(), &format!("{SECRETS}/robot")).await.json();
    secret["metadata"]["labels"].clone()
}

#[tokio::test]
async fn the_uses_of_tokens_are_counted() {
    let server = Server::start().await;
    let token = robot(&server).await;
    let client = server.client(Credential::Token(&token)).await;
    for _ in 0..2 {
        assert_eq!(get(&client, "/apis").await.status, 200);
    }
    let used = async |expected: [&str; 3]| {
        let metrics = get(&server.local(), "/metrics").await.text();
        for line in expected {
            assert!(
                metrics.lines().any(|its| its == line),
                "{line} is not in\n{metrics}"
            );
        }
    };
    used([
        "serviceaccount_legacy_tokens_total 2",
        "serviceaccount_legacy_manual_token_uses_total 2",
        "serviceaccount_legacy_auto_token_uses_total 0",
    ])
    .await;
    let generated = json!({ "secrets": [{ "name": "robot" }] });
    patch(
        &server.local(),
        &format!("{ACCOUNTS}/robot"),
        "merge-patch",
        &generated,
    )
    .await;
    let invalid = json!({ "metadata": { "labels": { INVALID_SINCE: "2020-01-01" } } });
    patch(
        &server.local(),
        &format!("{SECRETS}/robot"),
        "merge-patch",
        &invalid,
    )
    .await;
    assert_eq!(get(&client, "/apis").await.status, 401);
    used([
        "serviceaccount_legacy_tokens_total 2",
        "serviceaccount_legacy_auto_token_uses_total 1",
        "serviceaccount_invalid_legacy_auto_token_uses_total 1",
    ])
    .await;
}

#[tokio::test]
async fn a_token_is_known_as_long_as_its_secret_holds_it() {
    let server = Server::start().await;
    let token = robot(&server).await;
    let client = server.client(Credential::Token(&token)).await;
    let answer = get(&client, "/apis").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("warning"));
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    assert_eq!(labels(&server).await, json!({ LAST_USED: today }));
    let status = review(&server, &token, json!([])).await;
    assert_eq!(
        status["user"]["username"], "system:serviceaccount:default:robot",
        "{status}"
    );
    assert_eq!(status["user"].get("extra"), None);
    assert_eq!(
        review(&server, &token, json!(["elsewhere"])).await["error"],
        r#"[invalid bearer token, token audiences ["https://kubernetes.default.svc.cluster.local"] is invalid for the target audiences ["elsewhere"]]"#
    );

    // Named by the account, it counts as one that a controller of old made.
    let named = json!({ "secrets": [{ "name": "robot" }] });
    patch(
        &server.local(),
        &format!("{ACCOUNTS}/robot"),
        "merge-patch",
        &named,
    )
    .await;
    assert_eq!(
        get(&client, "/apis").await.headers["warning"],
        "299 - \"Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.\""
    );

    let marked =
        json!({ "metadata": { "labels": { INVALID_SINCE: "2026-01-01", LAST_USED: "2025-01-01" } } });
    patch(
        &server.local(),
        &format!("{SECRETS}/robot"),
        "merge-patch",
        &marked,
    )
    .await;
    assert_eq!(
        get(&client, "/apis").await.failure(),
        (401, "Unauthorized".into())
    );
    assert_eq!(
        labels(&server).await[LAST_USED],
        today,
        "uses are noted all the same"
    );
    assert_eq!(
        review(&server, &token, json!([])).await["error"],
        "[invalid bearer token, the token in secret default/robot for service account default/robot has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token]"
    );
    let unmarked = json!({ "metadata": { "labels": { INVALID_SINCE: null } } });
    patch(
        &server.local(),
        &format!("{SECRETS}/robot"),
        "merge-patch",
        &unmarked,
    )
    .await;
    assert_eq!(get(&client, "/apis").await.status, 200);

    let emptied = json!({ "data": { "token": null } });
    patch(
        &server.local(),
        &format!("{SECRETS}/robot"),
        "merge-patch",
        &emptied,
    )
    .await;
    assert_eq!(
        review(&server, &token, json!([])).await["error"],
        "[invalid bearer token, Token does not match server's copy]"
    );
    delete(&server.local(), &format!("{SECRETS}/robot")).await;
    assert_eq!(get(&client, "/apis").await.status, 401);
    assert_eq!(
        review(&server, &token, json!([])).await["error"],
        "[invalid bearer token, Token has been invalidated]"
    );
}

#[tokio::test]
async fn a_token_of_another_server_or_of_an_account_made_anew_is_refused() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (token, foreign) = (robot(&server).await, robot(&other).await);
    assert_eq!(
        review(&server, &foreign, json!([])).await["error"],
        "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]"
    );
    delete(&server.local(), &format!("{ACCOUNTS}/robot")).await;
    assert_eq!(
        review(&server, &token, json!([])).await["error"],
        "[invalid bearer token, serviceaccounts \"robot\" not found]"
    );
    post(
        &server.local(),
        ACCOUNTS,
        &json!({ "metadata": { "name": "robot" } }),
    )
    .await;
    let error = review(&server, &token, json!([])).await["error"].to_string();
    assert!(error.contains("does not match claim"), "{error}");
}

#[tokio::test]
async fn it_is_told_since_when_uses_are_noted() {
    let server = Server::start().await;
    let client = server.local();
    let path =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    assert_eq!(get(&client, path).await.json()["data"], json!({ "since": today }));
    let spoilt = json!({ "data": { "since": "long ago", "other": "x" } });
    patch(&client, path, "merge-patch", &spoilt).await;
    let repaired = async {
        while get(&client, path).await.json()["data"]["since"] != today {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, repaired).await.is_ok());
}
