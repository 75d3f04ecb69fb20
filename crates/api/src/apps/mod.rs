//! The kinds of the apps group.

mod deployment;
mod replica_set;
mod rules;
