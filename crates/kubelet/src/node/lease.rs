//! The node's heartbeat: a lease in `kube-node-lease` that is renewed every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;

use crate::shared::Shared;

const NAMESPACE: &str = "kube-node-lease";
/// Upstream's `nodeLeaseDurationSeconds`; it is renewed four times as often.
const DURATION_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// The first wait after a failure, doubling to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(7);

fn lease(node: &str, node_uid: Option<String>, now: Timestamp) -> Lease {
    let owner = node_uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid,
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(node.into()),
            namespace: Some(NAMESPACE.into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.into()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// Renews a lease that is there, or makes it.
async fn renew(api: &Api<Lease>, shared: &Shared, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &shared.node_name;
    let node_uid = shared.node_object().and_then(|node| node.metadata.uid.clone());
    let mut fresh = lease(name, node_uid, Timestamp::now());
    let known = match held {
        Some(held) => Some(held),
        None => api.get_opt(name).await?,
    };
    let params = PostParams::default();
    match known {
        None => api.create(&params, &fresh).await,
        Some(known) => {
            let owners = fresh.metadata.owner_references.take();
            let mut metadata = known.metadata;
            metadata.owner_references = metadata.owner_references.or(owners);
            fresh.metadata = metadata;
            api.replace(name, &params, &fresh).await
        }
    }
}

/// Keeps the lease until shutdown.
pub(crate) async fn run(shared: Arc<Shared>) {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), NAMESPACE);
    let (mut held, mut retry) = (None, RETRY);
    loop {
        let wait = match renew(&api, &shared, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                retry = RETRY;
                RENEW
            }
            Err(error) => {
                tracing::debug!(%error, "node lease not renewed");
                let wait = retry;
                retry = (retry * 2).min(RETRY_MAX);
                wait
            }
        };
        // A heartbeat is periodic by its nature.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_belongs_to_its_node() {
        let lease = lease("n", Some("u".into()), Timestamp::UNIX_EPOCH);
        let spec = lease.spec.unwrap();
        assert_eq!(
            (spec.holder_identity.as_deref(), spec.lease_duration_seconds),
            (Some("n"), Some(40))
        );
        assert_eq!(lease.metadata.owner_references.unwrap()[0].uid, "u");
    }
}
