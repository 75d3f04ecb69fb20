//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Asks until the answer is `Ok`, and returns it; panics with the last `Err` when the deadline has passed.
///
/// # Panics
/// When the condition does not come true in time.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(state) if Instant::now() > end => panic!("{what}: not within {deadline:?}; at last: {state}"),
            // The condition is seen through a command line, which can only be asked again.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
