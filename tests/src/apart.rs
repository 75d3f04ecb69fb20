//! A machine of its own within the machine, without a network: a namespace that a cluster is put into.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A namespace for the network. There is a loopback interface; `/sys` tells of the other network.
#[derive(Debug)]
pub(crate) struct Apart {
    /// Keeps the namespace for as long as this process has the other end of its standard input.
    keeper: Child,
}

const KEEP: &str = "ip link set lo up && echo kept && read -r ended";

impl Apart {
    /// Makes it.
    ///
    /// # Panics
    /// When that cannot be done.
    pub(crate) fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", KEEP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let output = keeper.stdout.take().expect("what the keeper says");
        BufReader::new(output).read_line(&mut said).expect("a line");
        assert_eq!(said, "kept\n", "the namespace was not made");
        Self { keeper }
    }

    /// A program that is to run there.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.keeper.id()))
            .arg("--net")
            .arg(program);
        command
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
