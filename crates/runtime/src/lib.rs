//! A container runtime behind CRI: images, sandboxes, containers, and the shim that outlives everyone.
//!
//! *Architecture invariants:* the runtime knows no Kubernetes object; CRI v1 is its only door. Containers outlive the
//! process that serves CRI: each pod has a shim process that holds its namespaces. The system calls in `sys.rs` are `unsafe`.

mod adopt;
mod cgroup;
mod container;
pub mod cri;
pub mod image;
mod inside;
pub mod network;
mod runtime;
mod sandbox;
mod server;
mod shim;
mod state;
mod streaming;
mod sys;

pub use network::{PodNetwork, Sandbox};
pub use server::{Config, RuntimeError, serve};
pub use shim::shim_main;
