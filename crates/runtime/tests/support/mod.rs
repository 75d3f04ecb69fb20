//! A runtime in a folder of its own, with an image made from the machine's busybox, and CRI's client.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod image;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_cri::v1;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use skiff_runtime::image::{ImageConfig, ImageStore};
use skiff_runtime::{Config, PodNetwork, Sandbox, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the test image.
pub const IMAGE: &str = "docker.io/library/box:test";

/// A network that gives every pod the loopback only, and remembers whom it has.
#[derive(Default)]
pub struct LoopbackNetwork {
    pub attached: Mutex<Vec<String>>,
    /// Why nobody can be connected just now.
    pub broken: Mutex<Option<String>>,
}

#[async_trait::async_trait]
impl PodNetwork for LoopbackNetwork {
    async fn attach(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>, String> {
        std::fs::File::open(&sandbox.netns).map_err(|e| e.to_string())?;
        if let Some(why) = self.broken.lock().clone() {
            return Err(why);
        }
        self.attached.lock().push(sandbox.id.clone());
        Ok(vec![IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7))])
    }

    async fn detach(&self, sandbox: &Sandbox) -> Result<(), String> {
        self.attached.lock().retain(|id| *id != sandbox.id);
        Ok(())
    }

    async fn not_ready(&self) -> Option<String> {
        self.broken.lock().clone()
    }
}

pub struct Node {
    pub cri: RuntimeServiceClient<Channel>,
    pub network: Arc<LoopbackNetwork>,
    pub cgroup: String,
    images: ImageStore,
    server: Option<(CancellationToken, JoinHandle<()>)>,
    pods: AtomicU32,
    // Last: it is removed when everything else is gone.
    folder: tempfile::TempDir,
}

impl Node {
    pub async fn start() -> Self {
        Self::start_with(image::Config::default()).await
    }

    /// Starts a runtime whose image has this configuration.
    pub async fn start_with(config: image::Config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new().prefix("skiff-rt-").tempdir().unwrap();
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/skiff-test-{}-{next}", std::process::id());
        let images = ImageStore::open(ImageConfig {
            root: folder.path().join("images"),
            registries: folder.path().join("registries.yaml"),
        })
        .await
        .unwrap();
        let archive = folder.path().join("box.tar");
        image::write(&archive, IMAGE, &config);
        images.load(&archive).await.unwrap();
        let network = Arc::new(LoopbackNetwork::default());
        let (cri, server) = launch(folder.path(), &cgroup, &images, &network).await;
        Self {
            cri,
            network,
            cgroup,
            images,
            server: Some(server),
            pods: AtomicU32::new(0),
            folder,
        }
    }

    /// Ends the server; its pods stay.
    pub async fn stop_server(&mut self) {
        let (token, task) = self.server.take().unwrap();
        token.cancel();
        task.await.unwrap();
    }

