//! The control socket: what this machine's administrator asks of the running server beyond the Kubernetes API.
//!
//! One JSON request a connection, one JSON answer. The socket is readable by root alone.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use skiff_runtime::image::ImageStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// No request is longer than this, in bytes.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// What can be asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Take in the images of an archive.
    LoadImages {
        /// An absolute path.
        archive: PathBuf,
    },
}

/// What is answered.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Response {
    /// The names of the images that were loaded.
    Loaded(Vec<String>),
    /// Why it was not done.
    Failed(String),
}

/// Answers requests until shutdown.
pub(crate) async fn serve(
    path: PathBuf,
    images: ImageStore,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let images = images.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &images).await {
                tracing::debug!(%error, "a control connection failed");
            }
        });
    }
}

async fn answer(stream: UnixStream, images: &ImageStore) -> anyhow::Result<()> {
    let mut request = Vec::new();
    let (read, mut write) = stream.into_split();
    read.take(LONGEST_REQUEST).read_to_end(&mut request).await?;
    let response = match serde_json::from_slice(&request) {
        Ok(Request::LoadImages { archive }) => match images.load(&archive).await {
            Ok(loaded) => Response::Loaded(
                loaded
                    .iter()
                    .map(|image| image.repo_tags.first().unwrap_or(&image.id).clone())
                    .collect(),
            ),
            Err(error) => Response::Failed(error.to_string()),
        },
        Err(error) => Response::Failed(format!("the request cannot be read: {error}")),
    };
    write.write_all(&serde_json::to_vec(&response)?).await?;
    Ok(())
}

/// Asks the running server.
pub(crate) fn ask(path: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut stream = match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(_) => bail!(
            "the cluster is not running (nothing answers on {})",
            path.display()
        ),
    };
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    serde_json::from_slice(&response).context("the server's answer cannot be read")
}
