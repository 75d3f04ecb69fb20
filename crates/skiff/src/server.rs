//! `skiff server`: every part of a cluster in one process, wired together.
//!
//! The parts see each other only as they would across machines: through the API server's request path (called in
//! process instead of over a socket) and through CRI.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use skiff_apiserver::{ApiServer, KubeletClient, ServiceAccountKeys, UserInfo, Verbosity};
use skiff_informer::{Informers, ObjectKey};
use skiff_runtime::image::{ImageConfig, ImageStore};
use skiff_store::{EtcdOptions, EtcdStore, SqliteOptions, SqliteStore, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::flags::{ClusterFlags, Directories, Settings, StoreKind};
use crate::kubeconfig::{self, Entry};
use crate::loops::Loops;
use crate::node_network::NodeNetwork;
use crate::pki::{Names, Pki};
use crate::status::is_ready;
use crate::{cluster, control, control_plane, kept, preflight, progress};

/// Who the parts are to the API server and to each other, under upstream's names.
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

/// What a server in the background tells the `start` that waits for it, a line each on its standard output.
#[derive(Debug, PartialEq)]
pub(crate) enum Report {
    /// The step that begins now.
    Step(String),
    /// The node is Ready. Nothing comes after it.
    Ready,
    /// Why the server cannot go on. Nothing comes after it.
    Failed(String),
}

impl Report {
    /// The report in a line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("step", text) => Some(Self::Step(text.to_string())),
            ("ready", _) => Some(Self::Ready),
            ("failed", why) => Some(Self::Failed(
                serde_json::from_str(why).unwrap_or_else(|_| why.to_string()),
            )),
            _ => None,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Step(text) => format!("step {text}"),
            Self::Ready => "ready".into(),
            Self::Failed(why) => format!("failed {}", serde_json::Value::from(why.as_str())),
        }
    }
}

/// Where the steps of the start are told: to the waiting `start`, or to whoever looks on in the foreground.
#[derive(Clone, Copy)]
struct Reporter {
    for_start: bool,
}

impl Reporter {
    fn say(self, report: &Report) {
        match report {
            report if self.for_start => progress::line(&report.line()),
            Report::Step(text) => progress::line(&format!("* {text}")),
            Report::Ready => progress::line("* The node is Ready"),
            Report::Failed(_) => {}
        }
    }
}

/// Runs the cluster until SIGTERM or SIGINT.
pub(crate) fn server(flags: &ClusterFlags) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("SKIFF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter_reloading();
    let filter = log.reload_handle();
    log.init();
    let verbosity = Verbosity::new(move |level| {
        if let Err(error) = filter.reload(EnvFilter::new(log_level(level))) {
            tracing::error!(%error, "the log level cannot be changed");
        }
    });
    let reporter = Reporter {
        for_start: flags.report_progress,
    };
    let result = (|| {
        preflight::machine()?;
        preflight::addresses(&flags.settings)?;
        let _lock = cluster::RunLock::take(&flags.directories)?;
        cluster::save(&flags.directories, &flags.settings)?;
        // A process that talks to itself needs no more threads than the machine has cores.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(run(&flags.directories, &flags.settings, reporter, verbosity));
        // A request that still waits for something must not keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        result
    })();
    if let Err(error) = &result {
        reporter.say(&Report::Failed(format!("{error:#}")));
    }
    result
}

/// The parts that run until shutdown; the first that fails ends them all.
struct Parts {
    tasks: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

impl Parts {
    fn spawn<E: Into<anyhow::Error>>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let result = part
                .await
                .map_err(Into::into)
                .with_context(|| format!("the {name} failed"));
            anyhow::ensure!(shutdown.is_cancelled() || result.is_err(), "the {name} ended");
            result
        });
    }

    /// Waits for a signal or a failure, then for all parts to end.
    async fn run(mut self) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let first = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            Some(ended) = self.tasks.join_next() => ended.map_err(Into::into).flatten(),
        };
        self.shutdown.cancel();
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(std::time::Duration::from_secs(10), rest)
            .await
            .is_err()
        {
            tracing::warn!("some parts did not end in time");
        }
        first
    }
}

