//! Which servers serve the cluster: each keeps a key under a lease in the store that they share, as upstream's do below
//! `masterleases`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use skiff_store::{Error as StoreError, Expect, LeaseId, Range, Store};

use crate::error::ApiResult;

/// What the keys begin with.
const PREFIX: &str = "/registry/masterleases/";
/// How long a server counts that has said nothing and how often each speaks (upstream's defaults).
const LASTS: Duration = Duration::from_secs(15);
pub(crate) const SPEAKS_EVERY: Duration = Duration::from_secs(10);

/// The servers of a cluster, as one of them sees them.
pub(crate) struct Members {
    store: Arc<dyn Store>,
    own: SocketAddr,
    lease: Mutex<Option<LeaseId>>,
}

impl Members {
    /// Those that share a store with the server that listens here.
    pub(crate) fn new(store: Arc<dyn Store>, own: SocketAddr) -> Self {
        Self {
            store,
            own,
            lease: Mutex::default(),
        }
    }

    /// Whether there may be others.
    pub(crate) fn may_be_several(&self) -> bool {
        self.store.is_shared()
    }

    fn key(&self) -> String {
        format!("{PREFIX}{}", self.own)
    }

    /// Says that this server is there.
    pub(crate) async fn announce(&self) -> ApiResult<()> {
        if !self.may_be_several() {
            return Ok(());
        }
        let lease = *self.lease.lock();
        if let Some(lease) = lease {
            match self.store.lease_keep_alive(lease).await {
                Err(StoreError::LeaseNotFound) => {}
                outcome => return Ok(outcome?),
            }
        }
        let lease = self.store.lease_grant(LASTS).await?;
        let (ip, port) = (self.own.ip().to_string(), self.own.port());
        let value = json!({ "kind": "Endpoints", "apiVersion": "v1", "metadata": {}, "subsets": [
            { "addresses": [{ "ip": ip }], "ports": [{ "port": port }] },
        ] });
        let key = self.key();
        let put = self
            .store
            .put(&key, value.to_string().into(), Expect::Any, Some(lease));
        put.await?;
        *self.lease.lock() = Some(lease);
        Ok(())
    }

    /// Says that this server is going.
    pub(crate) async fn leave(&self) {
        let lease = self.lease.lock().take();
        if let Some(lease) = lease
            && let Err(error) = self.store.lease_revoke(lease).await
        {
            tracing::debug!(%error, "leaving the cluster's servers");
        }
    }

    /// All servers, this one too, in an order that each of them sees.
    pub(crate) async fn all(&self) -> ApiResult<BTreeSet<SocketAddr>> {
        let mut all = BTreeSet::from([self.own]);
        if self.may_be_several() {
            let range = Range {
                prefix: PREFIX.into(),
                ..Range::default()
            };
            let found = self.store.range(range).await?.items;
            let address = |key: &str| key.strip_prefix(PREFIX)?.parse::<SocketAddr>().ok();
            all.extend(found.iter().filter_map(|found| address(&found.key)));
        }
        Ok(all)
    }
}
