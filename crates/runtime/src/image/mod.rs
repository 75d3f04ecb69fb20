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
