//! Archives that hold whole images: `docker save`'s form and the OCI image layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::Deserialize;

use super::assemble::{Assembly, Source};
use super::compression::decompress;
use super::digest::Digest;
use super::disk::Temporary;
use super::distribution::DOCUMENT_LIMIT;
use super::manifest::{Descriptor, Document, Manifest, Platform, select};
use super::pull::INDEX_DEPTH;
use super::reference::{Reference, Version};
use super::store::{Inner, blocking};
use super::unpack::unpack;
use super::{Image, ImageError};
use crate::inside::open_inside;

/// What containerd and Docker, and what everyone else, write an image's name into.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

impl Inner {
    pub(crate) async fn load(self: Arc<Self>, tar: PathBuf) -> Result<Vec<Arc<Image>>, ImageError> {
        let inner = self.clone();
        let found = blocking(move || {
            let directory = Arc::new(inner.disk.temporary());
            std::fs::create_dir(directory.path())
                .map_err(|error| ImageError::io("mkdir", directory.path(), error))?;
            let file = File::open(&tar).map_err(|error| ImageError::io("open", &tar, error))?;
            let plain = decompress(BufReader::new(file)).map_err(|e| ImageError::io("read", &tar, e))?;
            unpack(plain, directory.path(), &[])?;
            Archive::open(directory)?.images()
        })
        .await?;
        let mut images = Vec::with_capacity(found.len());
        for (assembly, sources) in found {
            images.push(self.clone().assemble(assembly, sources).await?);
        }
        Ok(images)
    }
}

/// An archive that is unpacked into a directory.
struct Archive {
    directory: Arc<Temporary>,
    root: OwnedFd,
}

type Found = (Assembly, Vec<Source>);

