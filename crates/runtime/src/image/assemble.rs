//! An image is put together: its layers are fetched side by side, unpacked in order, and then it is made known.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use super::archive::open_within;
use super::compression::decompress;
use super::digest::{Digest, Hasher, HashingReader, chain_ids};
use super::disk::Temporary;
use super::distribution::Remote;
use super::flight::Flight;
use super::manifest::{Descriptor, Platform};
use super::store::{Inner, blocking, parse_config};
use super::unpack::unpack;
use super::{Image, ImageError};

/// How many layers of one image are fetched at a time, as in containerd.
const DOWNLOADS: usize = 3;
/// How many pieces of a download may wait for the disk.
const QUEUE: usize = 16;

/// Where a layer's archive is to be had.
#[derive(Clone)]
pub(crate) enum Source {
    /// At a registry.
    Remote(Arc<Remote>, Descriptor),
    /// In a file of an archive, which is unpacked in `archive`.
    File {
        archive: Arc<Temporary>,
        name: PathBuf,
        digest: Option<Digest>,
    },
}

/// A layer's archive in a file, which is there as long as this is.
struct Fetched {
    directory: Arc<Temporary>,
    /// Below `directory`; empty if that is the file itself.
    name: PathBuf,
}

impl Fetched {
    /// An archive's names may be links, which must not lead out of it.
    fn open(&self) -> Result<File, ImageError> {
        let path = self.directory.path();
        let file = if self.name.as_os_str().is_empty() {
            File::open(path)
        } else {
            File::open(path).and_then(|root| open_within(&root, &self.name))
        };
        file.map_err(|error| ImageError::io("open", &path.join(&self.name), error))
    }
}

/// All that is known about an image before its layers are here.
pub(crate) struct Assembly {
    /// The digest of the configuration.
    pub(crate) id: Digest,
    pub(crate) config: Vec<u8>,
    /// The indexes and the manifest, if there are any.
    pub(crate) manifests: Vec<(Digest, Vec<u8>)>,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
    pub(crate) size: u64,
    /// The uncompressed layers' digests, the bottom one first.
    diff_ids: Vec<Digest>,
    pub(crate) chains: Vec<Digest>,
}

impl Assembly {
    /// Reads the configuration, which says what the layers are.
    pub(crate) fn new(config: Vec<u8>, layers: usize) -> Result<Self, ImageError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Needed {
            os: String,
            architecture: String,
            rootfs: RootFs,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct RootFs {
            diff_ids: Vec<Digest>,
        }
        let invalid =
            |error: serde_json::Error| ImageError::Content(format!("invalid image configuration: {error}"));
        let needed: Needed = serde_json::from_slice(&config).map_err(invalid)?;
        // Refused before anything is fetched, not after.
        parse_config(&config)?;
        let machine = Platform::own();
        let differs = |own: &str, theirs: &str| !theirs.is_empty() && own != theirs;
        if differs(&machine.os, &needed.os) || differs(&machine.architecture, &needed.architecture) {
            return Err(ImageError::NotFound(format!(
                "no match for platform {machine} in manifest"
            )));
        }
        let diff_ids = needed.rootfs.diff_ids;
        if diff_ids.len() != layers {
            return Err(ImageError::Content(
                "mismatched image rootfs and manifest layers".to_owned(),
            ));
        }
        let chains = chain_ids(&diff_ids);
        Ok(Self {
            id: Digest::of(&config),
            size: config.len() as u64,
            config,
            manifests: Vec::new(),
            tags: Vec::new(),
            digests: Vec::new(),
            diff_ids,
            chains,
        })
    }
}

impl Inner {
    /// Fetches and unpacks the layers that are not here, and makes the image known.
    pub(crate) async fn assemble(
        self: Arc<Self>,
        assembly: Assembly,
        sources: Vec<Source>,
    ) -> Result<Arc<Image>, ImageError> {
        let pins = self.pin(assembly.chains.clone());
        let downloads = Arc::new(Semaphore::new(DOWNLOADS));
        let mut flights: Vec<Flight<Result<(), ImageError>>> = Vec::with_capacity(sources.len());
        for (number, source) in sources.into_iter().enumerate() {
            let below = assembly.chains.get(..number).unwrap_or_default().to_vec();
            let (Some(chain), Some(diff_id)) = (assembly.chains.get(number), assembly.diff_ids.get(number))
            else {
                continue;
            };
            let (inner, parent, downloads) = (self.clone(), flights.last().cloned(), downloads.clone());
            let (id, diff_id) = (chain.clone(), diff_id.clone());
            let begin = || inner.layer(id, diff_id, below, parent, source, downloads);
            flights.push(self.unpacking.join(chain, begin));
        }
        if let Err(error) = try_join_all(flights).await {
            drop(pins);
            // What has been fetched is there for the next try, unless nothing else has room then.
            if let ImageError::Io {
                kind: ErrorKind::StorageFull,
                ..
            } = error.root()
            {
                blocking(move || self.sweep()).await?;
            }
            return Err(error);
        }
        blocking(move || {
            let image = self.commit(&assembly);
            // Only now the image itself keeps its layers.
            drop(pins);
            image
        })
        .await
    }

