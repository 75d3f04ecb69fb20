//! The cleaner of generated tokens: a token in a Secret that no one made by hand and no one used for a year is first marked
//! as invalid, and a year later deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use skiff_informer::{Informer, Informers, ObjectKey};
use tokio_util::sync::CancellationToken;

use crate::secret_tokens::{ACCOUNT_NAME, annotation, is_meant, names, secrets};
use crate::worker::{is_not_found, status_code};

/// How often the tokens are looked through: their days pass by the clock.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a token may be unused (upstream's `--legacy-service-account-token-clean-up-period`).
const UNUSED: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Where the API server says since when uses are noted.
const TRACKING: (&str, &str) = (
    "kube-system",
    "kube-apiserver-legacy-service-account-token-tracking",
);
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

#[derive(Debug, PartialEq)]
enum Verdict {
    Leave,
    /// It is not accepted from this day on.
    Mark(String),
    Delete,
}

fn day(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| text.len() == 10)
}

/// Whether uses have been noted for long enough, from the day after the first on.
fn is_tracked_long_enough(since: Date, now: Timestamp) -> bool {
    let start = since
        .tomorrow()
        .ok()
        .and_then(|first| first.to_zoned(jiff::tz::TimeZone::UTC).ok());
    start.is_some_and(|start| start.timestamp() + UNUSED <= now)
}

/// What is to be done about a Secret. `mounted`: a pod of its namespace uses it.
fn verdict(secret: &Secret, account: Option<&ServiceAccount>, mounted: bool, now: Timestamp) -> Verdict {
    let meta = &secret.metadata;
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
    let keep_from = now - UNUSED;
    let first_kept = keep_from.strftime("%Y-%m-%d").to_string();
    let young = meta
        .creation_timestamp
        .as_ref()
        .is_none_or(|created| created.0 >= keep_from);
    let used = label(LAST_USED).is_some_and(|last| day(last).is_none() || *last >= first_kept);
    let name = meta.name.as_deref().unwrap_or_default();
    // Only of what an account names is it known that nobody made it by hand.
    let generated = account.is_some_and(|account| is_meant(account, secret) && names(account, name));
    if young || used || !generated || mounted || meta.deletion_timestamp.is_some() {
        return Verdict::Leave;
    }
    match label(INVALID_SINCE).filter(|since| day(since).is_some()) {
        None => Verdict::Mark(now.strftime("%Y-%m-%d").to_string()),
        Some(since) if *since >= first_kept => Verdict::Leave,
        Some(_) => Verdict::Delete,
    }
}

