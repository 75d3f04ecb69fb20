//! The image store: what is on this node, and the one place that changes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::assemble::Assembly;
use super::digest::Digest;
use super::disk::{Disk, Temporary};
use super::flight::Flights;
use super::index::{Index, Layer, Layers, Record};
use super::reference::Reference;
use super::registries::Registries;
use super::transport::Transports;
use super::{Auth, ChainId, Image, ImageConfig, ImageError};

/// What the store takes on its disk (CRI `FilesystemUsage`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes, in whole file system blocks.
    pub bytes: u64,
    /// Files, directories, links and nodes.
    pub inodes: u64,
}

/// The images of this node. A clone is another handle to the same store.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ImageStore")
            .field(&self.inner.disk.root())
            .finish()
    }
}

/// What a pull waits for, by whom it may be shared.
type Pulls = Flights<(Reference, Option<Auth>), Result<Arc<Image>, ImageError>>;

pub(crate) struct Inner {
    pub(crate) registries: PathBuf,
    pub(crate) disk: Disk,
    pub(crate) transports: Arc<Transports>,
    pub(crate) pulls: Pulls,
    /// Layers on their way, by chain id.
    pub(crate) unpacking: Flights<Digest, Result<(), ImageError>>,
    catalogue: RwLock<Catalogue>,
    layers: Mutex<Layers>,
    /// Held by the one thread that changes the files; taken before the other locks.
    writer: Mutex<()>,
}

/// The images as readers see them.
#[derive(Default)]
struct Catalogue {
    index: Index,
    images: BTreeMap<Digest, Arc<Image>>,
}

impl ImageStore {
    /// Opens the store, makes it if it is not there, and removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// When the directory cannot be used, or is in use by another process, or `registries.yaml` cannot be understood.
    pub async fn open(config: ImageConfig) -> Result<Self, ImageError> {
        blocking(move || {
            // It is read again for each pull; here only an early word about a mistake is wanted.
            Registries::read(&config.registries)?;
            let inner = Inner::open(config)?;
            Ok(Self {
                inner: Arc::new(inner),
            })
        })
        .await
    }

    /// Pulls an image, or only learns that it is the one that is already here.
    ///
    /// # Errors
    /// In the words that containerd uses, for the pod's event.
    pub async fn pull(&self, reference: &str, auth: Option<Auth>) -> Result<Arc<Image>, ImageError> {
        let reference = Reference::parse(reference)?;
        let step = format!("failed to pull and unpack image \"{reference}\"");
        let (inner, key) = (self.inner.clone(), (reference, auth));
        let (reference, auth) = key.clone();
        self.inner
            .pulls
            .join(&key, || inner.pull(reference, auth))
            .await
            .map_err(|error| error.step(step))
    }

    /// Adds the images of a docker-archive or an oci-archive, compressed or not.
    ///
    /// # Errors
    /// When the archive cannot be read or holds no image of this machine's platform.
    pub async fn load(&self, tar: &Path) -> Result<Vec<Arc<Image>>, ImageError> {
        let step = format!("failed to load {}", tar.display());
        self.inner
            .clone()
            .load(tar.to_owned())
            .await
            .map_err(|error| error.step(step))
    }

    /// The image of this id (whole, or its unambiguous beginning), tag or digest. A tag need not be normalised.
    #[must_use]
    pub fn get(&self, reference_or_id: &str) -> Option<Arc<Image>> {
        let catalogue = self.inner.catalogue.read();
        catalogue
            .images
            .get(&catalogue.index.find(reference_or_id)?.id)
            .cloned()
    }

