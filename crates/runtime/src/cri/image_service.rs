//! CRI's `ImageService`: the image store, in the words of the protocol.

use std::collections::HashMap;

use k8s_cri::v1::image_service_server::ImageService;
use k8s_cri::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image as CriImage, ImageFsInfoRequest,
    ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest,
    ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse,
    UInt64Value,
};
use tonic::{Code, Request, Response, Status, async_trait};

use crate::image::{Auth, Image, ImageError, ImageStore};

/// The service. It keeps nothing itself.
#[derive(Clone, Debug)]
pub struct Images {
    store: ImageStore,
}

impl Images {
    /// Serves this store.
    #[must_use]
    pub fn new(store: ImageStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let wanted = request
            .into_inner()
            .filter
            .and_then(|filter| filter.image)
            .map(|spec| spec.image);
        let images = match wanted.filter(|name| !name.is_empty()) {
            Some(name) => self.store.get(&name).into_iter().collect(),
            None => self.store.list(),
        };
        let images = images.iter().map(|image| described(image)).collect();
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        // An image that is not there is no error here, but an empty answer (CRI `ImageStatus`).
        let Some(image) = self.store.get(&name) else {
            return Ok(Response::new(ImageStatusResponse::default()));
        };
        let mut info = HashMap::new();
        if request.verbose {
            info.insert("info".to_owned(), self.verbose(&image).await);
        }
        Ok(Response::new(ImageStatusResponse {
            image: Some(described(&image)),
            info,
        }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let image = self
            .store
            .pull(&name, request.auth.and_then(credentials))
            .await
            .map_err(status)?;
        tracing::info!(image = name, id = image.id, "pulled");
        Ok(Response::new(PullImageResponse {
            image_ref: image.id.clone(),
        }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = named(request.into_inner().image)?;
        match self.store.remove(&name).await {
            // It is gone, which is what was asked for.
            Ok(()) | Err(ImageError::NotFound(_)) => Ok(Response::new(RemoveImageResponse {})),
            Err(error) => Err(status(error)),
        }
    }

    async fn image_fs_info(
        &self,
        _request: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let usage = self.store.usage();
        let mountpoint = self.store.layers_dir().display().to_string();
        let usage = FilesystemUsage {
            timestamp: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            fs_id: Some(FilesystemIdentifier { mountpoint }),
            used_bytes: Some(UInt64Value { value: usage.bytes }),
            inodes_used: Some(UInt64Value { value: usage.inodes }),
        };
        // Layers and what containers write are on one file system; the kubelet wants it said twice.
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        }))
    }
}

impl Images {
    /// What `crictl inspecti` shows beside the image: the topmost layer and the configuration, as containerd has them.
    async fn verbose(&self, image: &Image) -> String {
        let config = self.store.raw_config(image).await.unwrap_or_default();
        let spec: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
        let chain = image.layers.last().map(|chain| chain.0.as_str());
        serde_json::json!({ "chainID": chain, "imageSpec": spec }).to_string()
    }
}

fn named(spec: Option<ImageSpec>) -> Result<String, Status> {
    match spec {
        Some(spec) if !spec.image.is_empty() => Ok(spec.image),
        _ => Err(Status::invalid_argument("image is not specified")),
    }
}

/// Credentials, if there are any in the message.
fn credentials(config: AuthConfig) -> Option<Auth> {
    let auth = Auth {
        username: config.username,
        password: config.password,
        auth: config.auth,
        server_address: config.server_address,
        identity_token: config.identity_token,
        registry_token: config.registry_token,
    };
    let nothing = Auth {
        server_address: auth.server_address.clone(),
        ..Auth::default()
    };
    (auth != nothing).then_some(auth)
}

fn described(image: &Image) -> CriImage {
    let user = image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.user().as_deref());
    let (uid, username) = user_of(user.unwrap_or_default());
    CriImage {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| Int64Value { value }),
        username,
        spec: None,
        pinned: false,
    }
}

/// The user of an image, as a number or as a name, without the group.
fn user_of(user: &str) -> (Option<i64>, String) {
    let user = user.split(':').next().unwrap_or_default();
    match user.parse() {
        Ok(uid) => (Some(uid), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

/// The code by which the kubelet tells kinds of errors apart, and the text that the pod's event shows.
fn status(error: ImageError) -> Status {
    let code = match error.root() {
        ImageError::NotFound(_) => Code::NotFound,
        ImageError::Reference { .. } => Code::InvalidArgument,
        ImageError::Digest { .. } => Code::FailedPrecondition,
        ImageError::Io {
            kind: std::io::ErrorKind::StorageFull,
            ..
        } => Code::ResourceExhausted,
        _ => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_user_is_a_number_or_a_name() {
        let cases = [
            ("", None, ""),
            ("0", Some(0), ""),
            ("101:101", Some(101), ""),
            ("nginx", None, "nginx"),
            ("nginx:adm", None, "nginx"),
        ];
        for (given, uid, name) in cases {
            assert_eq!(user_of(given), (uid, name.to_owned()), "{given}");
        }
    }

    #[test]
    fn errors_have_the_code_that_the_kubelet_looks_at() {
        let missing = ImageError::NotFound("docker.io/library/x:latest".into()).step("failed to pull");
        assert_eq!(status(missing).code(), Code::NotFound);
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let full = ImageError::io("write", Path::new("/a"), full);
        assert_eq!(full.to_string(), "write /a: no space left on device");
        assert_eq!(status(full).code(), Code::ResourceExhausted);
    }

    #[test]
    fn an_empty_message_holds_no_credentials() {
        let address = AuthConfig {
            server_address: "docker.io".into(),
            ..AuthConfig::default()
        };
        assert_eq!(credentials(address.clone()), None);
        let token = AuthConfig {
            registry_token: "t".into(),
            ..address
        };
        assert_eq!(credentials(token).unwrap().registry_token, "t");
    }
}
