//! Images on this node: pulled from registries or loaded from archives, unpacked once, shared by overlayfs.
//!
//! *Architecture invariants:* a layer is unpacked once, whoever asks for it and however many at a time. Nothing is
//! visible under its final name before it is whole and verified. A crash at any moment leaves a usable store: what
//! no image and no holder names is removed when the store is opened. Nothing in an archive can reach outside of the
//! directory that it is unpacked to.

mod archive;
mod assemble;
mod auth;
mod compression;
mod digest;
mod disk;
mod distribution;
mod error;
mod flight;
mod index;
mod manifest;
mod pull;
mod reference;
mod registries;
mod store;
mod transport;
mod unpack;

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use reference::Reference;

pub use error::ImageError;
pub use store::{ImageStore, Usage};

/// Where images are kept and where they come from.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// The store's directory, as `/var/lib/skiff/images`. Belongs to one store alone.
    pub root: PathBuf,
    /// The registry configuration in k3s' format, as `/etc/skiff/registries.yaml`. It may be absent.
    pub registries: PathBuf,
}

/// Credentials for one pull (CRI `AuthConfig`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: String,
    /// Base64 of `username:password`; used when `username` is empty.
    pub auth: String,
    /// The registry that these credentials are meant for; any when empty.
    pub server_address: String,
    /// A refresh token, to be exchanged at the registry's token service.
    pub identity_token: String,
    /// A bearer token, to be sent to the registry as it is.
    pub registry_token: String,
}

/// The identity of a layer on top of particular other layers (OCI image spec, `ChainID`): `sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub String);

/// An image that is in the store, all of its layers unpacked.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:<config digest>`.
    pub id: String,
    /// `docker.io/library/nginx:latest`, …
    pub repo_tags: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`, …
    pub repo_digests: Vec<String>,
    /// The size of what was transferred (manifest, configuration, compressed layers), in bytes.
    pub size: u64,
    /// How to run it.
    pub config: ImageConfiguration,
    /// Its layers, the bottom one first.
    pub layers: Vec<ChainId>,
}

impl Image {
    /// The tag that people are shown of a container: of the image's tags the one that it was asked for by, else the
    /// first. `None` when it has none.
    pub(crate) fn tag_named<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&str> {
        let asked = names.into_iter().find_map(|name| {
            let full = Reference::parse(name).ok()?.to_string();
            self.repo_tags.iter().find(|tag| **tag == full)
        });
        asked.or_else(|| self.repo_tags.first()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_shown_with_the_tag_that_was_asked_for() {
        let tagged = |tags: &[&str]| Image {
            id: format!("sha256:{}", "1".repeat(64)),
            repo_tags: tags.iter().map(|tag| (*tag).to_string()).collect(),
            repo_digests: Vec::new(),
            size: 0,
            config: ImageConfiguration::default(),
            layers: Vec::new(),
        };
        let (latest, numbered) = ("docker.io/library/box:latest", "docker.io/library/box:1");
        let id = tagged(&[]).id;
        let digest = format!("box@sha256:{}", "2".repeat(64));
        let cases: [(&[&str], &[&str], Option<&str>); 6] = [
            (&[latest], &["box", &id], Some(latest)),
            (&[latest, numbered], &["box:1", &id], Some(numbered)),
            (&[latest, numbered], &["", numbered], Some(numbered)),
            (&[latest, numbered], &[&digest, &id], Some(latest)),
            (&[latest], &["gone:3"], Some(latest)),
            (&[], &["box"], None),
        ];
        for (tags, names, shown) in cases {
            let image = tagged(tags);
            assert_eq!(
                image.tag_named(names.iter().copied()),
                shown,
                "{tags:?} {names:?}"
            );
        }
    }
}
