//! The shim: one small process a pod that outlives the server. It holds the pod's namespaces, reaps, writes logs, and
//! answers the server over a Unix socket.
//!
//! *Invariants:* one thread, no tokio. Whatever the server must know even after having been away is in a file before
//! anybody is told of it.

mod children;
pub(crate) mod client;
pub(crate) mod connection;
mod container;
mod log;
mod namespaces;
pub(crate) mod protocol;
mod run;
mod supervise;

pub use run::shim_main;
