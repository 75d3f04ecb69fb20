//! A layer's archive becomes a directory that overlayfs can stack.
//!
//! Every name in an archive may be hostile. So each is taken apart, its directory is opened with `RESOLVE_IN_ROOT`, by
//! which the kernel keeps `..` and symbolic links below the directory that is unpacked to, and the last part is then
//! used relative to that open directory, never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use self::attributes::{Attributes, copy_attributes, times_of};
use super::{ImageError, Usage};
use crate::image::error::plain;
use crate::inside::open_inside;

mod attributes;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS kept for itself, and some archives still hold.
const AUFS_OWN: &[u8] = b".wh..wh.";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const BLOCK: u64 = 4096;

/// Unpacks the archive into the existing directory `into`, which belongs on top of the layers `below` (the topmost
/// first). Whiteouts become those of overlayfs. On an error `into` holds a part, and is to be thrown away.
pub(crate) fn unpack(archive: impl Read, into: &Path, below: &[PathBuf]) -> Result<Usage, ImageError> {
    let mut tree = Tree::open(into, below)?;
    tree.inherit_root()?;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(unreadable)? {
        tree.add(entry.map_err(unreadable)?)?;
    }
    tree.finish()
}

fn unreadable(error: io::Error) -> ImageError {
    ImageError::Content(format!("failed to read archive: {}", plain(&error)))
}

/// The directory that is being filled.
struct Tree<'a> {
    path: &'a Path,
    root: OwnedFd,
    /// The layers below, the topmost first.
    below: Vec<OwnedFd>,
    /// Times of directories, which are set when nothing is put into them any more.
    directory_times: Vec<(PathBuf, Timestamps)>,
    /// The directory of the last entry, in which the next one often is, too.
    last: Option<(PathBuf, OwnedFd)>,
    /// Whether the current entry has removed something, so that open directories may be gone.
    removed: bool,
    usage: Usage,
}

/// What stood where an entry is to be put.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Nothing, or nothing any more.
    Free,
    /// A directory, which stays.
    Directory,
    /// A whiteout, which is removed.
    Whiteout,
}

impl<'a> Tree<'a> {
    fn open(path: &'a Path, below: &[PathBuf]) -> Result<Self, ImageError> {
        let open = |path: &Path| {
            fs::openat(
                CWD,
                path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|error| ImageError::io("open", path, error))
        };
        Ok(Self {
            path,
            root: open(path)?,
            below: below.iter().map(|path| open(path)).collect::<Result<_, _>>()?,
            directory_times: Vec::new(),
            last: None,
            removed: false,
            usage: Usage {
                bytes: BLOCK,
                inodes: 1,
            },
        })
    }

    /// The error of doing `action` to the entry `name`.
    fn failed(&self, action: &str, name: &Path, error: Errno) -> ImageError {
        ImageError::io(action, &self.path.join(name), error)
    }

    /// Overlayfs shows the attributes of the topmost layer's root, even if that layer does not mention them.
    fn inherit_root(&self) -> Result<(), ImageError> {
        match self.below.first() {
            Some(below) => copy_attributes(below, &self.root)
                .map_err(|error| ImageError::io("set attributes of", self.path, error)),
            None => Ok(()),
        }
    }