async fn run(
    directories: &Directories,
    settings: &Settings,
    reporter: Reporter,
    verbosity: Verbosity,
) -> anyhow::Result<()> {
    // The process has one TLS implementation; that a test in the same process chose it before is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shutdown = CancellationToken::new();
    let mut parts = Parts {
        tasks: JoinSet::new(),
        shutdown: shutdown.clone(),
    };
    let node_name = cluster::node_name(settings)?;
    let node_ip = cluster::node_ip(settings);
    let names = Names {
        node_name: &node_name,
        node_ip,
        service_ip: cluster::service_address(settings, 1),
        cluster_domain: &settings.cluster_domain,
    };
    let pki = Pki::open(&directories.state_dir.join("pki"), &names)?;
    let listener = preflight::listen("API server", settings.bind_address, settings.port, "--port")?;
    let kubelet_listener = preflight::listen(
        "kubelet",
        settings.bind_address,
        settings.kubelet_port,
        "--kubelet-port",
    )?;

    let network = NodeNetwork::new(skiff_network::Config {
        bridge: settings.bridge.clone(),
        state_dir: directories.state_dir.join("network"),
        cluster_cidr: settings.cluster_cidr,
    })?;
    let cri_endpoint = match &settings.container_runtime_endpoint {
        Some(socket) => socket.clone(),
        None => start_runtime(directories, settings, network.clone(), &mut parts).await?,
    };

    reporter.say(&Report::Step("Starting the API server".into()));
    let store = Objects::open(directories, settings).await?;
    let api = ApiServer::start(
        skiff_apiserver::Config {
            verbosity: Some(verbosity),
            ..api_config(settings, &pki, node_ip)
        },
        store.shared(),
        shutdown.clone(),
    )
    .await?;
    {
        let (api, shutdown) = (api.clone(), shutdown.clone());
        let listener = tokio::net::TcpListener::from_std(listener)?;
        parts.spawn("API server", async move { api.serve(listener, shutdown).await });
    }
    write_kubeconfigs(directories, settings, &pki)?;

    reporter.say(&Report::Step(
        "Starting controllers, scheduler and kubelet".into(),
    ));
    let component = |program: &'static str, name: &str, groups: &[&str]| {
        let user = UserInfo {
            name: name.into(),
            groups: groups
                .iter()
                .copied()
                .chain(["system:authenticated"])
                .map(Into::into)
                .collect(),
            ..UserInfo::default()
        };
        Client::new(api.local(user).of_program(program), "default")
    };
    let manager = component(CONTROLLER_MANAGER, "system:kube-controller-manager", &[]);
    let informers = Informers::new(manager.clone(), shutdown.clone());
    api.also_tell({
        let queues = informers.queues().clone();
        move || queues.render()
    });
    informers.trim(kept::pod);
    let nodes = informers.all::<Node>();
    tokio::spawn(network.follow(nodes.clone(), node_name.clone()));
    let admin = component("skiff", "kubernetes-admin", &["system:masters"]);
    tokio::spawn(control_plane::mark(admin, nodes.clone(), node_name.clone()));
    let controllers = skiff_controllers::Config {
        root_ca_pem: pki.ca.clone(),
        signing_authority: Some(skiff_controllers::SigningAuthority {
            certificate_pem: pki.ca.clone(),
            key_pem: pki.ca_key.clone(),
        }),
        token_signer: Some({
            let api = api.clone();
            skiff_controllers::TokenSigner::new(move |account, secret| {
                api.sign_secret_token(account, secret)
                    .map_err(|error| error.to_string())
            })
        }),
        cluster_cidr: Some((
            settings.cluster_cidr.network().into(),
            settings.cluster_cidr.prefix_len(),
        )),
        ..skiff_controllers::Config::default()
    };
    let loops = Loops {
        // Nobody else can open the database in a file.
        alone: settings.store == StoreKind::Sqlite,
        identity: format!("{node_name}_{}", uuid::Uuid::new_v4()),
        informers,
        shutdown: shutdown.clone(),
    };
    parts.spawn(
        "controllers",
        loops.clone().run(
            CONTROLLER_MANAGER,
            CONTROLLER_MANAGER,
            manager,
            move |informers, term| skiff_controllers::run(controllers.clone(), informers, term),
        ),
    );
    parts.spawn(
        "scheduler",
        loops.run(
            SCHEDULER,
            "default-scheduler",
            component(SCHEDULER, "system:kube-scheduler", &[]),
            move |informers, term| skiff_scheduler::run(skiff_scheduler::Config::default(), informers, term),
        ),
    );

    let kubelet = kubelet_config(
        directories,
        settings,
        &pki,
        &node_name,
        cri_endpoint,
        kubelet_listener,
    )?;
    let client = component("kubelet", &format!("system:node:{node_name}"), &["system:nodes"]);
    parts.spawn("kubelet", skiff_kubelet::run(kubelet, client, shutdown.clone()));

    reporter.say(&Report::Step("Waiting for the node to be Ready".into()));
    tokio::spawn(async move {
        let ready = Arc::new(tokio::sync::Notify::new());
        let found = ready.clone();
        nodes.on_change(move |_, node| {
            let own = node.filter(|node| ObjectKey::of(&node.metadata).name == node_name);
            if own.is_some_and(|node| is_ready(node) && control_plane::is_marked(node)) {
                found.notify_one();
            }
        });
        ready.notified().await;
        reporter.say(&Report::Ready);
    });
    let result = parts.run().await;
    store.close().await;
    result
}

