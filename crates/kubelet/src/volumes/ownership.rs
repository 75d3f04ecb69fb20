//! Gives a volume to the pod's `fsGroup`.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

/// Hands everything under `root` to the group: readable, writable unless `read_only`, and what is made in its
/// directories later belongs to the group as well.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn give_to_group(root: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        lchown(&path, None, Some(group))?;
        if metadata.is_symlink() {
            continue;
        }
        let mut mode = metadata.permissions().mode() & 0o7777;
        mode |= if read_only { 0o440 } else { 0o660 };
        if metadata.is_dir() {
            mode |= 0o2110;
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_group_gets_files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        give_to_group(dir.path(), 4242, false).unwrap();
        let (of_dir, of_file) = (fs::metadata(dir.path()).unwrap(), fs::metadata(&file).unwrap());
        assert_eq!((of_dir.gid(), of_file.gid()), (4242, 4242));
        assert_eq!(of_file.mode() & 0o7777, 0o660);
        assert_eq!(of_dir.mode() & 0o2070, 0o2070);
    }
}