    /// All images.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.inner.catalogue.read().images.values().cloned().collect()
    }

    /// Removes an image with all its names. Layers that another image or a holder needs stay until they are released.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or what the file system says.
    pub async fn remove(&self, reference_or_id: &str) -> Result<(), ImageError> {
        let (inner, name) = (self.inner.clone(), reference_or_id.to_owned());
        blocking(move || inner.remove(&name)).await
    }

    /// The directories of an image in the order of overlayfs' `lowerdir`: the topmost first. They are shared and must
    /// not be written to. All are directly below one directory, so that a mount of very many layers can be made with
    /// relative names. An image may have no layers at all.
    #[must_use]
    pub fn lower_dirs(&self, image: &Image) -> Vec<PathBuf> {
        let chains = image
            .layers
            .iter()
            .rev()
            .filter_map(|chain| Digest::parse(&chain.0).ok());
        chains.map(|chain| self.inner.disk.layer(&chain)).collect()
    }

    /// Keeps the layers of `image` for `holder` (a container's id) until [`Self::release`], over restarts too, even if
    /// the image is removed meanwhile. Returns [`Self::lower_dirs`].
    ///
    /// # Errors
    /// [`ImageError::NotFound`] if the image has been removed, or what the file system says.
    pub async fn hold(&self, holder: &str, image: &Image) -> Result<Vec<PathBuf>, ImageError> {
        let (inner, name, id) = (self.inner.clone(), holder.to_owned(), image.id.clone());
        blocking(move || inner.hold(&name, &id)).await?;
        Ok(self.lower_dirs(image))
    }

    /// Ends a [`Self::hold`]; layers that nobody needs any more are removed. Nothing happens for an unknown holder.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn release(&self, holder: &str) -> Result<(), ImageError> {
        let (inner, name) = (self.inner.clone(), holder.to_owned());
        blocking(move || inner.release(&name)).await
    }

    /// All holders, so that whoever restarts can release those which are gone.
    #[must_use]
    pub fn holders(&self) -> Vec<String> {
        self.inner.layers.lock().holds.keys().cloned().collect()
    }

    /// What the unpacked layers take on disk.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.layers.lock().usage()
    }

    /// The directory of the unpacked layers, by which the node's statistics find the file system.
    #[must_use]
    pub fn layers_dir(&self) -> PathBuf {
        self.inner.disk.layers()
    }

    /// The image's configuration as it came, in JSON.
    #[must_use]
    pub async fn raw_config(&self, image: &Image) -> Option<String> {
        let (inner, id) = (self.inner.clone(), Digest::parse(&image.id).ok()?);
        let read = move || Ok(inner.disk.read_blob(&id));
        String::from_utf8(blocking(read).await.ok()??).ok()
    }
}

impl Inner {
    fn open(config: ImageConfig) -> Result<Self, ImageError> {
        let disk = Disk::open(&config.root)?;
        let stored: Index = disk.read_json(&disk.index())?.unwrap_or_default();
        let mut layers = Layers::default();
        for holder in disk.holders()? {
            if let Some(held) = disk.read_json::<Vec<Layer>>(&disk.hold(&holder))? {
                // A layer that is gone all the same must not keep the next pull from bringing it back.
                let there = held.iter().filter(|layer| disk.layer(&layer.chain).is_dir());
                layers
                    .present
                    .extend(there.map(|layer| (layer.chain.clone(), layer.usage)));
                layers.holds.insert(holder, held);
            }
        }
        let mut catalogue = Catalogue::default();
        for record in stored.images {
            match whole_image(&disk, &record) {
                Ok(image) => {
                    layers.present.extend(
                        record
                            .layers
                            .iter()
                            .map(|layer| (layer.chain.clone(), layer.usage)),
                    );
                    catalogue.images.insert(record.id.clone(), Arc::new(image));
                    catalogue.index.images.push(record);
                }
                // It can be pulled again; nothing else can be done with it.
                Err(error) => tracing::warn!(image = %record.id, %error, "image forgotten"),
            }
        }
        disk.retain_blobs(&catalogue.index.blobs())?;
        disk.retain_layers(layers.present.keys())?;
        Ok(Self {
            registries: config.registries,
            disk,
            transports: Arc::default(),
            pulls: Flights::default(),
            unpacking: Flights::default(),
            catalogue: RwLock::new(catalogue),
            layers: Mutex::new(layers),
            writer: Mutex::new(()),
        })
    }

