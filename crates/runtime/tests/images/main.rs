//! The contract of the image store: against a real registry, against one that misbehaves, on archives, over crashes.

#![allow(unreachable_pub)]
// The whole program is a test, also where its functions are not marked as one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod crash;
mod fake;
mod fixture;
mod load;
mod pull;
mod registry;
mod service;
mod store;
