//! A cluster of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::addresses::Addresses;
use crate::apart::Apart;
use crate::guardian::Guardian;
use crate::registry::{Registry, free_port};
use crate::run::{Output, run, run_with_input};
use crate::wait::eventually;

/// Which command line a test types into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cli {
    /// The real kubectl, from PATH.
    Kubectl,
    /// Skiff's own.
    Skiff,
}

/// A running cluster. Dropping it deletes it.
#[derive(Debug)]
pub struct Cluster {
    /// The registry that it mirrors docker.io from.
    pub registry: Registry,
    binary: PathBuf,
    directory: tempfile::TempDir,
    addresses: Addresses,
    port: u16,
    kubelet_port: u16,
    guardian: Option<Guardian>,
    deleted: bool,
    /// Where it runs, if not among the machine's other processes. The last to go.
    apart: Option<Apart>,
}

/// The binary under test: `$SKIFF`, else the one beside this test's own executable.
///
/// # Panics
/// When it has not been built.
pub fn skiff_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SKIFF") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test has an executable");
    let target = test.ancestors().nth(2).expect("a test is in target/PROFILE/deps");
    let binary = target.join("skiff");
    assert!(
        binary.exists(),
        "{} is missing: cargo build -p skiff",
        binary.display()
    );
    binary
}

impl Cluster {
    /// Directories, ports and names for a cluster that shares none with any other, not yet started.
    ///
    /// # Panics
    /// When the machine has no room for it.
    pub fn new() -> Self {
        Self::with_binary(&skiff_binary())
    }

    /// The same, of another binary.
    ///
    /// # Panics
    /// When the machine has no room for it.
    pub fn with_binary(binary: &Path) -> Self {
        Self::placed(binary, None)
    }

    /// The same on a machine that has no network. What it runs, kubectl too, is on that machine.
    ///
    /// # Panics
    /// When the machine has no room for it.
    pub fn without_network() -> Self {
        Self::placed(&skiff_binary(), Some(Apart::new()))
    }

    fn placed(binary: &Path, apart: Option<Apart>) -> Self {
        let registry = Registry::start();
        let directory = tempfile::Builder::new()
            .prefix("skiff-test-")
            .tempdir()
            .expect("a temporary directory");
        let mut cluster = Self {
            registry,
            binary: binary.to_path_buf(),
            directory,
            addresses: Addresses::take(),
            port: free_port(),
            kubelet_port: free_port(),
            guardian: None,
            deleted: false,
            apart,
        };
        fs::create_dir_all(cluster.path("config")).expect("the configuration directory");
        cluster.mirror_docker_io(cluster.registry.address());
        cluster.guardian = Some(cluster.guardian());
        cluster
    }

    /// Who deletes the cluster when the test is killed. A start that the test began may be under way yet, so it looks
    /// again.
    fn guardian(&self) -> Guardian {
        let mut shell = self.command(Path::new("/bin/sh"));
        shell.env("SKIFF", &self.binary);
        let delete = "cd /
            for turn in 1 2 3 4 5; do
                \"$SKIFF\" delete
                sleep 1
                [ -e \"$SKIFF_STATE_DIR\" ] || break
            done
            rm -rf \"$HOME\"";
        Guardian::start(shell, delete)
    }

    /// A cluster whose node is Ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let cluster = Self::new();
        cluster.skiff_start().success();
        cluster
    }

