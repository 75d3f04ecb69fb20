//! The one thread that writes: it drains its queue into one transaction and one sync, then answers them all.
//!
//! There is no waiting for company: whatever arrived while the last sync ran makes the next batch, so a lone write
//! is committed at once and a thousand share a sync.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::batch::{Batch, Changes};
use super::lease::{Leases, Now};
use super::schema::{self, Failure, Lock};
use super::visible::Visible;
use crate::{Expect, LeaseId, Result, Revision, Written};

/// A batch takes no more requests than this, so that the first of them does not wait too long…
const MAX_REQUESTS: usize = 1024;
/// …nor more bytes.
const MAX_BYTES: usize = 16 << 20;
/// How many compacted revisions a batch deletes beside its requests. They share its sync.
const SWEEP: usize = 512;
/// When the deletion of compacted revisions or of a lease's keys has failed. Nothing tells that a disk has room again.
const RETRY: Duration = Duration::from_secs(1);

/// A request and the place that it takes in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) request: Request,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Who waits for an answer.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Put {
        key: String,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
        reply: Reply<Written>,
    },
    Delete {
        key: String,
        expect: Expect,
        reply: Reply<Written>,
    },
    Compact {
        revision: Revision,
        reply: Reply<()>,
    },
    Grant {
        ttl: Duration,
        reply: Reply<LeaseId>,
    },
    KeepAlive {
        lease: LeaseId,
        reply: Reply<()>,
    },
    Revoke {
        lease: LeaseId,
        reply: Reply<()>,
    },
    /// Finish what is queued, then end.
    Close,
}

impl Request {
    /// The bytes that it keeps in memory.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
            _ => 0,
        }
    }

    /// Decides the request. The answer waits until the batch is durable.
    fn decide(self, batch: &mut Batch<'_>) -> (Answer, schema::Result<()>) {
        match self {
            Self::Put {
                key,
                value,
                expect,
                lease,
                reply,
            } => Answer::from(Answer::Write, reply, batch.put(&key, value, expect, lease)),
            Self::Delete { key, expect, reply } => {
                Answer::from(Answer::Write, reply, batch.delete(&key, expect))
            }
            Self::Compact { revision, reply } => Answer::from(Answer::Done, reply, batch.compact(revision)),
            Self::Grant { ttl, reply } => Answer::from(Answer::Grant, reply, batch.grant(ttl)),
            Self::KeepAlive { lease, reply } => Answer::from(Answer::Done, reply, batch.keep_alive(lease)),
            Self::Revoke { lease, reply } => Answer::from(Answer::Done, reply, batch.revoke(lease)),
            Self::Close => (Answer::None, Ok(())),
        }
    }

    fn refuse(self, failure: &Failure) {
        let answer = match self {
            Self::Put { reply, .. } | Self::Delete { reply, .. } => Answer::Write(reply, None),
            Self::Compact { reply, .. } | Self::KeepAlive { reply, .. } | Self::Revoke { reply, .. } => {
                Answer::Done(reply, None)
            }
            Self::Grant { reply, .. } => Answer::Grant(reply, None),
            Self::Close => Answer::None,
        };
        answer.refuse(failure);
    }
}

/// An answer that waits for the commit. It holds no result when the batch failed before there was one.
enum Answer {
    Write(Reply<Written>, Option<Result<Written>>),
    Done(Reply<()>, Option<Result<()>>),
    Grant(Reply<LeaseId>, Option<Result<LeaseId>>),
    None,
}

impl Answer {
    fn from<T>(
        kind: fn(Reply<T>, Option<Result<T>>) -> Self,
        reply: Reply<T>,
        decision: schema::Result<Result<T>>,
    ) -> (Self, schema::Result<()>) {
        match decision {
            Ok(result) => (kind(reply, Some(result)), Ok(())),
            Err(failure) => (kind(reply, None), Err(failure)),
        }
    }

    /// The batch is durable. (That the asker has gone is no error.)
    fn send(self) {
        match self {
            Self::Write(reply, Some(result)) => drop(reply.send(result)),
            Self::Done(reply, Some(result)) => drop(reply.send(result)),
            Self::Grant(reply, Some(result)) => drop(reply.send(result)),
            Self::Write(_, None) | Self::Done(_, None) | Self::Grant(_, None) | Self::None => {}
        }
    }

    /// The batch is not, so neither is what a conflict was decided on.
    fn refuse(self, failure: &Failure) {
        match self {
            Self::Write(reply, _) => drop(reply.send(Err(failure.error()))),
            Self::Done(reply, _) => drop(reply.send(Err(failure.error()))),
            Self::Grant(reply, _) => drop(reply.send(Err(failure.error()))),
            Self::None => {}
        }
    }
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) leases: Leases,
    pub(super) visible: Arc<Visible>,
    pub(super) queue: Receiver<Queued>,
    /// The last revision, for those who wait for the next one.
    pub(super) published: watch::Sender<Revision>,
    pub(super) lock: Lock,
}

