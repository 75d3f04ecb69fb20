//! The one binary: a whole cluster, or one of its parts, or its command line, by the first argument.

mod cluster;
mod control;
mod control_plane;
mod delete;
mod flags;
mod image;
mod kept;
mod kubeconfig;
mod loops;
mod node_network;
mod pki;
mod preflight;
mod progress;
mod server;
mod start;
mod status;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::flags::{ClusterFlags, Directories};

#[global_allocator]
static ALLOCATOR: skiff_allocator::Allocator = skiff_allocator::Allocator;

/// Kubernetes as one small binary.
#[derive(Debug, Parser)]
#[command(name = "skiff", version, about, max_term_width = 100)]
struct Skiff {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine, in the background
    Start(ClusterFlags),
    /// Stop the cluster; its containers keep running, and the next start adopts them
    Stop(Directories),
    /// Show whether the cluster runs
    Status(Directories),
    /// Delete the cluster: its containers, its network, its state and its kubeconfig entry
    Delete(Directories),
    /// Run the cluster in the foreground
    Server(ClusterFlags),
    /// Images on this node
    Image(image::ImageCommand),
    /// Control the cluster
    #[command(disable_help_flag = true)]
    Kubectl {
        /// As kubectl's
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments
        .first()
        .map(|name| Path::new(name).file_name().unwrap_or_default().to_os_string());
    if called.is_some_and(|name| name == "kubectl") {
        return skiff_kubectl::main(arguments.split_off(1));
    }
    // A shim stays as small as the process it was before anything else was set up.
    if arguments.get(1).is_some_and(|first| first == "shim") {
        return skiff_runtime::shim_main(arguments.into_iter().skip(2));
    }
    let matches = Skiff::command().get_matches_from(arguments);
    let mut skiff = match Skiff::from_arg_matches(&matches) {
        Ok(skiff) => skiff,
        Err(error) => error.exit(),
    };
    // What the cluster was last started with stays, unless a flag says otherwise.
    if let (Command::Start(flags) | Command::Server(flags), Some((_, given))) =
        (&mut skiff.command, matches.subcommand())
    {
        flags.take_saved(given);
    }
    match run(skiff) {
        Ok(code) => code,
        Err(error) => {
            progress::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(skiff: Skiff) -> anyhow::Result<ExitCode> {
    match skiff.command {
        Command::Start(flags) => start::start(&flags)?,
        Command::Stop(directories) => start::stop(&directories)?,
        Command::Status(directories) => return status::status(&directories),
        Command::Delete(directories) => delete::delete(&directories)?,
        Command::Server(flags) => server::server(&flags)?,
        Command::Image(command) => image::run(command)?,
        Command::Kubectl { arguments } => return Ok(skiff_kubectl::main(arguments)),
    }
    Ok(ExitCode::SUCCESS)
}
