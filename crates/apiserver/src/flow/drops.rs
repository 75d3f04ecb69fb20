//! When those who are sent away should come again: the later, the more of them there are.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

/// The longest time, in seconds (upstream's `maxRetryAfter`).
const LONGEST: u64 = 32;

/// Who was sent away by one level.
#[derive(Debug)]
struct OfLevel {
    /// The seconds (since 1970) in which somebody was, with how many; the present one last.
    history: VecDeque<(u64, u64)>,
    /// In seconds.
    wait: u64,
    /// When it was last made longer.
    raised: u64,
}

impl OfLevel {
    fn new() -> Self {
        Self {
            history: VecDeque::new(),
            wait: 1,
            raised: 0,
        }
    }

    fn record(&mut self, now: u64) {
        match self.history.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => {
                // Nothing is known of this second yet, so those before it decide.
                self.adjust(now);
                self.history
                    .retain(|(second, _)| now.saturating_sub(*second) <= LONGEST);
                self.history.push_back((now, 1));
            }
        }
    }

    /// As TCP does: twice as long when many come though they were told to wait, a second less when few do.
    fn adjust(&mut self, now: u64) {
        let lately = |(second, _): &&(u64, u64)| *second < now && now - *second <= self.wait;
        let dropped: u64 = self.history.iter().filter(lately).map(|(_, count)| count).sum();
        if now.saturating_sub(self.raised) >= self.wait && dropped >= 3 * self.wait {
            self.wait = (2 * self.wait).min(LONGEST);
            self.raised = now;
        } else if dropped < self.wait && self.wait > 1 {
            self.wait -= 1;
        }
    }
}

/// Who was sent away; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Drops(Arc<Mutex<HashMap<Arc<str>, OfLevel>>>);

impl Drops {
    /// Somebody is sent away by a level; after how many seconds they should come again.
    pub(super) fn record(&self, level: &Arc<str>, now: u64) -> u64 {
        let mut levels = self.0.lock();
        let level = levels.entry(level.clone()).or_insert_with(OfLevel::new);
        level.record(now);
        level.wait
    }

    /// Forgets the levels that are gone.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().retain(|level, _| is_there(level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_are_sent_away_the_later_they_should_come_again() {
        let drops = Drops::default();
        let level: Arc<str> = "a".into();
        let mut now = 1_000;
        let crowd = |now, count| (0..count).fold(0, |_, _| drops.record(&level, now));
        assert_eq!(crowd(now, 10), 1, "nothing is known yet");
        let mut told = Vec::new();
        for _ in 0..70 {
            now += 1;
            told.push(crowd(now, 100));
        }
        let mut steps = told.clone();
        steps.dedup();
        assert_eq!(steps, [2, 4, 8, 16, 32]);
        // It is made longer only when those who were told to wait could have come again.
        assert_eq!(told.iter().filter(|wait| **wait == 8).count(), 8);
        assert_eq!(drops.record(&"b".into(), now), 1, "another level");
        // Few come: it is a second less, each second.
        for expected in [31, 30, 29] {
            now += 100;
            assert_eq!(crowd(now, 1), expected);
        }
        drops.retain(|level| level == "b");
        assert_eq!(crowd(now + 1, 1), 1);
    }
}
