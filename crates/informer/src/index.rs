//! Finds objects by something in them other than their name, without a walk over all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::informer::{Informer, ObjectKey, Watched};

type Entries<V, K> = HashMap<V, BTreeMap<ObjectKey, Arc<K>>>;

/// The objects of an informer by a value that each has any number of. Clones share it.
///
/// An index hears of a change before the callbacks that are registered after it is made.
pub struct Index<V, K> {
    entries: Arc<RwLock<Entries<V, K>>>,
}

impl<V, K> Clone for Index<V, K> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
        }
    }
}

impl<V, K> fmt::Debug for Index<V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("values", &self.entries.read().len())
            .finish()
    }
}

impl<V: Eq + Hash + Send + Sync + 'static, K: Watched> Index<V, K> {
    /// An index of all objects of `informer` by the values that `values` finds in each.
    pub fn new(informer: &Informer<K>, values: impl Fn(&K) -> Vec<V> + Send + Sync + 'static) -> Self {
        let entries: Arc<RwLock<Entries<V, K>>> = Arc::default();
        let sink = entries.clone();
        informer.on_change(move |old, new| {
            let mut entries = sink.write();
            if let Some(old) = old {
                let key = ObjectKey::of(old.metadata());
                for value in values(old) {
                    if let Some(objects) = entries.get_mut(&value) {
                        objects.remove(&key);
                        if objects.is_empty() {
                            entries.remove(&value);
                        }
                    }
                }
            }
            if let Some(new) = new {
                for value in values(new) {
                    entries
                        .entry(value)
                        .or_default()
                        .insert(ObjectKey::of(new.metadata()), new.clone());
                }
            }
        });
        Self { entries }
    }

    /// The objects that have this value, in the order of their keys.
    pub fn get(&self, value: &V) -> Vec<Arc<K>> {
        let entries = self.entries.read();
        entries
            .get(value)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// How many objects have this value.
    pub fn count(&self, value: &V) -> usize {
        self.entries.read().get(value).map_or(0, BTreeMap::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Pod, PodSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod(name: &str, node: &str, version: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                namespace: Some("default".into()),
                name: Some(name.into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(node.into()),
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn an_index_follows_adds_changes_and_deletions() {
        let informer = Informer::default();
        informer.apply(pod("a", "n1", "1"));
        let index = Index::new(&informer, |pod: &Pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.clone()).into_iter().collect()
        });
        informer.apply(pod("b", "n1", "1"));
        assert_eq!(index.count(&"n1".to_string()), 2);
        informer.apply(pod("a", "n2", "2"));
        assert_eq!(index.count(&"n1".to_string()), 1);
        assert_eq!(
            index.get(&"n2".to_string())[0].metadata.name.as_deref(),
            Some("a")
        );
        informer.delete(&ObjectKey::new("default", "b"));
        assert_eq!(index.count(&"n1".to_string()), 0);
        assert!(!index.entries.read().contains_key("n1"));
    }
}
