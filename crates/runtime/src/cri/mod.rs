//! CRI v1, the runtime's only door.

pub mod image_service;
pub(crate) mod runtime_service;
pub(crate) mod stats;
pub(crate) mod status;
