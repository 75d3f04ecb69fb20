//! The container runtime, as far as the kubelet sees it: CRI v1 on a Unix socket.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    AttachRequest, AuthConfig, CgroupDriver, Container, ContainerConfig, ContainerEventResponse,
    ContainerFilter, ContainerStats, ContainerStatsFilter, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ExecRequest, ExecSyncRequest, ExecSyncResponse, FilesystemUsage,
    GetEventsRequest, Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListContainerStatsRequest,
    ListContainersRequest, ListImagesRequest, ListPodSandboxRequest, NetworkConfig, PodSandbox,
    PodSandboxConfig, PodSandboxFilter, PodSandboxStatus, PodSandboxStatusRequest, PortForwardRequest,
    PullImageRequest, RemoveContainerRequest, RemoveImageRequest, RemovePodSandboxRequest,
    ReopenContainerLogRequest, RunPodSandboxRequest, RuntimeConfig, RuntimeConfigRequest,
    StartContainerRequest, StatusRequest, StatusResponse, StopContainerRequest, StopPodSandboxRequest,
    UpdateRuntimeConfigRequest, VersionRequest, VersionResponse,
};
use tokio::net::UnixStream;
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// What the runtime's answers may measure, as upstream's.
const MAX_MESSAGE: usize = 16 << 20;
/// Upstream's `runtimeRequestTimeout`.
const CALL: Duration = Duration::from_secs(120);
/// Upstream doubles it for what may have to wait for a network plugin.
const SANDBOX_CALL: Duration = Duration::from_secs(240);

/// A call that failed, with the text that Go's gRPC gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CriError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl CriError {
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

impl fmt::Display for CriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            Code::Ok => "OK".to_string(),
            Code::Cancelled => "Canceled".to_string(),
            code => format!("{code:?}"),
        };
        write!(f, "rpc error: code = {code} desc = {}", self.message)
    }
}

impl std::error::Error for CriError {}

impl From<Status> for CriError {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_string(),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, CriError>;

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CriError {
            code: Code::DeadlineExceeded,
            message: "context deadline exceeded".into(),
        }),
    }
}

/// A field that the protocol calls optional but that its text requires.
fn required<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| CriError {
        code: Code::Internal,
        message: format!("the runtime's answer lacks {name}"),
    })
}

