//! `skiff image`: the images on this node, through the runtime's CRI socket and the server's control socket.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::{ImageSpec, ListImagesRequest, PullImageRequest, RemoveImageRequest};
use tonic::transport::{Channel, Endpoint};

use crate::control::{self, Request, Response};
use crate::flags::Directories;
use crate::progress;

/// `skiff image …`
#[derive(Debug, Args)]
pub(crate) struct ImageCommand {
    #[command(flatten)]
    directories: Directories,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Load images from archives (docker-archive or oci-archive)
    Load {
        /// The archives
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// List the images
    Ls,
    /// Remove images
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Pull an image from its registry
    Pull {
        /// Its name
        image: String,
    },
}

/// A gRPC channel to a Unix socket.
pub(crate) async fn channel(socket: &Path) -> anyhow::Result<Channel> {
    let path = socket.to_path_buf();
    // The URI is only there for the HTTP header; the connector decides where to.
    let endpoint = Endpoint::from_static("http://localhost");
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.with_context(|| {
        format!(
            "the cluster is not running (nothing answers on {})",
            socket.display()
        )
    })
}

/// Runs `skiff image`.
pub(crate) fn run(command: ImageCommand) -> anyhow::Result<()> {
    if let Action::Load { archives } = &command.action {
        return load(&command.directories, archives);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = command.directories.cri_socket();
        let mut client = ImageServiceClient::new(channel(&socket).await?);
        match command.action {
            Action::Load { .. } => {}
            Action::Ls => {
                let images = client
                    .list_images(ListImagesRequest::default())
                    .await
                    .map_err(message)?
                    .into_inner();
                progress::line(&format!("{:<60} {:<20} SIZE", "IMAGE", "IMAGE ID"));
                for image in images.images {
                    let id = image
                        .id
                        .trim_start_matches("sha256:")
                        .get(..13)
                        .unwrap_or(&image.id)
                        .to_string();
                    let names = if image.repo_tags.is_empty() {
                        &image.repo_digests
                    } else {
                        &image.repo_tags
                    };
                    let size = indicatif::DecimalBytes(image.size).to_string();
                    for name in names
                        .iter()
                        .map(String::as_str)
                        .chain(names.is_empty().then_some("<none>"))
                    {
                        progress::line(&format!("{name:<60} {id:<20} {size}"));
                    }
                }
            }
            Action::Rm { images } => {
                for image in images {
                    let spec = Some(ImageSpec {
                        image: image.clone(),
                        ..ImageSpec::default()
                    });
                    client
                        .remove_image(RemoveImageRequest { image: spec })
                        .await
                        .map_err(message)?;
                    progress::line(&format!("Deleted: {image}"));
                }
            }
            Action::Pull { image } => {
                let step = progress::Step::begin(format!("Pulling {image}"));
                let request = PullImageRequest {
                    image: Some(ImageSpec {
                        image: image.clone(),
                        ..ImageSpec::default()
                    }),
                    ..PullImageRequest::default()
                };
                let pulled = client.pull_image(request).await.map_err(message)?.into_inner();
                step.done(Some(&format!("Pulled {image}: {}", pulled.image_ref)));
            }
        }
        Ok(())
    })
}

fn message(status: tonic::Status) -> anyhow::Error {
    anyhow::Error::msg(status.message().to_string())
}

fn load(directories: &Directories, archives: &[PathBuf]) -> anyhow::Result<()> {
    for archive in archives {
        let archive = archive
            .canonicalize()
            .with_context(|| format!("cannot read {}", archive.display()))?;
        match control::ask(
            &directories.control_socket(),
            &Request::LoadImages {
                archive: archive.clone(),
            },
        )? {
            Response::Loaded(images) => {
                images
                    .iter()
                    .for_each(|image| progress::line(&format!("Loaded image: {image}")));
            }
            Response::Failed(why) => bail!("{}: {why}", archive.display()),
        }
    }
    Ok(())
}