    /// Starts a server on what the earlier one has left.
    pub async fn start_server(&mut self) {
        let (cri, server) = launch(self.folder.path(), &self.cgroup, &self.images, &self.network).await;
        self.cri = cri;
        self.server = Some(server);
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn pod_cgroup(&self) -> String {
        format!("{}/pod", self.cgroup)
    }

    pub fn log_folder(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// A pod's configuration with a name of its own.
    pub fn pod(&self) -> v1::PodSandboxConfig {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: format!("pod-{number}"),
                uid: format!("uid-{number}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: format!("host-{number}"),
            log_directory: self.log_folder().display().to_string(),
            labels: HashMap::from([("app".to_owned(), format!("pod-{number}"))]),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.pod_cgroup(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(v1::NamespaceMode::Pod, v1::NamespaceMode::Container)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn run_pod(&mut self, config: &v1::PodSandboxConfig) -> String {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        self.cri
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id
    }

    pub async fn create(&mut self, pod: &str, config: v1::ContainerConfig) -> Result<String, tonic::Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self
            .cri
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    pub async fn start_container(&mut self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.cri.start_container(request).await.map(|_| ())
    }

    /// Creates and starts.
    pub async fn run(&mut self, pod: &str, config: v1::ContainerConfig) -> String {
        let id = self.create(pod, config).await.unwrap();
        self.start_container(&id).await.unwrap();
        id
    }

    pub async fn status(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        self.cri
            .container_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    /// The container's first process, as the host sees it.
    pub async fn pid(&mut self, id: &str) -> i32 {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let info = self
            .cri
            .container_status(request)
            .await
            .unwrap()
            .into_inner()
            .info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        i32::try_from(info["pid"].as_i64().unwrap()).unwrap()
    }

    pub async fn pod_status(&mut self, id: &str) -> v1::PodSandboxStatus {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        self.cri
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    pub async fn shim_pid(&mut self, pod: &str) -> i32 {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.to_owned(),
            verbose: true,
        };
        let info = self
            .cri
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .into_inner()
            .info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        i32::try_from(info["shimPid"].as_i64().unwrap()).unwrap()
    }

    /// Waits for the container's end.
    pub async fn exited(&mut self, id: &str) -> v1::ContainerStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(id).await;
            if status.state() == v1::ContainerState::ContainerExited {
                return status;
            }
            assert!(Instant::now() < deadline, "container doesn't end: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a script in a container of its own and returns its end and what it said.
    pub async fn script(&mut self, pod: &str, name: &str, script: &str) -> (v1::ContainerStatus, String) {
        let id = self.run(pod, shell(name, script)).await;
        let status = self.exited(&id).await;
        let output = self.output(name);
        (status, output)
    }

    /// What a container has said, without stamps.
    pub fn output(&self, name: &str) -> String {
        let text = self.log(name);
        text.lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n")
            .collect()
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_folder().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits until a container has said this.
    pub async fn said(&self, name: &str, text: &str) {
        eventually(&format!("{name} says {text:?}"), || self.log(name).contains(text)).await;
    }

    pub async fn exec(
        &mut self,
        id: &str,
        script: &str,
        timeout: i64,
    ) -> Result<v1::ExecSyncResponse, tonic::Status> {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: vec!["sh".into(), "-c".into(), script.into()],
            timeout,
        };
        Ok(self.cri.exec_sync(request).await?.into_inner())
    }

    pub async fn stop(&mut self, id: &str, timeout: i64) {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.cri.stop_container(request).await.unwrap();
    }

    pub async fn stop_pod(&mut self, id: &str) {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.cri.stop_pod_sandbox(request).await.unwrap();
    }

    pub async fn remove_pod(&mut self, id: &str) {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.cri.remove_pod_sandbox(request).await.unwrap();
    }

    /// Everything that this runtime has on the machine.
    pub fn traces(&self) -> Vec<String> {
        let mut found = self.mounts();
        for (folder, depth) in [("state/sandboxes", 1), ("state/containers", 1), ("run", 2)] {
            let entries = walkdir::WalkDir::new(self.path().join(folder)).min_depth(depth);
            found.extend(
                entries
                    .into_iter()
                    .flatten()
                    .map(|e| e.path().display().to_string()),
            );
        }
        for folder in cgroup_folders(&self.cgroup) {
            for entry in walkdir::WalkDir::new(folder)
                .into_iter()
                .flatten()
                .filter(|e| e.file_type().is_dir())
            {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.len() == 64 {
                    found.push(entry.path().display().to_string());
                }
                let processes =
                    std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                found.extend(
                    processes
                        .lines()
                        .map(|pid| format!("process {pid} in {}", entry.path().display())),
                );
            }
        }
        found
    }

    fn mounts(&self) -> Vec<String> {
        let folder = self.path().display().to_string();
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = text.lines().filter_map(|line| line.split(' ').nth(4));
        mounts
            .filter(|mount| mount.starts_with(&folder))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((token, _)) = &self.server {
            token.cancel();
        }
        for _ in 0..50 {
            let mut left = false;
            for folder in cgroup_folders(&self.cgroup) {
                for entry in walkdir::WalkDir::new(folder)
                    .contents_first(true)
                    .into_iter()
                    .flatten()
                {
                    if !entry.file_type().is_dir() {
                        continue;
                    }
                    let processes =
                        std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                    for pid in processes.lines().filter_map(|pid| pid.parse().ok()) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    left |= std::fs::remove_dir(entry.path()).is_err();
                }
            }
            if !left {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for mount in self.mounts().iter().rev() {
            let _ = umount2(Path::new(mount), MntFlags::MNT_DETACH);
        }
    }
}

async fn launch(
    folder: &Path,
    cgroup: &str,
    images: &ImageStore,
    network: &Arc<LoopbackNetwork>,
) -> (RuntimeServiceClient<Channel>, (CancellationToken, JoinHandle<()>)) {
    let socket = folder.join("cri.sock");
    let config = Config {
        state_dir: folder.join("state"),
        run_dir: folder.join("run"),
        socket: socket.clone(),
        images: images.clone(),
        shim: shim_program(),
        shim_cgroup: format!("{cgroup}/shims"),
        version: "test".into(),
    };
    let token = CancellationToken::new();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let network: Arc<dyn PodNetwork> = Arc::clone(network) as _;
    let serving = serve(config, network, || ready.send(()).unwrap(), token.clone());
    let task = tokio::spawn(async move { serving.await.unwrap() });
    is_ready.await.unwrap();
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
    (
        RuntimeServiceClient::new(endpoint.connect().await.unwrap()),
        (token, task),
    )
}

/// The example `shim`, which cargo builds beside the tests.
fn shim_program() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().parent().unwrap().join("examples/shim");
    assert!(
        program.exists(),
        "{} is built with all the tests",
        program.display()
    );
    program
}

pub fn cgroup_folders(cgroup: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = text.lines().filter(|l| l.contains(" - cgroup"));
    let folders = mounts.map(|l| PathBuf::from(l.split(' ').nth(4).unwrap()).join(&cgroup[1..]));
    folders.filter(|f| f.exists()).collect()
}

/// A file of a cgroup, whichever hierarchy it is in.
pub fn cgroup_file(cgroup: &str, names: &[&str]) -> String {
    let folders = cgroup_folders(cgroup);
    let files = folders
        .iter()
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    let mut texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .next()
        .unwrap_or_else(|| panic!("none of {names:?} in {folders:?}"))
        .trim()
        .to_owned()
}

pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn namespaces(network: v1::NamespaceMode, pid: v1::NamespaceMode) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: network as i32,
        pid: pid as i32,
        ..Default::default()
    }
}

/// A container's configuration, with a PID namespace of its own as kubelet asks for.
pub fn container(name: &str, command: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.into(),
            ..Default::default()
        }),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                cpu_shares: 2,
                ..Default::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces(v1::NamespaceMode::Pod, v1::NamespaceMode::Container)),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

pub fn shell(name: &str, script: &str) -> v1::ContainerConfig {
    container(name, &["sh", "-c", script])
}

pub fn security(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

pub fn resources(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    config.linux.as_mut().unwrap().resources.as_mut().unwrap()
}
