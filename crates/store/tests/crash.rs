//! A process that writes is killed at random moments, over and over on the same file. Every acknowledged write is there
//! afterwards, whole, and no revision is given twice. And what a power cut may leave of the log is opened as a past state.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use skiff_store::{Expect, KeyValue, Range, Revision, SqliteOptions, SqliteStore, Store};

const KILLS: usize = 200;
/// Names the file to the process that is killed.
const FILE: &str = "SKIFF_STORE_CRASH_FILE";
const TASKS: usize = 6;
const KEYS: usize = 20;

/// A small and quick source of numbers, good enough to scatter kills and sizes.
struct Scatter(u64);

impl Scatter {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Bytes that carry their own checksum in front.
fn value(scatter: &mut Scatter) -> Bytes {
    let size = match scatter.below(10) {
        0 => scatter.below(40_000),
        _ => scatter.below(3_000),
    };
    let body: Vec<u8> = (0..size)
        .map(|_| scatter.0.wrapping_add(scatter.below(256)) as u8)
        .collect();
    let mut value = checksum(&body).to_le_bytes().to_vec();
    value.extend(body);
    value.into()
}

fn is_whole(value: &[u8]) -> bool {
    value
        .split_first_chunk::<8>()
        .is_some_and(|(sum, body)| u64::from_le_bytes(*sum) == checksum(body))
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

/// One line for each acknowledged write, and one when the file is open.
fn acknowledge(line: &str) {
    let mut out = std::io::stdout().lock();
    // The reader may be gone already.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Each task writes and deletes keys of its own and tells what was acknowledged, until somebody ends it.
#[test]
#[ignore = "it is the process that the other test kills"]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = open(&path);
        let start = store.revision().await.unwrap();
        // What it deletes goes on beside the writes.
        store.compact(start).await.unwrap();
        acknowledge("# open");
        let seed = u64::from(std::process::id()) << 20 | u64::from(start.unsigned_abs() as u32) | 1;
        let write = async |task: usize| {
            let mut scatter = Scatter(seed.wrapping_mul(task as u64 * 2 + 1));
            loop {
                let key = format!("/crash/{task}/{:02}", scatter.below(KEYS as u64));
                if scatter.below(8) == 0 {
                    if let Ok(written) = store.delete(&key, Expect::Any).await {
                        acknowledge(&format!("D {} {key} 0", written.revision));
                    }
                } else {
                    let value = value(&mut scatter);
                    let sum = checksum(&value);
                    let written = store.put(&key, value, Expect::Any, None).await.unwrap();
                    acknowledge(&format!("P {} {key} {sum}", written.revision));
                }
            }
        };
        futures::future::join_all((0..TASKS).map(write)).await;
    });
}

/// Ends the process whatever becomes of the test.
struct Killed(Child);

