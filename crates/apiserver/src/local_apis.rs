//! The APIServices of the groups that this server serves itself: made at the start, and kept as upstream's autoregister
//! controller keeps them, which leaves to the users what they have changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use skiff_api::apiregistration::{is_locally_available, locally_available};
use skiff_api::{Catalogue, Subresource, Target};
use tokio_util::sync::CancellationToken;

use crate::discovery::{group_versions, priority};
use crate::error::{ApiError, ApiResult};
use crate::keep::{self, Keeper as _};
use crate::objects::find;
use crate::registry::{DeleteOptions, Entry, ListOptions, Registry, Resource, WatchOptions};
use crate::startup::options;

/// The label that says whether and when the server brings an APIService back to what it should be.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Once, when a server starts.
const ON_START: &str = "onstart";
/// Whenever it differs.
const ALWAYS: &str = "true";

/// The APIServices that this server's groups should have, by name.
fn wanted(catalogue: &Catalogue) -> BTreeMap<String, APIService> {
    group_versions(catalogue)
        .into_iter()
        .filter_map(|(group, version)| {
            let priority = priority::of(&group, &version)?;
            let name = format!("{version}.{group}");
            let service = APIService {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some([(MANAGED.to_string(), ON_START.to_string())].into()),
                    ..ObjectMeta::default()
                },
                spec: Some(APIServiceSpec {
                    group: Some(group).filter(|group| !group.is_empty()),
                    version: Some(version),
                    group_priority_minimum: priority.group,
                    version_priority: priority.version,
                    ..APIServiceSpec::default()
                }),
                status: None,
            };
            Some((name, service))
        })
        .collect()
}

/// What is to be done about one APIService.
#[derive(Debug, PartialEq)]
enum Verdict<'a> {
    Leave,
    Create(&'a APIService),
    /// The specification differs.
    Update(&'a APIService),
    /// Made by a server of the past, for a group that is no longer served.
    Delete,
}

/// When an APIService is managed, by its label.
fn managed(service: Option<&APIService>) -> &str {
    service
        .and_then(|service| service.metadata.labels.as_ref()?.get(MANAGED))
        .map_or("", String::as_str)
}

/// Upstream's table. `synced`: it was brought in order once since the start. `at_start`: it was there at the start.
fn verdict<'a>(
    wanted: Option<&'a APIService>,
    found: Option<&APIService>,
    synced: bool,
    at_start: bool,
) -> Verdict<'a> {
    match (wanted, found) {
        (None, None) => Verdict::Leave,
        (Some(_), _) if managed(wanted) == ON_START && synced => Verdict::Leave,
        (Some(wanted), None) => Verdict::Create(wanted),
        (wanted, Some(found)) => match (managed(Some(found)), wanted) {
            (ON_START, _) if synced || !at_start => Verdict::Leave,
            (ON_START | ALWAYS, None) => Verdict::Delete,
            (ON_START | ALWAYS, Some(wanted)) if wanted.spec != found.spec => Verdict::Update(wanted),
            _ => Verdict::Leave,
        },
    }
}

/// Keeps the APIServices.
struct Keeper {
    registry: Arc<Registry>,
    resource: Arc<Resource>,
    wanted: BTreeMap<String, APIService>,
    at_start: BTreeSet<String>,
    synced: BTreeSet<String>,
}

