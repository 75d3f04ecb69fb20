//! A full disk refuses writes, all of a batch or none, and takes them again when there is room.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use skiff_store::{Error, Expect, Range, SqliteOptions, SqliteStore, Store};

/// A disk of a few megabytes.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "the tests run as root");
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.directory.path())
            .status();
    }
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 << 10, 4 << 10, 1] {
        while file.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
    }
}

fn open(disk: &SmallDisk) -> SqliteStore {
    SqliteStore::open(&disk.path("state.db"), SqliteOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let disk = SmallDisk::mount("24m");
    // Room that can be given back.
    let ballast = disk.path("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let store = open(&disk);
    let mut watch = store.watch("/", 1).await.unwrap();
    let value = Bytes::from(vec![7; 20_000]);

    // Many at once, so that batches fail with several requests in them.
    let mut written = Vec::new();
    let mut refused = 0;
    for round in 0.. {
        assert!(round < 1000, "the disk never got full");
        let writes = (0..16).map(|i| {
            let (store, value) = (&store, value.clone());
            async move {
                let key = format!("/{round}/{i}");
                (store.put(&key, value, Expect::Absent, None).await, key)
            }
        });
        for (result, key) in futures::future::join_all(writes).await {
            match result {
                Ok(write) => written.push((write.revision, key)),
                Err(Error::NoSpace) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        // The log may have room that was used before, so the first refusal need not be the last word.
        if refused > 100 {
            break;
        }
        if refused > 0 {
            fill(&disk.path("rest"));
        }
    }

    // Revisions were given to what was written and to nothing else; all of it can be read.
    written.sort();
    let revisions: Vec<_> = written.iter().map(|(revision, _)| *revision).collect();
    assert_eq!(revisions, (2..2 + written.len() as i64).collect::<Vec<_>>());
    let last = store.revision().await.unwrap();
    assert_eq!(Some(&last), revisions.last());
    let page = store.range(Range::default()).await.unwrap();
    assert_eq!(page.items.len(), written.len());
    assert!(page.items.iter().all(|kv| kv.value == value));

    std::fs::remove_file(&ballast).unwrap();
    let next = store
        .put("/again", value.clone(), Expect::Any, None)
        .await
        .unwrap();
    assert_eq!(next.revision, last + 1);
    assert_eq!(
        store.delete("/again", Expect::Any).await.unwrap().revision,
        last + 2
    );
    let mut seen = 1;
    while seen < last + 2 {
        for event in watch.next().await.unwrap().unwrap().events {
            seen += 1;
            assert_eq!(event.revision, seen, "no gap, and nothing of what was refused");
        }
    }
    store.close().await;

    let store = open(&disk);
    assert_eq!(store.revision().await.unwrap(), last + 2);
    assert_eq!(
        store.range(Range::default()).await.unwrap().items.len(),
        written.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_on_a_full_disk_ends_when_there_is_room() {
    let disk = SmallDisk::mount("8m");
    let store = open(&disk);
    let ttl = Duration::from_secs(2);
    let lease = store.lease_grant(ttl).await.unwrap();
    let granted = tokio::time::Instant::now();
    let leased = Range {
        prefix: "/leased/".into(),
        ..Range::default()
    };
    for i in 0..3 {
        store
            .put(
                &format!("/leased/{i}"),
                Bytes::from_static(b"x"),
                Expect::Any,
                Some(lease),
            )
            .await
            .unwrap();
    }
    let rest = disk.path("rest");
    fill(&rest);
    // What the log has room for goes through yet.
    let value = Bytes::from(vec![0; 100]);
    let full = async {
        while !matches!(
            store.put("/x", value.clone(), Expect::Any, None).await,
            Err(Error::NoSpace)
        ) {}
    };
    tokio::time::timeout(Duration::from_secs(30), full)
        .await
        .expect("the disk is full");
    let revision = store.revision().await.unwrap();
    // The lease's time ends while nothing can be written, and nothing can tell of it: there is only the clock.
    tokio::time::sleep_until(granted + ttl + Duration::from_millis(100)).await;
    assert_eq!(store.range(leased.clone()).await.unwrap().items.len(), 3);

    std::fs::remove_file(&rest).unwrap();
    let mut watch = store.watch("/leased/", revision).await.unwrap();
    let mut deleted = 0;
    while deleted < 3 {
        let next = tokio::time::timeout(Duration::from_secs(30), watch.next());
        deleted += next.await.expect("the lease ends").unwrap().unwrap().events.len();
    }
    assert!(matches!(
        store.lease_revoke(lease).await,
        Err(Error::LeaseNotFound)
    ));
}

#[test]
fn a_store_cannot_be_made_on_a_full_disk_but_later_it_can() {
    let disk = SmallDisk::mount("1m");
    let rest = disk.path("rest");
    fill(&rest);
    let refused = SqliteStore::open(&disk.path("state.db"), SqliteOptions::default());
    assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
    std::fs::remove_file(&rest).unwrap();
    open(&disk);
}
