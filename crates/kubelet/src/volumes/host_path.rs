//! `hostPath`: a file or directory of the node, checked or made as its type says.

use std::fs;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Checks the path, and makes it where the type says so.
///
/// # Errors
/// The text of the pod's event.
pub(crate) fn set_up(path: &str, kind: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("hostPath type check failed: {path} is not {what}"));
    let io = |error: std::io::Error| format!("hostPath type check failed: {path}: {error}");
    let found = fs::metadata(Path::new(path))
        .ok()
        .map(|metadata| metadata.file_type());
    match (kind, found) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", None) => {
            fs::create_dir_all(path).map_err(io)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io)
        }
        ("FileOrCreate", None) => {
            let mut options = fs::OpenOptions::new();
            options
                .create(true)
                .append(true)
                .mode(0o644)
                .open(path)
                .map(drop)
                .map_err(io)
        }
        ("Directory" | "DirectoryOrCreate", found) => match found {
            Some(kind) if kind.is_dir() => Ok(()),
            _ => fail("a directory"),
        },
        ("File" | "FileOrCreate", found) => match found {
            Some(kind) if kind.is_file() => Ok(()),
            _ => fail("a file"),
        },
        ("Socket", found) => match found {
            Some(kind) if kind.is_socket() => Ok(()),
            _ => fail("a socket file"),
        },
        ("CharDevice", found) => match found {
            Some(kind) if kind.is_char_device() => Ok(()),
            _ => fail("a character device"),
        },
        ("BlockDevice", found) => match found {
            Some(kind) if kind.is_block_device() => Ok(()),
            _ => fail("a block device"),
        },
        (other, _) => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_checked_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        fs::write(path("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let cases = [
            ("nothing", "", true),
            ("nothing", "Directory", false),
            ("made", "DirectoryOrCreate", true),
            ("made", "Directory", true),
            ("new-file", "FileOrCreate", true),
            ("new-file", "File", true),
            ("file", "Directory", false),
            ("file", "DirectoryOrCreate", false),
            ("socket", "Socket", true),
            ("file", "Socket", false),
            ("file", "CharDevice", false),
            ("file", "BlockDevice", false),
        ];
        for (name, kind, good) in cases {
            assert_eq!(set_up(&path(name), kind).is_ok(), good, "{name} {kind}");
        }
        assert_eq!(set_up("/dev/null", "CharDevice"), Ok(()));
        assert_eq!(
            set_up("/none", "Directory"),
            Err("hostPath type check failed: /none is not a directory".into())
        );
    }
}
