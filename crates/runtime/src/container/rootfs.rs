//! A container's root file system: the image's layers below a writable one, joined by overlayfs.
//!
//! It is mounted in the host's mount namespace, where it survives the server, and where kubelet's tools expect it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::ContainerPaths;
use crate::inside::open_inside;

/// The kernel takes one page of options.
const MAX_OPTIONS: usize = 4000;

/// A handle to a folder.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Makes the folders and mounts the file system.
pub(crate) fn mount_rootfs(paths: &ContainerPaths, lower: &[PathBuf]) -> io::Result<()> {
    for folder in [&paths.rootfs, &paths.upper, &paths.work] {
        fs::create_dir_all(folder)?;
    }
    // Overlayfs wants at least one lower layer; an image may have none.
    let empty = paths.folder.join("empty");
    let mut lower = lower.to_vec();
    if lower.is_empty() {
        fs::create_dir_all(&empty)?;
        lower.push(empty);
    }
    let mut options = options(&lower, &paths.upper, &paths.work);
    let mut held: Vec<OwnedFd> = Vec::new();
    if options.len() > MAX_OPTIONS {
        let mut short = Vec::new();
        for layer in &lower {
            let fd = openat(CWD, layer, FOLDER, Mode::empty())?;
            short.push(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
            held.push(fd);
        }
        options = self::options(&short, &paths.upper, &paths.work);
    }
    mount(
        Some("overlay"),
        &paths.rootfs,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_os_str()),
    )?;
    Ok(())
}

fn options(lower: &[PathBuf], upper: &Path, work: &Path) -> OsString {
    let mut text = OsString::from("lowerdir=");
    for (at, layer) in lower.iter().enumerate() {
        if at > 0 {
            text.push(":");
        }
        text.push(layer);
    }
    text.push(",upperdir=");
    text.push(upper);
    text.push(",workdir=");
    text.push(work);
    text
}

/// Makes a folder of the image's tree, without following anything out of it.
pub(crate) fn make_folder(rootfs: &Path, folder: &str) -> io::Result<()> {
    let root = openat(CWD, rootfs, FOLDER, Mode::empty())?;
    let mut reached = PathBuf::from(".");
    for component in Path::new(folder).components() {
        let Component::Normal(name) = component else {
            continue;
        };
        let parent = open_inside(&root, &reached, FOLDER)?;
        reached.push(name);
        match open_inside(&root, &reached, FOLDER) {
            Ok(_) => {}
            Err(Errno::NOENT) if name.as_bytes() != b".." => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_inside_only() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink("/real", root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
        for folder in ["/a/b/c", "/", "link/x", "/a/../d"] {
            make_folder(root.path(), folder).unwrap();
        }
        for made in ["a/b/c", "real/x", "a/d"] {
            assert!(root.path().join(made).is_dir(), "{made}");
        }
        assert!(make_folder(root.path(), "/out/y").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn more_layers_than_fit_into_the_options_are_mounted_all() {
        let folder = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = (0..80).map(|n| folder.path().join(format!("{n:0>60}"))).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::write(layer.join(format!("own-{number}")), "").unwrap();
            fs::write(layer.join("shared"), number.to_string()).unwrap();
        }
        let paths = ContainerPaths::new(folder.path(), "c");
        mount_rootfs(&paths, &layers).unwrap();
        let found = fs::read_dir(&paths.rootfs).unwrap().count();
        let shared = fs::read_to_string(paths.rootfs.join("shared")).unwrap();
        fs::write(paths.rootfs.join("new"), "").unwrap();
        crate::runtime::unmount(paths.rootfs.clone(), true).unwrap();
        assert_eq!(
            (found, shared.as_str()),
            (81, "0"),
            "the topmost layer comes first"
        );
        assert!(paths.upper.join("new").exists());
        assert!(!paths.rootfs.exists());
    }
}
