//! The seats of a server, and who sits and who waits.
//!
//! Each level has seats of its own. Those of them that it may lend are anybody's while it does not use them; the others
//! stay free for it. Within a level, flows are dealt to a few of its queues each, and the queues take turns, so that one
//! flow's crowd is one flow's wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A level as its object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LevelConfig {
    name: Arc<str>,
    shares: usize,
    lendable_percent: usize,
    borrowing_limit_percent: Option<usize>,
    /// `None`: nobody waits.
    queuing: Option<Queuing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queuing {
    queues: usize,
    hand_size: usize,
    length: usize,
}

fn count(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or_default()).unwrap_or_default()
}

impl LevelConfig {
    /// `None`: the level is exempt, and has no seats.
    pub(super) fn of(object: &PriorityLevelConfiguration) -> Option<Self> {
        let limited = object.spec.limited.as_ref()?;
        let queuing = limited.limit_response.queuing.as_ref();
        Some(Self {
            name: object.metadata.name.as_deref().unwrap_or_default().into(),
            shares: count(limited.nominal_concurrency_shares),
            lendable_percent: count(limited.lendable_percent),
            borrowing_limit_percent: limited.borrowing_limit_percent.map(|limit| count(Some(limit))),
            queuing: queuing.map(|queuing| Queuing {
                // A queue is made when somebody waits in it; the number only says how far flows are spread.
                queues: count(queuing.queues).max(1),
                hand_size: count(queuing.hand_size).max(1),
                length: count(queuing.queue_length_limit),
            }),
        })
    }

    /// How many queues there are.
    pub(super) fn queues(&self) -> usize {
        self.queuing.map_or(0, |queuing| queuing.queues)
    }
}

#[derive(Debug, Default)]
struct Level {
    /// How many seats are its own, and how many of them are never lent.
    nominal: usize,
    kept: usize,
    /// How many it may have with those of others.
    most: usize,
    used: usize,
    queuing: Option<Queuing>,
    /// Those in which somebody waits, by number.
    queues: HashMap<usize, VecDeque<oneshot::Sender<Seat>>>,
    /// The numbers of those, in the order of their turns.
    turns: VecDeque<usize>,
    /// Whether there is no such object any more, and only those are left who sit.
    is_gone: bool,
}

impl Level {
    /// How many of the kept seats are free.
    fn unused(&self) -> usize {
        self.kept.saturating_sub(self.used)
    }

    /// The shortest of the queues that a flow is dealt.
    fn queue_of(&self, flow: u64, queuing: Queuing) -> usize {
        let mut hand: Vec<usize> = Vec::with_capacity(queuing.hand_size);
        let mut rest = flow;
        for dealt in 0..queuing.hand_size.min(queuing.queues) {
            let left = (queuing.queues - dealt) as u64;
            let mut card = usize::try_from(rest % left).unwrap_or_default();
            rest /= left;
            // The card counts among those that are left.
            let mut taken = hand.clone();
            taken.sort_unstable();
            for other in taken {
                if card >= other {
                    card += 1;
                }
            }
            hand.push(card);
        }
        let length = |queue: &usize| self.queues.get(queue).map_or(0, VecDeque::len);
        hand.into_iter().min_by_key(length).unwrap_or_default()
    }

    /// Puts somebody into a queue of their flow, and says into which; `None`: it is full.
    fn wait(&mut self, flow: u64) -> Option<(usize, oneshot::Receiver<Seat>)> {
        let queuing = self.queuing?;
        let number = self.queue_of(flow, queuing);
        let queue = self.queues.entry(number).or_default();
        if queue.len() >= queuing.length {
            // Those who gave up leave their places when these are needed.
            queue.retain(|waiting| !waiting.is_closed());
        }
        if queue.len() >= queuing.length {
            return None;
        }
        if queue.is_empty() && !self.turns.contains(&number) {
            self.turns.push_back(number);
        }
        let (turn, waiting) = oneshot::channel();
        queue.push_back(turn);
        Some((number, waiting))
    }