/// A connection to the runtime; clones share it, and it reconnects by itself.
#[derive(Clone, Debug)]
pub(crate) struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// A connection that is made with the first call.
    pub(crate) fn new(socket: &Path) -> Self {
        let socket = socket.to_path_buf();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address is never resolved; the connector knows where to go.
        let channel = Endpoint::from_static("http://cri.localhost").connect_with_connector_lazy(connector);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    pub(crate) async fn version(&self) -> Result<VersionResponse> {
        let version = "v1".to_string();
        within(CALL, self.runtime().version(VersionRequest { version })).await
    }

    pub(crate) async fn status(&self) -> Result<StatusResponse> {
        within(CALL, self.runtime().status(StatusRequest { verbose: false })).await
    }

    pub(crate) async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        let answer = within(CALL, self.runtime().runtime_config(RuntimeConfigRequest {})).await?;
        let driver = answer
            .linux
            .map_or(CgroupDriver::Cgroupfs as i32, |l| l.cgroup_driver);
        Ok(CgroupDriver::try_from(driver).unwrap_or(CgroupDriver::Cgroupfs))
    }

    pub(crate) async fn update_pod_cidr(&self, pod_cidr: String) -> Result<()> {
        let runtime_config = Some(RuntimeConfig {
            network_config: Some(NetworkConfig { pod_cidr }),
        });
        let request = UpdateRuntimeConfigRequest { runtime_config };
        within(CALL, self.runtime().update_runtime_config(request)).await?;
        Ok(())
    }

    pub(crate) async fn events(&self) -> Result<Streaming<ContainerEventResponse>> {
        let stream = self.runtime().get_container_events(GetEventsRequest {}).await?;
        Ok(stream.into_inner())
    }

    pub(crate) async fn sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<PodSandbox>> {
        let filter = pod_uid.map(|uid| PodSandboxFilter {
            label_selector: [(crate::pod::labels::POD_UID.into(), uid.into())].into(),
            ..PodSandboxFilter::default()
        });
        let answer = within(
            CALL,
            self.runtime().list_pod_sandbox(ListPodSandboxRequest { filter }),
        )
        .await?;
        Ok(answer.items)
    }

    pub(crate) async fn sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: false,
        };
        let answer = within(CALL, self.runtime().pod_sandbox_status(request)).await?;
        required(answer.status, "the sandbox' status")
    }

    pub(crate) async fn run_sandbox(&self, config: PodSandboxConfig, handler: String) -> Result<String> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler,
        };
        let answer = within(SANDBOX_CALL, self.runtime().run_pod_sandbox(request)).await?;
        Ok(answer.pod_sandbox_id)
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let pod_sandbox_id = id.to_string();
        within(
            CALL,
            self.runtime()
                .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }),
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let pod_sandbox_id = id.to_string();
        within(
            CALL,
            self.runtime()
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }),
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<Container>> {
        let filter = pod_uid.map(|uid| ContainerFilter {
            label_selector: [(crate::pod::labels::POD_UID.into(), uid.into())].into(),
            ..ContainerFilter::default()
        });
        let answer = within(
            CALL,
            self.runtime().list_containers(ListContainersRequest { filter }),
        )
        .await?;
        Ok(answer.containers)
    }

    pub(crate) async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        let answer = within(CALL, self.runtime().container_status(request)).await?;
        required(answer.status, "the container's status")
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer = within(CALL, self.runtime().create_container(request)).await?;
        Ok(answer.container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let container_id = id.to_string();
        within(
            CALL,
            self.runtime()
                .start_container(StartContainerRequest { container_id }),
        )
        .await?;
        Ok(())
    }

    /// Stops a container: its stop signal, and SIGKILL when it still runs after `grace`.
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let request = StopContainerRequest {
            container_id: id.into(),
            timeout: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
        };
        within(CALL.saturating_add(grace), self.runtime().stop_container(request)).await?;
        Ok(())
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let container_id = id.to_string();
        within(
            CALL,
            self.runtime()
                .remove_container(RemoveContainerRequest { container_id }),
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Result<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd,
            // Whole seconds, and 0 means no limit.
            timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX).max(1),
        };
        // The runtime keeps the limit; ours only catches one that hangs.
        within(CALL.saturating_add(limit), self.runtime().exec_sync(request)).await
    }

    /// Where a process can be run in a container, with its streams.
    pub(crate) async fn exec_url(&self, request: ExecRequest) -> Result<String> {
        Ok(within(CALL, self.runtime().exec(request)).await?.url)
    }

    /// Where the streams of a container's own process are.
    pub(crate) async fn attach_url(&self, request: AttachRequest) -> Result<String> {
        Ok(within(CALL, self.runtime().attach(request)).await?.url)
    }

    /// Where connections into a sandbox begin.
    pub(crate) async fn port_forward_url(&self, request: PortForwardRequest) -> Result<String> {
        Ok(within(CALL, self.runtime().port_forward(request)).await?.url)
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<()> {
        let container_id = id.to_string();
        let request = ReopenContainerLogRequest { container_id };
        within(CALL, self.runtime().reopen_container_log(request)).await?;
        Ok(())
    }

    pub(crate) async fn container_stats(&self) -> Result<Vec<ContainerStats>> {
        let request = ListContainerStatsRequest {
            filter: Some(ContainerStatsFilter::default()),
        };
        Ok(within(CALL, self.runtime().list_container_stats(request))
            .await?
            .stats)
    }

    pub(crate) async fn images_present(&self) -> Result<Vec<Image>> {
        let answer = within(
            CALL,
            self.images().list_images(ListImagesRequest { filter: None }),
        )
        .await?;
        Ok(answer.images)
    }

    pub(crate) async fn image_status(&self, image: ImageSpec) -> Result<Option<Image>> {
        let request = ImageStatusRequest {
            image: Some(image),
            verbose: false,
        };
        Ok(within(CALL, self.images().image_status(request)).await?.image)
    }

    /// Pulls an image and returns its reference. It may take as long as it takes; the caller may drop the future.
    pub(crate) async fn pull_image(
        &self,
        image: ImageSpec,
        auth: Option<AuthConfig>,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String> {
        let request = PullImageRequest {
            image: Some(image),
            auth,
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.images().pull_image(request).await?.into_inner().image_ref)
    }

    pub(crate) async fn remove_image(&self, image: ImageSpec) -> Result<()> {
        let request = RemoveImageRequest { image: Some(image) };
        within(CALL, self.images().remove_image(request)).await?;
        Ok(())
    }

    pub(crate) async fn image_filesystems(&self) -> Result<Vec<FilesystemUsage>> {
        let answer = within(CALL, self.images().image_fs_info(ImageFsInfoRequest {})).await?;
        Ok(answer.image_filesystems)
    }
}
