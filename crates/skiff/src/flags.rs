//! The flags of a cluster: where it lives on this machine, which addresses and ranges it has.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skiff_kubelet::EvictionThresholds;

/// Where a cluster lives on this machine. Two clusters need different ones.
#[derive(Clone, Debug, Args)]
pub(crate) struct Directories {
    /// What must survive a reboot: objects, certificates, images, volumes
    #[arg(
        long,
        env = "SKIFF_STATE_DIR",
        default_value = "/var/lib/skiff",
        value_name = "DIR"
    )]
    pub(crate) state_dir: PathBuf,
    /// Sockets and the process id
    #[arg(long, env = "SKIFF_RUN_DIR", default_value = "/run/skiff", value_name = "DIR")]
    pub(crate) run_dir: PathBuf,
    /// Configuration: registries.yaml, admin.kubeconfig
    #[arg(
        long,
        env = "SKIFF_CONFIG_DIR",
        default_value = "/etc/skiff",
        value_name = "DIR"
    )]
    pub(crate) config_dir: PathBuf,
}

/// The directories and everything else that can be said of a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterFlags {
    /// Where it lives.
    #[command(flatten)]
    pub(crate) directories: Directories,
    /// What it is.
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Report progress on standard output for the `start` that waits, and put the log on standard error
    #[arg(long, hide = true)]
    pub(crate) report_progress: bool,
}

/// What a cluster is started with. Kept in its state directory, so that the next start needs no flags.
#[derive(Clone, Debug, Args, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// The API server's port
    #[arg(long, default_value_t = 6443)]
    pub(crate) port: u16,
    /// The address that the API server listens on
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// The address that others reach this machine by [default: that of the default route's interface, or the pods' bridge's
    /// on a machine without a network]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) node_ip: Option<IpAddr>,
    /// The node's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The kubelet's port
    #[arg(long, default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// The range of pod addresses
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub(crate) cluster_cidr: Ipv4Net,
    /// The range of service addresses; the first is the API server's, the tenth the DNS server's
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR")]
    pub(crate) service_cidr: Ipv4Net,
    /// The DNS domain of the cluster
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: String,
    /// The bridge that pods hang on
    #[arg(long, default_value = "skiff0", value_name = "NAME", value_parser = interface_name)]
    pub(crate) bridge: String,
    /// The cgroup that the pods' cgroups are made in
    #[arg(long, default_value = "/", value_name = "CGROUP")]
    pub(crate) cgroup_root: String,
    /// When the node is under pressure and takes no more pods; naming one threshold gives up the defaults of the others
    #[arg(
        long,
        default_value = EvictionThresholds::DEFAULT,
        value_name = "SIGNAL<QUANTITY,...",
        value_parser = eviction_thresholds
    )]
    pub(crate) eviction_hard: String,
    /// Where container logs are
    #[arg(long, default_value = "/var/log/pods", value_name = "DIR")]
    pub(crate) pod_log_dir: PathBuf,
    /// Where the links to container logs are
    #[arg(long, default_value = "/var/log/containers", value_name = "DIR")]
    pub(crate) container_log_dir: PathBuf,
    /// The CRI socket of another container runtime to use instead of Skiff's own
    #[arg(long, value_name = "SOCKET")]
    pub(crate) container_runtime_endpoint: Option<PathBuf>,
    /// Where objects are kept: a file in the state directory, or an external etcd
    #[arg(long, value_enum, default_value = "sqlite")]
    pub(crate) store: StoreKind,
    /// The client URLs of etcd's members, with --store etcd
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL",
        required_if_eq("store", "etcd")
    )]
    pub(crate) etcd_servers: Vec<String>,
    /// The authorities that etcd's certificates are checked against
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// The certificate that is shown to etcd
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// What every key in etcd begins with
    #[arg(long, default_value = "/registry", value_name = "PREFIX")]
    pub(crate) etcd_prefix: String,
    /// The name of the cluster, the context and the user in the kubeconfig
    #[arg(long, default_value = "skiff", value_name = "NAME")]
    pub(crate) context: String,
    /// The kubeconfig to merge the cluster into [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Where objects are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    /// In a file of the state directory.
    Sqlite,
    /// In an external etcd v3.
    Etcd,
}

