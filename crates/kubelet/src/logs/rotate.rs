//! Keeps container logs from filling the disk: at 10 MiB a log is renamed and begun anew, and five are kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::shared::Shared;

/// Upstream's `containerLogMaxSize`.
const MAX_SIZE: u64 = 10 << 20;
/// Upstream's `containerLogMaxFiles`, the current one included.
const MAX_FILES: usize = 5;
/// Upstream's `containerLogMonitorInterval`: a writer does not tell how much it wrote.
const PERIOD: Duration = Duration::from_secs(10);

/// The rotated parts of a log, oldest first.
pub(crate) fn parts(log: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = entries
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(&prefix))
        })
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    parts
}

/// Moves a log that is too long out of the way and removes the oldest parts; true when the runtime has to open it
/// anew.
pub(crate) fn rotate(log: &Path, max_size: u64, max_files: usize, now: Timestamp) -> io::Result<bool> {
    if fs::metadata(log)?.len() < max_size {
        return Ok(false);
    }
    let old = parts(log);
    // One is the current file, and one is about to be added.
    let too_many = (old.len() + 2).saturating_sub(max_files);
    for part in old.iter().take(too_many) {
        fs::remove_file(part)?;
    }
    let mut name = log.as_os_str().to_os_string();
    name.push(format!(".{}", now.strftime("%Y%m%d-%H%M%S")));
    fs::rename(log, name)?;
    Ok(true)
}

/// Rotates the logs of all running containers until shutdown.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shared.shutdown.cancelled() => return,
        }
        for log in too_long(&shared.log_dir) {
            if let Err(error) = rotate_one(&shared, &log).await {
                tracing::warn!(log = %log.display(), error, "log not rotated");
            }
        }
    }
}

/// The current logs that have reached the limit. Walking the directory asks nothing of the runtime.
fn too_long(log_dir: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    list(log_dir)
        .flat_map(|pod| list(&pod).collect::<Vec<_>>())
        .flat_map(|container| list(&container).collect::<Vec<_>>())
        .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
        .filter(|file| fs::metadata(file).is_ok_and(|metadata| metadata.len() >= MAX_SIZE))
        .collect()
}

async fn rotate_one(shared: &Shared, log: &Path) -> Result<(), String> {
    let containers = shared
        .cri
        .containers(None)
        .await
        .map_err(|error| error.to_string())?;
    let running = k8s_cri::v1::ContainerState::ContainerRunning as i32;
    for container in containers.iter().filter(|container| container.state == running) {
        let Ok(status) = shared.cri.container_status(&container.id).await else {
            continue;
        };
        if Path::new(&status.log_path) != log {
            continue;
        }
        if rotate(log, MAX_SIZE, MAX_FILES, Timestamp::now()).map_err(|error| error.to_string())? {
            shared
                .cri
                .reopen_log(&container.id)
                .await
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_moved_and_the_oldest_part_goes() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        fs::write(&log, "1234567890").unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(!rotate(&log, 11, 3, at(0)).unwrap());
        for second in 1..=4 {
            fs::write(&log, "1234567890").unwrap();
            assert!(rotate(&log, 10, 3, at(second)).unwrap());
            assert!(!log.exists());
        }
        let names: Vec<String> = parts(&log)
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["0.log.19700101-000003", "0.log.19700101-000004"]);
    }
}
