//! How many writes a second the store takes from 64 writers at once, 2 KB each, the sync included.
//!
//! `throughput [DIRECTORY|http://ETCD] [SECONDS]`: creates, then updates, then gets, each for so long, and then a range.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skiff_store::{EtcdOptions, EtcdStore, Expect, Range, Result, SqliteOptions, SqliteStore, Store};

const WRITERS: u64 = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "throughput-state".into());
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let begun = Instant::now();
    let store: Arc<dyn Store> = if directory.starts_with("http") {
        let options = EtcdOptions {
            endpoints: vec![directory],
            ..EtcdOptions::default()
        };
        Arc::new(EtcdStore::connect(options).await?)
    } else {
        let path = std::path::Path::new(&directory).join("state.db");
        Arc::new(SqliteStore::open(&path, SqliteOptions::default())?)
    };
    println!(
        "open: {:?} at revision {}",
        begun.elapsed(),
        store.revision().await?
    );
    let value = Bytes::from(vec![b'x'; 2048]);

    for what in ["create", "update", "get"] {
        let begun = Instant::now();
        let end = begun + Duration::from_secs(seconds);
        let count = Arc::new(AtomicU64::new(0));
        let tasks = (0..WRITERS).map(|writer| {
            let (store, value, count) = (store.clone(), value.clone(), count.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while Instant::now() < end {
                    let key = |number| format!("/registry/pods/default/{writer}-{number}");
                    match what {
                        "create" => drop(store.put(&key(number), value.clone(), Expect::Absent, None).await),
                        "update" => drop(
                            store
                                .put(&key(number % 50), value.clone(), Expect::Any, None)
                                .await,
                        ),
                        _ => drop(store.get(&key(number % 100)).await),
                    }
                    number += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for task in futures::future::join_all(tasks).await {
            if let Err(error) = task {
                println!("{error}");
            }
        }
        let rate = count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        println!("{what}: {rate:.0}/s");
    }
    let begun = Instant::now();
    let range = Range {
        limit: 5000,
        ..Range::default()
    };
    let page = store.range(range).await?;
    println!(
        "range: {} of {} keys in {:?}",
        page.items.len(),
        page.items.len() + page.remaining,
        begun.elapsed()
    );
    Ok(())
}
