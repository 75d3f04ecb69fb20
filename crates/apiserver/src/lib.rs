//! The API server: HTTP, authentication, authorization, admission, the generic registry, discovery.
//!
//! [`ApiServer::start`] makes one over a [`skiff_store::Store`]. A request passes the layers that
//! [`http`] composes, and ends in a handler that is the same for every kind.
//!
//! *Architecture invariant:* only this crate touches the store.

mod admission;
pub mod auth;
pub mod config;
mod discovery;
pub mod error;
mod flow;
mod follow;
mod go;
mod hooks;
pub mod http;
mod identity;
mod keep;
mod legacy_tracking;
mod local_apis;
mod members;
mod objects;
mod openapi;
mod patch;
pub mod registry;
pub mod server;
mod service_range;
mod startup;
mod twice;
pub mod user;
mod warnings;
mod yaml;

pub use config::{
    Config, KubeletClient, MAX_REQUESTS_IN_FLIGHT, ServiceAccountKeys, Verbosity, VersionInfo,
    kubernetes_version,
};
pub use error::{ApiError, ApiResult};
pub use server::{ApiServer, LocalService, ServeError, SignError, StartError};
pub use user::UserInfo;
pub use warnings::Warnings;
