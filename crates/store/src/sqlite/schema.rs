//! The file: its tables, how it is opened, and every statement that touches it.
//!
//! # Format 1
//!
//! A SQLite database in WAL mode with pages of 8 KiB, `application_id` "skif", `user_version` 1. Beside it stand
//! SQLite's own `-wal` and `-shm` while it is open, and `.lock`, which the process that has it open keeps locked.
//!
//! | table | row | columns |
//! |---|---|---|
//! | `changes` | one a revision: what it did | `revision`; `key`; `create_revision`, `version`, `lease` (0: none) of the state it made, `version` 0 if it deleted the key; `previous`: the revision of the state it replaced, 0 if there was none |
//! | `contents` | one a revision that wrote a value | `revision`, `value` |
//! | `leases` | one a lease | `id` (never given twice), `ttl` in milliseconds, `deadline` in milliseconds since 1970 |
//! | `store` | just one | `compacted`: the oldest revision that can be read |
//!
//! Both `changes` and `contents` grow at their end only, so a commit writes few pages; they are apart so that opening,
//! which reads all of `changes` to build the index, need not read the values. There is no index in the file.
//!
//! The store's revision is the greatest of `changes.revision`, `store.compacted` and 1. Compaction first moves
//! `compacted`, then deletes the rows that nobody can read any more, some at a time and in the order of the
//! revisions that made them so; a file may hold any number of rows that are yet to go. Their pages are used
//! again, the file does not shrink.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ffi, params};

use crate::{Error, KeyValue, LeaseId, Revision};

const APPLICATION_ID: i32 = i32::from_be_bytes(*b"skif");
const FORMAT: i32 = 1;

/// The empty store's revision, as etcd's.
pub(super) const FIRST_REVISION: Revision = 1;

const TABLES: &str = "
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        create_revision INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        previous INTEGER NOT NULL
    );
    CREATE TABLE contents (
        revision INTEGER PRIMARY KEY,
        value BLOB NOT NULL
    );
    CREATE TABLE leases (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        ttl INTEGER NOT NULL,
        deadline INTEGER NOT NULL
    );
    CREATE TABLE store (compacted INTEGER NOT NULL);
    INSERT INTO store VALUES (0);
";

/// Why the file could not be read or written.
#[derive(Debug)]
pub(super) enum Failure {
    /// No room. Whatever was begun is undone.
    NoSpace,
    /// Something else. Whatever was begun is undone.
    Other(String),
    /// A sync failed: what of the last transaction is on the disk is not known, so nothing more may be built on it.
    Broken(String),
}

impl Failure {
    /// What a caller is told.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::NoSpace => Error::NoSpace,
            Self::Other(text) | Self::Broken(text) => Error::Unavailable(text.clone()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error()
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error().map(|e| (e.code, e.extended_code)) {
            // The shared-memory file could not be made longer: SQLite has no "full" of its own for it.
            Some((ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE)) => Self::NoSpace,
            Some((_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) => {
                Self::Broken(error.to_string())
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::NoSpace,
            _ => Self::Other(error.to_string()),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// The right to be the only process that has the file open. It ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Locks the database at `path`, makes it when it is not there, and opens the connection that writes.
pub(super) fn open(path: &Path) -> Result<(Lock, Connection)> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let lock = lock(path)?;
    // Made here and not by SQLite, which would leave it readable to others for a moment. Its -wal and -shm
    // get the same mode from SQLite.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    drop(file);
    File::open(directory)?.sync_all()?;

    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Without effect on a file that has tables.
    connection.pragma_update(None, "page_size", 8192)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Failure::Other(format!(
            "{}: no WAL on this file system",
            path.display()
        )));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // In pages: 16 MiB. The longer the log, the more writes of one page a checkpoint makes one.
    connection.pragma_update(None, "wal_autocheckpoint", 2048)?;
    connection.pragma_update(None, "journal_size_limit", 32 << 20)?;
    format(path, &connection)?;
    Ok((lock, connection))
}

fn lock(path: &Path) -> Result<Lock> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    // A file of its own: SQLite's locks on the database end when any descriptor of it is closed in this process.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Failure::Other(format!(
            "{}: in use by another process",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Makes the tables in an empty file, or makes sure that the file is one of ours.
fn format(path: &Path, connection: &Connection) -> Result<()> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (APPLICATION_ID, other) => Err(Failure::Other(format!(
            "{}: format {other}, this version reads format {FORMAT}",
            path.display()
        ))),
        (0, 0) => Ok(connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES}
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
        ))?),
        _ => Err(Failure::Other(format!(
            "{}: not a database of this store",
            path.display()
        ))),
    }
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "query_only", true)?;
    // In KiB. The kernel caches the file too.
    connection.pragma_update(None, "cache_size", -1024)?;
    Ok(connection)
}

/// A row of `changes`, as far as the index and a watch need it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: Revision,
    pub(super) key: String,
    /// 0 when the key was deleted.
    pub(super) version: i64,
    pub(super) lease: Option<LeaseId>,
    pub(super) previous: Option<Revision>,
}

impl Change {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            revision: row.get(0)?,
            key: row.get(1)?,
            version: row.get(2)?,
            lease: some(row.get(3)?),
            previous: some(row.get(4)?),
        })
    }
}

fn some(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

/// A row of `leases`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseRow {
    pub(super) id: LeaseId,
    /// In milliseconds.
    pub(super) ttl: i64,
    /// In milliseconds since 1970.
    pub(super) deadline: i64,
}