impl Killed {
    fn start(path: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_process_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(FILE, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Acknowledged {
    key: String,
    /// `None` for a deletion.
    checksum: Option<u64>,
}

/// Lets the process run until a random moment; what it had acknowledged by then.
fn run_and_kill(path: &Path, scatter: &mut Scatter) -> BTreeMap<Revision, Acknowledged> {
    let mut process = Killed::start(path);
    let mut lines = BufReader::new(process.0.stdout.take().unwrap());
    let mut acknowledged = BTreeMap::new();
    let mut line = String::new();
    let mut read = |acknowledged: &mut BTreeMap<_, _>| {
        line.clear();
        // A line without its end was cut off by the kill.
        let whole = lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n');
        let words: Vec<_> = line.split_whitespace().collect();
        if let (true, [what @ ("P" | "D"), revision, key, sum]) = (whole, &words[..]) {
            let write = Acknowledged {
                key: (*key).to_owned(),
                checksum: (*what == "P").then(|| sum.parse().unwrap()),
            };
            let twice = acknowledged.insert(revision.parse().unwrap(), write);
            assert_eq!(twice, None, "a revision was given twice");
        }
        whole
    };
    match scatter.below(4) {
        // While it opens, or soon after.
        0 => std::thread::sleep(Duration::from_micros(scatter.below(40_000))),
        // In the middle of its work.
        _ => {
            let enough = 1 + scatter.below(250) as usize;
            while acknowledged.len() < enough && read(&mut acknowledged) {}
        }
    }
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    while read(&mut acknowledged) {}
    acknowledged
}

/// What the file says has happened since a revision, by revision.
async fn history(store: &SqliteStore, after: Revision) -> BTreeMap<Revision, (String, Option<KeyValue>)> {
    let upto = store.revision().await.unwrap();
    let mut history = BTreeMap::new();
    let mut watch = store.watch("", after).await.unwrap();
    let mut reached = after;
    while reached < upto {
        let batch = watch.next().await.unwrap().unwrap();
        reached = batch.revision;
        for event in batch.events {
            let key = event
                .current
                .as_ref()
                .or(event.previous.as_ref())
                .unwrap()
                .key
                .to_string();
            history.insert(event.revision, (key, event.current));
        }
    }
    let revisions: Vec<_> = history.keys().copied().collect();
    assert_eq!(revisions, (after + 1..=upto).collect::<Vec<_>>(), "no gap");
    history
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_whenever_the_writer_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let mut scatter = Scatter(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    println!("seed {}", scatter.0);
    let mut state: HashMap<String, KeyValue> = HashMap::new();
    let mut revision = 1;
    let mut total = 0;
    let begun = Instant::now();
    for kill in 0..KILLS {
        let acknowledged = run_and_kill(&path, &mut scatter);
        total += acknowledged.len();
        if let Some((first, _)) = acknowledged.first_key_value() {
            assert!(
                *first > revision,
                "kill {kill}: revision {first} was given before"
            );
        }

        let store = open(&path);
        let history = history(&store, revision).await;
        for (revision, write) in &acknowledged {
            let (key, found) = history
                .get(revision)
                .unwrap_or_else(|| panic!("kill {kill}: {revision} is lost"));
            let found = Acknowledged {
                key: key.clone(),
                checksum: found.as_ref().map(|kv| checksum(&kv.value)),
            };
            assert_eq!(&found, write, "kill {kill}, revision {revision}");
        }
        for (at, (key, kv)) in history {
            revision = at;
            match kv {
                Some(kv) => {
                    assert!(is_whole(&kv.value), "kill {kill}: {key} at {at} is torn");
                    state.insert(key, kv);
                }
                None => drop(state.remove(&key)),
            }
        }
        let page = store.range(Range::default()).await.unwrap();
        assert_eq!(page.revision, revision);
        let found: HashMap<_, _> = page
            .items
            .into_iter()
            .map(|kv| (kv.key.to_string(), kv))
            .collect();
        assert_eq!(found, state, "kill {kill}");
        store.close().await;
    }
    println!(
        "{KILLS} kills, {total} acknowledged writes, revision {revision}, {:?}",
        begun.elapsed()
    );
    assert!(total > 10 * KILLS, "only {total} writes: the kills hit nothing");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let check: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

/// Only the tail of the log can be lost or torn by a power cut, as each sync follows the writes that it covers.
#[tokio::test]
async fn a_log_that_is_torn_anywhere_opens_as_the_state_of_some_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = open(&path);
    let mut scatter = Scatter(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    println!("seed {}", scatter.0);
    for i in 0..60 {
        let key = format!("/{}", i % 7);
        if i % 5 == 4 {
            // Some are not there.
            let _ = store.delete(&key, Expect::Any).await;
        } else {
            store
                .put(&key, value(&mut scatter), Expect::Any, None)
                .await
                .unwrap();
        }
    }
    let truth = history(&store, 1).await;
    let database = std::fs::read(&path).unwrap();
    let log = std::fs::read(directory.path().join("state.db-wal")).unwrap();

    let mut reached = std::collections::BTreeSet::new();
    for round in 0..60 {
        let torn = tempfile::tempdir().unwrap();
        let path = torn.path().join("state.db");
        std::fs::write(&path, &database).unwrap();
        let mut log = log.clone();
        let at = scatter.below(log.len() as u64) as usize;
        match round % 3 {
            0 => log.truncate(at),
            1 => log[at] ^= 1 << scatter.below(8),
            _ => log[at..].fill(0),
        }
        std::fs::write(torn.path().join("state.db-wal"), &log).unwrap();
        let store = open(&path);
        let revision = store.revision().await.unwrap();
        let expected: Vec<_> = truth.range(..=revision).collect();
        let found = history(&store, 1).await;
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            expected,
            "round {round}, torn at {at}"
        );
        let written = store
            .put("/after", Bytes::new(), Expect::Any, None)
            .await
            .unwrap();
        assert_eq!(written.revision, revision + 1);
        reached.insert(revision);
    }
    assert!(reached.len() > 5, "the tears hit nothing: {reached:?}");
}
