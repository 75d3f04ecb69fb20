//! The figures of a node: how long until it is Ready, how long until a pod is, and what it weighs.
//!
//! Each figure is measured several times; the median is what to quote, the extremes tell how noisy the machine was.

mod figures;
mod node;

use std::path::PathBuf;

use clap::Parser;

/// Measures a one-node cluster that it starts itself, in a directory of its own.
#[derive(Debug, Parser)]
struct Bench {
    /// The release binary
    #[arg(long, value_name = "FILE")]
    skiff: PathBuf,
    /// How often each figure is measured
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

fn main() -> anyhow::Result<()> {
    let bench = Bench::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(node::measure(&bench.skiff.canonicalize()?, bench.runs))
}
