//! NodeRestriction: a node writes its own objects, and of them only what is the node's to say.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::{KindInfo, Object, Subresource};

use super::Plugin;
use crate::auth::authorize::{Attributes, Authorizer, Decision};
use crate::auth::node::identity;
use crate::error::{ApiError, ApiResult};
use crate::objects::find;
use crate::registry::{AdmissionRequest, Operation, Registry};
use crate::user::UserInfo;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const RESERVED: &str = "node-restriction.kubernetes.io";
/// The labels of Kubernetes' own domains that a kubelet may set, besides those of the domains in [`OWN_DOMAINS`].
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction;

type Refusal = Result<(), String>;

#[async_trait]
impl Plugin for NodeRestriction {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let Some(node) = identity(request.user) else {
            return Ok(());
        };
        let refuse = |why: String| ApiError::forbidden(request.info, request.name, &why);
        if node.is_empty() {
            let user = &request.user.name;
            return Err(refuse(format!("could not determine node from user {user:?}")));
        }
        if let Some(pod) = object.as_any().downcast_ref::<Pod>() {
            let old = request.old.and_then(|old| old.as_any().downcast_ref());
            admit_pod(node, request, pod, old).map_err(refuse)?;
            if request.operation == Operation::Create {
                is_owned_by_present(node, pod, registry).await?.map_err(refuse)?;
            }
            Ok(())
        } else if let Some(new) = object.as_any().downcast_ref::<Node>() {
            let old = request.old.and_then(|old| old.as_any().downcast_ref());
            admit_node(node, new, old).map_err(refuse)
        } else if let Some(lease) = object.as_any().downcast_ref::<Lease>() {
            admit_lease(node, request, lease).map_err(refuse)
        } else if object.as_any().is::<CSINode>() {
            admit_csi_node(node, request, object.metadata()).map_err(refuse)
        } else if let Some(claim) = object.as_any().downcast_ref::<PersistentVolumeClaim>() {
            let old = request.old.and_then(|old| old.as_any().downcast_ref());
            admit_claim_status(node, claim, old).map_err(refuse)
        } else {
            Ok(())
        }
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(node) = identity(request.user) else {
            return Ok(());
        };
        let Some(old) = request.old else { return Ok(()) };
        let refuse = |why: String| Err(ApiError::forbidden(request.info, request.name, &why));
        if let Some(pod) = old.as_any().downcast_ref::<Pod>() {
            if node_of(pod) != node {
                return refuse(format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                ));
            }
        } else if old.as_any().is::<Node>() && request.name != node {
            return refuse(format!(
                "node {node:?} is not allowed to modify node {:?}",
                request.name
            ));
        } else if let Some(lease) = old.as_any().downcast_ref::<Lease>() {
            return admit_lease(node, request, lease).or_else(refuse);
        } else if old.as_any().is::<CSINode>() {
            return admit_csi_node(node, request, old.metadata()).or_else(refuse);
        }
        Ok(())
    }
}