/// Hands every change to `each`, in the order of the revisions.
pub(super) fn changes(connection: &Connection, mut each: impl FnMut(Change)) -> Result<()> {
    let mut statement = connection
        .prepare("SELECT revision, key, version, lease, previous FROM changes ORDER BY revision")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(Change::read(row)?);
    }
    Ok(())
}

/// The changes after a revision and up to another, at most `limit` of them, in the order of the revisions.
pub(super) fn changes_between(
    connection: &Connection,
    after: Revision,
    upto: Revision,
    limit: i64,
) -> Result<Vec<Change>> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, key, version, lease, previous FROM changes
         WHERE revision > ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3",
    )?;
    let rows = statement.query_map(params![after, upto, limit], Change::read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The state of `key` that a revision made; `None` when compaction has taken it.
pub(super) fn state(connection: &Connection, key: &Arc<str>, revision: Revision) -> Result<Option<KeyValue>> {
    let mut statement = connection.prepare_cached(
        "SELECT create_revision, version, lease, value FROM changes JOIN contents USING (revision)
         WHERE revision = ?1",
    )?;
    let found = statement.query_row([revision], |row| {
        Ok(KeyValue {
            key: key.clone(),
            value: bytes(row, 3)?,
            create_revision: row.get(0)?,
            mod_revision: revision,
            version: row.get(1)?,
            lease: some(row.get(2)?),
        })
    });
    Ok(found.optional()?)
}

fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// Writes what a revision did: `current` is the state that it made, or `None` if it deleted the key.
pub(super) fn insert(
    connection: &Connection,
    revision: Revision,
    key: &str,
    current: Option<&KeyValue>,
    previous: Option<Revision>,
) -> Result<()> {
    let (create_revision, version, lease) =
        current.map_or((0, 0, None), |kv| (kv.create_revision, kv.version, kv.lease));
    connection
        .prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            revision,
            key,
            create_revision,
            version,
            lease.unwrap_or(0),
            previous.unwrap_or(0)
        ])?;
    if let Some(kv) = current {
        let value: &[u8] = &kv.value;
        connection
            .prepare_cached("INSERT INTO contents VALUES (?1, ?2)")?
            .execute(params![revision, value])?;
    }
    Ok(())
}

/// Deletes everything that a revision wrote.
pub(super) fn erase(connection: &Connection, revision: Revision) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM changes WHERE revision = ?1")?
        .execute([revision])?;
    connection
        .prepare_cached("DELETE FROM contents WHERE revision = ?1")?
        .execute([revision])?;
    Ok(())
}

/// The oldest revision that can be read.
pub(super) fn compacted(connection: &Connection) -> Result<Revision> {
    Ok(connection.query_row("SELECT compacted FROM store", [], |row| row.get(0))?)
}

/// Moves the oldest revision that can be read.
pub(super) fn set_compacted(connection: &Connection, revision: Revision) -> Result<()> {
    connection
        .prepare_cached("UPDATE store SET compacted = ?1")?
        .execute([revision])?;
    Ok(())
}

/// Every lease.
pub(super) fn leases(connection: &Connection) -> Result<Vec<LeaseRow>> {
    let mut statement = connection.prepare("SELECT id, ttl, deadline FROM leases")?;
    let rows = statement.query_map([], |row| {
        Ok(LeaseRow {
            id: row.get(0)?,
            ttl: row.get(1)?,
            deadline: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Makes a lease and gives it its number.
pub(super) fn insert_lease(connection: &Connection, ttl: i64, deadline: i64) -> Result<LeaseId> {
    connection
        .prepare_cached("INSERT INTO leases (ttl, deadline) VALUES (?1, ?2)")?
        .execute([ttl, deadline])?;
    Ok(connection.last_insert_rowid())
}

/// Moves a lease's end.
pub(super) fn move_lease(connection: &Connection, lease: LeaseId, deadline: i64) -> Result<()> {
    connection
        .prepare_cached("UPDATE leases SET deadline = ?2 WHERE id = ?1")?
        .execute([lease, deadline])?;
    Ok(())
}

/// Forgets a lease.
pub(super) fn erase_lease(connection: &Connection, lease: LeaseId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM leases WHERE id = ?1")?
        .execute([lease])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_syncs_each_commit_and_pages_are_of_8_kib() {
        let directory = tempfile::tempdir().unwrap();
        let (_lock, connection) = open(&directory.path().join("state.db")).unwrap();
        let number = |name| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .unwrap()
        };
        const FULL: i64 = 2;
        assert_eq!(number("synchronous"), FULL);
        assert_eq!(number("page_size"), 8192);
        assert_eq!(number("wal_autocheckpoint"), 2048);
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_failure_tells_a_full_disk_from_one_that_cannot_be_trusted() {
        for (code, expected) in [
            (ffi::SQLITE_FULL, "NoSpace"),
            (ffi::SQLITE_IOERR_SHMSIZE, "NoSpace"),
            (ffi::SQLITE_IOERR_FSYNC, "Broken"),
            (ffi::SQLITE_IOERR_DIR_FSYNC, "Broken"),
            (ffi::SQLITE_IOERR_WRITE, "Other"),
            (ffi::SQLITE_CORRUPT, "Other"),
            (ffi::SQLITE_BUSY, "Other"),
        ] {
            let failure = Failure::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert!(
                format!("{failure:?}").starts_with(expected),
                "{code}: {failure:?}"
            );
        }
    }
}
