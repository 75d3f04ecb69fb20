//! The kinds of the apps group.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;
