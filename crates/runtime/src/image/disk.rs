//! The store's directory: where things lie, and how they get there without ever being half there.
//!
//! ```text
//! images.json          the images (`Index`)
//! blobs/sha256/<hex>   manifests and configurations, as they came
//! layers/<24 hex>/     unpacked layers, by the beginning of their chain id: an overlayfs mount names them all in one page
//! holds/<holder>.json  the layers that a container needs
//! ingest/              what is on its way in or out; emptied at every start
//! lock                 held by the process that uses the store
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, syncfs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::ImageError;
use super::digest::Digest;

/// How much of a chain id is a layer's directory name. A clash makes the second layer fail, it cannot replace the first.
const NAME_LENGTH: usize = 24;

#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// Locked as long as the store is open.
    _lock: File,
}

impl Disk {
    /// Makes the directories, locks the store, and removes what was on its way when an earlier process ended.
    pub(crate) fn open(root: &Path) -> Result<Self, ImageError> {
        for directory in ["layers", "blobs/sha256", "holds", "ingest"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|error| ImageError::io("mkdir", &path, error))?;
        }
        // Layers hold set-user-id programs; only root may get to them.
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(|error| ImageError::io("chmod", root, error))?;
        let path = root.join("lock");
        let lock = File::create(&path).map_err(|error| ImageError::io("create", &path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            ImageError::Content(format!(
                "the image store {} is in use by another process",
                root.display()
            ))
        })?;
        let disk = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        for entry in names(&disk.ingest())? {
            remove(&disk.ingest().join(entry));
        }
        Ok(disk)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("images.json")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, chain: &Digest) -> PathBuf {
        self.layers()
            .join(chain.hex().get(..NAME_LENGTH).unwrap_or(chain.hex()))
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn hold(&self, holder: &str) -> PathBuf {
        self.root.join("holds").join(format!("{holder}.json"))
    }

    /// A path for something on its way in. What is there when the value is dropped is removed.
    pub(crate) fn temporary(&self) -> Temporary {
        Temporary(self.ingest().join(Uuid::new_v4().simple().to_string()))
    }

    /// The blob, if it is here and whole.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.blobs().join(digest.hex())).ok()?;
        digest.verify(&bytes).ok().map(|()| bytes)
    }

    /// Keeps a blob, durably.
    pub(crate) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        self.write(&self.blobs().join(digest.hex()), bytes, true)
    }

    /// Waits until everything that was written is on the disk.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        let directory = File::open(&self.root).map_err(|error| ImageError::io("open", &self.root, error))?;
        syncfs(&directory).map_err(|error| ImageError::io("sync", &self.root, error))
    }

    /// Puts an unpacked layer into its place.
    pub(crate) fn place_layer(&self, unpacked: &Temporary, chain: &Digest) -> Result<(), ImageError> {
        let path = self.layer(chain);
        fs::rename(&unpacked.0, &path).map_err(|error| ImageError::io("rename", &path, error))
    }

    /// Takes a layer out of its place, at once; dropping the value removes it from the disk, which may take a while.
    pub(crate) fn take_layer(&self, chain: &Digest) -> Result<Temporary, ImageError> {
        let temporary = self.temporary();
        let path = self.layer(chain);
        fs::rename(&path, &temporary.0).map_err(|error| ImageError::io("remove", &path, error))?;
        Ok(temporary)
    }

    /// Removes all other blobs.
    pub(crate) fn retain_blobs(&self, keep: &BTreeSet<Digest>) -> Result<(), ImageError> {
        remove_others(
            &self.blobs(),
            &keep
                .iter()
                .map(|digest| self.blobs().join(digest.hex()))
                .collect(),
        )
    }

    /// Removes all other layers.
    pub(crate) fn retain_layers<'a>(&self, keep: impl Iterator<Item = &'a Digest>) -> Result<(), ImageError> {
        remove_others(&self.layers(), &keep.map(|chain| self.layer(chain)).collect())
    }

    /// Writes a small file as JSON; see [`Self::write`].
    pub(crate) fn write_json(
        &self,
        path: &Path,
        value: &impl Serialize,
        durable: bool,
    ) -> Result<(), ImageError> {
        let text = serde_json::to_vec(value).map_err(|error| ImageError::io("write", path, error))?;
        self.write(path, &text, durable)
    }

    /// Writes a small file so that there is always the old or the new one. With `durable` it is on the disk afterwards.
    fn write(&self, path: &Path, bytes: &[u8], durable: bool) -> Result<(), ImageError> {
        let failed = |error: io::Error| ImageError::io("write", path, error);
        let temporary = self.temporary();
        let mut file = File::create(&temporary.0).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        if durable {
            file.sync_all().map_err(failed)?;
        }
        fs::rename(&temporary.0, path).map_err(failed)?;
        if let (true, Some(parent)) = (durable, path.parent()) {
            File::open(parent)
                .and_then(|directory| directory.sync_all())
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Reads a small file. One that cannot be understood is put aside, since a store that does not open helps nobody.
    pub(crate) fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, ImageError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io("read", path, error)),
        };
        match serde_json::from_slice(&text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let aside = path.with_extension("unreadable");
                tracing::warn!(file = %path.display(), aside = %aside.display(), %error, "unreadable file put aside");
                fs::rename(path, &aside).map_err(|error| ImageError::io("rename", path, error))?;
                Ok(None)
            }
        }
    }

    /// All holders on disk.
    pub(crate) fn holders(&self) -> Result<Vec<String>, ImageError> {
        let names = names(&self.root.join("holds"))?;
        Ok(names
            .iter()
            .filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()))
            .collect())
    }
}

/// A path that is removed, with all below it, when this is dropped; if it was renamed, there is nothing to remove.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a file or a directory. What cannot be removed now is removed at the next start.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "could not remove");
    }
}

fn remove_others(directory: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), ImageError> {
    for name in names(directory)? {
        let path = directory.join(name);
        if !keep.contains(&path) {
            remove(&path);
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, ImageError> {
    let failed = |error: io::Error| ImageError::io("read", directory, error);
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| Ok(entry.map_err(failed)?.file_name()))
        .collect()
}
