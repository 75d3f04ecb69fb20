//! The image store: what is on this node, and the one place that changes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Auth, Image, ImageConfig, ImageError};

/// What the store takes on its disk (CRI `FilesystemUsage`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, in whole file system blocks.
    pub bytes: u64,
    /// Files, directories, links and nodes.
    pub inodes: u64,
}

/// The images of this node. A clone is another handle to the same store.
#[derive(Clone)]
pub struct ImageStore {
    config: Arc<ImageConfig>,
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore").finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Opens the store, makes it if it is not there, and removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// When the directory cannot be used, or `registries.yaml` cannot be understood.
    pub async fn open(config: ImageConfig) -> Result<Self, ImageError> {
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Pulls an image, or only learns that it is the one that is already here.
    ///
    /// # Errors
    /// In the words that containerd uses, for the pod's event.
    pub async fn pull(&self, reference: &str, _auth: Option<Auth>) -> Result<Arc<Image>, ImageError> {
        Err(ImageError::NotFound(reference.to_owned()))
    }

    /// Adds the images of a docker-archive or an oci-archive, compressed by gzip or not.
    ///
    /// # Errors
    /// When the archive cannot be read or holds no image of this machine's platform.
    pub async fn load(&self, tar: &Path) -> Result<Vec<Arc<Image>>, ImageError> {
        Err(ImageError::NotFound(tar.display().to_string()))
    }

    /// The image of this id (whole, or its unambiguous beginning), tag or digest. A tag need not be normalised.
    #[must_use]
    pub fn get(&self, _reference_or_id: &str) -> Option<Arc<Image>> {
        None
    }

    /// All images.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }

    /// Removes an image with all its names. Layers that another image or a holder needs stay until they are released.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or what the file system says.
    pub async fn remove(&self, reference_or_id: &str) -> Result<(), ImageError> {
        Err(ImageError::NotFound(reference_or_id.to_owned()))
    }

    /// The directories of an image in the order of overlayfs' `lowerdir`: the topmost first. They are shared and must
    /// not be written to. Each is directly below one directory, so that a mount of very many layers can be made with
    /// relative names. An image may have no layers at all.
    #[must_use]
    pub fn lower_dirs(&self, image: &Image) -> Vec<PathBuf> {
        let _ = (&self.config, image);
        Vec::new()
    }

    /// Keeps the layers of `image` for `holder` (a container's id) until [`Self::release`], over restarts too, even if
    /// the image is removed meanwhile. Returns [`Self::lower_dirs`].
    ///
    /// # Errors
    /// [`ImageError::NotFound`] if the image has been removed, or what the file system says.
    pub async fn hold(&self, _holder: &str, image: &Image) -> Result<Vec<PathBuf>, ImageError> {
        Err(ImageError::NotFound(image.id.clone()))
    }

    /// Ends a [`Self::hold`]; layers that nobody needs any more are removed. Nothing happens for an unknown holder.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn release(&self, _holder: &str) -> Result<(), ImageError> {
        Ok(())
    }

    /// All holders, so that whoever restarts can release those which are gone.
    #[must_use]
    pub fn holders(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the store takes on disk.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}