    fn add(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), ImageError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = clean(&entry.path_bytes());
        let attributes = Attributes::of(&mut entry)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // The root itself.
            if kind.is_dir() {
                let root = self
                    .root
                    .try_clone()
                    .map_err(|error| ImageError::io("open", self.path, error))?;
                self.set_attributes(&root, &path, &attributes)?;
                self.directory_times.push((path, attributes.times));
            }
            return Ok(());
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        if path
            .iter()
            .any(|part| part.as_bytes().starts_with(AUFS_OWN) && part.as_bytes() != OPAQUE)
        {
            return Ok(());
        }
        let parent = self.directory(&parent_path)?;
        self.removed = false;
        let result = self.add_to(&parent, &name, &path, entry, &attributes);
        if !self.removed {
            self.last = Some((parent_path, parent));
        }
        result
    }

    fn add_to(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        mut entry: tar::Entry<'_, impl Read>,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(parent, name.as_bytes(), path, attributes);
        }
        let kind = entry.header().entry_type();
        let was = self.make_room(parent, name, path, kind.is_dir())?;
        if was != Room::Directory {
            self.usage.inodes += 1;
        }
        match kind {
            EntryType::Directory => {
                if was != Room::Directory {
                    fs::mkdirat(parent, name, Mode::RWXU).map_err(|e| self.failed("mkdir", path, e))?;
                    self.usage.bytes += BLOCK;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = fs::openat(parent, name, flags, Mode::empty())
                    .map_err(|e| self.failed("open", path, e))?;
                self.set_attributes(&directory, path, attributes)?;
                if was == Room::Whiteout {
                    self.set_opaque(&directory, path)?;
                }
                self.directory_times
                    .push((path.to_owned(), attributes.times.clone()));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|e| self.failed("open", path, e))?;
                let mut file = File::from(file);
                let size = self.copy(&mut entry, &mut file, path)?;
                self.usage.bytes += size.div_ceil(BLOCK) * BLOCK;
                let file = OwnedFd::from(file);
                self.set_attributes(&file, path, attributes)?;
                fs::futimens(&file, &attributes.times).map_err(|e| self.failed("set times of", path, e))?;
            }
            EntryType::Link => {
                self.usage.inodes -= 1;
                self.hard_link(parent, name, path, &entry)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                fs::symlinkat(OsStr::from_bytes(&target), parent, name)
                    .map_err(|e| self.failed("symlink", path, e))?;
                self.set_unfollowed(parent, name, path, attributes)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (file_type, device) = match kind {
                    EntryType::Char => (FileType::CharacterDevice, device(&entry)?),
                    EntryType::Block => (FileType::BlockDevice, device(&entry)?),
                    _ => (FileType::Fifo, 0),
                };
                fs::mknodat(parent, name, file_type, attributes.mode, device)
                    .map_err(|e| self.failed("mknod", path, e))?;
                self.set_unfollowed(parent, name, path, attributes)?;
                fs::chmodat(parent, name, attributes.mode, AtFlags::empty())
                    .map_err(|e| self.failed("chmod", path, e))?;
            }
            other => {
                return Err(ImageError::Content(format!(
                    "unhandled tar header type {} for {:?}",
                    other.as_byte(),
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// What an archive says is gone: one file of a layer below, or all that is below in one directory.
    fn whiteout(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &Path,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        if name == OPAQUE {
            return self.set_opaque(parent, path);
        }
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ImageError::Content(format!(
                "invalid whiteout {:?}",
                path.display()
            )));
        }
        let hidden = OsStr::from_bytes(hidden);
        match fs::statat(parent, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            // The archive has it as well: a whiteout hides only what is below.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = fs::openat(parent, hidden, flags, Mode::empty())
                    .map_err(|e| self.failed("open", path, e))?;
                return self.set_opaque(&directory, path);
            }
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(self.failed("stat", path, error)),
        }
        fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|e| self.failed("mknod", path, e))?;
        self.usage.inodes += 1;
        fs::chownat(
            parent,
            hidden,
            Some(attributes.uid),
            Some(attributes.gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|e| self.failed("chown", path, e))
    }

    fn set_opaque(&self, directory: &OwnedFd, path: &Path) -> Result<(), ImageError> {
        fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(|e| self.failed("setxattr trusted.overlay.opaque on", path, e))
    }

    /// Links to a file that is already there. The target's last part is not followed, so a link to a symbolic link is
    /// one to the link itself.
    fn hard_link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        entry: &tar::Entry<'_, impl Read>,
    ) -> Result<(), ImageError> {
        let target = clean(&entry.link_name_bytes().unwrap_or_default());
        let Some(target_name) = target.file_name() else {
            return Err(ImageError::Content(format!(
                "invalid hard link {:?}",
                path.display()
            )));
        };
        let target_parent = self
            .resolve(&self.root, target.parent().unwrap_or(Path::new("")))
            .map_err(|e| self.failed("link", &target, e))?;
        fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty())
            .map_err(|e| self.failed("link", path, e))
    }

    /// Opens a directory below `root`, whatever links are on the way.
    fn resolve(&self, root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
        open_inside(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the directory of an entry, and makes it if the archive did not mention it.
    fn directory(&mut self, path: &Path) -> Result<OwnedFd, ImageError> {
        if let Some((last, directory)) = self.last.take()
            && last == path
        {
            return Ok(directory);
        }
        match self.resolve(&self.root, path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|error| self.failed("open", path, error)),
        }
        let mut directory = self
            .resolve(&self.root, Path::new(""))
            .map_err(|e| self.failed("open", path, e))?;
        let mut so_far = PathBuf::new();
        for part in path.iter() {
            so_far.push(part);
            let next = match self.resolve(&self.root, &so_far) {
                Err(Errno::NOENT) => {
                    fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755))
                        .map_err(|e| self.failed("mkdir", &so_far, e))?;
                    self.usage.inodes += 1;
                    self.usage.bytes += BLOCK;
                    let made = self
                        .resolve(&self.root, &so_far)
                        .map_err(|e| self.failed("open", &so_far, e))?;
                    self.inherit(&so_far, &made)?;
                    made
                }
                other => other.map_err(|e| self.failed("open", &so_far, e))?,
            };
            directory = next;
        }
        Ok(directory)
    }

    /// Gives a directory that the archive does not mention the attributes which it has in the layers below; else this
    /// layer would change them.
    fn inherit(&mut self, path: &Path, made: &OwnedFd) -> Result<(), ImageError> {
        for below in &self.below {
            match self.resolve(below, path) {
                Ok(original) => {
                    let times = copy_attributes(&original, made)
                        .and_then(|()| fs::fstat(&original))
                        .map_err(|e| self.failed("set attributes of", path, e))?;
                    self.directory_times.push((path.to_owned(), times_of(&times)));
                    return Ok(());
                }
                Err(Errno::NOENT) => {}
                // It was no directory there.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Removes what is in the way of an entry: everything but a directory where a directory is to be.
    fn make_room(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        for_directory: bool,
    ) -> Result<Room, ImageError> {
        let stat = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Room::Free),
            Err(error) => return Err(self.failed("stat", path, error)),
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Directory {
            if for_directory {
                return Ok(Room::Directory);
            }
            self.removed = true;
            let through = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
            std::fs::remove_dir_all(through)
                .map_err(|error| ImageError::io("remove", &self.path.join(path), error))?;
            return Ok(Room::Free);
        }
        self.removed = true;
        fs::unlinkat(parent, name, AtFlags::empty()).map_err(|e| self.failed("unlink", path, e))?;
        self.usage.inodes = self.usage.inodes.saturating_sub(1);
        let is_whiteout = file_type == FileType::CharacterDevice && stat.st_rdev == 0;
        Ok(if is_whiteout { Room::Whiteout } else { Room::Free })
    }

    /// Copies an entry's content, telling errors of the archive from those of the disk.
    fn copy(&self, from: &mut impl Read, to: &mut File, path: &Path) -> Result<u64, ImageError> {
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            to.write_all(buffer.get(..count).unwrap_or_default())
                .map_err(|error| ImageError::io("write", &self.path.join(path), error))?;
            total += count as u64;
        }
    }

    /// Owner, mode and extended attributes of an open file, in the order in which none undoes another: a change of the
    /// owner clears set-user-id bits and capabilities.
    fn set_attributes(&self, file: &OwnedFd, path: &Path, attributes: &Attributes) -> Result<(), ImageError> {
        fs::fchown(file, Some(attributes.uid), Some(attributes.gid))
            .map_err(|e| self.failed("chown", path, e))?;
        fs::fchmod(file, attributes.mode).map_err(|e| self.failed("chmod", path, e))?;
        for (name, value) in &attributes.xattrs {
            match fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
                // A file system without that kind of attribute serves most images as well.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => {
                    return Err(self.failed(&format!("setxattr {} on", name.to_string_lossy()), path, error));
                }
            }
        }
        Ok(())
    }

    /// Owner and times of what cannot be opened.
    fn set_unfollowed(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        fs::chownat(parent, name, Some(attributes.uid), Some(attributes.gid), flags)
            .map_err(|e| self.failed("chown", path, e))?;
        fs::utimensat(parent, name, &attributes.times, flags)
            .map_err(|e| self.failed("set times of", path, e))
    }

    fn finish(self) -> Result<Usage, ImageError> {
        for (path, times) in self.directory_times.iter().rev() {
            match self.resolve(&self.root, path) {
                Ok(directory) => {
                    fs::futimens(&directory, times).map_err(|e| self.failed("set times of", path, e))?
                }
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(self.failed("open", path, error)),
            }
        }
        Ok(self.usage)
    }
}

fn device(entry: &tar::Entry<'_, impl Read>) -> Result<u64, ImageError> {
    let header = entry.header();
    let major = header.device_major().map_err(unreadable)?.unwrap_or(0);
    let minor = header.device_minor().map_err(unreadable)?.unwrap_or(0);
    Ok(fs::makedev(major, minor))
}

/// A name of an archive as a path from the root of the layer. `..` ends at the root, as for a process there.
fn clean(name: &[u8]) -> PathBuf {
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                path.pop();
            }
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    path
}

#[cfg(test)]
mod tests;