impl Keeper {
    async fn bring_in_order(&self, name: &str) -> ApiResult<()> {
        let found: Option<APIService> = find(&self.registry, "", name).await?;
        let verdict = verdict(
            self.wanted.get(name),
            found.as_ref(),
            self.synced.contains(name),
            self.at_start.contains(name),
        );
        self.carry_out(name, found.as_ref(), verdict).await?;
        if let Some(found) = found.filter(|found| !is_locally_available(found)) {
            self.mark(name, &found).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, name: &str, found: Option<&APIService>, verdict: Verdict<'_>) -> ApiResult<()> {
        let done = match verdict {
            Verdict::Leave => return Ok(()),
            Verdict::Create(service) => {
                let body = serde_json::to_vec(service).map_err(ApiError::internal)?;
                self.resource.create("", &body, &options()).await.map(drop)
            }
            Verdict::Update(wanted) => {
                self.modify(name, Target::Main, |found| found.spec.clone_from(&wanted.spec))
                    .await
            }
            Verdict::Delete => {
                let delete = DeleteOptions {
                    uid: found.and_then(|found| found.metadata.uid.clone()),
                    ..DeleteOptions::default()
                };
                self.resource
                    .delete("", name, &delete, &options())
                    .await
                    .map(drop)
            }
        };
        match done {
            // Somebody else was faster, another server perhaps.
            Err(error) if matches!(error.reason(), "AlreadyExists" | "NotFound" | "Conflict") => Ok(()),
            done => done,
        }
    }

    /// An APIService without a service is this server's to answer for, whoever made it.
    async fn mark(&self, name: &str, found: &APIService) -> ApiResult<()> {
        if found.spec.as_ref().is_none_or(|spec| spec.service.is_some()) {
            return Ok(());
        }
        let status = Target::Subresource(Subresource::Status);
        let marked = self.modify(name, status, |found| {
            found.status = Some(locally_available(found.status.take()));
        });
        match marked.await {
            Err(error) if error.code() != 404 => Err(error),
            _ => Ok(()),
        }
    }

    async fn modify(
        &self,
        name: &str,
        target: Target,
        change: impl Fn(&mut APIService) + Send + Sync,
    ) -> ApiResult<()> {
        let options = options();
        let modified = self.resource.modify("", name, target, &options, |found| {
            if let Some(found) = found.as_any_mut().downcast_mut::<APIService>() {
                change(found);
            }
            Ok(())
        });
        modified.await.map(drop)
    }

    async fn names(&self) -> ApiResult<BTreeSet<String>> {
        let list = self.resource.list(&ListOptions::default()).await?;
        Ok(list.items.iter().map(|entry| entry.name().to_string()).collect())
    }
}

impl keep::Keeper for Keeper {
    async fn check_all(&mut self) -> ApiResult<()> {
        let there = self.names().await?;
        let names: BTreeSet<String> = self.wanted.keys().cloned().chain(there).collect();
        // Together, for the store writes at once what comes at once.
        futures::future::try_join_all(names.iter().map(|name| self.bring_in_order(name))).await?;
        self.synced.extend(names);
        Ok(())
    }

    async fn check(&mut self, changed: &Entry) -> ApiResult<()> {
        self.bring_in_order(changed.name()).await?;
        self.synced.insert(changed.name().to_string());
        Ok(())
    }
}

/// Makes the APIServices that are missing, and keeps them until `shutdown`.
///
/// # Errors
/// When one cannot be made.
pub(crate) async fn start(registry: Arc<Registry>, shutdown: CancellationToken) -> ApiResult<()> {
    let Some(resource) = registry.resource("apiregistration.k8s.io", "v1", "apiservices") else {
        return Ok(());
    };
    let mut keeper = Keeper {
        resource: resource.clone(),
        wanted: wanted(registry.catalogue()),
        registry,
        at_start: BTreeSet::new(),
        synced: BTreeSet::new(),
    };
    keeper.at_start = keeper.names().await?;
    keeper.check_all().await?;
    let resource = keeper.resource.clone();
    keep::keep(keeper, vec![(resource, WatchOptions::default())], shutdown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(label: &str, priority: i32) -> APIService {
        let mut service = APIService::default();
        service.metadata.labels = Some([(MANAGED.to_string(), label.to_string())].into());
        service.spec = Some(APIServiceSpec {
            group_priority_minimum: priority,
            ..APIServiceSpec::default()
        });
        service
    }

    #[test]
    fn what_users_changed_since_the_start_is_theirs() {
        let wanted = service(ON_START, 1);
        let (other, theirs) = (service(ON_START, 2), service("no", 2));
        let always = service(ALWAYS, 2);
        let cases = [
            // Wanted, found, in order once, there at the start.
            (Some(&wanted), None, false, false, Verdict::Create(&wanted)),
            (Some(&wanted), None, true, false, Verdict::Leave),
            (Some(&wanted), Some(&other), false, true, Verdict::Update(&wanted)),
            (Some(&wanted), Some(&other), true, true, Verdict::Leave),
            (Some(&wanted), Some(&other), false, false, Verdict::Leave),
            (Some(&wanted), Some(&theirs), false, true, Verdict::Leave),
            (Some(&wanted), Some(&wanted), false, true, Verdict::Leave),
            (
                Some(&wanted),
                Some(&always),
                false,
                false,
                Verdict::Update(&wanted),
            ),
            (None, Some(&other), false, true, Verdict::Delete),
            (None, Some(&other), false, false, Verdict::Leave),
            (None, Some(&always), true, false, Verdict::Delete),
            (None, Some(&theirs), false, true, Verdict::Leave),
            (None, None, false, false, Verdict::Leave),
        ];
        for (index, (wanted, found, synced, at_start, expected)) in cases.into_iter().enumerate() {
            assert_eq!(verdict(wanted, found, synced, at_start), expected, "case {index}");
        }
    }
}
