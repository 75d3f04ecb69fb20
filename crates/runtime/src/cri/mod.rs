//! CRI v1, the runtime's only door.

pub mod image_service;
