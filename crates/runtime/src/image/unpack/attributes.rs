//! What a file is beside its content: owner, mode, times, extended attributes.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{self, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::unreadable;
use crate::image::ImageError;

/// What an entry says about its file.
pub(super) struct Attributes {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) mode: Mode,
    pub(super) times: Timestamps,
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    pub(super) fn of(entry: &mut tar::Entry<'_, impl Read>) -> Result<Self, ImageError> {
        let header = entry.header();
        let raw = header.as_old();
        let id = |field: &[u8], id: io::Result<u64>| {
            u32::try_from(number(field, id)?)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| ImageError::Content("failed to read archive: owner out of range".to_owned()))
        };
        let uid = Uid::from_raw(id(&raw.uid, header.uid())?);
        let gid = Gid::from_raw(id(&raw.gid, header.gid())?);
        let mode = Mode::from_raw_mode(number(&raw.mode, header.mode())? & 0o7777);
        let modified = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        let mut modified = Timespec {
            tv_sec: modified,
            tv_nsec: 0,
        };
        let mut accessed = None;
        let mut xattrs = Vec::new();
        if let Some(records) = entry.pax_extensions().map_err(unreadable)? {
            for record in records {
                let record = record.map_err(unreadable)?;
                let (key, value) = (record.key_bytes(), record.value_bytes());
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    // How layers are stacked is our own affair: an archive could make overlayfs show other files.
                    if !is_overlay_xattr(name) {
                        xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec()));
                    }
                } else if key == b"mtime" {
                    modified = timestamp(value).unwrap_or(modified);
                } else if key == b"atime" {
                    accessed = timestamp(value);
                }
            }
        }
        let times = Timestamps {
            last_access: accessed.unwrap_or(modified),
            last_modification: modified,
        };
        Ok(Self {
            uid,
            gid,
            mode,
            times,
            xattrs,
        })
    }
}

/// A field of a header. An empty one is zero, as other programs read it.
fn number<T: Default>(field: &[u8], value: io::Result<T>) -> Result<T, ImageError> {
    match value {
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(T::default()),
        value => value.map_err(unreadable),
    }
}

fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// A PAX time: seconds, perhaps with a fraction.
pub(super) fn timestamp(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, i64) = (seconds.parse().ok()?, digits.parse().ok()?);
    // The fraction of a time before 1970 counts away from it.
    Some(match (text.starts_with('-'), nanoseconds) {
        (false, _) | (true, 0) => Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        },
        (true, _) => Timespec {
            tv_sec: seconds.checked_sub(1)?,
            tv_nsec: 1_000_000_000 - nanoseconds,
        },
    })
}

pub(super) fn times_of(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds as _,
        tv_nsec: nanoseconds as _,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Owner, mode and extended attributes of one directory go to another.
pub(super) fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let stat = fs::fstat(from)?;
    fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; 64 << 10];
    let count = match fs::flistxattr(from, names.as_mut_slice()) {
        Ok(count) => count,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error),
    };
    let names = names.get(..count).unwrap_or_default();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !is_overlay_xattr(name))
    {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let count = fs::fgetxattr(from, name, value.as_mut_slice())?;
        match fs::fsetxattr(
            to,
            name,
            value.get(..count).unwrap_or_default(),
            XattrFlags::empty(),
        ) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
