//! Claims on addresses and ports, when several servers give them out from one store.
//!
//! A claim is a key that only one server can make. What a service holds is seen in every server's cache, but later; so a
//! server claims first, waits until its cache shows all that was written before the claim, and then looks whether a
//! service holds the thing already. A claim is dropped when the service that it was for has been seen: whoever claims
//! after that sees the service too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skiff_store::{Error as StoreError, Expect, Revision, Store};

use crate::error::ApiResult;
use crate::registry::Leases;

/// How long a claim lasts that its server did not drop, because it was killed. Longer than a request may take.
const LASTS: Duration = Duration::from_secs(120);

/// What claims are kept under.
const PREFIX: &str = "/registry/ranges/claims/";

/// This server's claims.
pub(super) struct Claims {
    store: Arc<dyn Store>,
    leases: Leases,
    /// Tells this server's claims from others'.
    server: Bytes,
    /// By key: the revision that made it.
    own: Mutex<HashMap<String, Revision>>,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Claims {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            leases: Leases::default(),
            server: uuid::Uuid::new_v4().to_string().into(),
            own: Mutex::default(),
        }
    }

    /// Claims a thing: the revision that others' writes must be seen up to; `None` when another server has claimed it.
    pub(super) async fn claim(&self, thing: &str) -> ApiResult<Option<Revision>> {
        let key = format!("{PREFIX}{thing}");
        if let Some(revision) = self.own.lock().get(&key) {
            return Ok(Some(*revision));
        }
        let lease = self.leases.lease(self.store.as_ref(), LASTS).await?;
        let put = self
            .store
            .put(&key, self.server.clone(), Expect::Absent, Some(lease));
        let revision = match put.await {
            Ok(written) => written.revision,
            Err(StoreError::Conflict { current: Some(found) }) if found.value == self.server => {
                found.mod_revision
            }
            Err(StoreError::Conflict { .. }) => return Ok(None),
            Err(error) => {
                if matches!(error, StoreError::LeaseNotFound) {
                    self.leases.forget(LASTS);
                }
                return Err(error.into());
            }
        };
        self.own.lock().insert(key, revision);
        Ok(Some(revision))
    }

    /// Drops claims, soon.
    pub(super) fn drop_soon(self: &Arc<Self>, things: impl IntoIterator<Item = String>) {
        let mut own = self.own.lock();
        for thing in things {
            let key = format!("{PREFIX}{thing}");
            let Some(revision) = own.remove(&key) else {
                continue;
            };
            let store = self.store.clone();
            tokio::spawn(async move {
                // One that stays for a failure ends with its lease.
                if let Err(error) = store.delete(&key, Expect::Revision(revision)).await {
                    tracing::debug!(%error, key, "dropping a claim");
                }
            });
        }
    }
}