/// The Secrets that a pod uses, wherever its manifest names one.
fn used_by(pod: &Pod) -> BTreeSet<String> {
    fn walk(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    match key.as_str() {
                        "secretName" => found.extend(value.as_str().map(str::to_string)),
                        "secretKeyRef" | "secretRef" | "secret" | "nodePublishSecretRef" => {
                            found.extend(value["name"].as_str().map(str::to_string));
                            walk(value, found);
                        }
                        "imagePullSecrets" => {
                            let names = value.as_array().into_iter().flatten();
                            found.extend(names.filter_map(|its| its["name"].as_str().map(str::to_string)));
                        }
                        _ => walk(value, found),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    if let Ok(spec) = serde_json::to_value(&pod.spec) {
        walk(&spec, &mut found);
    }
    found
}

struct Cleaner {
    client: Client,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    pods: Informer<Pod>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let cleaner = Cleaner {
        client: informers.client().clone(),
        secrets: secrets(&informers),
        accounts: informers.all(),
        pods: informers.all(),
    };
    tokio::select! {
        () = async { tokio::join!(cleaner.secrets.synced(), cleaner.accounts.synced(), cleaner.pods.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let mut days = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = days.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = cleaner.clean(Timestamp::now()).await {
            tracing::warn!(%error, "cleaning up unused tokens");
        }
    }
}

impl Cleaner {
    async fn clean(&self, now: Timestamp) -> Result<(), kube::Error> {
        let all = self.secrets.list();
        if all.is_empty() {
            return Ok(());
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), TRACKING.0);
        let since = maps.get_opt(TRACKING.1).await?;
        let since = since.and_then(|map| day(map.data?.get("since")?));
        if !since.is_some_and(|since| is_tracked_long_enough(since, now)) {
            return Ok(());
        }
        for secret in all {
            let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let key = ObjectKey::new(namespace, annotation(&secret, ACCOUNT_NAME));
            let pods = self.pods.list_namespace(namespace);
            let mounted = pods.iter().any(|pod| used_by(pod).contains(name));
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let done = match verdict(&secret, self.accounts.get(&key).as_deref(), mounted, now) {
                Verdict::Leave => continue,
                Verdict::Mark(day) => self.mark(&api, &secret, &day).await,
                Verdict::Delete => self.delete(&api, &secret).await,
            };
            match done {
                Err(error) if !is_not_found(&error) && status_code(&error) != Some(409) => return Err(error),
                _ => tracing::info!(namespace, name, "a token that nobody uses"),
            }
        }
        Ok(())
    }

    async fn mark(&self, api: &Api<Secret>, secret: &Secret, day: &str) -> Result<(), kube::Error> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({ "metadata": { "uid": secret.metadata.uid, "labels": { INVALID_SINCE: day } } });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    async fn delete(&self, api: &Api<Secret>, secret: &Secret) -> Result<(), kube::Error> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: None,
                resource_version: secret.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        api.delete(name, &params).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn secret(created: &str, labels: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        let meta = &mut secret.metadata;
        meta.name = Some("robot-token".into());
        meta.creation_timestamp = Some(Time(at(created)));
        meta.annotations = Some([(ACCOUNT_NAME.to_string(), "robot".to_string())].into());
        let labels = labels.iter();
        meta.labels = Some(
            labels
                .map(|(key, day)| (key.to_string(), day.to_string()))
                .collect(),
        );
        secret
    }

    #[test]
    fn only_what_nobody_made_by_hand_and_nobody_used_for_a_year_goes() {
        let now = at("2026-06-15T12:00:00Z");
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("robot".into());
        account.secrets = Some(vec![ObjectReference {
            name: Some("robot-token".into()),
            ..ObjectReference::default()
        }]);
        let old = "2024-01-01T00:00:00Z";
        let mark = || Verdict::Mark("2026-06-15".into());
        let cases = [
            (old, None, mark()),
            ("2026-01-01T00:00:00Z", None, Verdict::Leave),
            (old, Some((LAST_USED, "2025-06-15")), Verdict::Leave),
            (old, Some((LAST_USED, "2025-06-14")), mark()),
            (old, Some((LAST_USED, "yesterday")), Verdict::Leave),
            (old, Some((INVALID_SINCE, "2025-06-15")), Verdict::Leave),
            (old, Some((INVALID_SINCE, "2025-06-14")), Verdict::Delete),
        ];
        for (created, label, expected) in cases {
            let secret = secret(created, label.as_slice());
            let found = verdict(&secret, Some(&account), false, now);
            assert_eq!(found, expected, "{label:?}");
            assert_eq!(verdict(&secret, Some(&account), true, now), Verdict::Leave);
            assert_eq!(verdict(&secret, None, false, now), Verdict::Leave);
        }
        let by_hand = ServiceAccount {
            secrets: None,
            ..account
        };
        assert_eq!(
            verdict(&secret(old, &[]), Some(&by_hand), false, now),
            Verdict::Leave
        );
    }

    #[test]
    fn uses_must_have_been_noted_for_a_year() {
        let since = day("2025-06-14").unwrap();
        assert!(!is_tracked_long_enough(since, at("2026-06-14T23:59:59Z")));
        assert!(is_tracked_long_enough(since, at("2026-06-15T00:00:00Z")));
    }

    #[test]
    fn pods_name_secrets_in_many_places() {
        let pod: Pod = serde_json::from_value(json!({ "spec": {
            "containers": [{ "name": "c", "env": [{ "name": "e", "valueFrom": { "secretKeyRef": { "name": "a", "key": "k" } } }],
                "envFrom": [{ "secretRef": { "name": "b" } }] }],
            "imagePullSecrets": [{ "name": "c" }],
            "volumes": [{ "name": "v", "secret": { "secretName": "d" } },
                { "name": "w", "projected": { "sources": [{ "secret": { "name": "e" } }] } },
                { "name": "x", "csi": { "driver": "q", "nodePublishSecretRef": { "name": "f" } } }],
        } }))
        .unwrap();
        assert_eq!(used_by(&pod).into_iter().collect::<String>(), "abcdef");
    }
}
