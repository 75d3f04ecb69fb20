//! One piece of work for all who want its result at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// Work that is going on, and whose result all who hold it get.
pub(crate) type Flight<V> = Shared<BoxFuture<'static, V>>;

/// Work that is going on, by what it is for. It goes on as long as somebody waits for it, and is remembered no longer.
pub(crate) struct Flights<K, V>(Arc<Mutex<Board<K, V>>>);

struct Board<K, V> {
    /// Tells a flight from a later one of the same key.
    next: u64,
    flights: HashMap<K, (u64, WeakShared<BoxFuture<'static, V>>)>,
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Board {
            next: 0,
            flights: HashMap::new(),
        })))
    }
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work for `key`, or begins it. `begin` only makes the future; nothing runs before it is awaited.
    pub(crate) fn join<F>(&self, key: &K, begin: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut board = self.0.lock();
        if let Some(flight) = board.flights.get(key).and_then(|(_, flight)| flight.upgrade()) {
            return flight;
        }
        board.next += 1;
        let number = board.next;
        let landing = Landing {
            flights: self.clone(),
            key: key.clone(),
            number,
        };
        let work = begin();
        let flight = async move {
            // Moved in, so that it is dropped with the future too, when nobody waits any more.
            let _landing = landing;
            work.await
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            board.flights.insert(key.clone(), (number, weak));
        }
        flight
    }
}

/// Forgets the work before its result is seen, so that nobody joins what is over.
struct Landing<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut board = self.flights.0.lock();
        if board
            .flights
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            board.flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn work_is_done_once_for_all_who_wait_and_again_for_who_comes_later() {
        let flights: Flights<&str, usize> = Flights::default();
        let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = || {
            let (runs, go) = (runs.clone(), go.clone());
            flights.join(&"a", move || async move {
                go.notified().await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            })
        };
        let (first, second) = (join(), join());
        go.notify_one();
        assert_eq!(futures::join!(first.clone(), second), (1, 1));
        go.notify_one();
        assert_eq!(
            join().await,
            2,
            "the first result is not kept, though somebody still holds it"
        );
        drop(first);
        assert!(flights.0.lock().flights.is_empty());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let flights: Flights<&str, ()> = Flights::default();
        let alive = Arc::new(());
        let witness = Arc::downgrade(&alive);
        let mut flight = flights.join(&"a", || async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        assert!(futures::poll!(&mut flight).is_pending());
        drop(flight);
        assert!(witness.upgrade().is_none());
        assert!(flights.0.lock().flights.is_empty());
    }
}
