//! A container runtime for tests: it speaks CRI on a real socket, remembers what it was asked, and runs nothing.
//! A container "runs" until the test ends it or the kubelet stops it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_cri::v1::image_service_server::{ImageService, ImageServiceServer};
use k8s_cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use k8s_cri::v1::*;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tonic::{Request, Response, Status};

#[derive(Default)]
struct State {
    calls: Vec<String>,
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    containers: BTreeMap<String, (String, ContainerStatus)>,
    configs: BTreeMap<String, ContainerConfig>,
    images: BTreeSet<String>,
    /// Images that cannot be pulled.
    missing: BTreeSet<String>,
    clock: i64,
    reopened: bool,
    /// No sandbox can be made because the network is not ready.
    disconnected: bool,
}

/// The runtime. Clones share it.
#[derive(Clone)]
pub(crate) struct Runtime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<ContainerEventResponse>,
    called: Arc<watch::Sender<()>>,
}

fn labels_match(wanted: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Runtime {
    /// Serves on the socket until the test's runtime ends.
    pub(crate) fn serve(socket: &Path) -> Self {
        let runtime = Self {
            state: Arc::default(),
            events: broadcast::channel(1024).0,
            called: Arc::new(watch::Sender::new(())),
        };
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(runtime.clone()))
            .add_service(ImageServiceServer::new(runtime.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        runtime
    }

    fn call(&self, text: String) {
        self.state.lock().calls.push(text);
        self.called.send_replace(());
    }

    /// Waits until it has been asked this.
    pub(crate) async fn asked(&self, call: &str) {
        let mut called = self.called.subscribe();
        let heard = called.wait_for(|()| self.calls().iter().any(|known| known == call));
        let limit = std::time::Duration::from_secs(30);
        let heard = tokio::time::timeout(limit, heard)
            .await
            .map(|heard| heard.is_ok());
        assert_eq!(heard, Ok(true), "waited for {call:?} in {:?}", self.calls());
    }

    /// What it was asked to change, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Makes an image impossible to pull.
    pub(crate) fn lose_image(&self, image: &str) {
        self.state.lock().missing.insert(image.into());
    }

    /// Makes it possible again.
    pub(crate) fn find_image(&self, image: &str) {
        self.state.lock().missing.remove(image);
    }

    /// Makes sandboxes impossible, for want of a network.
    pub(crate) fn set_disconnected(&self, disconnected: bool) {
        self.state.lock().disconnected = disconnected;
    }

    /// The id and configuration of the newest container of this name.
    pub(crate) fn container(&self, name: &str) -> Option<(String, ContainerConfig)> {
        let state = self.state.lock();
        let newest = state
            .containers
            .values()
            .filter(|(_, status)| status.metadata.as_ref().is_some_and(|m| m.name == name))
            .max_by_key(|(_, status)| status.created_at)?;
        let id = newest.1.id.clone();
        let config = state.configs[&id].clone();
        Some((id, config))
    }

    /// Ends the newest container of this name.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let (id, _) = self.container(name).unwrap();
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        {
            let mut state = self.state.lock();
            let now = now(&mut state);
            let Some((_, status)) = state.containers.get_mut(id) else {
                return;
            };
            if status.state != ContainerState::ContainerRunning as i32 {
                return;
            }
            status.state = ContainerState::ContainerExited as i32;
            status.finished_at = now;
            status.exit_code = code;
        }
        self.tell(id, ContainerEventType::ContainerStoppedEvent);
    }

    /// Kills a sandbox and all in it, as a reboot does.
    pub(crate) fn lose_sandbox(&self, pod: &str) {
        let (id, inside) = {
            let mut state = self.state.lock();
            let sandbox = state
                .sandboxes
                .values_mut()
                .find(|s| s.metadata.as_ref().is_some_and(|m| m.name == pod) && s.state == 0)
                .unwrap();
            sandbox.state = PodSandboxState::SandboxNotready as i32;
            let id = sandbox.id.clone();
            let inside = state.containers.iter().filter(|(_, (sandbox, _))| *sandbox == id);
            (id.clone(), inside.map(|(id, _)| id.clone()).collect::<Vec<_>>())
        };
        for container in inside {
            self.end(&container, 255);
        }
        self.tell(&id, ContainerEventType::ContainerStoppedEvent);
    }

    fn tell(&self, id: &str, kind: ContainerEventType) {
        let state = self.state.lock();
        let sandbox = state
            .containers
            .get(id)
            .map_or(id, |(sandbox, _)| sandbox.as_str());
        let event = ContainerEventResponse {
            container_id: id.into(),
            container_event_type: kind as i32,
            created_at: state.clock,
            pod_sandbox_status: state.sandboxes.get(sandbox).cloned(),
            containers_statuses: Vec::new(),
        };
        let _ = self.events.send(event);
    }
}

fn now(state: &mut State) -> i64 {
    let now = jiff::Timestamp::now().as_nanosecond() as i64;
    state.clock = now.max(state.clock + 1);
    state.clock
}

macro_rules! refuse {
    ($($name:ident($request:ty) -> $response:ty),* $(,)?) => {
        $(
            fn $name<'a: 'r, 'r>(&'a self, _: Request<$request>) -> Answer<'r, $response> {
                Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}

type Answer<'r, T> = std::pin::Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'r>>;

fn ok<T>(answer: T) -> Result<Response<T>, Status> {
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "double".into(),
            runtime_version: "1".into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Result<Response<RunPodSandboxResponse>, Status> {
        let config = request.into_inner().config.unwrap();
        let metadata = config.metadata.unwrap();
        self.call(format!("sandbox {} {}", metadata.name, metadata.attempt));
        if self.state.lock().disconnected {
            return Err(Status::unknown("no network"));
        }
        let id = {
            let mut state = self.state.lock();
            let created_at = now(&mut state);
            let id = format!("sandbox-{}-{}", metadata.name, metadata.attempt);
            let status = PodSandboxStatus {
                id: id.clone(),
                metadata: Some(metadata),
                state: PodSandboxState::SandboxReady as i32,
                created_at,
                network: Some(PodSandboxNetworkStatus {
                    ip: "127.0.0.1".into(),
                    additional_ips: Vec::new(),
                }),
                labels: config.labels,
                annotations: config.annotations,
                ..PodSandboxStatus::default()
            };
            state.sandboxes.insert(id.clone(), status);
            id
        };
        self.tell(&id, ContainerEventType::ContainerStartedEvent);
        ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Result<Response<StopPodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.call(format!("stop {id}"));
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(&id) {
            sandbox.state = PodSandboxState::SandboxNotready as i32;
        }
        self.tell(&id, ContainerEventType::ContainerStoppedEvent);
        ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Result<Response<RemovePodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.call(format!("remove {id}"));
        self.state.lock().sandboxes.remove(&id);
        ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Result<Response<PodSandboxStatusResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        let found = self.state.lock().sandboxes.get(&id).cloned();
        ok(PodSandboxStatusResponse {
            status: Some(found.ok_or_else(|| Status::not_found(id))?),
            ..PodSandboxStatusResponse::default()
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Result<Response<ListPodSandboxResponse>, Status> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let found = state
            .sandboxes
            .values()
            .filter(|s| labels_match(&wanted, &s.labels));
        let items = found.map(|status| PodSandbox {
            id: status.id.clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            ..PodSandbox::default()
        });
        ok(ListPodSandboxResponse {
            items: items.collect(),
        })
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let (config, sandbox) = (request.config.unwrap(), request.sandbox_config.unwrap());
        let metadata = config.metadata.clone().unwrap();
        self.call(format!("create {} {}", metadata.name, metadata.attempt));
        let mut state = self.state.lock();
        let id = &request.pod_sandbox_id;
        if state.sandboxes.get(id).is_none_or(|sandbox| sandbox.state != 0) {
            return Err(Status::unknown(format!(
                "sandbox container {id:?} is not running"
            )));
        }
        let created_at = now(&mut state);
        let id = format!("{}-{}-{created_at}", metadata.name, metadata.attempt);
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::ContainerCreated as i32,
            created_at,
            image: config.image.clone(),
            image_ref: "registry/image@sha256:1".into(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{}/{}", sandbox.log_directory, config.log_path),
            ..ContainerStatus::default()
        };
        state
            .containers
            .insert(id.clone(), (request.pod_sandbox_id, status));
        state.configs.insert(id.clone(), config);
        ok(CreateContainerResponse { container_id: id })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        {
            let mut state = self.state.lock();
            let started = now(&mut state);
            let (_, status) = state
                .containers
                .get_mut(&id)
                .ok_or_else(|| Status::not_found(id.clone()))?;
            status.state = ContainerState::ContainerRunning as i32;
            status.started_at = started;
            let name = status.metadata.clone().unwrap().name;
            let line = "2026-01-01T00:00:00.000000001Z stdout F hello\n";
            std::fs::write(&status.log_path, line).unwrap();
            state.calls.push(format!("start {name}"));
        }
        self.tell(&id, ContainerEventType::ContainerStartedEvent);
        ok(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        let request = request.into_inner();
        let name = request.container_id.split('-').next().unwrap().to_string();
        self.call(format!("stop {name} within {}", request.timeout));
        self.end(&request.container_id, 143);
        ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Result<Response<RemoveContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        let mut state = self.state.lock();
        let removed = state.containers.remove(&id);
        if let Some((_, status)) = removed {
            let metadata = status.metadata.unwrap();
            state
                .calls
                .push(format!("remove {} {}", metadata.name, metadata.attempt));
        }
        ok(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let found = state
            .containers
            .values()
            .filter(|(_, s)| labels_match(&wanted, &s.labels));
        let containers = found.map(|(sandbox, status)| Container {
            id: status.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            ..Container::default()
        });
        ok(ListContainersResponse {
            containers: containers.collect(),
        })
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Result<Response<ContainerStatusResponse>, Status> {
        let id = request.into_inner().container_id;
        let found = self
            .state
            .lock()
            .containers
            .get(&id)
            .map(|(_, status)| status.clone());
        ok(ContainerStatusResponse {
            status: Some(found.ok_or_else(|| Status::not_found(id))?),
            info: HashMap::new(),
        })
    }

    async fn reopen_container_log(
        &self,
        _: Request<ReopenContainerLogRequest>,
    ) -> Result<Response<ReopenContainerLogResponse>, Status> {
        self.state.lock().reopened = true;
        ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(
        &self,
        request: Request<ExecSyncRequest>,
    ) -> Result<Response<ExecSyncResponse>, Status> {
        let command = request.into_inner().cmd;
        self.call(format!("exec {}", command.join(" ")));
        ok(ExecSyncResponse {
            exit_code: i32::from(command.first().is_some_and(|word| word == "false")),
            ..ExecSyncResponse::default()
        })
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Result<Response<UpdateRuntimeConfigResponse>, Status> {
        let network = request.into_inner().runtime_config.and_then(|c| c.network_config);
        self.call(format!("pod cidr {}", network.unwrap().pod_cidr));
        ok(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let condition = |kind: &str, status: bool| RuntimeCondition {
            r#type: kind.into(),
            status,
            ..RuntimeCondition::default()
        };
        let is_connected = !self.state.lock().disconnected;
        ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", true),
                    condition("NetworkReady", is_connected),
                ],
            }),
            ..StatusResponse::default()
        })
    }

    type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        let stream = BroadcastStream::new(self.events.subscribe());
        ok(stream
            .map(|event| event.map_err(|error| Status::data_loss(error.to_string())))
            .boxed())
    }

    refuse! {
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse,
        exec(ExecRequest) -> ExecResponse,
        attach(AttachRequest) -> AttachResponse,
        port_forward(PortForwardRequest) -> PortForwardResponse,
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse,
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse,
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse,
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse,
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse,
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse,
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse,
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse,
    }
}

#[tonic::async_trait]
impl ImageService for Runtime {
    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let state = self.state.lock();
        let images = state.images.iter().map(|name| image(name));
        ok(ListImagesResponse {
            images: images.collect(),
        })
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let name = request.into_inner().image.unwrap().image;
        let found = self.state.lock().images.contains(&name);
        ok(ImageStatusResponse {
            image: found.then(|| image(&name)),
            info: HashMap::new(),
        })
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let name = request.into_inner().image.unwrap().image;
        self.call(format!("pull {name}"));
        let mut state = self.state.lock();
        if state.missing.contains(&name) {
            return Err(Status::not_found(format!("{name}: not found")));
        }
        state.images.insert(name.clone());
        ok(PullImageResponse { image_ref: name })
    }

    async fn remove_image(
        &self,
        _: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        ok(RemoveImageResponse {})
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        ok(ImageFsInfoResponse::default())
    }
}

fn image(name: &str) -> Image {
    Image {
        id: format!("id of {name}"),
        repo_tags: vec![name.into()],
        size: 42,
        ..Image::default()
    }
}
