//! Devices of the host that a container gets.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use k8s_cri::v1;
use nix::sys::stat::{major, minor};

use super::spec::Device;

/// What a container asks for; a folder stands for all devices in it.
pub(crate) fn requested(wishes: &[v1::Device]) -> io::Result<Vec<Device>> {
    let mut found = Vec::new();
    for wish in wishes {
        let host = Path::new(&wish.host_path);
        let at = if wish.container_path.is_empty() {
            host
        } else {
            Path::new(&wish.container_path)
        };
        let named = |e: io::Error| io::Error::new(e.kind(), format!("device {}: {e}", host.display()));
        if fs::metadata(host).map_err(named)?.is_dir() {
            collect(host, at, &wish.permissions, &mut found).map_err(named)?;
        } else if let Some(device) = device(host, at.to_owned(), &wish.permissions).map_err(named)? {
            found.push(device);
        } else {
            return Err(named(io::Error::other("not a device node")));
        }
    }
    Ok(found)
}

/// All of the host's: what a privileged container gets.
pub(crate) fn all() -> io::Result<Vec<Device>> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut found)?;
    Ok(found)
}

fn collect(folder: &Path, at: &Path, access: &str, found: &mut Vec<Device>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // Mounts of their own, or not the container's business.
            if !matches!(
                name.to_str(),
                Some("pts" | "shm" | "fd" | "mqueue" | ".lxc" | ".lxd-mounts" | ".udev")
            ) {
                collect(&entry.path(), &at.join(&name), access, found)?;
            }
        } else if (kind.is_char_device() || kind.is_block_device())
            && name != "console"
            && let Some(device) = device(&entry.path(), at.join(&name), access)?
        {
            found.push(device);
        }
    }
    Ok(())
}

fn device(host: &Path, at: PathBuf, access: &str) -> io::Result<Option<Device>> {
    let metadata = fs::metadata(host)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return Ok(None),
    };
    let number = |n: u64| i64::try_from(n).map_err(io::Error::other);
    Ok(Some(Device {
        path: at,
        kind,
        major: number(major(metadata.rdev()))?,
        minor: number(minor(metadata.rdev()))?,
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: if access.is_empty() {
            "rwm".to_owned()
        } else {
            access.to_owned()
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_node() {
        let wish = |host: &str| v1::Device {
            host_path: host.into(),
            container_path: "/dev/nothing".into(),
            permissions: "r".into(),
        };
        let found = requested(&[wish("/dev/null")]).unwrap();
        let [null] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (null.kind, null.major, null.minor, null.access.as_str()),
            ('c', 1, 3, "r")
        );
        assert_eq!(null.path, Path::new("/dev/nothing"));
        assert!(requested(&[wish("/etc/passwd")]).is_err());
        assert!(requested(&[wish("/dev/there-is-none")]).is_err());
    }
}
