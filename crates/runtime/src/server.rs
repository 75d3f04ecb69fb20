//! The CRI endpoint: what the runtime is configured with, and how it serves.

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1::image_service_server::ImageServiceServer;
use k8s_cri::v1::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::cri::image_service::Images;
use crate::cri::runtime_service::Containers;
use crate::image::ImageStore;
use crate::network::PodNetwork;
use crate::runtime::Runtime;
use crate::streaming::{self, Addresses};

/// What the runtime is configured with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What survives a reboot: records of sandboxes and containers, bundles, writable layers; as
    /// `/var/lib/skiff/runtime`. Belongs to one runtime alone.
    pub state_dir: PathBuf,
    /// What doesn't: the shims' sockets, network namespaces, `/dev/shm`; as `/run/skiff/runtime`.
    pub run_dir: PathBuf,
    /// The endpoint, as `/run/skiff/cri.sock`. Only root may connect.
    pub socket: PathBuf,
    /// The node's images; whoever starts the runtime opens them, and may use them beside CRI.
    pub images: ImageStore,
    /// The program that is run as `<shim> shim <folder>` for each pod; it must call [`shim_main`].
    pub shim: PathBuf,
    /// The cgroup that shims live in, as `/skiff-shims`: outside of any pod's limits, and outside of the cgroup of the
    /// service that started the runtime, so that nothing which stops the one stops the pods.
    pub shim_cgroup: String,
    /// What `Version` answers.
    pub version: String,
}

/// Why the runtime can't serve.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A folder or the endpoint can't be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The endpoint broke.
    #[error("serving CRI: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves CRI's RuntimeService and ImageService until `shutdown`; calls `ready` when the endpoint answers and all
/// sandboxes of an earlier run have been adopted. Containers go on living afterwards.
///
/// # Errors
/// When a folder, the image store or the endpoint can't be used.
pub async fn serve(
    config: Config,
    network: Arc<dyn PodNetwork>,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), RuntimeError> {
    let socket = config.socket.clone();
    let images = Images::new(config.images.clone());
    prepare_folders(&config)?;
    let runtime = Runtime::new(config, network, shutdown.clone()).map_err(at("control groups"))?;
    let runtime = Arc::new(runtime);
    runtime.adopt().await.map_err(at("adopting pods"))?;
    let (addresses, streams) = Addresses::listen().await.map_err(at("streams"))?;
    let addresses = Arc::new(addresses);
    let streaming = streaming::run(streams, Arc::clone(&addresses), Arc::clone(&runtime));
    let streaming = tokio::spawn(streaming);
    let listener = listen(&socket)?;
    let serving = tonic::transport::Server::builder()
        .add_service(
            RuntimeServiceServer::new(Containers::new(runtime, addresses))
                .max_decoding_message_size(MAX_MESSAGE),
        )
        .add_service(ImageServiceServer::new(images).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.cancelled_owned());
    ready();
    let served = serving.await;
    // Ends with the same token.
    let _ = streaming.await;
    served?;
    Ok(())
}

/// As large as CRI's clients allow.
const MAX_MESSAGE: usize = 16 << 20;

fn at(what: impl Display) -> impl FnOnce(io::Error) -> RuntimeError {
    let what = what.to_string();
    move |source| RuntimeError::Io { what, source }
}

fn prepare_folders(config: &Config) -> Result<(), RuntimeError> {
    let state = ["sandboxes", "containers"].map(|name| config.state_dir.join(name));
    let run = ["netns", "shm", "shim", "oci"].map(|name| config.run_dir.join(name));
    for folder in state.iter().chain(&run) {
        fs::create_dir_all(folder).map_err(at(folder.display()))?;
    }
    for folder in [&config.state_dir, &config.run_dir] {
        // Below are sockets and the files of every pod.
        let permissions = fs::Permissions::from_mode(0o711);
        fs::set_permissions(folder, permissions).map_err(at(folder.display()))?;
    }
    Ok(())
}

fn listen(socket: &Path) -> Result<UnixListener, RuntimeError> {
    if let Some(parent) = socket.parent() {
        fs::create_dir_all(parent).map_err(at(parent.display()))?;
    }
    // An earlier server's; one that still serves keeps its connections, but gets no new ones.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(socket.display())(error)),
        _ => {}
    }
    // Bound under another name, so that nobody can connect before the permissions are right.
    let fresh = socket.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(at(fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(at(fresh.display()))?;
    fs::rename(&fresh, socket).map_err(at(socket.display()))?;
    Ok(listener)
}
