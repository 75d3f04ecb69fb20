//! The store in one SQLite file: opening, closing, and where each method goes.
//!
//! Writes go through a queue to the one thread of [`writer`]; [`visible`] is what its last commit left for readers to
//! see; values that are no longer among the last events are read from the file by [`reader`]. The file's format is in
//! [`schema`].
//!
//! *Architecture invariants:* Only the writer's thread writes to the file or changes what is visible. Nothing is visible
//! or acknowledged before it is durable. No lock is held while the file is read or written.

mod batch;
mod index;
mod lease;
mod reader;
mod ring;
mod schema;
mod visible;
mod watch;
mod writer;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use self::lease::{Leases, Now};
use self::reader::Readers;
use self::ring::Ring;
use self::visible::{Head, Visible};
use self::writer::{Queued, Reply, Request, Writer};
use crate::{Error, Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, Written};

/// What a [`SqliteStore`] may spend.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// How many of the last events are kept in memory. A watcher further behind reads the file.
    pub ring_events: usize,
    /// How many bytes the values of those events may have.
    pub ring_bytes: usize,
    /// How many reads of the file may run at once.
    pub readers: usize,
    /// How many bytes may wait to be written; who comes later waits. A request counts at least 1 KiB.
    pub queue_bytes: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            ring_events: 8192,
            ring_bytes: 16 << 20,
            readers: 4,
            queue_bytes: 32 << 20,
        }
    }
}

/// A [`Store`] in one SQLite file.
///
/// Close it with [`SqliteStore::close`]; dropping it does the same but blocks the thread meanwhile. A write whose future is
/// dropped before it returns may be done or not.
#[derive(Debug)]
pub struct SqliteStore {
    visible: Arc<Visible>,
    readers: Arc<Readers>,
    queue: mpsc::Sender<Queued>,
    /// A permit is a KiB of the queue.
    room: Arc<Semaphore>,
    room_size: u32,
    published: tokio::sync::watch::Receiver<Revision>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the file, and makes it and its directory (modes 0600 and 0700) when they are not there.
    ///
    /// Blocks while the keys are read: about a second for a million of them. [`Error::Unavailable`] when another process
    /// has the file open, or it is not one of ours; [`Error::NoSpace`] when the disk is full.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        Ok(Self::start(path, &options)?)
    }

    fn start(path: &Path, options: &SqliteOptions) -> schema::Result<Self> {
        let begun = Instant::now();
        let (lock, connection) = schema::open(path)?;
        let mut leases = Leases::load(schema::leases(&connection)?, Now::read());
        let ring = |revision| Ring::new(revision, options.ring_events, options.ring_bytes);
        let visible = Arc::new(Visible::load(&connection, &mut leases, ring)?);
        let revision = visible.revision();
        let (queue, queued) = mpsc::channel();
        let (published, receiver) = tokio::sync::watch::channel(revision);
        let writer = Writer {
            connection,
            leases,
            visible: visible.clone(),
            queue: queued,
            published,
            lock,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(|| writer.run())?;
        tracing::info!(path = %path.display(), revision, took = ?begun.elapsed(), "store opened");
        let room_size = u32::try_from(options.queue_bytes / 1024)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Ok(Self {
            readers: Arc::new(Readers::new(path.into(), visible.clone(), options.readers)),
            visible,
            queue,
            room: Arc::new(Semaphore::new(room_size as usize)),
            room_size,
            published: receiver,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Finishes the writes that are queued and closes the file. Whatever is asked of the store later is
    /// [`Error::Unavailable`], and watches end so.
    pub async fn close(&self) {
        self.readers.close();
        self.send(Request::Close, None);
        // The sender goes when the file is closed.
        let mut published = self.published.clone();
        while published.changed().await.is_ok() {}
    }

    async fn request<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let kib = u32::try_from(1 + request.size() / 1024).unwrap_or(u32::MAX);
        let room = self
            .room
            .clone()
            .acquire_many_owned(kib.min(self.room_size))
            .await;
        self.send(request, room.ok());
        answer.await.unwrap_or_else(|_| Err(self.visible.ended().into()))
    }

    /// A request that comes after the end is dropped, which its asker notices.
    fn send(&self, request: Request, room: Option<tokio::sync::OwnedSemaphorePermit>) {
        drop(self.queue.send(Queued { request, room }));
    }

    fn open_or_closed(&self) -> Result<()> {
        if self.readers.is_closed() || self.published.has_changed().is_err() {
            return Err(self.visible.ended().into());
        }
        Ok(())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.readers.close();
        self.send(Request::Close, None);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn revision(&self) -> Result<Revision> {
        self.open_or_closed()?;
        Ok(self.visible.revision())
    }

    async fn get(&self, key: &str) -> Result<Read<Option<KeyValue>>> {
        self.open_or_closed()?;
        loop {
            let (head, revision) = self.visible.head(key);
            let value = match head {
                Head::Absent => None,
                Head::Here(kv) => Some(kv),
                Head::InFile(key, at) => match self.readers.state(key, at).await? {
                    Some(kv) => Some(kv),
                    // Written anew and compacted since we looked, so there is a newer state.
                    None if self.visible.compacted() > revision => continue,
                    None => return Err(Error::Unavailable(format!("what revision {at} wrote is missing"))),
                },
            };
            return Ok(Read { value, revision });
        }
    }

    async fn range(&self, range: Range) -> Result<Page> {
        self.open_or_closed()?;
        self.readers.range(range).await
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, lease: Option<LeaseId>) -> Result<Written> {
        let key = key.to_owned();
        self.request(|reply| Request::Put {
            key,
            value,
            expect,
            lease,
            reply,
        })
        .await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written> {
        let key = key.to_owned();
        self.request(|reply| Request::Delete { key, expect, reply }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        self.open_or_closed()?;
        match self.visible.compacted() {
            oldest if after < oldest => Err(Error::Compacted { oldest }),
            _ => Ok(watch::watch(
                prefix,
                after,
                self.visible.clone(),
                self.readers.clone(),
                self.published.clone(),
            )),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.request(|reply| Request::Compact { revision, reply }).await
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.request(|reply| Request::Grant { ttl, reply }).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.request(|reply| Request::KeepAlive { lease, reply }).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<()> {
        self.request(|reply| Request::Revoke { lease, reply }).await
    }
}
