//! The ServiceCIDR that every cluster has: it tells which addresses services get without more being said.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use skiff_api::{Subresource, Target};
use tokio_util::sync::CancellationToken;

use crate::error::ApiResult;
use crate::keep;
use crate::registry::{Entry, Registry, Resource, WatchOptions};
use crate::startup::{self, Wanted};

const NAME: &str = "kubernetes";
const READY: &str = "Ready";
/// How upstream's controller signs what it says of the object.
const MANAGER: &str = "kubernetes-service-cidr-controller";

/// Says of the object that it may be used, if it has this range and nothing is said of it yet.
fn make_ready(object: &mut ServiceCIDR, range: &str, now: Timestamp) {
    let has_range = object
        .spec
        .as_ref()
        .and_then(|spec| spec.cidrs.as_deref())
        .is_some_and(|ranges| ranges == [range]);
    let goes = object.metadata.deletion_timestamp.is_some();
    let status = object.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    if goes || !has_range || conditions.iter().any(|condition| condition.type_ == READY) {
        return;
    }
    conditions.push(Condition {
        type_: READY.into(),
        status: "True".into(),
        message: "Kubernetes default Service CIDR is ready".into(),
        last_transition_time: Time(now),
        reason: String::new(),
        observed_generation: None,
    });
}

/// Keeps the object.
struct Keeper {
    registry: Arc<Registry>,
    resource: Arc<Resource>,
    range: String,
}

impl keep::Keeper for Keeper {
    async fn check_all(&mut self) -> ApiResult<()> {
        let wanted = Wanted {
            object: ServiceCIDR {
                metadata: ObjectMeta {
                    name: Some(NAME.into()),
                    ..ObjectMeta::default()
                },
                spec: Some(ServiceCIDRSpec {
                    cidrs: Some(vec![self.range.clone()]),
                }),
                status: None,
            },
            // Its ranges cannot be changed: who starts the server with others is told by the object's condition.
            repair: |_, _| {},
        };
        wanted.ensure(&self.registry).await?;
        let mut options = startup::options();
        options.field_manager = Some(MANAGER.into());
        let target = Target::Subresource(Subresource::Status);
        let told = self.resource.modify("", NAME, target, &options, |found| {
            if let Some(found) = found.as_any_mut().downcast_mut::<ServiceCIDR>() {
                make_ready(found, &self.range, Timestamp::now());
            }
            Ok(())
        });
        told.await.map(drop)
    }

    async fn check(&mut self, _changed: &Entry) -> ApiResult<()> {
        self.check_all().await
    }
}

/// Makes the object, of this range, and keeps it until `shutdown`.
///
/// # Errors
/// When it cannot be made.
pub(crate) async fn start(
    registry: Arc<Registry>,
    range: String,
    shutdown: CancellationToken,
) -> ApiResult<()> {
    let Some(resource) = registry.resource("networking.k8s.io", "v1", "servicecidrs") else {
        return Ok(());
    };
    let resource = resource.clone();
    let options = WatchOptions {
        field_selector: format!("metadata.name={NAME}"),
        ..WatchOptions::default()
    };
    let watched = vec![(resource.clone(), options)];
    let mut keeper = Keeper {
        registry,
        resource,
        range,
    };
    keep::Keeper::check_all(&mut keeper).await?;
    keep::keep(keeper, watched, shutdown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[&str], conditions: Option<Vec<Condition>>) -> ServiceCIDR {
        let mut object = ServiceCIDR {
            spec: Some(ServiceCIDRSpec {
                cidrs: Some(ranges.iter().map(|range| range.to_string()).collect()),
            }),
            ..ServiceCIDR::default()
        };
        object.status.get_or_insert_default().conditions = conditions;
        make_ready(&mut object, "10.96.0.0/12", Timestamp::UNIX_EPOCH);
        object
    }

    fn told(object: &ServiceCIDR) -> Vec<(&str, &str)> {
        let conditions = object
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref());
        conditions
            .unwrap_or_default()
            .iter()
            .map(|condition| (condition.status.as_str(), condition.message.as_str()))
            .collect()
    }

    #[test]
    fn only_its_own_range_is_ready_and_nobody_is_overruled() {
        let ready = ("True", "Kubernetes default Service CIDR is ready");
        assert_eq!(told(&of(&["10.96.0.0/12"], None)), [ready]);
        assert_eq!(told(&of(&["10.0.0.0/16"], None)), []);
        let other = Condition {
            type_: READY.into(),
            status: "False".into(),
            message: "m".into(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            reason: "r".into(),
            observed_generation: None,
        };
        assert_eq!(told(&of(&["10.96.0.0/12"], Some(vec![other]))), [("False", "m")]);
    }
}
