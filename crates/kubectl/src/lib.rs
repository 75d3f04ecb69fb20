//! The command line: what kubectl does, against any Kubernetes API server.
//!
//! A command is one file: its flags and what it does. Tables come from the server (`meta.k8s.io/v1` `Table`), names of
//! resources from its discovery; so nothing here needs to know a kind, but for `describe`, which tells a story of each.

mod apply;
mod cluster;
mod cluster_info;
mod create;
mod delete;
mod describe;
mod discovery;
mod failure;
mod fields;
mod get;
mod logs;
mod manifest;
mod output;
mod run;
mod scale;
mod table;
mod three_way;
mod usage;
mod wanted;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::cluster::Cluster;
use crate::failure::Failure;

/// kubectl controls the Kubernetes cluster manager.
#[derive(Debug, Parser)]
#[command(name = "kubectl", max_term_width = 100)]
struct Kubectl {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command has.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Path to the kubeconfig file to use
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// If present, the namespace scope for this request
    #[arg(long, short = 'n', global = true, value_name = "NAME")]
    namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply a configuration to a resource by file name or stdin
    Apply(apply::Apply),
    /// Display addresses of the control plane
    ClusterInfo,
    /// Create a resource from a file, from stdin, or from flags
    Create(create::Create),
    /// Delete resources by file names, stdin, resources and names, or by resources and label selector
    Delete(delete::Delete),
    /// Show details of a specific resource or group of resources
    Describe(describe::Describe),
    /// Display one or many resources
    Get(get::Get),
    /// Print the logs for a container in a pod
    Logs(logs::Logs),
    /// Run a particular image on the cluster
    Run(run::Run),
    /// Set a new size for a deployment, replica set, or replication controller
    Scale(scale::Scale),
}

/// Runs a command; `arguments` are what follows the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = std::iter::once(OsString::from("kubectl")).chain(arguments);
    let kubectl = match Kubectl::try_parse_from(arguments) {
        Ok(kubectl) => kubectl,
        Err(error) => {
            // Help is no failure, and goes to standard output; clap knows which is which.
            match usage::describe(&error) {
                Some(text) => output::error(&text),
                None => {
                    let _ = error.print();
                }
            }
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(execute(kubectl)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough is no failure of ours.
        Err(Failure::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn execute(kubectl: Kubectl) -> Result<(), Failure> {
    let cluster = Cluster::connect(&kubectl.global).await?;
    match kubectl.command {
        Command::Apply(command) => command.run(&cluster).await,
        Command::ClusterInfo => cluster_info::run(&cluster).await,
        Command::Create(command) => command.run(&cluster).await,
        Command::Delete(command) => command.run(&cluster).await,
        Command::Describe(command) => command.run(&cluster).await,
        Command::Get(command) => command.run(&cluster).await,
        Command::Logs(command) => command.run(&cluster).await,
        Command::Run(command) => command.run(&cluster).await,
        Command::Scale(command) => command.run(&cluster).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_of_all_commands_are_consistent() {
        Kubectl::command().debug_assert();
    }
}