    /// The next one whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Seat>> {
        while let Some(number) = self.turns.pop_front() {
            let Some(queue) = self.queues.get_mut(&number) else {
                continue;
            };
            let next = std::iter::from_fn(|| queue.pop_front()).find(|waiting| !waiting.is_closed());
            if queue.is_empty() {
                self.queues.remove(&number);
            } else {
                self.turns.push_back(number);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

/// A seat that somebody has; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Option<Arc<Mutex<Seats>>>,
    level: Arc<str>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = self.seats.take() {
            Seats::give_back(&seats, &self.level);
        }
    }
}

/// What somebody who asks for a seat is told.
#[derive(Debug)]
pub(super) enum Outcome {
    Now(Seat),
    Wait {
        queue: usize,
        turn: oneshot::Receiver<Seat>,
    },
    /// No; whether others of the level wait.
    Full {
        waits: bool,
    },
}

#[derive(Debug)]
pub(super) struct Seats {
    total: usize,
    used: usize,
    /// The free seats that levels keep for themselves.
    unused: usize,
    levels: HashMap<Arc<str>, Level>,
}

impl Seats {
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            used: 0,
            unused: 0,
            levels: HashMap::new(),
        }
    }

    /// Divides the seats anew. Who sits stays, who waits goes on waiting.
    pub(super) fn configure(&mut self, levels: impl Iterator<Item = LevelConfig>) {
        let levels: Vec<LevelConfig> = levels.collect();
        let sum: usize = levels.iter().map(|level| level.shares).sum();
        for level in self.levels.values_mut() {
            level.is_gone = true;
            level.queuing = None;
            (level.kept, level.nominal, level.most) = (0, 0, 0);
        }
        for config in levels {
            let level = self.levels.entry(config.name).or_default();
            level.is_gone = false;
            level.nominal = (self.total * config.shares).div_ceil(sum.max(1));
            let lent = (level.nominal * config.lendable_percent + 50) / 100;
            level.kept = level.nominal.saturating_sub(lent);
            level.most = match config.borrowing_limit_percent {
                Some(percent) => level.nominal + (level.nominal * percent + 50) / 100,
                None => self.total,
            };
            level.queuing = config.queuing;
        }
        // Who waits at a level that is gone is told so: their channel ends.
        self.levels.retain(|_, level| {
            if level.is_gone {
                level.queues.clear();
                level.turns.clear();
            }
            !level.is_gone || level.used > 0
        });
        self.unused = self.levels.values().map(Level::unused).sum();
    }

    /// The levels and how many seats are their own.
    pub(super) fn nominal(&self) -> Vec<(String, usize)> {
        let present = self.levels.iter().filter(|(_, level)| !level.is_gone);
        let mut levels: Vec<(String, usize)> = present
            .map(|(name, level)| (name.to_string(), level.nominal))
            .collect();
        levels.sort();
        levels
    }

    /// Whether a level may take one more seat.
    fn has_room(&self, level: &Level) -> bool {
        level.used < level.kept || (level.used < level.most && self.used + self.unused < self.total)
    }

    fn sit(&mut self, name: &Arc<str>) {
        if let Some(level) = self.levels.get_mut(name) {
            let before = level.unused();
            level.used += 1;
            self.unused = self.unused + level.unused() - before;
            self.used += 1;
        }
    }

    fn stand(&mut self, name: &Arc<str>) {
        if let Some(level) = self.levels.get_mut(name) {
            let before = level.unused();
            level.used = level.used.saturating_sub(1);
            self.unused = self.unused + level.unused() - before;
            self.used = self.used.saturating_sub(1);
            if level.is_gone && level.used == 0 {
                self.levels.remove(name);
            }
        }
    }

    /// Asks for a seat of a level, for a flow.
    pub(super) fn ask(this: &Arc<Mutex<Self>>, name: &Arc<str>, flow: u64) -> Outcome {
        let mut seats = this.lock();
        let Some(level) = seats.levels.get(name) else {
            return Outcome::Full { waits: false };
        };
        let waits = level.queuing.is_some();
        if level.turns.is_empty() && seats.has_room(level) {
            seats.sit(name);
            return Outcome::Now(Seat {
                seats: Some(this.clone()),
                level: name.clone(),
            });
        }
        let waiting = seats.levels.get_mut(name).and_then(|level| level.wait(flow));
        match waiting {
            Some((queue, turn)) => {
                // Those before may all have given up, and then nobody stands up any more.
                seats.seat_waiting(this);
                Outcome::Wait { queue, turn }
            }
            None => Outcome::Full { waits },
        }
    }

    fn give_back(this: &Arc<Mutex<Self>>, name: &Arc<str>) {
        let mut seats = this.lock();
        seats.stand(name);
        seats.seat_waiting(this);
    }

    /// Seats those who wait as long as there is room, the level first that has least of what is its own.
    fn seat_waiting(&mut self, this: &Arc<Mutex<Self>>) {
        loop {
            let next = self
                .levels
                .iter()
                .filter(|(_, level)| !level.turns.is_empty() && self.has_room(level))
                .min_by(|(_, a), (_, b)| (a.used * b.nominal.max(1)).cmp(&(b.used * a.nominal.max(1))))
                .map(|(name, _)| name.clone());
            let Some(name) = next else { return };
            let Some(waiting) = self.levels.get_mut(&name).and_then(Level::next) else {
                continue;
            };
            self.sit(&name);
            let seat = Seat {
                seats: Some(this.clone()),
                level: name.clone(),
            };
            if let Err(mut seat) = waiting.send(seat) {
                // They gave up meanwhile. The lock is held here, so that the seat cannot be given back by its drop.
                seat.seats = None;
                self.stand(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(name: &str, shares: usize, lendable_percent: usize, length: usize) -> LevelConfig {
        LevelConfig {
            name: name.into(),
            shares,
            lendable_percent,
            borrowing_limit_percent: None,
            queuing: (length > 0).then_some(Queuing {
                queues: 8,
                hand_size: 1,
                length,
            }),
        }
    }

    fn seats(levels: impl IntoIterator<Item = LevelConfig>) -> Arc<Mutex<Seats>> {
        let mut seats = Seats::new(10);
        seats.configure(levels.into_iter());
        Arc::new(Mutex::new(seats))
    }

    fn taken(seats: &Arc<Mutex<Seats>>, name: &str) -> Vec<Seat> {
        let name: Arc<str> = name.into();
        std::iter::from_fn(|| match Seats::ask(seats, &name, 0) {
            Outcome::Now(seat) => Some(seat),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_level_borrows_what_others_lend_and_keep_nothing_from_it() {
        let seats = seats([level("a", 5, 0, 0), level("b", 5, 60, 0)]);
        let a = taken(&seats, "a");
        assert_eq!(a.len(), 8, "its own five and the three that b lends");
        let b = taken(&seats, "b");
        assert_eq!(b.len(), 2, "what b keeps is always there");
        drop(a);
        assert_eq!(taken(&seats, "b").len(), 3, "b borrows nothing: a lends nothing");
        drop(b);
        let now = seats.lock();
        assert_eq!((now.used, now.unused), (0, 7));
    }

    #[tokio::test]
    async fn flows_take_turns() {
        let seats = seats([level("a", 1, 0, 4)]);
        let mut sitting = taken(&seats, "a");
        let name: Arc<str> = "a".into();
        // The last ask of `taken` waits in the queue of flow 0; its receiver is gone.
        let ask = |flow| match Seats::ask(&seats, &name, flow) {
            Outcome::Wait { turn, .. } => turn,
            other => panic!("{other:?}"),
        };
        let (mut crowd, mut second, mut alone) = (ask(0), ask(0), ask(1));
        sitting.pop();
        let first = crowd.try_recv().unwrap();
        assert!(second.try_recv().is_err() && alone.try_recv().is_err());
        drop(first);
        assert!(alone.try_recv().is_ok(), "one of each flow, in turns");
        assert!(second.try_recv().is_ok());
    }

    #[test]
    fn a_queue_has_an_end() {
        let seats = seats([level("a", 1, 0, 2)]);
        let name: Arc<str> = "a".into();
        let _sitting = taken(&seats, "a");
        let waiting: Vec<_> = (0..2).map(|_| Seats::ask(&seats, &name, 0)).collect();
        assert!(matches!(Seats::ask(&seats, &name, 0), Outcome::Full { .. }));
        drop(waiting);
        assert!(
            matches!(Seats::ask(&seats, &name, 0), Outcome::Wait { .. }),
            "those who gave up make room"
        );
    }

    #[test]
    fn a_level_that_is_gone_takes_its_last_guests_with_it() {
        let seats = seats([level("a", 1, 0, 2), level("b", 1, 0, 2)]);
        let sitting = taken(&seats, "a");
        seats.lock().configure([level("b", 1, 0, 2)].into_iter());
        assert!(matches!(Seats::ask(&seats, &"a".into(), 0), Outcome::Full { .. }));
        assert_eq!(taken(&seats, "b").len(), 10, "what b keeps is more now");
        drop(sitting);
        assert_eq!(seats.lock().levels.len(), 1);
    }
}
