//! The kinds of the storage.k8s.io group.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
pub mod storage_class;
mod volume_attachment;
mod volume_attributes_class;
