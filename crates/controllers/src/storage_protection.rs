//! Storage object in use protection: a claim stays while a pod uses it, a volume while it is bound, an attribute class
//! while a claim or volume names it. Admission gives each the finalizer; this controller takes it away in time.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use skiff_informer::{Index, Informer, Informers, ObjectKey, Watched};
use tokio_util::sync::CancellationToken;

use crate::ownership::controller_of;
use crate::pods;
use crate::worker::{Failure, Reconcile, unless_gone, work};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// What may have to be protected, or let go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    Claim(ObjectKey),
    Volume(String),
    Class(String),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
            Self::Class(name) => write!(f, "volume attributes class {name}"),
        }
    }
}

struct Controller {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<VolumeAttributesClass>,
    /// By the claims that each uses.
    pods: Index<ObjectKey, Pod>,
    claims_by_class: Index<String, PersistentVolumeClaim>,
    volumes_by_class: Index<String, PersistentVolume>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let queue = informers.queues().make::<Work>("pvcprotection");
    let all_pods = informers.all::<Pod>();
    let claims = informers.all::<PersistentVolumeClaim>();
    let volumes = informers.all::<PersistentVolume>();
    let classes = informers.all::<VolumeAttributesClass>();
    let controller = Controller {
        client: informers.client().clone(),
        pods: Index::new(&all_pods, |pod: &Pod| used_claims(pod)),
        claims_by_class: Index::new(&claims, |claim: &PersistentVolumeClaim| classes_of_claim(claim)),
        volumes_by_class: Index::new(&volumes, |volume: &PersistentVolume| {
            class_of_volume(volume).into_iter().collect()
        }),
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: classes.clone(),
    };
    all_pods.on_change({
        let queue = queue.clone();
        move |old, new| {
            let still = new.map(|new| used_claims(new)).unwrap_or_default();
            for key in old.map(|old| used_claims(old)).unwrap_or_default() {
                if !still.contains(&key) {
                    queue.add(Work::Claim(key));
                }
            }
        }
    });
    claims.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let Some(new) = new {
                queue.add(Work::Claim(ObjectKey::of(&new.metadata)));
            }
            let still = new.map(|new| classes_of_claim(new)).unwrap_or_default();
            for class in old.map(|old| classes_of_claim(old)).unwrap_or_default() {
                if !still.contains(&class) {
                    queue.add(Work::Class(class));
                }
            }
        }
    });
    volumes.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let Some(new) = new {
                queue.add(Work::Volume(new.metadata.name.clone().unwrap_or_default()));
            }
            let still = new.and_then(|new| class_of_volume(new));
            if let Some(class) = old.and_then(|old| class_of_volume(old))
                && still.as_ref() != Some(&class)
            {
                queue.add(Work::Class(class));
            }
        }
    });
    classes.on_change({
        let queue = queue.clone();
        move |_, new| {
            if let Some(new) = new {
                queue.add(Work::Class(new.metadata.name.clone().unwrap_or_default()));
            }
        }
    });
    tokio::select! {
        () = async {
            tokio::join!(all_pods.synced(), claims.synced(), volumes.synced(), classes.synced());
        } => {}
        () = shutdown.cancelled() => return,
    }
    work("storage-protection", Arc::new(controller), queue, 2, shutdown).await;
}

/// The claims that a pod keeps from going: those it names, and those that are made for it, once it has a node. Before, no
/// node would start it with a claim that is going.
fn used_claims(pod: &Pod) -> Vec<ObjectKey> {
    if pods::node_name(pod).is_empty() {
        return Vec::new();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(
            |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some(claim.claim_name.clone()),
                (None, Some(_)) if !pods::is_terminated(pod) => Some(format!("{own}-{}", volume.name)),
                _ => None,
            },
        )
        .map(|name| ObjectKey::new(namespace, name))
        .collect()
}

fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let present = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|status| status.target_volume_attributes_class_name.clone());
    let mut classes: Vec<String> = [wanted, present, target].into_iter().flatten().collect();
    classes.sort();
    classes.dedup();
    classes
}

fn class_of_volume(volume: &PersistentVolume) -> Option<String> {
    volume
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.clone())
}

/// The finalizers that an object should have; `None` when it has them.
fn plan(meta: &ObjectMeta, finalizer: &str, in_use: bool) -> Option<Vec<String>> {
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|its| its == finalizer);
    match (meta.deletion_timestamp.is_some(), held) {
        (true, true) if !in_use => {
            finalizers.retain(|its| its != finalizer);
            Some(finalizers)
        }
        // It is older than its protection.
        (false, false) => {
            finalizers.push(finalizer.to_string());
            Some(finalizers)
        }
        _ => None,
    }
}