    /// One layer: fetched at once, unpacked when the layers below it are.
    async fn layer(
        self: Arc<Self>,
        chain: Digest,
        diff_id: Digest,
        below: Vec<Digest>,
        parent: Option<Flight<Result<(), ImageError>>>,
        source: Source,
        downloads: Arc<Semaphore>,
    ) -> Result<(), ImageError> {
        if self.is_present(&chain) {
            return Ok(());
        }
        let permit = downloads
            .acquire()
            .await
            .map_err(|error| ImageError::Content(error.to_string()))?;
        let fetched = self
            .fetch(source)
            .await
            .map_err(|error| error.step("failed to copy"))?;
        drop(permit);
        if let Some(parent) = parent {
            parent.await?;
        }
        blocking(move || self.unpack_layer(&chain, &diff_id, &below, &fetched)).await
    }

    async fn fetch(&self, source: Source) -> Result<Fetched, ImageError> {
        let (remote, descriptor) = match source {
            Source::Remote(remote, descriptor) => (remote, descriptor),
            Source::File {
                archive,
                name,
                digest,
            } => {
                let fetched = Fetched {
                    directory: archive,
                    name,
                };
                return blocking(move || {
                    if let Some(digest) = digest {
                        let actual = HashingReader::new(fetched.open()?).finish();
                        digest.expect(&actual.map_err(|e| ImageError::io("read", &fetched.name, e))?)?;
                    }
                    Ok(fetched)
                })
                .await;
            }
        };
        let temporary = Arc::new(self.disk.temporary());
        let (sender, receiver) = mpsc::channel(QUEUE);
        // The file is kept by both: by the thread that writes it, and by whoever unpacks it.
        let target = temporary.clone();
        let write = blocking(move || write_down(&target, receiver));
        let (sent, written) = tokio::join!(remote.blob(&descriptor, sender), write);
        // A disk that is full ends the download without an error of its own; a download that ends makes a digest that
        // says nothing. So the errors are asked for in this order.
        let digest = written?;
        sent?;
        descriptor.digest.expect(&digest)?;
        Ok(Fetched {
            directory: temporary,
            name: PathBuf::new(),
        })
    }

    fn unpack_layer(
        &self,
        chain: &Digest,
        diff_id: &Digest,
        below: &[Digest],
        fetched: &Fetched,
    ) -> Result<(), ImageError> {
        let step = |error: ImageError| error.step(format!("failed to extract layer {diff_id}"));
        let archive = fetched.open().map_err(step)?;
        let unpacked = self.disk.temporary();
        let path = unpacked.path();
        std::fs::create_dir(path).map_err(|error| ImageError::io("mkdir", path, error))?;
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| ImageError::io("chmod", path, error))?;
        let below: Vec<PathBuf> = below.iter().rev().map(|chain| self.disk.layer(chain)).collect();
        let unreadable =
            |error: std::io::Error| ImageError::Content(format!("failed to read archive: {error}"));
        let plain = decompress(BufReader::with_capacity(64 << 10, archive))
            .map_err(unreadable)
            .map_err(step)?;
        let mut plain = HashingReader::new(plain);
        let usage = unpack(&mut plain, path, &below).map_err(step)?;
        let actual = plain.finish().map_err(unreadable).map_err(step)?;
        if actual != *diff_id {
            let reason = format!("wrong diff id calculated on extraction {actual}, expected {diff_id}");
            return Err(step(ImageError::Content(reason)));
        }
        self.place(&unpacked, chain, usage)
    }
}

/// Writes a download down and digests it.
fn write_down(target: &Temporary, mut pieces: mpsc::Receiver<Bytes>) -> Result<Digest, ImageError> {
    let failed = |error| ImageError::io("write", target.path(), error);
    let mut file = File::create(target.path()).map_err(failed)?;
    let mut hasher = Hasher::default();
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece).map_err(failed)?;
        hasher.update(&piece);
    }
    Ok(hasher.finish())
}
