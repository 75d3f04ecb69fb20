//! Opening what is inside a directory that somebody else filled, and never anything outside of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Opens a path as a process would whose root `directory` is: `..` and links lead nowhere else. The empty path is the
/// directory itself.
///
/// # Errors
/// The kernel's.
pub(crate) fn open_inside(directory: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), within) {
            // Something was renamed or mounted meanwhile, so that the kernel could not be sure about `..`.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, rename};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn renames_elsewhere_do_not_keep_a_path_from_being_opened() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("inside");
        create_dir(&directory).unwrap();
        std::fs::write(directory.join("file"), "").unwrap();
        let root = std::fs::File::open(&directory).unwrap();
        let names = [place.path().join("a"), place.path().join("b")];
        create_dir(&names[0]).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    rename(&names[0], &names[1]).unwrap();
                    rename(&names[1], &names[0]).unwrap();
                }
            });
            let path = Path::new("../../../file");
            let opened = (0..20_000).try_for_each(|_| open_inside(&root, path, OFlags::RDONLY).map(drop));
            done.store(true, Ordering::Relaxed);
            assert_eq!(opened, Ok(()));
        });
    }
}
