//! One pull, from a name to an assembly.

use std::sync::Arc;

use super::assemble::{Assembly, Source};
use super::digest::Digest;
use super::distribution::{DOCUMENT_LIMIT, Remote};
use super::manifest::{Descriptor, Document, Manifest, Platform, select};
use super::reference::{Reference, Version};
use super::registries::Registries;
use super::store::{Inner, blocking};
use super::{Auth, Image, ImageError};

/// How many indexes may lead to one another before a manifest.
pub(crate) const INDEX_DEPTH: usize = 3;

impl Inner {
    pub(crate) async fn pull(
        self: Arc<Self>,
        reference: Reference,
        auth: Option<Auth>,
    ) -> Result<Arc<Image>, ImageError> {
        let file = self.registries.clone();
        // Read for each pull, so that a change of the file needs no restart.
        let registries = blocking(move || Registries::read(&file)).await?;
        let endpoints = registries.endpoints(&reference);
        let remote = Arc::new(Remote::new(
            reference.clone(),
            endpoints,
            auth,
            self.transports.clone(),
        ));
        let resolved = remote.resolve().await;
        let top =
            resolved.map_err(|error| error.step(format!("failed to resolve reference \"{reference}\"")))?;

        let (manifests, manifest) = self.find_manifest(&remote, &top).await?;
        let config = self.read_config(&remote, &manifest.config).await?;
        let mut assembly = Assembly::new(config, manifest.layers.len())?;
        let documents: usize = manifests.iter().map(|(_, bytes)| bytes.len()).sum();
        assembly.size += documents as u64 + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
        assembly.manifests = manifests;
        assembly.digests.push(format!("{}@{top}", reference.repository()));
        if let Version::Tag(_) = reference.version {
            assembly.tags.push(reference.to_string());
        }
        let sources = manifest
            .layers
            .into_iter()
            .map(|layer| Source::Remote(remote.clone(), layer))
            .collect();
        self.assemble(assembly, sources).await
    }

    /// Follows indexes to this machine's manifest. Returns all documents on the way.
    async fn find_manifest(
        self: &Arc<Self>,
        remote: &Remote,
        top: &Digest,
    ) -> Result<(Vec<(Digest, Vec<u8>)>, Manifest), ImageError> {
        let mut documents = Vec::new();
        let mut digest = top.clone();
        for _ in 0..INDEX_DEPTH {
            let bytes = match self.stored(&digest).await {
                Some(bytes) => bytes,
                None => remote
                    .manifest(&digest)
                    .await
                    .map_err(|error| error.step("failed to copy"))?,
            };
            let document = Document::parse(&bytes)?;
            documents.push((digest, bytes));
            match document {
                Document::Image(manifest) => return Ok((documents, manifest)),
                Document::Index(manifests) => {
                    let machine = Platform::own();
                    let fitting = select(&manifests, &machine).ok_or_else(|| {
                        ImageError::NotFound(format!("no match for platform {machine} in manifest {top}"))
                    })?;
                    digest = fitting.digest.clone();
                }
            }
        }
        Err(ImageError::Content(format!(
            "more than {INDEX_DEPTH} indexes lead to one another from {top}"
        )))
    }

    async fn read_config(
        self: &Arc<Self>,
        remote: &Remote,
        config: &Descriptor,
    ) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.stored(&config.digest).await {
            return Ok(bytes);
        }
        if config.size > DOCUMENT_LIMIT {
            return Err(ImageError::Content(format!(
                "configuration larger than {DOCUMENT_LIMIT} bytes"
            )));
        }
        remote
            .document(config)
            .await
            .map_err(|error| error.step("failed to copy"))
    }

    /// A document that is already here.
    async fn stored(self: &Arc<Self>, digest: &Digest) -> Option<Vec<u8>> {
        let (inner, digest) = (self.clone(), digest.clone());
        blocking(move || Ok(inner.disk.read_blob(&digest))).await.ok()?
    }
}
