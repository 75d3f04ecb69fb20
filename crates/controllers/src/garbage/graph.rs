//! Who owns whom: the graph of owner references, kept up to date object by object.
//!
//! An owner that is referred to but was not seen is in the graph as a *supposed* node, until it is seen or verified to be
//! absent. Every step costs as much as the object has owners and dependents, never more.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The finalizer of an owner that goes after its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents stay.
pub(super) const ORPHAN: &str = "orphan";

/// Where an object is, and which of that name it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// Empty for cluster-scoped objects.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// What has to be looked into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    /// Whether the object with this uid has to be deleted.
    Delete(String),
    /// The dependents of the object with this uid have to be let go.
    Orphan(String),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delete(uid) => write!(f, "delete {uid}"),
            Self::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// An object in the graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) dependents: BTreeSet<String>,
    /// It was seen, not only referred to.
    pub(super) seen: bool,
    /// It has a deletion timestamp.
    pub(super) is_deleting: bool,
    /// It waits for its dependents to be deleted.
    pub(super) waits_for_dependents: bool,
    orphans_dependents: bool,
}

/// The graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|name| name == finalizer)
}

/// Whether two owner references say the same about the same object.
fn blocks(owner: &OwnerReference) -> bool {
    owner.block_owner_deletion == Some(true)
}

