//! The figures of Skiff: of a node that it starts itself, and of any Kubernetes API server.
//!
//! Each figure is measured several times; the median is what to quote, the extremes tell how noisy the machine was.

mod api;
mod figures;
mod node;
mod process;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures Skiff, or any Kubernetes API server
#[derive(Debug, Parser)]
struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long a node and a pod take to be Ready, and what they weigh, in a cluster of its own
    Node {
        /// The release binary
        #[arg(long, value_name = "FILE")]
        skiff: PathBuf,
        /// How often each figure is measured
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// What an API server does under load
    Api(api::Options),
}

fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Bench::parse().what {
        What::Node { skiff, runs } => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(node::measure(&skiff.canonicalize()?, runs)),
        What::Api(options) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(api::measure(&options)),
    }
}
