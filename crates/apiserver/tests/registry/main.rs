//! The registry's contract, on a real store: what a client may rely on, verb by verb.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod admission;
mod apply;
mod delete;
mod list;
mod outage;
mod patch;
mod server;
mod watch;
mod write;
