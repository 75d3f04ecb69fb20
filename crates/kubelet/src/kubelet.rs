//! Puts the parts together and runs them side by side.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1::CgroupDriver;
use kube::Client;
use parking_lot::Mutex;
use skiff_informer::events::reference_to_node;
use skiff_informer::{EventRecorder, EventType, Informers, Selection};
use tokio_util::sync::CancellationToken;

use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::cri::Cri;
use crate::node::facts::Machine;
use crate::node::lease;
use crate::node::register::Registration;
use crate::objects::Objects;
use crate::pod::set::PodSet;
use crate::server::Server;
use crate::shared::Shared;
use crate::volumes::Volumes;
use crate::{KubeletError, images, logs};

/// How long a runtime that is just starting is waited for, and how often it is asked: a socket does not tell when
/// someone begins to listen.
const RUNTIME_WAIT: Duration = Duration::from_secs(30);
const RUNTIME_POLL: Duration = Duration::from_millis(20);

fn make(dir: &Path) -> Result<(), KubeletError> {
    fs::create_dir_all(dir).map_err(|source| KubeletError::Io {
        path: dir.display().to_string(),
        source,
    })
}

async fn runtime_version(cri: &Cri, socket: &Path) -> Result<k8s_cri::v1::VersionResponse, KubeletError> {
    let asked = tokio::time::timeout(RUNTIME_WAIT, async {
        loop {
            match cri.version().await {
                Ok(version) => return version,
                Err(error) => tracing::trace!(%error, "waiting for the runtime"),
            }
            tokio::time::sleep(RUNTIME_POLL).await;
        }
    });
    asked.await.map_err(|_| KubeletError::Runtime {
        endpoint: socket.display().to_string(),
        message: format!("no answer in {} s", RUNTIME_WAIT.as_secs()),
    })
}

/// See [`crate::run`].
pub(crate) async fn run(
    config: Config,
    client: Client,
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    for dir in [&config.root_dir, &config.log_dir, &config.container_log_dir] {
        make(dir)?;
    }
    make(&config.root_dir.join("pods"))?;
    let server = Server::new(config.server)?;
    let informers = Informers::new(client.clone(), shutdown.clone());
    let by_field = |selector: String| Selection {
        fields: Some(selector),
        labels: None,
    };
    let pods = informers.select(by_field(format!("spec.nodeName={}", config.node_name)));
    let services = informers.all();
    let node = informers.select(by_field(format!("metadata.name={}", config.node_name)));

    let cri = Cri::new(&config.cri_endpoint);
    let version = runtime_version(&cri, &config.cri_endpoint).await?;
    // Runtimes older than RuntimeConfig are told by a flag upstream; cgroupfs is that flag's default.
    let driver = cri.cgroup_driver().await.unwrap_or(CgroupDriver::Cgroupfs);
    let systemd = driver == CgroupDriver::Systemd;
    let cgroups = Cgroups::new(Path::new("/sys/fs/cgroup"), &config.cgroup_root, systemd);
    cgroups.prepare().map_err(|source| KubeletError::Io {
        path: format!("cgroup {}/kubepods", config.cgroup_root),
        source,
    })?;

    let machine = Machine::read(&config.root_dir, &config.version);
    let host = Some(config.node_name.as_str());
    let recorder = EventRecorder::new(client.clone(), "kubelet", host, shutdown.clone());
    let objects = Objects::new(client.clone());
    let shared = Arc::new(Shared {
        volumes: Volumes::new(&config.root_dir, objects.clone()),
        allocatable: machine.allocatable_amounts(config.max_pods, &config.eviction_hard),
        max_pods: usize::try_from(config.max_pods).unwrap_or(usize::MAX),
        runtime_name: version.runtime_name.clone(),
        admitted: Mutex::default(),
        shutdown: shutdown.clone(),
        cri,
        client,
        recorder,
        objects,
        cgroups,
        pods,
        services,
        node,
        node_name: config.node_name,
        node_ip: config.node_ip,
        root_dir: config.root_dir,
        log_dir: config.log_dir,
        container_log_dir: config.container_log_dir,
        cluster_dns: config.cluster_dns,
        cluster_domain: config.cluster_domain,
        resolv_conf: config.resolv_conf,
    });
    shared.recorder.record(
        reference_to_node(&shared.node_name),
        EventType::Normal,
        "Starting",
        "Starting kubelet.",
    );
    let registration = Registration {
        shared: shared.clone(),
        machine,
        labels: config.labels,
        taints: config.taints,
        max_pods: config.max_pods,
        eviction_hard: config.eviction_hard,
        port: server.port(),
        runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
    };
    pass_on_pod_cidr(&shared);
    let set = PodSet::new(shared.clone());
    set.follow();
    tokio::join!(
        registration.run(),
        lease::run(shared.clone()),
        server.run(shared.clone()),
        set.watch_runtime(),
        logs::rotate::run(shared.clone()),
        images::run(shared.clone()),
    );
    Ok(())
}

/// Tells the runtime the node's part of the pod network, as soon as the API has it.
fn pass_on_pod_cidr(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    shared.node.on_change(move |old, new| {
        let cidr = |node: Option<&Arc<k8s_openapi::api::core::v1::Node>>| {
            let spec = node?.spec.as_ref()?;
            let all = spec
                .pod_cidrs
                .as_ref()
                .filter(|list| !list.is_empty())
                .map(|list| list.join(","));
            all.or_else(|| spec.pod_cidr.clone())
                .filter(|cidr| !cidr.is_empty())
        };
        let (before, now) = (cidr(old), cidr(new));
        let (Some(now), Some(shared)) = (now.filter(|now| before.as_ref() != Some(now)), weak.upgrade())
        else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = shared.cri.update_pod_cidr(now).await {
                tracing::warn!(%error, "the runtime was not told the pod CIDR");
            }
        });
    });
}
