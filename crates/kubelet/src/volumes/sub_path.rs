//! `subPath`: a part of a volume, which a container's own links must not lead out of.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::mounts;

fn beneath(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(&root, path, how) {
            // Something was renamed or mounted meanwhile, so that the kernel could not be sure about `..`.
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            other => return other,
        }
    }
}

/// Opens a path inside the volume, and makes directories that are not there; never outside of it.
fn open_or_create(volume: &Path, sub_path: &Path) -> io::Result<OwnedFd> {
    let root = File::open(volume)?;
    let handle = OFlag::O_PATH;
    if let Ok(found) = beneath(&root, sub_path, handle) {
        return Ok(found);
    }
    let mut reached = PathBuf::new();
    for part in sub_path.components() {
        if !matches!(part, Component::Normal(_)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "subPath must not have '..' in it",
            ));
        }
        let parent_path = if reached.as_os_str().is_empty() {
            Path::new(".")
        } else {
            reached.as_path()
        };
        let parent = beneath(&root, parent_path, OFlag::O_DIRECTORY | OFlag::O_RDONLY)?;
        match mkdirat(
            &parent,
            Path::new(part.as_os_str()),
            Mode::from_bits_truncate(0o750),
        ) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        reached.push(part);
    }
    Ok(beneath(&root, sub_path, handle)?)
}

/// Shows `volume/sub_path` at `target`, a place that the container cannot reach, and returns once it is there.
///
/// # Errors
/// When the path leads out of the volume or cannot be made.
pub(crate) fn set_up(volume: &Path, sub_path: &str, target: &Path) -> io::Result<()> {
    let found = open_or_create(volume, Path::new(sub_path.trim_matches('/')))?;
    let by_handle = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let is_dir = fs::metadata(&by_handle)?.is_dir();
    if target.exists() {
        if mounts::is_mount_point(target)? {
            // A container that starts again: the sub-path may have been replaced meanwhile.
            mounts::unmount_under(target)?;
        }
        if target.is_dir() != is_dir {
            if target.is_dir() {
                fs::remove_dir(target)?
            } else {
                fs::remove_file(target)?
            }
        }
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if is_dir {
        fs::create_dir_all(target)?;
    } else {
        OpenOptions::new().create(true).append(true).open(target)?;
    }
    mounts::bind(&by_handle, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_sub_path_is_made_but_never_outside_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("data")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        symlink("data", volume.join("inside")).unwrap();
        symlink("../secret", volume.join("outside")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        assert!(open_or_create(&volume, Path::new("new/deep")).is_ok());
        assert!(volume.join("new/deep").is_dir());
        assert!(open_or_create(&volume, Path::new("inside")).is_ok());
        for path in [
            "outside",
            "absolute",
            "absolute/x",
            "../secret",
            "data/../../secret",
        ] {
            assert!(open_or_create(&volume, Path::new(path)).is_err(), "{path}");
        }
        assert!(!Path::new("/etc/x").exists());
    }
}