    /// Whether a layer is unpacked. Ask only about pinned layers: others may go at any time.
    pub(crate) fn is_present(&self, chain: &Digest) -> bool {
        self.layers.lock().present.contains_key(chain)
    }

    /// Keeps layers that no image names yet.
    pub(crate) fn pin(self: &Arc<Self>, chains: Vec<Digest>) -> Pins {
        let mut layers = self.layers.lock();
        for chain in &chains {
            *layers.pins.entry(chain.clone()).or_default() += 1;
        }
        Pins {
            inner: self.clone(),
            chains,
        }
    }

    /// Makes an unpacked layer present. If another pull was first, its layer stays.
    pub(crate) fn place(&self, unpacked: &Temporary, chain: &Digest, usage: Usage) -> Result<(), ImageError> {
        let mut layers = self.layers.lock();
        if !layers.present.contains_key(chain) {
            self.disk.place_layer(unpacked, chain)?;
            layers.present.insert(chain.clone(), usage);
        }
        Ok(())
    }

    /// Makes an image, all of whose layers are present and pinned, known and durable.
    pub(crate) fn commit(&self, assembly: &Assembly) -> Result<Arc<Image>, ImageError> {
        let named = self.catalogue.read().index.chains();
        if assembly.chains.iter().any(|chain| !named.contains(chain)) {
            // The index must not name what a power cut could still take away. This may take long, and nobody has to
            // wait for the lock meanwhile.
            self.disk.sync()?;
        }
        let _writer = self.writer.lock();
        let record = {
            let layers = self.layers.lock();
            let layer = |chain: &Digest| Layer {
                chain: chain.clone(),
                usage: layers.present.get(chain).copied().unwrap_or_default(),
            };
            Record {
                id: assembly.id.clone(),
                tags: assembly.tags.clone(),
                digests: assembly.digests.clone(),
                size: assembly.size,
                layers: assembly.chains.iter().map(layer).collect(),
                manifests: assembly
                    .manifests
                    .iter()
                    .map(|(digest, _)| digest.clone())
                    .collect(),
            }
        };
        let mut next = self.catalogue.read().index.clone();
        let known = next.blobs();
        next.add(record);
        if next != self.catalogue.read().index {
            let documents = assembly.manifests.iter().map(|(digest, bytes)| (digest, bytes));
            for (digest, bytes) in documents.chain([(&assembly.id, &assembly.config)]) {
                if !known.contains(digest) {
                    self.disk.write_blob(digest, bytes)?;
                }
            }
            self.disk.write_json(&self.disk.index(), &next, true)?;
            self.publish(next)?;
        }
        let catalogue = self.catalogue.read();
        catalogue
            .images
            .get(&assembly.id)
            .cloned()
            .ok_or_else(|| ImageError::NotFound(assembly.id.to_string()))
    }

    /// Lets readers see a new index.
    fn publish(&self, index: Index) -> Result<(), ImageError> {
        let old = self.catalogue.read().images.clone();
        let mut images = BTreeMap::new();
        for record in &index.images {
            let config = match old.get(&record.id) {
                Some(image) => image.config.clone(),
                None => read_config(&self.disk, &record.id)?,
            };
            images.insert(record.id.clone(), Arc::new(image_of(record, config)));
        }
        *self.catalogue.write() = Catalogue { index, images };
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), ImageError> {
        let trash = {
            let _writer = self.writer.lock();
            let mut next = self.catalogue.read().index.clone();
            let found = next.find(name).map(|record| record.id.clone());
            let id = found.ok_or_else(|| ImageError::NotFound(name.to_owned()))?;
            next.images.retain(|record| record.id != id);
            self.disk.write_json(&self.disk.index(), &next, true)?;
            let blobs = next.blobs();
            self.publish(next)?;
            self.disk.retain_blobs(&blobs)?;
            self.collect()?
        };
        // Many files may go; nobody has to wait for the lock meanwhile.
        drop(trash);
        Ok(())
    }

