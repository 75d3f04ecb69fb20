//! Which images the store has, under which names, of which layers: the pure part, and its form on disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Usage;
use super::digest::Digest;
use super::reference::{Reference, Version};

/// All images; the content of `images.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) images: Vec<Record>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The digest of its configuration.
    pub(crate) id: Digest,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) digests: Vec<String>,
    pub(crate) size: u64,
    /// The bottom one first.
    pub(crate) layers: Vec<Layer>,
    /// Its manifest, and the indexes through which it was found.
    #[serde(default)]
    pub(crate) manifests: Vec<Digest>,
}

/// An unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) chain: Digest,
    #[serde(flatten)]
    pub(crate) usage: Usage,
}

impl Index {
    /// Adds an image, or more names to one that is there. A tag names one image only: it leaves the one that had it.
    pub(crate) fn add(&mut self, record: Record) {
        for other in &mut self.images {
            if other.id != record.id {
                other.tags.retain(|tag| !record.tags.contains(tag));
            }
        }
        let Some(known) = self.images.iter_mut().find(|known| known.id == record.id) else {
            self.images.push(record);
            return;
        };
        merge(&mut known.tags, record.tags);
        merge(&mut known.digests, record.digests);
        merge(&mut known.manifests, record.manifests);
        known.layers = record.layers;
        known.size = known.size.max(record.size);
    }

    /// The image of a tag or digest, which need not be normalised, or of an id, which may be cut off as long as only
    /// one image can be meant.
    pub(crate) fn find(&self, text: &str) -> Option<&Record> {
        if let Ok(reference) = Reference::parse(text) {
            let name = reference.to_string();
            let has = |record: &&Record| match reference.version {
                Version::Tag(_) => record.tags.contains(&name),
                Version::Digest(_) => record.digests.contains(&name),
            };
            if let Some(record) = self.images.iter().find(has) {
                return Some(record);
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() {
            return None;
        }
        let mut matching = self
            .images
            .iter()
            .filter(|record| record.id.hex().starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// The layers of all images.
    pub(crate) fn chains(&self) -> BTreeSet<Digest> {
        self.images
            .iter()
            .flat_map(|record| &record.layers)
            .map(|layer| layer.chain.clone())
            .collect()
    }

    /// The documents of all images.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        self.images
            .iter()
            .flat_map(|record| record.manifests.iter().chain([&record.id]))
            .cloned()
            .collect()
    }
}

fn merge<T: PartialEq>(known: &mut Vec<T>, new: Vec<T>) {
    for item in new {
        if !known.contains(&item) {
            known.push(item);
        }
    }
}

/// The unpacked layers, and who needs them now.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// What is on disk.
    pub(crate) present: BTreeMap<Digest, Usage>,
    /// How many pulls count on a layer that no image names yet.
    pub(crate) pins: BTreeMap<Digest, usize>,
    /// The layers of containers, by container.
    pub(crate) holds: BTreeMap<String, Vec<Layer>>,
}

impl Layers {
    /// The layers that nobody needs: no image, no pull, no container.
    pub(crate) fn unneeded(&self, index: &Index) -> Vec<Digest> {
        let named = index.chains();
        let held: BTreeSet<&Digest> = self.holds.values().flatten().map(|layer| &layer.chain).collect();
        let is_needed = |chain: &&Digest| {
            named.contains(*chain) || held.contains(*chain) || self.pins.contains_key(*chain)
        };
        self.present
            .keys()
            .filter(|chain| !is_needed(chain))
            .cloned()
            .collect()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.present.values().fold(Usage::default(), |sum, usage| Usage {
            bytes: sum.bytes + usage.bytes,
            inodes: sum.inodes + usage.inodes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, tags: &[&str], layers: &[&str]) -> Record {
        let layer = |name: &&str| Layer {
            chain: Digest::of(name.as_bytes()),
            usage: Usage { bytes: 1, inodes: 1 },
        };
        Record {
            id: Digest::of(name.as_bytes()),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: vec![format!("docker.io/library/{name}@{}", Digest::of(b"manifest"))],
            size: 1,
            layers: layers.iter().map(layer).collect(),
            manifests: vec![],
        }
    }

    #[test]
    fn a_tag_moves_to_the_image_that_was_pulled_last() {
        let mut index = Index::default();
        index.add(record(
            "old",
            &["docker.io/library/a:latest", "docker.io/library/a:1"],
            &[],
        ));
        index.add(record("new", &["docker.io/library/a:latest"], &[]));
        assert_eq!(index.find("a").unwrap().id, Digest::of(b"new"));
        assert_eq!(index.find("a:1").unwrap().id, Digest::of(b"old"));
        index.add(record("old", &["docker.io/library/b:latest"], &[]));
        assert_eq!(index.images.len(), 2);
        assert_eq!(
            index.find("b").unwrap().tags,
            ["docker.io/library/a:1", "docker.io/library/b:latest"]
        );
    }

    #[test]
    fn images_are_found_by_every_name_that_users_type() {
        let mut index = Index::default();
        index.add(record("x", &["docker.io/library/x:latest"], &[]));
        index.add(record("y", &[], &[]));
        let id = Digest::of(b"x");
        let by_digest = format!("x@{}", Digest::of(b"manifest"));
        let names = [
            "x",
            "x:latest",
            "library/x",
            "docker.io/library/x:latest",
            id.as_str(),
            id.hex(),
            &id.hex()[..12],
            &id.as_str()[..19],
            &by_digest,
        ];
        for name in names {
            assert_eq!(index.find(name).map(|r| &r.id), Some(&id), "{name}");
        }
        for name in ["", "sha256:", "x:1", "z", "quay.io/library/x", "0123456789ab"] {
            assert_eq!(index.find(name), None, "{name}");
        }
    }

    #[test]
    fn an_id_that_could_be_two_images_is_none() {
        let mut index = Index::default();
        // Two of seventeen ids begin with the same letter, whatever they are.
        for number in 0..17 {
            index.add(record(&number.to_string(), &[], &[]));
        }
        let letters: Vec<&str> = index.images.iter().map(|record| &record.id.hex()[..1]).collect();
        let twice = letters
            .iter()
            .find(|l| letters.iter().filter(|o| o == l).count() > 1)
            .unwrap();
        assert_eq!(index.find(twice), None);
    }

    #[test]
    fn layers_stay_while_an_image_a_pull_or_a_container_needs_them() {
        let chain = |name: &str| Digest::of(name.as_bytes());
        let mut index = Index::default();
        index.add(record("x", &[], &["image", "image and container"]));
        let mut layers = Layers::default();
        for name in ["image", "image and container", "pull", "container", "nobody"] {
            layers.present.insert(chain(name), Usage { bytes: 10, inodes: 2 });
        }
        layers.pins.insert(chain("pull"), 1);
        let hold = |name: &str| Layer {
            chain: chain(name),
            usage: Usage::default(),
        };
        layers
            .holds
            .insert("c".into(), vec![hold("container"), hold("image and container")]);
        assert_eq!(layers.unneeded(&index), [chain("nobody")]);
        assert_eq!(layers.unneeded(&Index::default()).len(), 2);
        assert_eq!(
            layers.usage(),
            Usage {
                bytes: 50,
                inodes: 10
            }
        );
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let mut index = Index::default();
        index.add(record("x", &["docker.io/library/x:latest"], &["a"]));
        let text = serde_json::to_string(&index).unwrap();
        assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), index);
    }
}
