//! The kinds of the group `storagemigration.k8s.io`.

mod storage_version_migration;