impl Reconcile<Work> for Controller {
    async fn reconcile(&self, work: &Work) -> Result<(), Failure> {
        match work {
            Work::Claim(key) => {
                let Some(claim) = self.claims.get(key) else {
                    return Ok(());
                };
                let mut in_use = self.keeps(key, &claim, self.pods.get(key).iter().map(|pod| &**pod));
                let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
                if !in_use && plan(&claim.metadata, CLAIM, in_use).is_some() {
                    // The informer may be behind a pod that has just got its node.
                    let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                    let pods = pods.list(&ListParams::default()).await?;
                    in_use = self.keeps(key, &claim, pods.items.iter());
                }
                settle(&api, &claim.metadata, CLAIM, in_use).await
            }
            Work::Volume(name) => {
                let Some(volume) = self.volumes.get(&ObjectKey::new("", name)) else {
                    return Ok(());
                };
                let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
                let api: Api<PersistentVolume> = Api::all(self.client.clone());
                settle(&api, &volume.metadata, VOLUME, phase == Some("Bound")).await
            }
            Work::Class(name) => {
                let Some(class) = self.classes.get(&ObjectKey::new("", name)) else {
                    return Ok(());
                };
                let in_use = self.claims_by_class.count(name) + self.volumes_by_class.count(name) > 0;
                let api: Api<VolumeAttributesClass> = Api::all(self.client.clone());
                settle(&api, &class.metadata, CLASS, in_use).await
            }
        }
    }
}

impl Controller {
    /// Whether one of these pods uses the claim: one that was made for a pod is used by that pod alone.
    fn keeps<'p>(
        &self,
        key: &ObjectKey,
        claim: &PersistentVolumeClaim,
        mut pods: impl Iterator<Item = &'p Pod>,
    ) -> bool {
        pods.any(|pod| {
            let named = pod
                .spec
                .iter()
                .flat_map(|spec| spec.volumes.iter().flatten())
                .filter_map(|volume| volume.persistent_volume_claim.as_ref())
                .any(|source| source.claim_name == key.name);
            let owner = controller_of(&claim.metadata).map(|owner| owner.uid.as_str());
            used_claims(pod).contains(key) && (named || owner == pod.metadata.uid.as_deref())
        })
    }
}

async fn settle<K>(api: &Api<K>, meta: &ObjectMeta, finalizer: &str, in_use: bool) -> Result<(), Failure>
where
    K: Watched,
{
    if let Some(finalizers) = plan(meta, finalizer, in_use) {
        // With the version that was looked at: who has changed it meanwhile is looked at again.
        let patch = json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": finalizers}});
        let name = meta.name.as_deref().unwrap_or_default();
        unless_gone(
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let meta = |finalizers: &[&str], deleted: bool| -> ObjectMeta {
            let deleted = deleted.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({"finalizers": finalizers, "deletionTimestamp": deleted})).unwrap()
        };
        for (finalizers, deleted, in_use, expected) in [
            (&[VOLUME, "a/b"][..], true, false, Some(vec!["a/b"])),
            (&[VOLUME], true, true, None),
            (&[VOLUME], false, false, None),
            (&["a/b"], false, true, Some(vec!["a/b", VOLUME])),
            (&["a/b"], true, false, None),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|all| all.into_iter().map(str::to_string).collect());
            assert_eq!(
                plan(&meta(finalizers, deleted), VOLUME, in_use),
                expected,
                "{finalizers:?} {deleted} {in_use}"
            );
        }
    }

    #[test]
    fn a_pod_uses_claims_once_it_has_a_node() {
        let pod = |node: &str, phase: &str| -> Pod {
            let volumes: Value = json!([
                {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "e", "ephemeral": {}},
                {"name": "x", "emptyDir": {}},
            ]);
            serde_json::from_value(json!({
                "metadata": {"namespace": "ns", "name": "p"},
                "spec": {"nodeName": node, "containers": [], "volumes": volumes},
                "status": {"phase": phase}
            }))
            .unwrap()
        };
        let names = |pod: &Pod| -> Vec<String> { used_claims(pod).into_iter().map(|key| key.name).collect() };
        assert_eq!(names(&pod("", "Pending")), Vec::<String>::new());
        assert_eq!(names(&pod("n", "Running")), ["c", "p-e"]);
        assert_eq!(names(&pod("n", "Succeeded")), ["c"]);
    }
}
