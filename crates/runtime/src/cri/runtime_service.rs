//! CRI's `RuntimeService`: what the runtime does, in the words of the protocol.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_cri::v1;
use k8s_cri::v1::runtime_service_server::RuntimeService;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status, async_trait};

use super::status;
use crate::runtime::{Runtime, blocking, failed, now};
use crate::sandbox::{Phase, SandboxEntry};
use crate::streaming::{Addresses, Purpose, Wanted};

/// The service. It keeps nothing itself.
#[derive(Clone)]
pub(crate) struct Containers {
    runtime: Arc<Runtime>,
    addresses: Arc<Addresses>,
}

impl Containers {
    pub(crate) fn new(runtime: Arc<Runtime>, addresses: Arc<Addresses>) -> Self {
        Self { runtime, addresses }
    }

    fn sandbox_status(&self, entry: &SandboxEntry, verbose: bool) -> v1::PodSandboxStatusResponse {
        let containers = self.runtime.containers_of(&entry.id);
        let mut info = HashMap::new();
        if verbose {
            let record = serde_json::to_string(&*entry.record.lock()).unwrap_or_default();
            info.insert("info".to_owned(), record);
        }
        v1::PodSandboxStatusResponse {
            status: Some(status::sandbox(entry)),
            info,
            containers_statuses: containers.iter().map(|c| status::container(c)).collect(),
            timestamp: now(),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn condition(kind: &str, problem: Option<(&str, String)>) -> v1::RuntimeCondition {
    let (reason, message) = problem.clone().unwrap_or_default();
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status: problem.is_none(),
        reason: reason.to_owned(),
        message,
    }
}

#[async_trait]
impl RuntimeService for Containers {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let _ = request;
        answer(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "skiff".to_owned(),
            runtime_version: self.runtime.config.version.clone(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let network = self.runtime.network.not_ready().await;
        let network = network.map(|message| ("NetworkPluginNotReady", message));
        let mut info = HashMap::new();
        if request.into_inner().verbose {
            let (sandboxes, containers) = (self.runtime.sandboxes().len(), self.runtime.containers().len());
            let config = serde_json::json!({
                "stateDir": self.runtime.config.state_dir,
                "runDir": self.runtime.config.run_dir,
                "shimCgroup": self.runtime.config.shim_cgroup,
                "sandboxes": sandboxes,
                "containers": containers,
            });
            info.insert("config".to_owned(), config.to_string());
        }
        let features = v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: false,
        };
        // The empty name is the default handler.
        let handlers = ["", "skiff"].map(|name| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(features),
        });
        answer(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", None),
                    condition("NetworkReady", network),
                ],
            }),
            info,
            runtime_handlers: handlers.to_vec(),
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
            }),
        })
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("sandbox config is nil"))?;
        // Detached from the connection: a caller who hangs up doesn't leave half a pod.
        let runtime = Arc::clone(&self.runtime);
        let run = async move { runtime.run_sandbox(config, request.runtime_handler).await };
        let pod_sandbox_id = to_the_end(run).await?;
        answer(v1::RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let runtime = Arc::clone(&self.runtime);
        to_the_end(async move { runtime.stop_sandbox(&id).await }).await?;
        answer(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let runtime = Arc::clone(&self.runtime);
        to_the_end(async move { runtime.remove_sandbox(&id).await }).await?;
        answer(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self.runtime.sandbox(&request.pod_sandbox_id)?;
        answer(self.sandbox_status(&sandbox, request.verbose))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let all = self.runtime.sandboxes();
        let items = all.iter().map(|s| status::listed_sandbox(s)).filter(|s| {
            s.id.starts_with(&filter.id)
                && filter.state.is_none_or(|wanted| wanted.state == s.state)
                && status::selects(&filter.label_selector, &s.labels)
        });
        answer(v1::ListPodSandboxResponse {
            items: items.collect(),
        })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let runtime = Arc::clone(&self.runtime);
        let container_id = to_the_end(async move { runtime.create_container(request).await }).await?;
        answer(v1::CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let runtime = Arc::clone(&self.runtime);
        to_the_end(async move { runtime.start_container(&id).await }).await?;
        answer(v1::StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        self.runtime
            .stop_container(&request.container_id, request.timeout)
            .await?;
        answer(v1::StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        let runtime = Arc::clone(&self.runtime);
        to_the_end(async move { runtime.remove_container(&id).await }).await?;
        answer(v1::RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let all = self.runtime.containers();
        let containers = all.iter().map(|c| status::listed_container(c)).filter(|c| {
            c.id.starts_with(&filter.id)
                && c.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
                && filter.state.is_none_or(|wanted| wanted.state == c.state)
                && status::selects(&filter.label_selector, &c.labels)
        });
        answer(v1::ListContainersResponse {
            containers: containers.collect(),
        })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.runtime.container(&request.container_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let (record, run) = (container.record.lock().clone(), container.run.borrow().clone());
            let text = serde_json::json!({ "pid": run.pid, "run": run, "record": record }).to_string();
            info.insert("info".to_owned(), text);
        }
        answer(v1::ContainerStatusResponse {
            status: Some(status::container(&container)),
            info,
        })
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let update = request.linux.unwrap_or_default();
        self.runtime
            .update_resources(&request.container_id, update)
            .await?;
        answer(v1::UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        self.runtime
            .reopen_log(&request.into_inner().container_id)
            .await?;
        answer(v1::ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        answer(
            self.runtime
                .exec_sync(&request.container_id, request.cmd, request.timeout)
                .await?,
        )
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let request = request.into_inner();
        let container = self.runtime.check_running(&request.container_id)?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd cannot be empty"));
        }
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        let url = self.addresses.give(Purpose::Exec {
            container: container.id.clone(),
            command: request.cmd,
            wanted: valid(wanted)?,
        })?;
        answer(v1::ExecResponse { url })
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let request = request.into_inner();
        let container = self.runtime.check_running(&request.container_id)?;
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        let url = self.addresses.give(Purpose::Attach {
            container: container.id.clone(),
            wanted: valid(wanted)?,
        })?;
        answer(v1::AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.runtime.sandbox(&request.pod_sandbox_id)?;
        if sandbox.record.lock().phase != Phase::Ready {
            return Err(Status::unknown(format!(
                "sandbox container \"{}\" is not running",
                sandbox.id
            )));
        }
        let url = self.addresses.give(Purpose::PortForward {
            sandbox: sandbox.id.clone(),
            ports: request
                .port
                .iter()
                .filter_map(|&port| u16::try_from(port).ok())
                .collect(),
        })?;
        answer(v1::PortForwardResponse { url })
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let container = self.runtime.container(&request.into_inner().container_id)?;
        let runtime = Arc::clone(&self.runtime);
        let stats = blocking(move || Ok(runtime.container_stats(&container)))
            .await
            .map_err(failed("stats"))?;
        answer(v1::ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let runtime = Arc::clone(&self.runtime);
        let stats = blocking(move || {
            let all = runtime.containers();
            let chosen = all.iter().filter(|c| {
                c.run.borrow().running()
                    && c.id.starts_with(&filter.id)
                    && c.sandbox.starts_with(&filter.pod_sandbox_id)
                    && status::selects(&filter.label_selector, &c.record.lock().labels)
            });
            Ok(chosen.map(|c| runtime.container_stats(c)).collect())
        });
        answer(v1::ListContainerStatsResponse {
            stats: stats.await.map_err(failed("stats"))?,
        })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let sandbox = self.runtime.sandbox(&request.into_inner().pod_sandbox_id)?;
        let runtime = Arc::clone(&self.runtime);
        let stats = blocking(move || Ok(runtime.sandbox_stats(&sandbox)))
            .await
            .map_err(failed("stats"))?;
        answer(v1::PodSandboxStatsResponse { stats: Some(stats) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let runtime = Arc::clone(&self.runtime);
        let stats = blocking(move || {
            let all = runtime.sandboxes();
            let chosen = all.iter().filter(|s| {
                s.id.starts_with(&filter.id)
                    && status::selects(&filter.label_selector, &s.record.lock().labels)
            });
            Ok(chosen.map(|s| runtime.sandbox_stats(s)).collect())
        });
        answer(v1::ListPodSandboxStatsResponse {
            stats: stats.await.map_err(failed("stats"))?,
        })
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        // It says the node's pod CIDR, which the pod network learns from the node itself.
        let _ = request;
        answer(v1::UpdateRuntimeConfigResponse {})
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        let _ = request;
        Err(Status::unimplemented("checkpoints are not made"))
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<v1::ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let _ = request;
        let shutdown = self.runtime.shutdown.clone();
        let events = BroadcastStream::new(self.runtime.events.subscribe());
        // A subscriber that is too slow is told so once, and lists when it comes back.
        let events = events.map(|event| event.map_err(|lag| Status::data_loss(lag.to_string())));
        let events = events.scan(false, |ended, event| {
            let go_on = !std::mem::replace(ended, event.is_err());
            std::future::ready(go_on.then_some(event))
        });
        answer(Box::pin(
            events.take_until(async move { shutdown.cancelled().await }),
        ))
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        let _ = request;
        Err(Status::unimplemented("metrics are not served over CRI"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        let _ = request;
        Err(Status::unimplemented("metrics are not served over CRI"))
    }

    async fn runtime_config(
        &self,
        request: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        let _ = request;
        let linux = v1::LinuxRuntimeConfiguration {
            cgroup_driver: v1::CgroupDriver::Cgroupfs as i32,
        };
        answer(v1::RuntimeConfigResponse { linux: Some(linux) })
    }
}

/// Something must be wanted, and a terminal has one output (CRI `ExecRequest`).
fn valid(wanted: Wanted) -> Result<Wanted, Status> {
    if wanted.tty && wanted.stderr {
        return Err(Status::invalid_argument("tty and stderr cannot both be true"));
    }
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Status::invalid_argument(
            "one of stdin, stdout, or stderr must be set",
        ));
    }
    Ok(wanted)
}

/// Lets work that was begun end, whatever becomes of the one who asked for it.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(Status::unknown(error.to_string())))
}
