//! The tests' own promise: whatever becomes of a test, nothing of its cluster stays.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skiff_tests::{Cluster, eventually};

/// Set for the process that is to be killed.
const VICTIM: &str = "SKIFF_TESTS_VICTIM";

#[test]
fn a_test_that_is_killed_leaves_no_cluster_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = Cluster::start();
        println!("\nvictim {} {}", cluster.path("").display(), cluster.bridge());
        loop {
            std::thread::park();
        }
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_test_that_is_killed_leaves_no_cluster_behind",
                "--nocapture",
            ])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = BufReader::new(victim.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("victim "))
            .expect("the victim has a cluster");
        let words: Vec<&str> = line.split(' ').collect();
        kill(Pid::from_raw(victim.id().try_into().unwrap()), signal).unwrap();
        victim.wait().unwrap();
        eventually("the cluster is gone", Duration::from_secs(60), || {
            let interface = Path::new("/sys/class/net").join(words[2]);
            let left: Vec<&Path> = [Path::new(words[1]), &interface]
                .into_iter()
                .filter(|path| path.exists())
                .collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
    }
}
