//! Which API servers a cluster has: a Lease for each, by which clients count them (upstream's `APIServerIdentity`).

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::ApiResult;
use crate::objects::all;
use crate::registry::{DeleteOptions, Registry};
use crate::startup::{Wanted, options};

const NAMESPACE: &str = "kube-system";
const LABEL: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";
/// How long a lease lasts, in seconds.
const LASTS: i32 = 3600;
/// How often a server says that it is there …
const RENEWED_EVERY: Duration = Duration::from_secs(10);
/// … and how often when there can be no other, who might want to know. It costs a sync of the disk.
const RENEWED_ALONE_EVERY: Duration = Duration::from_secs(1200);
/// How often leases that have ended are looked for.
const CLEARED_EVERY: Duration = Duration::from_secs(3600);

/// The name by which a host's server is known: a hash of the host's name and of what it runs.
fn identity(host_name: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host_name, COMPONENT] {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        hash.update(length.to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let half = hash.get(..16).unwrap_or_default();
    format!("apiserver-{}", BASE32_NOPAD.encode(half).to_lowercase())
}

struct Identity {
    registry: Arc<Registry>,
    lease: Wanted<Lease>,
}

impl Identity {
    async fn renew(&mut self) -> ApiResult<()> {
        if let Some(spec) = &mut self.lease.object.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        self.lease.ensure(&self.registry).await
    }

    /// Deletes the leases of servers that are no more.
    async fn clear(&self) -> ApiResult<()> {
        let Some(leases) = self.registry.resource("coordination.k8s.io", "v1", "leases") else {
            return Ok(());
        };
        let now = Timestamp::now();
        for lease in all::<Lease>(&self.registry, NAMESPACE) {
            let name = lease.metadata.name.clone().unwrap_or_default();
            if is_over(&lease, now) {
                let gone = leases
                    .delete(NAMESPACE, &name, &DeleteOptions::default(), &options())
                    .await;
                if let Err(error) = gone
                    && error.code() != 404
                {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Whether a lease is a server's that has not renewed it in time.
fn is_over(lease: &Lease, now: Timestamp) -> bool {
    let labels = lease.metadata.labels.as_ref();
    let is_servers = labels.is_some_and(|labels| labels.get(LABEL).is_some_and(|of| of == COMPONENT));
    let spec = lease.spec.as_ref();
    let end = spec.and_then(|spec| {
        let lasts = SignedDuration::from_secs(spec.lease_duration_seconds?.into());
        spec.renew_time.as_ref()?.0.checked_add(lasts).ok()
    });
    is_servers && end.is_none_or(|end| end < now)
}

/// Keeps this server's lease until `shutdown`, and clears away those of others that have ended.
///
/// # Errors
/// When the lease cannot be made.
pub(crate) async fn start(
    registry: Arc<Registry>,
    host_name: &str,
    may_be_several: bool,
    shutdown: CancellationToken,
) -> ApiResult<()> {
    let name = identity(host_name);
    let labels = [(LABEL, COMPONENT), ("kubernetes.io/hostname", host_name)];
    let lease = Lease {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.into()),
            name: Some(name.clone()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(format!("{name}_{}", uuid::Uuid::new_v4())),
            lease_duration_seconds: Some(LASTS),
            ..LeaseSpec::default()
        }),
    };
    let mut own = Identity {
        registry,
        lease: Wanted {
            object: lease,
            repair: |wanted, found| {
                found.metadata.labels = wanted.metadata.labels.clone();
                found.spec = wanted.spec.clone();
            },
        },
    };
    own.renew().await?;
    let every = if may_be_several {
        RENEWED_EVERY
    } else {
        RENEWED_ALONE_EVERY
    };
    tokio::spawn(async move {
        let mut renewals = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        let mut clearings = tokio::time::interval(CLEARED_EVERY);
        loop {
            let done = tokio::select! {
                _ = renewals.tick() => own.renew().await,
                _ = clearings.tick() => own.clear().await,
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "the leases of API servers");
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_when_its_server_has_not_renewed_it() {
        let now = Timestamp::from_second(10_000).unwrap();
        let lease = |label: Option<&str>, renewed: Option<i64>| Lease {
            metadata: ObjectMeta {
                labels: label.map(|of| [(LABEL.to_string(), of.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                lease_duration_seconds: Some(LASTS),
                renew_time: renewed.map(|second| MicroTime(Timestamp::from_second(second).unwrap())),
                ..LeaseSpec::default()
            }),
        };
        for (lease, over) in [
            (lease(Some(COMPONENT), Some(6_400)), false),
            (lease(Some(COMPONENT), Some(6_399)), true),
            (lease(Some(COMPONENT), None), true),
            // The leases of nodes and of leaders are not the server's to delete.
            (lease(None, Some(1)), false),
            (lease(Some("other"), Some(1)), false),
        ] {
            assert_eq!(is_over(&lease, now), over, "{lease:?}");
        }
    }

    #[test]
    fn a_host_has_one_name_as_a_server() {
        // By another implementation: SHA-256 of both texts with their lengths before them, the first half in base 32.
        assert_eq!(identity("node-1"), "apiserver-lgabes5ywnaqeagh5dny4zlzs4");
    }
}
