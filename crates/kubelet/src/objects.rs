//! Config maps, secrets and tokens that pods of this node name, fetched when they are needed.
//!
//! They are read anew for each start of a container and each refresh of a volume, as upstream's `Get` strategy does:
//! a node watches nothing that it does not need, and never shows an older version than it showed before.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::pod::env::Sources;
use crate::pod::identity::{name, namespace, uid};

/// Upstream refreshes a token that is older than this, however long it lives.
const TOKEN_AGE: SignedDuration = SignedDuration::from_hours(24);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenKey {
    pod_uid: String,
    audience: Option<String>,
    seconds: i64,
}

#[derive(Clone, Debug)]
struct Token {
    text: String,
    refresh_at: Timestamp,
}

/// Reads what pods name; clones share the tokens.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    tokens: Arc<Mutex<HashMap<TokenKey, Token>>>,
}

/// The message of an API error as the kubelet's events show it: `configmap "x" not found`.
fn failure(kind: &str, object: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => format!("{kind} {object:?} not found"),
        kube::Error::Api(status) => format!("failed to fetch {kind} {object:?}: {}", status.message),
        error => format!("failed to fetch {kind} {object:?}: {error}"),
    }
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            tokens: Arc::default(),
        }
    }

    /// A config map; `None` when there is none.
    ///
    /// # Errors
    /// The text for the pod's event.
    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name)
            .await
            .map_err(|error| failure("configmap", name, &error))
    }

    /// A secret; `None` when there is none.
    ///
    /// # Errors
    /// The text for the pod's event.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name)
            .await
            .map_err(|error| failure("secret", name, &error))
    }

    /// What a container's environment needs.
    ///
    /// # Errors
    /// The text for the container's status.
    pub(crate) async fn sources(
        &self,
        namespace: &str,
        config_maps: Vec<String>,
        secrets: Vec<String>,
    ) -> Result<Sources, String> {
        let mut sources = Sources::default();
        for name in config_maps {
            if let Some(map) = self.config_map(namespace, &name).await? {
                sources.config_maps.insert(name, Arc::new(map));
            }
        }
        for name in secrets {
            if let Some(secret) = self.secret(namespace, &name).await? {
                sources.secrets.insert(name, Arc::new(secret));
            }
        }
        Ok(sources)
    }

    /// A token of the pod's service account that is bound to the pod, and when the next one should be asked for.
    ///
    /// # Errors
    /// The text for the pod's event.
    pub(crate) async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<(String, Timestamp), String> {
        let key = TokenKey {
            pod_uid: uid(pod).into(),
            audience: audience.map(Into::into),
            seconds,
        };
        let now = Timestamp::now();
        if let Some(token) = self
            .tokens
            .lock()
            .get(&key)
            .filter(|token| token.refresh_at > now)
        {
            return Ok((token.text.clone(), token.refresh_at));
        }
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_else(|| "default".into());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.map(Into::into).into_iter().collect()),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(name(pod).into()),
                    uid: pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace(pod));
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(|error| match error {
                kube::Error::Api(status) => format!("failed to fetch token: {}", status.message),
                error => format!("failed to fetch token: {error}"),
            })?;
        let status = answer.status.unwrap_or_default();
        let text = status.token.unwrap_or_default();
        let expires = status.expiration_timestamp.map_or(now, |time| time.0);
        let refresh_at = refresh_time(now, expires);
        let token = Token {
            text: text.clone(),
            refresh_at,
        };
        self.tokens.lock().insert(key, token);
        Ok((text, refresh_at))
    }

    /// Forgets the tokens of a pod that is gone.
    pub(crate) fn forget(&self, pod_uid: &str) {
        self.tokens.lock().retain(|key, _| key.pod_uid != pod_uid);
    }
}

/// A token is replaced when 80 % of its life is over, or after a day.
fn refresh_time(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    let age = (life * 4 / 5).min(TOKEN_AGE);
    now.saturating_add(age).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_in_the_last_fifth_of_its_life() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(refresh_time(at(0), at(3600)), at(2880));
        assert_eq!(refresh_time(at(0), at(30 * 86_400)), at(86_400));
    }
}
