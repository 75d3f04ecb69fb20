//! Since when it is known who uses the tokens that stand in Secrets: a ConfigMap, without which no unused token is cleaned
//! up (upstream's `legacy_token_tracking_controller`).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::Target;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{ApiError, ApiResult};
use crate::keep::{self, Keeper};
use crate::objects::find;
use crate::registry::{Entry, Registry, Resource, WatchOptions};
use crate::startup::options;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
const KEY: &str = "since";
/// How often it is made at most: servers of a cluster that do not agree on it are not to fight.
const AGAIN: Duration = Duration::from_secs(30 * 60);

struct Tracking {
    registry: Arc<Registry>,
    resource: Arc<Resource>,
    made: Option<Instant>,
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// Whether it tells a day.
fn tells_a_day(map: &ConfigMap) -> bool {
    let since = map.data.as_ref().and_then(|data| data.get(KEY));
    since.is_some_and(|since| since.len() == 10 && since.parse::<jiff::civil::Date>().is_ok())
}

impl Tracking {
    async fn make(&mut self) -> ApiResult<()> {
        if let Some(made) = self.made {
            tokio::time::sleep_until(made + AGAIN).await;
        }
        let map = ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(NAMESPACE.into()),
                name: Some(NAME.into()),
                ..ObjectMeta::default()
            },
            data: Some([(KEY.to_string(), today())].into()),
            ..ConfigMap::default()
        };
        let body = serde_json::to_vec(&map).map_err(ApiError::internal)?;
        match self.resource.create(NAMESPACE, &body, &options()).await {
            Err(error) if error.reason() != "AlreadyExists" => Err(error),
            _ => {
                self.made = Some(Instant::now());
                Ok(())
            }
        }
    }
}

impl Keeper for Tracking {
    async fn check_all(&mut self) -> ApiResult<()> {
        let found: Option<ConfigMap> = find(&self.registry, NAMESPACE, NAME).await?;
        match found {
            None => self.make().await,
            Some(found) if tells_a_day(&found) => Ok(()),
            Some(_) => {
                let options = options();
                let repaired = self
                    .resource
                    .modify(NAMESPACE, NAME, Target::Main, &options, |found| {
                        if let Some(found) = found.as_any_mut().downcast_mut::<ConfigMap>() {
                            found.data.get_or_insert_default().insert(KEY.into(), today());
                        }
                        Ok(())
                    });
                match repaired.await {
                    Err(error) if !matches!(error.code(), 404 | 409) => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn check(&mut self, _changed: &Entry) -> ApiResult<()> {
        self.check_all().await
    }
}

/// Makes the ConfigMap, and keeps it until `shutdown`.
///
/// # Errors
/// When it cannot be made.
pub(crate) async fn start(registry: Arc<Registry>, shutdown: CancellationToken) -> ApiResult<()> {
    let Some(resource) = registry.resource("", "v1", "configmaps").cloned() else {
        return Ok(());
    };
    let mut tracking = Tracking {
        resource: resource.clone(),
        registry,
        made: None,
    };
    tracking.check_all().await?;
    let watched = WatchOptions {
        namespace: Some(NAMESPACE.into()),
        field_selector: format!("metadata.name={NAME}"),
        ..WatchOptions::default()
    };
    keep::keep(tracking, vec![(resource, watched)], shutdown);
    Ok(())
}