    fn hold(&self, holder: &str, image: &str) -> Result<(), ImageError> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if holder.is_empty() || holder.starts_with('.') || !holder.bytes().all(is_name) {
            return Err(ImageError::Content(format!("invalid holder {holder:?}")));
        }
        let _writer = self.writer.lock();
        let layers = {
            let catalogue = self.catalogue.read();
            let record = catalogue
                .index
                .images
                .iter()
                .find(|record| record.id.as_str() == image);
            record
                .map(|record| record.layers.clone())
                .ok_or_else(|| ImageError::NotFound(image.to_owned()))?
        };
        // After a power cut there is no container, so it need not be durable.
        self.disk.write_json(&self.disk.hold(holder), &layers, false)?;
        self.layers.lock().holds.insert(holder.to_owned(), layers);
        Ok(())
    }

    fn release(&self, holder: &str) -> Result<(), ImageError> {
        let trash = {
            let _writer = self.writer.lock();
            if self.layers.lock().holds.remove(holder).is_none() {
                return Ok(());
            }
            let path = self.disk.hold(holder);
            std::fs::remove_file(&path).map_err(|error| ImageError::io("remove", &path, error))?;
            self.collect()?
        };
        drop(trash);
        Ok(())
    }

    /// Removes the layers that nobody needs.
    pub(crate) fn sweep(&self) -> Result<(), ImageError> {
        let trash = {
            let _writer = self.writer.lock();
            self.collect()?
        };
        drop(trash);
        Ok(())
    }

    /// Takes the layers that nobody needs out of their places. The writer's lock must be held.
    fn collect(&self) -> Result<Vec<Temporary>, ImageError> {
        let catalogue = self.catalogue.read();
        let mut layers = self.layers.lock();
        let mut trash = Vec::new();
        for chain in layers.unneeded(&catalogue.index) {
            trash.push(self.disk.take_layer(&chain)?);
            layers.present.remove(&chain);
        }
        Ok(trash)
    }
}

/// Layers that a pull counts on.
pub(crate) struct Pins {
    inner: Arc<Inner>,
    chains: Vec<Digest>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut layers = self.inner.layers.lock();
        for chain in &self.chains {
            if let Some(count) = layers.pins.get_mut(chain) {
                *count -= 1;
                if *count == 0 {
                    layers.pins.remove(chain);
                }
            }
        }
    }
}

/// The image of a record, if all that belongs to it is on the disk.
fn whole_image(disk: &Disk, record: &Record) -> Result<Image, ImageError> {
    for layer in &record.layers {
        let path = disk.layer(&layer.chain);
        std::fs::symlink_metadata(&path).map_err(|error| ImageError::io("open", &path, error))?;
    }
    Ok(image_of(record, read_config(disk, &record.id)?))
}

fn read_config(disk: &Disk, id: &Digest) -> Result<ImageConfiguration, ImageError> {
    let bytes = disk
        .read_blob(id)
        .ok_or_else(|| ImageError::Content(format!("configuration {id} is missing")))?;
    parse_config(&bytes)
}

/// Decodes an image's configuration.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Content(format!("invalid image configuration: {error}")))
}

fn image_of(record: &Record, config: ImageConfiguration) -> Image {
    Image {
        id: record.id.to_string(),
        repo_tags: record.tags.clone(),
        repo_digests: record.digests.clone(),
        size: record.size,
        config,
        layers: record
            .layers
            .iter()
            .map(|layer| ChainId(layer.chain.to_string()))
            .collect(),
    }
}

/// Runs work that waits for the disk where waiting is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ImageError::Content(format!("interrupted: {error}"))),
    }
}