/// The store that the settings name.
enum Objects {
    Sqlite(Arc<SqliteStore>),
    Etcd(Arc<EtcdStore>),
}

impl Objects {
    async fn open(directories: &Directories, settings: &Settings) -> anyhow::Result<Self> {
        if settings.store == StoreKind::Sqlite {
            let database = directories.state_dir.join("db");
            cluster::make_private(&database)?;
            let store = SqliteStore::open(&database.join("state.db"), SqliteOptions::default())?;
            return Ok(Self::Sqlite(Arc::new(store)));
        }
        let read = |file: &Option<PathBuf>| {
            let text = file.as_ref().map(|path| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            });
            text.transpose()
        };
        let options = EtcdOptions {
            endpoints: settings.etcd_servers.clone(),
            ca_pem: read(&settings.etcd_cafile)?,
            client_certificate_pem: read(&settings.etcd_certfile)?,
            client_key_pem: read(&settings.etcd_keyfile)?,
            prefix: settings.etcd_prefix.clone(),
            ..EtcdOptions::default()
        };
        let store = EtcdStore::connect(options).await.context("etcd cannot be used")?;
        Ok(Self::Etcd(Arc::new(store)))
    }

    fn shared(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Etcd(store) => store.clone(),
        }
    }

    /// Finishes what has been written. Etcd has acknowledged it already.
    async fn close(&self) {
        if let Self::Sqlite(store) = self {
            store.close().await;
        }
    }
}

/// Starts Skiff's own container runtime and returns its socket when it answers.
async fn start_runtime(
    directories: &Directories,
    settings: &Settings,
    network: Arc<NodeNetwork>,
    parts: &mut Parts,
) -> anyhow::Result<PathBuf> {
    let images = ImageStore::open(image_config(directories)).await?;
    let config = runtime_config(directories, settings, images.clone())?;
    let socket = config.socket.clone();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let shutdown = parts.shutdown.clone();
    parts.spawn("container runtime", async move {
        skiff_runtime::serve(
            config,
            network,
            move || {
                // Nobody waits any more when the start has failed elsewhere.
                let _ = ready.send(());
            },
            shutdown,
        )
        .await
    });
    let control = control::serve(directories.control_socket(), images, parts.shutdown.clone());
    parts.spawn("control socket", control);
    tokio::select! {
        _ = is_ready => Ok(socket),
        Some(ended) = parts.tasks.join_next() => {
            ended??;
            anyhow::bail!("the container runtime ended before it was ready")
        }
    }
}

/// The cgroup of the shims, beside the pods'.
pub(crate) const SHIM_CGROUP: &str = "skiff-shims";

/// Where images live.
pub(crate) fn image_config(directories: &Directories) -> ImageConfig {
    ImageConfig {
        root: directories.state_dir.join("images"),
        registries: directories.config_dir.join("registries.yaml"),
    }
}

/// The settings of Skiff's own runtime.
pub(crate) fn runtime_config(
    directories: &Directories,
    settings: &Settings,
    images: ImageStore,
) -> anyhow::Result<skiff_runtime::Config> {
    Ok(skiff_runtime::Config {
        state_dir: directories.state_dir.join("runtime"),
        run_dir: directories.run_dir.join("runtime"),
        socket: directories.cri_socket(),
        images,
        shim: std::env::current_exe()?,
        shim_cgroup: format!("{}/{SHIM_CGROUP}", settings.cgroup_root.trim_end_matches('/')),
        version: env!("CARGO_PKG_VERSION").to_string(),
    })
}

