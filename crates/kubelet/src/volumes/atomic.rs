//! Writes all files of a volume at once: a reader sees the old ones or the new ones, never a mixture.
//!
//! The layout is upstream's, and programs watch for it: the files live in a directory `..<time>`, the link `..data`
//! names the current one and is replaced by a rename, and `<name>` is a link to `..data/<name>`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use jiff::Timestamp;

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the volume at `target` hold exactly `payload`; does nothing, and says false, when it already does.
///
/// # Errors
/// When a path leaves the volume, or the disk fails.
pub(crate) fn write(target: &Path, payload: &Payload) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let link = target.join(DATA);
    let current = fs::read_link(&link).ok();
    if let Some(current) = &current
        && is_same(&target.join(current), payload)
    {
        return Ok(false);
    }
    let now = Timestamp::now();
    let name = format!(
        "..{}.{}",
        now.strftime("%Y_%m_%d_%H_%M_%S"),
        now.subsec_nanosecond()
    );
    let fresh = target.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    if let Err(error) = write_files(&fresh, payload) {
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    let new_link = target.join(DATA_NEW);
    let _ = fs::remove_file(&new_link);
    symlink(&name, &new_link)?;
    fs::rename(&new_link, &link)?;
    link_names(target, payload)?;
    if let Some(old) = current {
        let _ = fs::remove_dir_all(target.join(old));
    }
    Ok(true)
}

/// A path in a volume has only names in it.
fn check_path(path: &str) -> io::Result<()> {
    let invalid = |why: &str| {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid path {path:?}: {why}"),
        ))
    };
    if path.is_empty() {
        return invalid("must not be empty");
    }
    if path.starts_with("..") {
        return invalid("must not start with '..'");
    }
    if !Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return invalid("must be a relative path without '..'");
    }
    Ok(())
}

fn is_same(directory: &Path, payload: &Payload) -> bool {
    let present = paths_in(directory);
    present.len() == payload.len()
        && payload
            .iter()
            .all(|(path, file)| fs::read(directory.join(path)).is_ok_and(|data| data == file.data))
}

fn paths_in(directory: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut open = vec![(directory.to_path_buf(), String::new())];
    while let Some((directory, prefix)) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = format!("{prefix}{name}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), format!("{path}/")));
            } else {
                paths.insert(path);
            }
        }
    }
    paths
}

fn write_files(directory: &Path, payload: &Payload) -> io::Result<()> {
    for (path, file) in payload {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.data)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        if let Some(owner) = file.owner {
            chown(&path, Some(owner), None)?;
        }
    }
    Ok(())
}

/// The first part of each path is a link in the volume; links to nothing go.
fn link_names(target: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = target.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(target)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with("..") && !names.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;
    use proptest::prelude::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File {
            data: data.into(),
            mode: 0o640,
            owner: None,
        };
        files
            .iter()
            .map(|(path, data)| ((*path).to_string(), file(data)))
            .collect()
    }

    #[test]
    fn files_are_replaced_all_at_once_behind_one_link() {
        let dir = tempfile::tempdir().unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).ok();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert_eq!(
            (read("a").as_deref(), read("d/b").as_deref()),
            (Some("1"), Some("2"))
        );
        assert_eq!(
            fs::read_link(dir.path().join("a")).unwrap(),
            Path::new("..data/a")
        );
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let first = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), first);

        assert!(write(dir.path(), &payload(&[("a", "3")])).unwrap());
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        let names: BTreeSet<String> = paths_in(dir.path());
        assert!(names.iter().all(|name| !name.contains('b')), "{names:?}");
        assert!(!dir.path().join(first).exists());
    }

    #[test]
    fn no_file_leaves_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "a/./../b"] {
            assert!(write(dir.path(), &payload(&[(path, "x")])).is_err(), "{path:?}");
        }
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    proptest! {
        #[test]
        fn after_each_write_the_volume_holds_just_what_was_written(
            steps in proptest::collection::vec(
                proptest::collection::btree_map("[a-c]", "[x-z]{0,3}", 0..4), 1..5)
        ) {
            let dir = tempfile::tempdir().unwrap();
            for step in steps {
                let pairs: Vec<(&str, &str)> = step.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                write(dir.path(), &payload(&pairs)).unwrap();
                let mut found = Vec::new();
                for entry in fs::read_dir(dir.path()).unwrap().flatten() {
                    let name = entry.file_name().into_string().unwrap();
                    if !name.starts_with("..") {
                        found.push((name, fs::read_to_string(entry.path()).unwrap()));
                    }
                }
                found.sort();
                let wanted: Vec<(String, String)> = step.into_iter().collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