fn node_of(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

fn admit_pod(node: &str, request: &AdmissionRequest<'_>, pod: &Pod, old: Option<&Pod>) -> Refusal {
    match (request.subresource, request.operation, old) {
        (Some(Subresource::Status), Operation::Update, Some(old)) => {
            if node_of(old) != node {
                return Err(format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                ));
            }
            if old.metadata.labels.clone().unwrap_or_default()
                != pod.metadata.labels.clone().unwrap_or_default()
            {
                return Err(format!("node {node:?} cannot update labels through pod status"));
            }
            let claims = |pod: &Pod| {
                let status = pod.status.as_ref();
                status
                    .and_then(|status| status.resource_claim_statuses.clone())
                    .unwrap_or_default()
            };
            if claims(old) != claims(pod) {
                return Err(format!("node {node:?} cannot update resource claim statues"));
            }
            Ok(())
        }
        (None, Operation::Create, _) => admit_mirror(node, pod),
        (Some(other), ..) => Err(format!("unexpected pod subresource {:?}", other.name())),
        (None, ..) => Err(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
    }
}

/// A node makes pods only as the mirrors of those that it was not given by the server; these use nothing of the
/// cluster's.
fn admit_mirror(node: &str, pod: &Pod) -> Refusal {
    let annotations = pod.metadata.annotations.as_ref();
    if !annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if node_of(pod) != node {
        return Err(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let [owner] = pod.metadata.owner_references.as_deref().unwrap_or_default() else {
        let article = match pod.metadata.owner_references.as_ref().map_or(0, Vec::len) {
            0 => "an",
            _ => "a single",
        };
        return Err(format!(
            "node {node:?} can only create pods with {article} owner reference set to itself"
        ));
    };
    if (
        owner.api_version.as_str(),
        owner.kind.as_str(),
        owner.name.as_str(),
    ) != ("v1", "Node", node)
    {
        return Err(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if owner.controller != Some(true) {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner.block_owner_deletion == Some(true) {
        return Err(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.resource_claims.is_some_and(|claims| !claims.is_empty()) {
        return Err(format!(
            "node {node:?} can not create pods that reference resourceclaims"
        ));
    }
    let projected = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.projected.as_ref());
    if projected
        .flat_map(|projected| projected.sources.iter().flatten())
        .any(|source| source.cluster_trust_bundle.is_some())
    {
        return Err(format!(
            "node {node:?} can not create pods that reference clustertrustbundles"
        ));
    }
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    match crate::auth::node::graph::first_used(&spec) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

async fn is_owned_by_present(node: &str, pod: &Pod, registry: &Registry) -> ApiResult<Refusal> {
    let found: Node = find(registry, "", node)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Node>("node"), node))?;
    let present = found.metadata.uid.unwrap_or_default();
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    Ok(match owners.iter().find(|owner| owner.uid != present) {
        Some(owner) => Err(format!(
            "node {node} UID mismatch: expected {} got {present}",
            owner.uid
        )),
        None => Ok(()),
    })
}

type Labels = Option<BTreeMap<String, String>>;

/// Those of the labels that differ and that no node may set.
fn forbidden(new: &Labels, old: &Labels) -> String {
    let value = |labels: &Labels, key: &str| labels.as_ref().and_then(|labels| labels.get(key).cloned());
    let keys: BTreeSet<&String> = [new, old]
        .into_iter()
        .flatten()
        .flat_map(BTreeMap::keys)
        .collect();
    let forbidden: Vec<&str> = keys
        .into_iter()
        .filter(|key| value(new, key) != value(old, key) && !may_set(key))
        .map(String::as_str)
        .collect();
    forbidden.join(", ")
}

fn may_set(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| {
        domain
            .strip_suffix(of)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if within(RESERVED) {
        return false;
    }
    let is_kubernetes = within("kubernetes.io") || within("k8s.io");
    !is_kubernetes || OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| within(own))
}

fn admit_node(node: &str, new: &Node, old: Option<&Node>) -> Refusal {
    let name = old.unwrap_or(new).metadata.name.as_deref().unwrap_or_default();
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let source = |node: &Node| node.spec.as_ref().and_then(|spec| spec.config_source.clone());
    let Some(old) = old else {
        if source(new).is_some() {
            return Err(format!(
                "node {node:?} is not allowed to create pods with a non-nil configSource"
            ));
        }
        return match forbidden(&new.metadata.labels, &None) {
            labels if labels.is_empty() => Ok(()),
            labels => Err(format!(
                "node {node:?} is not allowed to set the following labels: {labels}"
            )),
        };
    };
    if source(new).is_some() && source(new) != source(old) {
        return Err(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    let taints = |node: &Node| {
        let spec = node.spec.as_ref();
        spec.and_then(|spec| spec.taints.clone()).unwrap_or_default()
    };
    if taints(new) != taints(old) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    // An owner that is gone would take the node with it, and what the node may not delete itself.
    let owners = |node: &Node| node.metadata.owner_references.clone().unwrap_or_default();
    if owners(new) != owners(old) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    match forbidden(&new.metadata.labels, &old.metadata.labels) {
        labels if labels.is_empty() => Ok(()),
        labels => Err(format!("is not allowed to modify labels: {labels}")),
    }
}

/// Of a claim, a node writes what its volume has become.
fn admit_claim_status(
    node: &str,
    claim: &PersistentVolumeClaim,
    old: Option<&PersistentVolumeClaim>,
) -> Refusal {
    let Some(old) = old else { return Ok(()) };
    let rest = |claim: &PersistentVolumeClaim| {
        let mut rest = claim.clone();
        rest.metadata.resource_version = None;
        if let Some(status) = &mut rest.status {
            status.capacity = None;
            status.conditions = None;
            status.allocated_resources = None;
            status.allocated_resource_statuses = None;
        }
        rest
    };
    if rest(claim) == rest(old) {
        Ok(())
    } else {
        Err(format!(
            "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
        ))
    }
}

fn admit_csi_node(node: &str, request: &AdmissionRequest<'_>, meta: &ObjectMeta) -> Refusal {
    let name = match request.name {
        "" => meta.name.as_deref().unwrap_or_default(),
        name => name,
    };
    if name == node {
        Ok(())
    } else {
        Err("can only access CSINode with the same name as the requesting node".into())
    }
}

fn admit_lease(node: &str, request: &AdmissionRequest<'_>, lease: &Lease) -> Refusal {
    let name = match request.name {
        "" => lease.metadata.name.as_deref().unwrap_or_default(),
        name => name,
    };
    if request.namespace != LEASES {
        Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ))
    } else if name != node {
        Err("can only access node lease with the same name as the requesting node".into())
    } else {
        Ok(())
    }
}

/// Refuses a node's eviction of a pod of another node.
///
/// # Errors
/// 403.
pub(crate) fn check_eviction(user: &UserInfo, pod: &Pod) -> ApiResult<()> {
    match identity(user) {
        Some(node) if node_of(pod) != node => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
            Err(ApiError::forbidden(&KindInfo::of::<Pod>("pod"), name, &why))
        }
        _ => Ok(()),
    }
}

/// Refuses a node's request for a token that is not bound to a pod on that node, or is for an audience that the pod does
/// not need.
///
/// # Errors
/// 403; 404 when there is no such pod.
pub(crate) async fn check_token_request(
    user: &UserInfo,
    namespace: &str,
    account: &str,
    request: &TokenRequest,
    registry: &Registry,
    authorizer: &dyn Authorizer,
) -> ApiResult<()> {
    let Some(node) = identity(user) else { return Ok(()) };
    let info = KindInfo::of::<ServiceAccount>("serviceaccount");
    let refuse = |why: &str| Err(ApiError::forbidden(&info, account, why));
    let bound = request
        .spec
        .as_ref()
        .and_then(|spec| spec.bound_object_ref.as_ref());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let Some(bound) = bound.filter(|bound| {
        text(&bound.api_version) == "v1" && text(&bound.kind) == "Pod" && !text(&bound.name).is_empty()
    }) else {
        return refuse("node requested token not bound to a pod");
    };
    let (name, uid) = (text(&bound.name), text(&bound.uid));
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let pod: Pod = find(registry, namespace, &name)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Pod>("pod"), &name))?;
    if pod.metadata.uid.as_ref() != Some(&uid) {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if node_of(&pod) != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    let audiences = request.spec.as_ref().map(|spec| spec.audiences.clone());
    let audience = match audiences.flatten().unwrap_or_default().as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    if names_audience(&pod, &audience, registry).await? {
        return Ok(());
    }
    let attributes = Attributes {
        verb: "request-serviceaccounts-token-audience",
        is_resource: true,
        resource: audience.clone(),
        namespace,
        name: account,
        ..Attributes::about_nothing(user)
    };
    match authorizer.authorize(&attributes).await {
        Decision::Allow(_) => Ok(()),
        _ => refuse(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            user.name
        )),
    }
}

/// What of a pod's volumes may need tokens.
#[derive(Debug, Default)]
struct TokenUsers {
    /// The audiences of projected tokens; empty for the server's own.
    audiences: BTreeSet<String>,
    drivers: BTreeSet<String>,
    claims: BTreeSet<String>,
}

fn token_users(pod: &Pod) -> TokenUsers {
    let mut users = TokenUsers::default();
    for volume in pod.spec.iter().flat_map(|spec| &spec.volumes).flatten() {
        let sources = volume.projected.iter().flat_map(|projected| &projected.sources);
        let tokens = sources
            .flatten()
            .filter_map(|source| source.service_account_token.as_ref());
        users
            .audiences
            .extend(tokens.map(|token| token.audience.clone().unwrap_or_default()));
        users
            .drivers
            .extend(volume.csi.iter().map(|inline| inline.driver.clone()));
        if let Some(claim) = &volume.persistent_volume_claim {
            users.claims.insert(claim.claim_name.clone());
        } else if volume.ephemeral.is_some() {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            users.claims.insert(format!("{name}-{}", volume.name));
        }
    }
    users
}

/// Whether a pod's volumes need a token for an audience: projected ones, and those whose driver asks for tokens.
async fn names_audience(pod: &Pod, audience: &str, registry: &Registry) -> ApiResult<bool> {
    let mut users = token_users(pod);
    if users.audiences.contains(audience) {
        return Ok(true);
    }
    for claim in &users.claims {
        users.drivers.extend(driver_of_claim(pod, claim, registry).await?);
    }
    for driver in &users.drivers {
        let driver: Option<CSIDriver> = find(registry, "", driver).await?;
        let requests = driver.and_then(|driver| driver.spec.token_requests);
        if requests
            .iter()
            .flatten()
            .any(|request| request.audience == audience)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn driver_of_claim(pod: &Pod, claim: &str, registry: &Registry) -> ApiResult<Option<String>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claim: Option<PersistentVolumeClaim> = find(registry, namespace, claim).await?;
    let volume = claim
        .and_then(|claim| claim.spec?.volume_name)
        .unwrap_or_default();
    if volume.is_empty() {
        return Ok(None);
    }
    let volume: Option<PersistentVolume> = find(registry, "", &volume).await?;
    Ok(volume.and_then(|volume| Some(volume.spec?.csi?.driver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_labels_itself_within_bounds() {
        let cases = [
            ("zone", true),
            ("example.com/a", true),
            ("kubernetes.io/hostname", true),
            ("kubelet.kubernetes.io/a", true),
            ("x.node.kubernetes.io/a", true),
            ("topology.kubernetes.io/zone", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/a", false),
            ("x.node-restriction.kubernetes.io/a", false),
            ("foo.k8s.io/a", false),
        ];
        for (label, may) in cases {
            assert_eq!(may_set(label), may, "{label}");
        }
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            Some(
                pairs
                    .iter()
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect(),
            )
        };
        let old = labels(&[("a.k8s.io/x", "1"), ("b.k8s.io/x", "1"), ("free", "1")]);
        let new = labels(&[("a.k8s.io/x", "1"), ("c.k8s.io/x", "1")]);
        assert_eq!(forbidden(&new, &old), "b.k8s.io/x, c.k8s.io/x");
    }
}