fn api_config(settings: &Settings, pki: &Pki, node_ip: std::net::IpAddr) -> skiff_apiserver::Config {
    let issuer = format!("https://kubernetes.default.svc.{}", settings.cluster_domain);
    skiff_apiserver::Config {
        advertise_address: node_ip,
        port: settings.port,
        host_name: nix::unistd::gethostname()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        tls_certificate_pem: pki.apiserver.certificate.clone().into_bytes(),
        tls_key_pem: pki.apiserver.key.clone().into_bytes(),
        client_ca_pem: pki.ca.clone().into_bytes(),
        service_account: ServiceAccountKeys {
            audiences: vec![issuer.clone()],
            issuer,
            signing_key_pem: pki.service_account_key.clone().into_bytes(),
        },
        service_cidr: (
            settings.service_cidr.network().into(),
            settings.service_cidr.prefix_len(),
        ),
        node_port_range: 30000..=32767,
        kubelet: KubeletClient {
            certificate_pem: pki.apiserver_kubelet_client.certificate.clone().into_bytes(),
            key_pem: pki.apiserver_kubelet_client.key.clone().into_bytes(),
            ca_pem: pki.ca.clone().into_bytes(),
        },
        max_requests_in_flight: skiff_apiserver::MAX_REQUESTS_IN_FLIGHT,
        version: skiff_apiserver::kubernetes_version(),
        verbosity: None,
    }
}

/// How much is logged at a level of Kubernetes' programs.
fn log_level(level: u32) -> &'static str {
    match level {
        0..=3 => "info",
        4..=5 => "debug",
        _ => "trace",
    }
}

fn kubelet_config(
    directories: &Directories,
    settings: &Settings,
    pki: &Pki,
    node_name: &str,
    cri_endpoint: PathBuf,
    listener: std::net::TcpListener,
) -> anyhow::Result<skiff_kubelet::Config> {
    // systemd-resolved's stub listens on the host's loopback, which a pod cannot reach.
    let real = PathBuf::from("/run/systemd/resolve/resolv.conf");
    let resolv_conf = if real.exists() {
        real
    } else {
        PathBuf::from("/etc/resolv.conf")
    };
    Ok(skiff_kubelet::Config {
        node_name: node_name.to_string(),
        node_ip: cluster::node_ip(settings),
        root_dir: directories.state_dir.join("kubelet"),
        log_dir: settings.pod_log_dir.clone(),
        container_log_dir: settings.container_log_dir.clone(),
        cri_endpoint,
        server: skiff_kubelet::ServerConfig {
            listener,
            certificate_pem: pki.kubelet.certificate.clone(),
            key_pem: pki.kubelet.key.clone(),
            client_ca_pem: pki.ca.clone(),
        },
        cluster_dns: vec![cluster::service_address(settings, 10)],
        cluster_domain: settings.cluster_domain.clone(),
        cgroup_root: settings.cgroup_root.clone(),
        labels: Default::default(),
        // A machine that runs the control plane takes pods all the same: it may be the only one.
        taints: Vec::new(),
        max_pods: 110,
        eviction_hard: settings.eviction_hard.parse()?,
        version: skiff_apiserver::kubernetes_version().git_version,
        resolv_conf,
    })
}

fn write_kubeconfigs(directories: &Directories, settings: &Settings, pki: &Pki) -> anyhow::Result<()> {
    let entry = Entry {
        name: &settings.context,
        server: cluster::local_url(settings),
        ca: &pki.ca,
        certificate: &pki.admin.certificate,
        key: &pki.admin.key,
    };
    kubeconfig::merge(&directories.admin_kubeconfig(), &entry)?;
    kubeconfig::merge(&cluster::kubeconfig(settings)?, &entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        for report in [
            Report::Step("Waiting for the node to be Ready".into()),
            Report::Ready,
            Report::Failed("the port is taken\nby \"x\"".into()),
        ] {
            let line = report.line();
            assert!(!line.contains('\n'));
            assert_eq!(Report::parse(&line), Some(report));
        }
        assert_eq!(Report::parse("anything else"), None);
    }
}
