//! The start of a server: it finds what an earlier one has left, alive or dead, and clears away what belongs to nobody.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::container::{ContainerEntry, ContainerRecord};
use crate::runtime::{Runtime, blocking};
use crate::sandbox::{Phase, SandboxEntry, SandboxRecord};
use crate::shim::client::Shim;
use crate::shim::protocol::RunState;
use crate::state;

impl Runtime {
    /// Takes over every sandbox and container there is. What can't be cleared away now is tried again at the next
    /// start.
    pub(crate) async fn adopt(self: &Arc<Self>) -> io::Result<()> {
        let (sandboxes, containers) = (self.folder("sandboxes"), self.folder("containers"));
        let (found, lost) =
            blocking(move || read_all::<SandboxRecord>(&sandboxes, SandboxRecord::FILE)).await?;
        for folder in lost {
            tracing::warn!(folder = %folder.display(), "removing a sandbox without a record");
            remove(&folder).await;
        }
        let mut ready = Vec::new();
        for record in found {
            let entry = self.sandbox_entry(record);
            let phase = entry.record.lock().phase;
            if phase != Phase::Creating {
                self.insert_sandbox(Arc::clone(&entry));
                ready.extend((phase == Phase::Ready).then_some(entry));
                continue;
            }
            if let Err(error) = self.clear_sandbox(&entry).await {
                tracing::error!(sandbox = entry.id, %error, "clearing away a half-made sandbox");
            }
        }
        let (found, lost) =
            blocking(move || read_all::<ContainerRecord>(&containers, ContainerRecord::FILE)).await?;
        for folder in lost {
            let Some(id) = folder.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            self.clear_container(id).await;
        }
        for record in found {
            if self.sandbox(&record.sandbox).is_err() {
                self.clear_container(&record.id).await;
                continue;
            }
            let file = self.container_paths(&record.id).folder.join(RunState::FILE);
            let nothing = RunState {
                container: record.id.clone(),
                ..RunState::default()
            };
            let run = state::read(&file).unwrap_or(nothing);
            self.insert_container(Arc::new(ContainerEntry::new(record, run)));
        }
        for holder in self.config.images.holders() {
            if self.container(&holder).is_err()
                && let Err(error) = self.config.images.release(&holder).await
            {
                tracing::error!(holder, %error, "releasing an image");
            }
        }
        futures::future::join_all(ready.iter().map(|entry| self.follow(entry))).await;
        Ok(())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.config.state_dir.join(name)
    }

    fn sandbox_entry(&self, record: SandboxRecord) -> Arc<SandboxEntry> {
        Arc::new(SandboxEntry {
            id: record.id.clone(),
            shim: Shim::new(self.sandbox_paths(&record.id).socket),
            record: Mutex::new(record),
            operation: tokio::sync::Mutex::default(),
        })
    }

    async fn clear_container(&self, id: &str) {
        tracing::warn!(container = id, "removing a container that belongs to nobody");
        if let Err(error) = self.remove_container_files(id).await {
            tracing::error!(container = id, %error, "removing a container that belongs to nobody");
        }
    }
}

async fn remove(folder: &Path) {
    let folder = folder.to_owned();
    if let Err(error) = blocking(move || fs::remove_dir_all(folder)).await {
        tracing::error!(%error, "removing a folder");
    }
}

/// The records in a folder's folders, and the folders that have none.
fn read_all<T: serde::de::DeserializeOwned>(folder: &Path, file: &str) -> io::Result<(Vec<T>, Vec<PathBuf>)> {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let folder = entry?.path();
        match state::read(&folder.join(file)) {
            Ok(record) => found.push(record),
            Err(error) if error.kind() == io::ErrorKind::NotFound => lost.push(folder),
            // Not ours to throw away: somebody may want to look.
            Err(error) => tracing::error!(folder = %folder.display(), %error, "a record can't be read"),
        }
    }
    Ok((found, lost))
}