    /// Something in the cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Leads docker.io to a registry on this machine.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn mirror_docker_io(&self, address: &str) {
        let text = format!("mirrors:\n  docker.io:\n    endpoint:\n      - http://{address}\n");
        fs::write(self.path("config/registries.yaml"), text).expect("registries.yaml");
    }

    /// `skiff …`, with this cluster's directories.
    pub fn skiff(&self, arguments: &[&str]) -> Output {
        run(self.command(&self.binary).args(arguments))
    }

    /// A program in the cluster's directory, with its directories and its kubeconfig.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match &self.apart {
            Some(apart) => apart.command(program),
            None => Command::new(program),
        };
        command
            .env("SKIFF_STATE_DIR", self.path("state"))
            .env("SKIFF_RUN_DIR", self.path("run"))
            .env("SKIFF_CONFIG_DIR", self.path("config"))
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("HOME", self.directory.path())
            .current_dir(self.directory.path());
        command
    }

    /// `skiff start`, with ports, ranges and names of this cluster's own.
    pub fn skiff_start(&self) -> Output {
        self.skiff_start_with(&[])
    }

    /// The same, with more flags.
    pub fn skiff_start_with(&self, more: &[&str]) -> Output {
        let own = [
            "start",
            "--port",
            &self.port.to_string(),
            "--kubelet-port",
            &self.kubelet_port.to_string(),
            "--node-name",
            "node-1",
            "--cluster-cidr",
            &self.addresses.pods(),
            "--service-cidr",
            &self.addresses.services(),
            "--bridge",
            &self.bridge(),
            // The machine that runs the tests may be nearly full.
            "--eviction-hard",
            "nodefs.available<10Mi,imagefs.available<1Mi,memory.available<10Mi",
            "--cgroup-root",
            &self.cgroup_root(),
            "--pod-log-dir",
            &self.path("log/pods").display().to_string(),
            "--container-log-dir",
            &self.path("log/containers").display().to_string(),
        ];
        self.skiff(&[&own[..], more].concat())
    }

    /// The name of the cluster's bridge and nftables table.
    pub fn bridge(&self) -> String {
        format!(
            "skt-{}-{}",
            std::process::id() % 1_000_000,
            self.addresses.number()
        )
    }

    /// The cgroup that the cluster's pods are in.
    pub fn cgroup_root(&self) -> String {
        format!("/{}", self.bridge())
    }

    /// The API server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How a pod's address begins in this cluster.
    pub fn pod_prefix(&self) -> String {
        self.addresses.pod_prefix()
    }

    /// A command of a command line, with this cluster's kubeconfig.
    pub fn cli(&self, cli: Cli, arguments: &[&str]) -> Output {
        run(self.cli_command(cli).args(arguments))
    }

    /// A command of a command line with a text on its standard input.
    pub fn cli_with_input(&self, cli: Cli, arguments: &[&str], input: &str) -> Output {
        run_with_input(self.cli_command(cli).args(arguments), input)
    }

    /// A command line as a process to be started.
    pub fn cli_command(&self, cli: Cli) -> Command {
        match cli {
            Cli::Kubectl => self.command(Path::new("kubectl")),
            Cli::Skiff => {
                let mut command = self.command(&self.binary);
                command.arg("kubectl");
                command
            }
        }
    }

    /// `kubectl …` with the real one.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.cli(Cli::Kubectl, arguments)
    }

    /// Waits until an object is as `kubectl wait --for` has it, such as `condition=Ready`.
    ///
    /// # Panics
    /// When it is not so in time.
    #[track_caller]
    pub fn wait_for(&self, state: &str, object: &str) {
        self.kubectl(&["wait", &format!("--for={state}"), object, "--timeout=120s"])
            .success();
    }

    /// An object, or a list, as the API has it.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.kubectl(&all).success()).expect("kubectl prints JSON")
    }

    /// Writes a manifest into the cluster's directory and returns its path.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a manifest");
        path.display().to_string()
    }

    /// Waits until a command's output satisfies a condition, and returns it.
    #[track_caller]
    pub fn until(
        &self,
        cli: Cli,
        arguments: &[&str],
        what: &str,
        condition: impl Fn(&str) -> bool,
    ) -> String {
        eventually(what, Duration::from_secs(90), || {
            let output = self.cli(cli, arguments);
            if output.code == Some(0) && condition(&output.stdout) {
                Ok(output.stdout)
            } else {
                Err(format!("{}{}", output.stdout, output.stderr))
            }
        })
    }

    /// `skiff delete`; what it leaves is then the test's to look at.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn delete(&mut self) -> String {
        let output = self.skiff(&["delete"]).success();
        self.deleted = true;
        output
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.deleted {
            self.end();
        }
        if let Some(guardian) = &mut self.guardian {
            guardian.dismiss();
        }
    }
}

impl Cluster {
    /// Says what there is to say of a failed test, and deletes the cluster.
    fn end(&self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("state/skiff.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- the server's log:\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
            let events = self.kubectl(&["get", "events", "-A"]);
            eprintln!("--- events:\n{}", events.stdout);
        }
        let output = self.skiff(&["delete"]);
        if output.code != Some(0) {
            eprintln!(
                "the cluster could not be deleted: {}{}",
                output.stdout, output.stderr
            );
        }
    }
}
