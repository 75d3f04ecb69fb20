//! Who controls an object: controller references, and which objects a controller adopts or lets go
//! (`PodControllerRefManager`, `ReplicaSetControllerRefManager`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};
use serde_json::{Value, json};
use skiff_api::selector::LabelSelector;

/// The value that objects are indexed by to be found by their controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The uid of the controller.
    Uid(String),
    /// No controller; in this namespace.
    None(String),
}

/// The index value of an object.
pub(crate) fn owner_of(meta: &ObjectMeta) -> Owner {
    match controller_of(meta) {
        Some(owner) => Owner::Uid(owner.uid.clone()),
        None => Owner::None(meta.namespace.clone().unwrap_or_default()),
    }
}

/// The reference to an object's controller.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// The reference that makes `controller` the controller of an object.
pub(crate) fn controller_ref<K: Resource + Metadata<Ty = ObjectMeta>>(controller: &K) -> OwnerReference {
    let meta = controller.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_string(),
        kind: K::KIND.to_string(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What is to be done about an object that may belong to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the controller's.
    Keep,
    /// It has no controller and matches: it is to become the controller's.
    Adopt,
    /// It is the controller's but no longer matches.
    Release,
    /// It is none of the controller's business.
    Ignore,
}

/// Decides about `object` for a controller that selects by `selector`.
pub(crate) fn claim(controller: &ObjectMeta, selector: &LabelSelector, object: &ObjectMeta) -> Claim {
    let empty = std::collections::BTreeMap::new();
    let matches = selector.matches(object.labels.as_ref().unwrap_or(&empty));
    match controller_of(object) {
        Some(owner) if Some(&owner.uid) != controller.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if controller.deletion_timestamp.is_some() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if controller.deletion_timestamp.is_some() || !matches => Claim::Ignore,
        None if object.deletion_timestamp.is_some() => Claim::Ignore,
        None if object.namespace != controller.namespace => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The strategic merge patch that adopts the object with this uid.
pub(crate) fn adoption(owner: &OwnerReference, uid: &Option<String>) -> Value {
    json!({"metadata": {"ownerReferences": [owner], "uid": uid}})
}

/// The strategic merge patch that lets the object with this uid go.
pub(crate) fn release(owner_uid: &Option<String>, uid: &Option<String>) -> Value {
    json!({"metadata": {
        "ownerReferences": [{"$patch": "delete", "uid": owner_uid}],
        "uid": uid,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn meta(uid: &str, owner: Option<&str>, app: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            namespace: Some("default".into()),
            labels: Some([("app".to_string(), app.to_string())].into()),
            owner_references: owner.map(|uid| {
                vec![OwnerReference {
                    uid: uid.into(),
                    controller: Some(true),
                    ..OwnerReference::default()
                }]
            }),
            ..ObjectMeta::default()
        }
    }

    fn deleted(mut meta: ObjectMeta) -> ObjectMeta {
        meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        meta
    }

    #[test]
    fn orphans_are_adopted_and_strangers_left_alone() {
        let selector = LabelSelector::of_map(&[("app".to_string(), "web".to_string())].into());
        let me = meta("me", None, "");
        let elsewhere = ObjectMeta {
            namespace: Some("other".into()),
            ..meta("o", None, "web")
        };
        let cases = [
            (me.clone(), meta("o", Some("me"), "web"), Claim::Keep),
            (me.clone(), meta("o", Some("me"), "db"), Claim::Release),
            (me.clone(), meta("o", Some("you"), "web"), Claim::Ignore),
            (me.clone(), meta("o", None, "web"), Claim::Adopt),
            (me.clone(), meta("o", None, "db"), Claim::Ignore),
            (me.clone(), deleted(meta("o", None, "web")), Claim::Ignore),
            (me.clone(), elsewhere, Claim::Ignore),
            (deleted(me.clone()), meta("o", None, "web"), Claim::Ignore),
            (deleted(me.clone()), meta("o", Some("me"), "db"), Claim::Ignore),
            (deleted(me), meta("o", Some("me"), "web"), Claim::Keep),
        ];
        for (controller, object, expected) in cases {
            assert_eq!(claim(&controller, &selector, &object), expected, "{object:?}");
        }
    }
}
