//! What the whole-cluster tests stand on: a cluster of their own, made by the real binary in a directory of its own,
//! with a real registry beside it, and removed again whatever happens.

mod addresses;
mod apart;
mod clients;
mod cluster;
mod guardian;
mod registry;
mod run;
mod session;
mod wait;

pub use clients::client_cache;
pub use cluster::{Cli, Cluster, skiff_binary};
pub use guardian::bound;
pub use registry::{Registry, free_port, image_cache};
pub use run::{Output, run, run_with_input};
pub use session::{Age, Mismatch, play};
pub use wait::eventually;
