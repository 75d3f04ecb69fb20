//! Small JSON files that are either whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces a file in one step. A `durable` one is on the disk when this returns; others survive any crash but that of
/// the machine, which is enough for what doesn't outlive the machine's processes anyway.
pub(crate) fn write_atomically(path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if durable {
        file.sync_data()?;
    }
    fs::rename(&temporary, path)?;
    if durable && let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Reads what [`write_atomically`] has written.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for durable in [false, true] {
            write_atomically(&path, &vec![durable], durable).unwrap();
            assert_eq!(read::<Vec<bool>>(&path).unwrap(), [durable]);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