impl Default for Settings {
    /// The defaults of the flags.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            settings: Settings,
        }
        <Alone as clap::Parser>::parse_from(["skiff"]).settings
    }
}

impl ClusterFlags {
    /// Takes the settings that the cluster was last started with, where the command line says nothing else.
    pub(crate) fn take_saved(&mut self, given: &ArgMatches) {
        let saved = std::fs::read(self.directories.settings_file()).ok();
        let Some(Ok(Value::Object(saved))) = saved.map(|json| serde_json::from_slice(&json)) else {
            return;
        };
        let Ok(Value::Object(mut effective)) = serde_json::to_value(&self.settings) else {
            return;
        };
        for (name, value) in saved {
            let on_command_line = given.try_contains_id(&name).is_ok()
                && given.value_source(&name) == Some(ValueSource::CommandLine);
            if !on_command_line {
                effective.insert(name, value);
            }
        }
        if let Ok(settings) = serde_json::from_value(Value::Object(effective)) {
            self.settings = settings;
        }
    }
}

/// Thresholds that the kubelet understands.
fn eviction_thresholds(text: &str) -> Result<String, String> {
    text.parse::<EvictionThresholds>()
        .map(|thresholds| thresholds.to_string())
        .map_err(|error| error.to_string())
}

/// A Linux interface name that can also name an nftables table.
fn interface_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty()
        || text.len() > 15
        || !text.chars().all(allowed)
        || !text.starts_with(char::is_alphabetic)
    {
        return Err(
            "an interface name has 1 to 15 letters, digits, '-' or '_', and begins with a letter".into(),
        );
    }
    Ok(text.to_string())
}

impl Directories {
    /// The process id of the running server; locked while it runs.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run_dir.join("skiff.pid")
    }

    /// The log of a server in the background.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.state_dir.join("skiff.log")
    }

    /// The kubeconfig of the administrator.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.config_dir.join("admin.kubeconfig")
    }

    /// The settings the cluster was last started with.
    pub(crate) fn settings_file(&self) -> PathBuf {
        self.state_dir.join("settings.json")
    }

    /// The socket on which the server takes commands of this machine's administrator.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// The socket of Skiff's own runtime.
    pub(crate) fn cri_socket(&self) -> PathBuf {
        self.run_dir.join("cri.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        crate::Skiff::command().debug_assert();
    }

    #[test]
    fn settings_that_an_older_version_wrote_get_the_defaults_of_new_flags() {
        let settings: Settings = serde_json::from_str(r#"{"port": 7000}"#).unwrap();
        assert_eq!((settings.port, settings.kubelet_port), (7000, 10250));
    }

    #[test]
    fn saved_settings_stay_unless_a_flag_says_otherwise() {
        use clap::FromArgMatches as _;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().to_str().unwrap();
        std::fs::write(
            directory.path().join("settings.json"),
            r#"{"port": 7000, "kubelet_port": 7001}"#,
        )
        .unwrap();
        let arguments = ["skiff", "start", "--state-dir", state, "--kubelet-port", "7002"];
        let matches = crate::Skiff::command().get_matches_from(arguments);
        let crate::Command::Start(mut flags) = crate::Skiff::from_arg_matches(&matches).unwrap().command
        else {
            panic!("start is start");
        };
        flags.take_saved(matches.subcommand().unwrap().1);
        assert_eq!((flags.settings.port, flags.settings.kubelet_port), (7000, 7002));
        assert_eq!(flags.settings.bridge, "skiff0");
    }

    #[test]
    fn eviction_thresholds_are_checked_where_they_are_given() {
        let parse = |text: &str| {
            crate::Skiff::command().try_get_matches_from(["skiff", "start", "--eviction-hard", text])
        };
        assert!(parse("nodefs.available<1%,imagefs.available<1%,memory.available<100Mi").is_ok());
        let error = parse("disk<1%").unwrap_err().to_string();
        assert!(error.contains("unsupported eviction signal disk"), "{error}");
    }

    #[test]
    fn a_bridge_name_that_the_kernel_would_refuse_is_refused() {
        for name in ["", "a-name-of-17-chars", "0br", "br;drop", "br/0"] {
            assert!(interface_name(name).is_err(), "{name}");
        }
        assert_eq!(interface_name("skiff0").unwrap(), "skiff0");
    }
}
