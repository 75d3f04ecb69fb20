//! Images made in memory, and stores in directories of their own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use skiff_runtime::image::{ImageConfig, ImageStore};

pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Gzip,
    Zstd,
}

/// A layer's archive, and how it travels.
#[derive(Clone)]
pub struct Layer {
    pub plain: Vec<u8>,
    pub packed: Vec<u8>,
}

impl Layer {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        Self::packed(files, Form::Gzip)
    }

    pub fn packed(files: &[(&str, &[u8])], form: Form) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_mtime(1_000_000_000);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        let plain = builder.into_inner().unwrap();
        let packed = match form {
            Form::Plain => plain.clone(),
            Form::Gzip => gzip(&plain),
            Form::Zstd => {
                ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest)
            }
        };
        Self { plain, packed }
    }

    /// A layer whose one file holds this many bytes that do not compress.
    pub fn large(name: &str, size: usize) -> Self {
        let mut content = Vec::with_capacity(size + 32);
        let mut block = Sha256::digest(name.as_bytes());
        while content.len() < size {
            content.extend_from_slice(&block);
            block = Sha256::digest(block);
        }
        Self::new(&[(name, &content[..size])])
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image as it travels.
#[derive(Clone)]
pub struct Image {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub layers: Vec<Layer>,
}

pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn own_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

impl Image {
    /// An image for this machine, told from others by `name`.
    pub fn new(name: &str, layers: &[Layer]) -> Self {
        Self::for_architecture(name, own_architecture(), layers)
    }

    pub fn for_architecture(name: &str, architecture: &str, layers: &[Layer]) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(&layer.plain)).collect();
        let config = serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": "101:102",
                "Cmd": ["/bin/box", name],
                "Env": ["A=b"],
                "ExposedPorts": {"80/tcp": {}},
                "Labels": null,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let described: Vec<_> = layers
            .iter()
            .map(|layer| {
                serde_json::json!({
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "digest": digest(&layer.packed),
                    "size": layer.packed.len(),
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": digest(&config),
                "size": config.len(),
            },
            "layers": described,
        });
        Self {
            manifest: serde_json::to_vec(&manifest).unwrap(),
            config,
            layers: layers.to_vec(),
        }
    }

    pub fn id(&self) -> String {
        digest(&self.config)
    }

    pub fn manifest_digest(&self) -> String {
        digest(&self.manifest)
    }

    pub fn size(&self) -> u64 {
        let layers: usize = self.layers.iter().map(|layer| layer.packed.len()).sum();
        (self.config.len() + self.manifest.len() + layers) as u64
    }

    /// The configuration and the layers, by digest.
    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let layers = self
            .layers
            .iter()
            .map(|layer| (digest(&layer.packed), layer.packed.clone()));
        layers.chain([(self.id(), self.config.clone())]).collect()
    }
}

/// An index of images for several architectures.
pub fn index(images: &[(&str, &Image)]) -> Vec<u8> {
    let manifests: Vec<_> = images
        .iter()
        .map(|(architecture, image)| {
            serde_json::json!({
                "mediaType": MANIFEST,
                "digest": image.manifest_digest(),
                "size": image.manifest.len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
        .unwrap()
}

/// A place for a store.
pub struct Place {
    pub directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// With these registries.
    pub fn with(registries: &str) -> Self {
        let place = Self::new();
        std::fs::write(place.registries(), registries).unwrap();
        place
    }

    /// With mirrors of docker.io.
    pub fn with_mirrors(addresses: &[&str]) -> Self {
        let endpoints: Vec<String> = addresses
            .iter()
            .map(|address| format!("\"http://{address}\""))
            .collect();
        Self::with(&format!(
            "mirrors: {{docker.io: {{endpoint: [{}]}}}}",
            endpoints.join(", ")
        ))
    }

    pub fn registries(&self) -> PathBuf {
        self.directory.path().join("registries.yaml")
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    pub fn config(&self) -> ImageConfig {
        ImageConfig {
            root: self.root(),
            registries: self.registries(),
        }
    }

    /// Opens the store. Right after another one was dropped, a thread may still be at the end of its work for that.
    pub async fn open(&self) -> ImageStore {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match ImageStore::open(self.config()).await {
                Ok(store) => return store,
                Err(error) if error.to_string().contains("in use") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// How many layers are unpacked.
    pub fn layers(&self) -> usize {
        count(&self.root().join("layers"))
    }

    /// That nothing is on its way any more, or soon will not be: a pull that fails does not wait for its other layers.
    pub fn assert_nothing_is_left_over(&self) {
        let deadline = Instant::now() + PATIENCE;
        while count(&self.root().join("ingest")) > 0 {
            assert!(Instant::now() < deadline, "something is left over");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

pub fn count(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}
