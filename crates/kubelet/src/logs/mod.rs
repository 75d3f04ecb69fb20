//! The log files of containers: read for clients, rotated, removed with their pods.

pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod rotate;

use std::fs;
use std::path::Path;

use crate::pod::identity::log_directory;
use crate::pod::runtime::Run;

/// Removes the log of one run, its rotated parts, and the link to it.
pub(crate) fn remove_run(link_dir: &Path, run: &Run) {
    let path = Path::new(&run.log_path);
    for part in rotate::parts(path) {
        let _ = fs::remove_file(part);
    }
    let _ = fs::remove_file(path);
    remove_links(link_dir, |name| name.ends_with(&format!("-{}.log", run.id)));
}

/// Removes all logs of a pod, and the links to them.
pub(crate) fn remove_pod(log_dir: &Path, link_dir: &Path, namespace: &str, name: &str, uid: &str) {
    let dir = log_directory(log_dir, namespace, name, uid);
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "logs not removed");
    }
    let prefix = format!("{name}_{namespace}_");
    // Only links into nothing: a successor of the pod may have the same name.
    remove_links(link_dir, |link| {
        link.starts_with(&prefix) && fs::metadata(link_dir.join(link)).is_err()
    });
}

fn remove_links(dir: &Path, wanted: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(&wanted) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
