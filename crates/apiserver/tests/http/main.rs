//! The server's contract over HTTP, with real clients: kube-rs, and kubectl where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

mod access;
mod admission;
mod bodies;
mod connections;
mod debug;
mod deletions;
mod documents;
mod empties;
#[path = "../../../store/tests/etcd_server/mod.rs"]
mod etcd_server;
mod evictions;
mod flow;
mod harness;
mod hostile;
mod kinds;
mod kubectl;
mod limits;
mod local_apis;
mod misfits;
mod objects;
mod paths;
mod pods;
mod proxy;
mod revisions;
mod rights;
mod routed;
mod secret_tokens;
mod servers;
mod slow;
mod versions;
mod walk;
mod watch;
