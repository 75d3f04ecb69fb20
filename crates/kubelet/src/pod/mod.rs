//! Pods: what to do next for one ([`plan`]), doing it ([`worker`]), and saying how it is ([`status`]).

pub(crate) mod admit;
pub(crate) mod backoff;
mod cleanup;
pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod expand;
pub(crate) mod fields;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod hook;
pub(crate) mod hosts;
pub(crate) mod identity;
pub(crate) mod image;
pub(crate) mod labels;
pub(crate) mod patch;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod runtime;
pub(crate) mod sandbox;
pub(crate) mod set;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod termination;
pub(crate) mod worker;
