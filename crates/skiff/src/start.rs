//! `skiff start` and `skiff stop`: a server in the background.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::flags::{ClusterFlags, Directories};
use crate::progress::{self, Step};
use crate::{cluster, preflight, server};

/// Starts the cluster, and returns when its node is Ready.
pub(crate) fn start(flags: &ClusterFlags) -> anyhow::Result<()> {
    let directories = &flags.directories;
    preflight::machine()?;
    if cluster::running(directories)?.is_some() {
        progress::line("* The cluster is already running");
        return Ok(());
    }
    preflight::ports(&flags.settings)?;
    preflight::addresses(&flags.settings)?;
    let again = cluster::saved(directories)?.is_some();
    cluster::save(directories, &flags.settings)?;

    let version = &skiff_apiserver::kubernetes_version().git_version;
    progress::line(&format!(
        "* Skiff v{} (Kubernetes {version})",
        env!("CARGO_PKG_VERSION")
    ));
    let mut step = Step::begin(if again {
        "Restarting the cluster"
    } else {
        "Creating the cluster"
    });
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(directories.log_file())
        .with_context(|| format!("cannot open {}", directories.log_file().display()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("server")
        .arg("--report-progress")
        .arg("--state-dir")
        .arg(&directories.state_dir)
        .arg("--run-dir")
        .arg(&directories.run_dir)
        .arg("--config-dir")
        .arg(&directories.config_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start the server")?;
    let reports = BufReader::new(child.stdout.take().context("the server has no standard output")?);
    for report in reports.lines() {
        match server::Report::parse(&report?) {
            Some(server::Report::Step(text)) => {
                step.done(None);
                step = Step::begin(text);
            }
            Some(server::Report::Ready) => {
                step.done(None);
                finished(flags);
                return Ok(());
            }
            Some(server::Report::Failed(why)) => {
                let _ = child.wait();
                bail!("{why}");
            }
            None => {}
        }
    }
    let status = child.wait()?;
    bail!(
        "the server ended ({status}); its log is {}",
        directories.log_file().display()
    )
}

fn finished(flags: &ClusterFlags) {
    let (context, skiff) = (&flags.settings.context, own_command());
    let kubectl = if on_path("kubectl").is_some() {
        "kubectl".to_string()
    } else {
        format!("{skiff} kubectl")
    };
    progress::line(&format!(
        "* Done! kubectl is now configured to use \"{context}\" cluster\n"
    ));
    progress::line("Try:");
    for (command, what) in [
        (format!("{kubectl} get nodes"), "the node"),
        (
            format!("{kubectl} create deployment web --image=nginx --replicas=3"),
            "three pods",
        ),
        (format!("{kubectl} get pods -o wide --watch"), "what they do"),
        (
            format!("{skiff} status"),
            "or stop, start, delete: the cluster itself",
        ),
    ] {
        progress::line(&format!("  {command:<62} # {what}"));
    }
    if kubectl == "kubectl" {
        progress::line(&format!("`{skiff} kubectl` does the same without kubectl."));
    }
}

/// How this program is called again: by its name where the shell finds it, else by its path.
fn own_command() -> String {
    let Ok(this) = std::env::current_exe() else {
        return "skiff".into();
    };
    match on_path("skiff").and_then(|found| found.canonicalize().ok()) {
        Some(found) if found == this => "skiff".into(),
        _ => this.display().to_string(),
    }
}

/// Where the shell finds a program.
fn on_path(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Stops the server; the containers keep running.
pub(crate) fn stop(directories: &Directories) -> anyhow::Result<()> {
    match cluster::running(directories)? {
        Some(pid) => end(
            pid,
            directories,
            "The cluster is stopped; its containers keep running",
        ),
        None => {
            progress::line("* The cluster is not running");
            Ok(())
        }
    }
}

/// Stops the server with this process id, and says so.
pub(crate) fn end(pid: Pid, directories: &Directories, done: &str) -> anyhow::Result<()> {
    let step = Step::begin("Stopping the cluster");
    kill(pid, Signal::SIGTERM).context("cannot signal the server")?;
    cluster::wait_stopped(directories)?;
    step.done(Some(done));
    Ok(())
}
