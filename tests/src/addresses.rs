//! The address ranges of a test's cluster, which no other cluster on the machine has at the same time.

use std::fs::{self, File};

/// Pod and service ranges, held until dropped.
#[derive(Debug)]
pub(crate) struct Addresses {
    number: u8,
    _lock: File,
}

/// How many clusters can run at once; 10.100.0.0/16 and the following are their pods', as many after these their services'.
const MOST: u8 = 50;

impl Addresses {
    /// The first ranges that are free: no other test holds their lock, and nothing that an earlier cluster left
    /// behind routes them.
    ///
    /// # Panics
    /// When all are taken.
    pub(crate) fn take() -> Self {
        let directory = std::env::temp_dir().join("skiff-test-addresses");
        fs::create_dir_all(&directory).expect("a directory for locks");
        let routes = fs::read_to_string("/proc/net/route").expect("the routing table");
        (0..MOST)
            .map(|number| {
                (
                    number,
                    File::create(directory.join(number.to_string())).expect("a lock file"),
                )
            })
            .find(|(number, lock)| lock.try_lock().is_ok() && !routed(&routes, 100 + number))
            .map(|(number, lock)| Self { number, _lock: lock })
            .expect("fewer than fifty clusters at once")
    }

    /// What tells these ranges from others.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// The pods' range.
    pub(crate) fn pods(&self) -> String {
        format!("10.{}.0.0/16", 100 + self.number)
    }

    /// How a pod's address begins.
    pub(crate) fn pod_prefix(&self) -> String {
        format!("10.{}.", 100 + self.number)
    }

    /// The services' range.
    pub(crate) fn services(&self) -> String {
        format!("10.{}.0.0/16", 100 + MOST + self.number)
    }
}

/// Whether a routing table in the form of `/proc/net/route` leads anything of 10.`second`.0.0/16 anywhere.
fn routed(routes: &str, second: u8) -> bool {
    let end = format!("{second:02X}0A");
    routes
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|destination| destination.ends_with(&end))
}
