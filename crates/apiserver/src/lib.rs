//! The API server: HTTP, authentication, authorization, admission, the generic registry, discovery.

pub mod error;

pub use error::{ApiError, ApiResult};