impl Graph {
    /// The object with this uid.
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The dependents of an object that its deletion has to wait for.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<&Node> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        let dependents = node
            .dependents
            .iter()
            .filter_map(|dependent| self.nodes.get(dependent));
        dependents
            .filter(|node| node.owners.iter().any(|owner| owner.uid == uid && blocks(owner)))
            .collect()
    }

    /// All dependents of an object.
    pub(super) fn dependents(&self, uid: &str) -> Vec<&Node> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        node.dependents
            .iter()
            .filter_map(|dependent| self.nodes.get(dependent))
            .collect()
    }

    /// An object was seen: it is new, or has changed.
    pub(super) fn observe(&mut self, api_version: &str, kind: &str, meta: &ObjectMeta) -> Vec<Work> {
        let Some(uid) = meta.uid.clone() else {
            return Vec::new();
        };
        let identity = Identity {
            api_version: api_version.to_string(),
            kind: kind.to_string(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: uid.clone(),
        };
        let mut work = Vec::new();
        let node = self.nodes.entry(uid.clone()).or_default();
        if !node.seen {
            // What was supposed of it may have been wrong: then those who referred to it so do not really have it as
            // an owner.
            if !node.identity.uid.is_empty() && !is_same_object(&node.identity, &identity) {
                work.extend(node.dependents.iter().cloned().map(Work::Delete));
            }
            node.identity = identity;
            node.seen = true;
        }
        let is_deleting = meta.deletion_timestamp.is_some();
        let waits = is_deleting && has_finalizer(meta, FOREGROUND);
        let orphans = is_deleting && has_finalizer(meta, ORPHAN);
        if orphans && !node.orphans_dependents {
            work.push(Work::Orphan(uid.clone()));
        }
        if waits && !node.waits_for_dependents {
            work.extend(node.dependents.iter().cloned().map(Work::Delete));
            work.push(Work::Delete(uid.clone()));
        }
        node.is_deleting = is_deleting;
        node.waits_for_dependents = waits;
        node.orphans_dependents = orphans;
        let namespace = node.identity.namespace.clone();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let old = std::mem::replace(&mut node.owners, owners.clone());
        self.change_owners(&uid, &namespace, &old, &owners, &mut work);
        work
    }

    fn change_owners(
        &mut self,
        uid: &str,
        namespace: &str,
        old: &[OwnerReference],
        new: &[OwnerReference],
        work: &mut Vec<Work>,
    ) {
        for owner in old {
            let kept = new.iter().find(|other| other.uid == owner.uid);
            let waits = self
                .nodes
                .get(&owner.uid)
                .is_some_and(|node| node.waits_for_dependents);
            // An owner that waits for this dependent may have to wait no longer.
            if waits && kept.is_none_or(|kept| blocks(owner) && !blocks(kept)) {
                work.push(Work::Delete(owner.uid.clone()));
            }
            if kept.is_none() {
                self.disown(&owner.uid, uid);
            }
        }
        for owner in new {
            if old.iter().any(|other| other.uid == owner.uid) {
                continue;
            }
            let node = self.nodes.entry(owner.uid.clone()).or_default();
            let is_unknown = node.identity.uid.is_empty();
            if is_unknown {
                node.identity = Identity {
                    api_version: owner.api_version.clone(),
                    kind: owner.kind.clone(),
                    namespace: namespace.to_string(),
                    name: owner.name.clone(),
                    uid: owner.uid.clone(),
                };
                work.push(Work::Delete(owner.uid.clone()));
            } else if !is_owner(&node.identity, owner, namespace) {
                // It refers to something that is not there.
                work.push(Work::Delete(uid.to_string()));
            }
            node.dependents.insert(uid.to_string());
            // A new dependent of an owner that is going.
            if node.waits_for_dependents {
                work.push(Work::Delete(uid.to_string()));
            }
        }
    }

    fn disown(&mut self, owner: &str, dependent: &str) {
        let Some(node) = self.nodes.get_mut(owner) else {
            return;
        };
        node.dependents.remove(dependent);
        if !node.seen && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    /// An object is gone, or was verified to be absent.
    pub(super) fn gone(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut work: Vec<Work> = node.dependents.into_iter().map(Work::Delete).collect();
        for owner in &node.owners {
            if self
                .nodes
                .get(&owner.uid)
                .is_some_and(|owner| owner.waits_for_dependents)
            {
                work.push(Work::Delete(owner.uid.clone()));
            }
            self.disown(&owner.uid, uid);
        }
        work
    }
}

fn is_same_object(supposed: &Identity, seen: &Identity) -> bool {
    let group = |api_version: &str| {
        api_version
            .split_once('/')
            .map_or(String::new(), |(group, _)| group.to_string())
    };
    supposed.kind == seen.kind
        && supposed.name == seen.name
        && group(&supposed.api_version) == group(&seen.api_version)
        // The scope of a supposed owner is not known: it has its dependent's namespace.
        && (seen.namespace.is_empty() || supposed.namespace == seen.namespace)
}

/// Whether a reference in this namespace really names this object.
fn is_owner(identity: &Identity, owner: &OwnerReference, namespace: &str) -> bool {
    let referred = Identity {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        namespace: namespace.to_string(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    };
    is_same_object(&referred, identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    fn owner(uid: &str, block: bool) -> OwnerReference {
        OwnerReference {
            api_version: "v1".into(),
            kind: "K".into(),
            name: uid.into(),
            uid: uid.into(),
            block_owner_deletion: Some(block),
            controller: None,
        }
    }

    fn meta(uid: &str, owners: &[OwnerReference]) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("default".into()),
            name: Some(uid.into()),
            uid: Some(uid.into()),
            owner_references: Some(owners.to_vec()),
            ..ObjectMeta::default()
        }
    }

    fn deleting(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
        meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        meta.finalizers = Some(vec![finalizer.into()]);
        meta
    }

    fn delete(uids: &[&str]) -> Vec<Work> {
        uids.iter().map(|uid| Work::Delete(uid.to_string())).collect()
    }

    #[test]
    fn dependents_of_what_is_gone_are_looked_into() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe("v1", "K", &meta("a", &[])), []);
        assert_eq!(graph.observe("v1", "K", &meta("b", &[owner("a", true)])), []);
        assert_eq!(graph.gone("a"), delete(&["b"]));
        assert_eq!(graph.gone("b"), []);
        assert!(graph.nodes.is_empty());
    }

    #[test]
    fn an_owner_that_was_never_seen_is_verified() {
        let mut graph = Graph::default();
        assert_eq!(
            graph.observe("v1", "K", &meta("b", &[owner("a", true)])),
            delete(&["a"])
        );
        assert!(!graph.get("a").unwrap().seen);
        // It is absent: its dependents are next.
        assert_eq!(graph.gone("a"), delete(&["b"]));

        let mut graph = Graph::default();
        graph.observe("v1", "K", &meta("b", &[owner("a", true)]));
        assert_eq!(graph.observe("v1", "K", &meta("a", &[])), []);
        assert!(graph.get("a").unwrap().seen);
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut graph = Graph::default();
        let mut elsewhere = meta("a", &[]);
        elsewhere.namespace = Some("other".into());
        graph.observe("v1", "K", &elsewhere);
        assert_eq!(
            graph.observe("v1", "K", &meta("b", &[owner("a", true)])),
            delete(&["b"])
        );

        let mut graph = Graph::default();
        graph.observe("v1", "K", &meta("b", &[owner("a", true)]));
        assert_eq!(graph.observe("v1", "K", &elsewhere), delete(&["b"]));

        let mut graph = Graph::default();
        let mut everywhere = meta("a", &[]);
        everywhere.namespace = None;
        graph.observe("v1", "K", &everywhere);
        assert_eq!(graph.observe("v1", "K", &meta("b", &[owner("a", true)])), []);
    }

    #[test]
    fn foreground_deletion_starts_with_the_dependents_and_waits_for_those_that_block() {
        let mut graph = Graph::default();
        graph.observe("v1", "K", &meta("a", &[]));
        graph.observe("v1", "K", &meta("b", &[owner("a", true)]));
        graph.observe("v1", "K", &meta("c", &[owner("a", false)]));
        let going = deleting(meta("a", &[]), FOREGROUND);
        assert_eq!(graph.observe("v1", "K", &going), delete(&["b", "c", "a"]));
        assert_eq!(graph.observe("v1", "K", &going), [], "only once");
        let blocking: Vec<_> = graph
            .blocking_dependents("a")
            .iter()
            .map(|n| n.identity.uid.clone())
            .collect();
        assert_eq!(blocking, ["b"]);
        assert_eq!(
            graph.observe("v1", "K", &meta("b", &[owner("a", false)])),
            delete(&["a"])
        );
        assert!(graph.blocking_dependents("a").is_empty());
        assert_eq!(
            graph.observe("v1", "K", &meta("d", &[owner("a", true)])),
            delete(&["d"])
        );
        assert_eq!(graph.gone("d"), delete(&["a"]));
    }

    #[test]
    fn orphaning_is_looked_into_once() {
        let mut graph = Graph::default();
        graph.observe("v1", "K", &meta("a", &[]));
        graph.observe("v1", "K", &meta("b", &[owner("a", true)]));
        let going = deleting(meta("a", &[]), ORPHAN);
        assert_eq!(graph.observe("v1", "K", &going), [Work::Orphan("a".into())]);
        assert_eq!(graph.observe("v1", "K", &going), []);
        assert_eq!(graph.dependents("a").len(), 1);
        assert_eq!(graph.observe("v1", "K", &meta("b", &[])), []);
        assert!(graph.dependents("a").is_empty());
    }

    proptest! {
        /// Whatever the order of events, the edges are just those that the objects name.
        #[test]
        fn edges_are_what_the_objects_say(
            steps in prop::collection::vec((0u8..6, prop::collection::btree_set(0u8..8, 0..3), any::<bool>()), 0..60)
        ) {
            let mut graph = Graph::default();
            let mut objects: HashMap<String, BTreeSet<String>> = HashMap::new();
            for (uid, owners, gone) in steps {
                let uid = uid.to_string();
                if gone {
                    graph.gone(&uid);
                    objects.remove(&uid);
                    continue;
                }
                let owners: BTreeSet<String> = owners.iter().map(u8::to_string).filter(|o| *o != uid).collect();
                let references: Vec<_> = owners.iter().map(|uid| owner(uid, true)).collect();
                graph.observe("v1", "K", &meta(&uid, &references));
                objects.insert(uid, owners);
            }
            for (uid, node) in &graph.nodes {
                prop_assert_eq!(node.seen, objects.contains_key(uid));
                for dependent in &node.dependents {
                    prop_assert!(objects.get(dependent).is_some_and(|owners| owners.contains(uid)));
                }
                prop_assert!(node.seen || !node.dependents.is_empty(), "nothing is kept for nobody");
            }
        }
    }
}