/// One entry of `docker save`'s `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Archive {
    fn open(directory: Arc<Temporary>) -> Result<Self, ImageError> {
        let root = File::open(directory.path()).map_err(|e| ImageError::io("open", directory.path(), e))?;
        Ok(Self {
            directory,
            root: root.into(),
        })
    }

    /// All images of the archive. One that is in both forms is taken from the OCI layout if that knows its name, since
    /// it has the manifest by whose digest the image can be found, too.
    fn images(&self) -> Result<Vec<Found>, ImageError> {
        #[derive(Deserialize)]
        struct Top {
            manifests: Vec<Descriptor>,
        }
        let saved: Option<Vec<Saved>> = self.json("manifest.json")?;
        let top: Option<Top> = if self.exists("oci-layout") {
            self.json("index.json")?
        } else {
            None
        };
        match (top, saved) {
            (Some(top), Some(saved)) if !top.manifests.iter().all(|d| name_of(d).is_some()) => {
                self.all_saved(&saved)
            }
            (Some(top), _) => self.all_of_layout(&top.manifests),
            (None, Some(saved)) => self.all_saved(&saved),
            (None, None) => Err(ImageError::Content(
                "neither a docker-archive (manifest.json) nor an oci-archive (oci-layout, index.json)"
                    .to_owned(),
            )),
        }
    }

    fn all_saved(&self, saved: &[Saved]) -> Result<Vec<Found>, ImageError> {
        let mut found = Vec::with_capacity(saved.len());
        for image in saved {
            let config = self.read(&image.config)?;
            let mut assembly = Assembly::new(config, image.layers.len())?;
            for tag in image.repo_tags.iter().flatten() {
                let reference = Reference::parse(tag)?;
                if let Version::Tag(_) = reference.version {
                    assembly.tags.push(reference.to_string());
                }
            }
            let mut sources = Vec::with_capacity(image.layers.len());
            for layer in &image.layers {
                assembly.size += self.size(layer)?;
                sources.push(self.source(layer, None));
            }
            found.push((assembly, sources));
        }
        Ok(found)
    }

    fn all_of_layout(&self, manifests: &[Descriptor]) -> Result<Vec<Found>, ImageError> {
        let machine = Platform::own();
        let mut found = Vec::new();
        // Descriptors with one name are one image for several platforms.
        let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
        for descriptor in manifests {
            by_name
                .entry(name_of(descriptor))
                .or_default()
                .push(descriptor.clone());
        }
        for (name, descriptors) in by_name {
            let chosen: Vec<&Descriptor> = match &name {
                Some(_) => select(&descriptors, &machine).into_iter().collect(),
                None => descriptors.iter().collect(),
            };
            for descriptor in chosen {
                if let Some(image) = self.of_layout(name.as_deref(), descriptor, &machine)? {
                    found.push(image);
                }
            }
        }
        if found.is_empty() {
            return Err(ImageError::NotFound(format!(
                "no match for platform {machine} in archive"
            )));
        }
        Ok(found)
    }

    fn of_layout(
        &self,
        name: Option<&str>,
        top: &Descriptor,
        machine: &Platform,
    ) -> Result<Option<Found>, ImageError> {
        let mut documents: Vec<(Digest, Vec<u8>)> = Vec::new();
        let mut digest = top.digest.clone();
        let manifest: Manifest = loop {
            let bytes = self.blob(&digest)?;
            let document = Document::parse(&bytes)?;
            documents.push((digest, bytes));
            match document {
                Document::Image(manifest) => break manifest,
                Document::Index(_) if documents.len() >= INDEX_DEPTH => {
                    return Err(ImageError::Content(
                        "too many indexes lead to one another".to_owned(),
                    ));
                }
                Document::Index(manifests) => match select(&manifests, machine) {
                    Some(fitting) => digest = fitting.digest.clone(),
                    None => return Ok(None),
                },
            }
        };
        let config = self.blob(&manifest.config.digest)?;
        let mut assembly = Assembly::new(config, manifest.layers.len())?;
        let total: usize = documents.iter().map(|(_, bytes)| bytes.len()).sum();
        assembly.size += total as u64 + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
        assembly.manifests = documents;
        if let Some(name) = name {
            let reference = Reference::parse(name)?;
            assembly
                .digests
                .push(format!("{}@{}", reference.repository(), top.digest));
            if let Version::Tag(_) = reference.version {
                assembly.tags.push(reference.to_string());
            }
        }
        let source = |layer: &Descriptor| {
            self.source(
                &format!("blobs/sha256/{}", layer.digest.hex()),
                Some(layer.digest.clone()),
            )
        };
        let sources = manifest.layers.iter().map(source).collect();
        Ok(Some((assembly, sources)))
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read(&format!("blobs/sha256/{}", digest.hex()))?;
        digest.verify(&bytes)?;
        Ok(bytes)
    }

    /// A layer's file. It may be a link: `docker save` of old links equal layers to one another.
    fn source(&self, name: &str, digest: Option<Digest>) -> Source {
        Source::File {
            archive: self.directory.clone(),
            name: PathBuf::from(name),
            digest,
        }
    }

    fn open_file(&self, name: &str) -> Result<File, ImageError> {
        open_within(&self.root, Path::new(name))
            .map_err(|error| ImageError::io("open", Path::new(name), error))
    }

    fn exists(&self, name: &str) -> bool {
        self.open_file(name).is_ok()
    }

    fn size(&self, name: &str) -> Result<u64, ImageError> {
        let file = self.open_file(name)?;
        Ok(file
            .metadata()
            .map_err(|error| ImageError::io("stat", Path::new(name), error))?
            .len())
    }

    /// Reads a small file.
    fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.open_file(name)?
            .take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::io("read", Path::new(name), error))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(ImageError::Content(format!(
                "{name}: larger than {DOCUMENT_LIMIT} bytes"
            )));
        }
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ImageError> {
        if !self.exists(name) {
            return Ok(None);
        }
        let value = serde_json::from_slice(&self.read(name)?);
        value
            .map(Some)
            .map_err(|error| ImageError::Content(format!("{name}: {error}")))
    }
}

/// Opens a regular file below a directory. Links lead nowhere else, and a device or a pipe is not opened.
pub(crate) fn open_within(root: impl AsFd, name: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open_inside(root, name, flags)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "not a regular file",
        ));
    }
    Ok(file)
}

/// The name that a layout gives an image. `org.opencontainers.image.ref.name` may also be a mere tag, which names nothing
/// that a pod could ask for.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations.as_ref()?;
    let names = NAME_ANNOTATIONS.iter().filter_map(|key| annotations.get(*key));
    names.into_iter().find(|name| name.contains(['/', ':'])).cloned()
}