/// What the thread wakes up for.
enum Wake {
    Request(Queued),
    /// A lease has ended, or there is garbage left.
    OwnWork,
    Closed,
}

impl Writer {
    /// Works until the store is closed or dropped, or the disk can no longer be trusted.
    pub(super) fn run(mut self) {
        let mut retry: Option<Instant> = None;
        let mut failing = false;
        let broken = loop {
            let mut queued = Vec::new();
            let mut rooms = Vec::new();
            match self.wait(retry) {
                Wake::Request(first) => self.drain(first, &mut queued, &mut rooms),
                Wake::OwnWork => {}
                Wake::Closed => break None,
            }
            let closing = queued.iter().any(|request| matches!(request, Request::Close));
            let own_work = retry.is_none_or(|at| at <= Instant::now());
            let result = self.batch(queued, own_work);
            // Once, and not for each of a thousand commits.
            match &result {
                Err(failure) if !failing => tracing::warn!(?failure, "commits fail"),
                Ok(()) if failing => tracing::info!("commits succeed again"),
                _ => {}
            }
            failing = result.is_err();
            match result {
                Ok(()) => retry = retry.filter(|_| !own_work),
                Err(Failure::Broken(reason)) => break Some(reason),
                Err(_) => retry = Some(Instant::now() + RETRY),
            }
            drop(rooms);
            if closing {
                break None;
            }
        };
        if let Some(reason) = broken {
            tracing::error!(reason, "the store cannot sync and takes no more requests");
            self.visible.set_broken(reason);
        }
        self.end();
    }

    fn end(self) {
        while let Ok(Queued { request, .. }) = self.queue.try_recv() {
            request.refuse(&self.visible.ended());
        }
        let Self {
            connection,
            published,
            lock,
            ..
        } = self;
        // The last connection to close also moves the log into the database file.
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "closing the store's file");
        }
        drop(lock);
        // Its end is what `SqliteStore::close` waits for.
        drop(published);
    }

    fn wait(&self, retry: Option<Instant>) -> Wake {
        let has_garbage = !self.visible.garbage(1).is_empty();
        let due = if has_garbage {
            Some(Instant::now())
        } else {
            self.leases.next_deadline()
        };
        let due = due.map(|due| retry.map_or(due, |retry| due.max(retry)));
        let received = match due {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => self
                .queue
                .recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(queued) => Wake::Request(queued),
            Err(RecvTimeoutError::Timeout) => Wake::OwnWork,
            Err(RecvTimeoutError::Disconnected) => Wake::Closed,
        }
    }

    fn drain(
        &self,
        first: Queued,
        requests: &mut Vec<Request>,
        rooms: &mut Vec<Option<OwnedSemaphorePermit>>,
    ) {
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(Queued { request, room }) = next {
            bytes += request.size();
            let closing = matches!(request, Request::Close);
            requests.push(request);
            rooms.push(room);
            if closing || requests.len() >= MAX_REQUESTS || bytes >= MAX_BYTES {
                break;
            }
            next = self.queue.try_recv().ok();
        }
    }

    /// One transaction: the leases that have ended, the requests, and some of the garbage.
    fn batch(&mut self, requests: Vec<Request>, own_work: bool) -> schema::Result<()> {
        let mut answers = Vec::with_capacity(requests.len());
        match self.transact(requests, own_work, &mut answers) {
            Ok(changes) => {
                let news = changes.show(&self.visible, &mut self.leases);
                answers.into_iter().for_each(Answer::send);
                if news {
                    self.published.send_replace(self.visible.revision());
                }
                Ok(())
            }
            Err(failure) => {
                self.roll_back();
                answers.into_iter().for_each(|answer| answer.refuse(&failure));
                Err(failure)
            }
        }
    }

    /// Leaves an answer for every request in `answers`, whatever happens.
    fn transact(
        &self,
        requests: Vec<Request>,
        own_work: bool,
        answers: &mut Vec<Answer>,
    ) -> schema::Result<Changes> {
        let now = Now::read();
        let mut batch = Batch::new(&self.connection, &self.visible, &self.leases, now);
        let mut outcome = self.begin(&mut batch, now, own_work);
        for request in requests {
            match outcome {
                Ok(()) => {
                    let (answer, result) = request.decide(&mut batch);
                    answers.push(answer);
                    outcome = result;
                }
                Err(ref failure) => request.refuse(failure),
            }
        }
        outcome?;
        if own_work {
            batch.sweep(SWEEP)?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(batch.changes())
    }

    fn begin(&self, batch: &mut Batch<'_>, now: Now, own_work: bool) -> schema::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        if own_work {
            for lease in self.leases.due(now.monotonic) {
                // The inner error cannot be: the lease is there.
                let _ended = batch.revoke(lease)?;
            }
        }
        Ok(())
    }

    fn roll_back(&self) {
        // SQLite has rolled back by itself after some errors.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "rolling back");
        }
    }
}
