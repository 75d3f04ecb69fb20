//! A service account, and the secrets that it knows.

use serde_json::Value;

use super::Told;
use super::page::Page;
use crate::fields::{list, name, text};

/// The secrets of its namespace, among which its tokens are.
pub(super) fn related(account: &Value) -> Vec<String> {
    vec![format!(
        "/api/v1/namespaces/{}/secrets",
        text(account, "/metadata/namespace")
    )]
}

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let account = told.object;
    page.metadata(account);
    let secrets = told
        .answer(0)
        .map(|answer| list(answer, "/items"))
        .unwrap_or_default();
    let names = |field: &str| -> Vec<String> {
        let names = list(account, field)
            .iter()
            .map(|reference| text(reference, "/name"));
        names
            .map(
                |wanted| match secrets.iter().any(|secret| name(secret) == wanted) {
                    true => wanted.to_string(),
                    false => format!("{wanted} (not found)"),
                },
            )
            .collect()
    };
    page.field_of_lines(0, "Image pull secrets", &names("/imagePullSecrets"));
    page.field_of_lines(0, "Mountable secrets", &names("/secrets"));
    let annotation = |secret: &Value, key: &str| {
        text(
            secret,
            &format!("/metadata/annotations/kubernetes.io~1service-account.{key}"),
        )
        .to_string()
    };
    let tokens: Vec<String> = secrets
        .iter()
        .filter(|secret| {
            text(secret, "/type") == "kubernetes.io/service-account-token"
                && annotation(secret, "name") == name(account)
                && annotation(secret, "uid") == text(account, "/metadata/uid")
        })
        .map(|secret| name(secret).to_string())
        .collect();
    page.field_of_lines(0, "Tokens", &tokens);
    page.events(told.events.as_deref());
}
