//! RBAC: roles say what may be done, bindings say who has which role.
//!
//! Decisions are made by an index in memory, which follows the registry's watch caches.

pub(crate) mod bootstrap;
mod escalation;
mod index;
pub(crate) mod policy;
pub(crate) mod rules;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::auth::authorize::{Attributes, Authorizer, Decision, Held};
use crate::error::ApiResult;
use crate::follow::{Follower, follow};
use crate::registry::{Entry, Registry};
use crate::user::UserInfo;

pub(crate) use escalation::check as check_escalation;
use index::{Granted, Index, Indexed};

/// What roles allow; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rbac {
    index: Arc<RwLock<Index>>,
}

impl Rbac {
    /// Follows the roles and bindings until `shutdown`. When this returns, those that are there now count.
    pub(crate) async fn follow(
        &self,
        registry: &Arc<Registry>,
        shutdown: &CancellationToken,
    ) -> ApiResult<()> {
        self.follow_kind::<ClusterRole>(registry, shutdown).await?;
        self.follow_kind::<Role>(registry, shutdown).await?;
        self.follow_kind::<ClusterRoleBinding>(registry, shutdown).await?;
        self.follow_kind::<RoleBinding>(registry, shutdown).await
    }

    async fn follow_kind<K: Indexed + 'static>(
        &self,
        registry: &Arc<Registry>,
        shutdown: &CancellationToken,
    ) -> ApiResult<()> {
        let Some(resource) = registry
            .resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
            .cloned()
        else {
            return Ok(());
        };
        let follower = Of::<K> {
            index: self.index.clone(),
            kind: std::marker::PhantomData,
        };
        follow(resource, follower, shutdown.clone()).await
    }

    fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let mut missing = Vec::new();
        for granted in self.index.read().granted(attributes.user, attributes.namespace) {
            match granted {
                Granted::Rules(its, reason) => {
                    if its.iter().any(|rule| rules::allows(rule, attributes)) {
                        return Decision::Allow(Some(reason.clone()));
                    }
                }
                Granted::Missing(message) if missing.contains(&message) => {}
                Granted::Missing(message) => missing.push(message),
            }
        }
        Decision::NoOpinion(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            several => format!("RBAC: [{}]", several.join(", ")),
        })
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.decide(attributes)
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> Held {
        let mut held = Held::default();
        for granted in self.index.read().granted(user, namespace) {
            match granted {
                Granted::Rules(its, _) => held.rules.extend_from_slice(its),
                Granted::Missing(message) => held.errors.push(message),
            }
        }
        held
    }
}

/// Brings the objects of one kind into the index.
struct Of<K> {
    index: Arc<RwLock<Index>>,
    kind: std::marker::PhantomData<fn() -> K>,
}

fn decoded<K: Indexed>(entry: &Entry) -> Option<K> {
    serde_json::from_slice(entry.json())
        .inspect_err(
            |error| tracing::error!(name = entry.name(), %error, "a stored {} cannot be read", K::KIND),
        )
        .ok()
}

impl<K: Indexed + 'static> Follower for Of<K> {
    fn replace(&self, entries: &[Arc<Entry>]) {
        let mut index = self.index.write();
        K::clear(&mut index);
        for entry in entries {
            if let Some(object) = decoded::<K>(entry) {
                object.put(&mut index, entry.namespace(), entry.name());
            }
        }
    }

    fn put(&self, entry: &Entry) {
        if let Some(object) = decoded::<K>(entry) {
            object.put(&mut self.index.write(), entry.namespace(), entry.name());
        }
    }

    fn remove(&self, entry: &Entry) {
        K::remove(&mut self.index.write(), entry.namespace(), entry.name());
    }
}
