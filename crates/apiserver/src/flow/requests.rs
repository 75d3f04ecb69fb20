//! The requests that have their turn or wait for it, one by one: for those who look for what is wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::http::request_info::RequestInfo;
use crate::user::UserInfo;

/// How many parts the requests are kept in, so that few who come at once wait for the same lock.
const PARTS: u64 = 16;

/// A request that has its turn or waits for it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) level: Arc<str>,
    pub(super) schema: Arc<str>,
    pub(super) info: Arc<RequestInfo>,
    pub(super) user: Arc<UserInfo>,
    /// Which flow of its schema it is part of, as a number.
    pub(super) flow: u64,
    /// The queue that it was put into; `None`: it did not have to wait.
    pub(super) queue: Option<usize>,
    pub(super) arrived: SystemTime,
    /// `None`: it waits.
    pub(super) begun: Option<SystemTime>,
}

type Part = Mutex<HashMap<u64, Request>>;

/// The requests; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    parts: Arc<[Part]>,
    next: Arc<AtomicU64>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            next: Arc::default(),
        }
    }
}

impl Requests {
    /// One more request, for as long as what is returned is kept.
    pub(super) fn enter(&self, request: Request) -> Entered {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(part) = self.part(number) {
            part.lock().insert(number, request);
        }
        Entered {
            requests: self.clone(),
            number,
        }
    }

    fn part(&self, number: u64) -> Option<&Part> {
        self.parts
            .get(usize::try_from(number % PARTS).unwrap_or_default())
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<Request> {
        let mut all: Vec<(u64, Request)> = Vec::new();
        for part in self.parts.iter() {
            let part = part.lock();
            all.extend(part.iter().map(|(number, request)| (*number, request.clone())));
        }
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, request)| request).collect()
    }
}

/// A request among the others.
#[derive(Debug)]
pub(super) struct Entered {
    requests: Requests,
    number: u64,
}

impl Entered {
    fn change(&self, change: impl FnOnce(&mut Request)) {
        let part = self.requests.part(self.number);
        if let Some(mut part) = part.map(Mutex::lock)
            && let Some(request) = part.get_mut(&self.number)
        {
            change(request);
        }
    }

    /// It has to wait, in this queue.
    pub(super) fn waits(&self, queue: usize) {
        self.change(|request| request.queue = Some(queue));
    }

    /// It is its turn.
    pub(super) fn begins(&self) {
        self.change(|request| request.begun = Some(SystemTime::now()));
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(part) = self.requests.part(self.number) {
            part.lock().remove(&self.number);
        }
    }
}
