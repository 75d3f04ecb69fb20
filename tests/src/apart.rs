//! A machine of its own within the machine, without a network: namespaces that a cluster is put into.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Namespaces for network and mounts. There is a loopback interface, and `/sys` tells of this network.
#[derive(Debug)]
pub(crate) struct Apart {
    /// Keeps the namespaces for as long as this process has the other end of its standard input.
    keeper: Child,
}

const KEEP: &str = "set -e
    cgroups=$(mktemp -d)
    mount --rbind /sys/fs/cgroup $cgroups
    mount -t sysfs sysfs /sys
    mount --rbind $cgroups /sys/fs/cgroup
    umount -l $cgroups
    rmdir $cgroups
    ip link set lo up
    echo kept
    read -r ended";

impl Apart {
    /// Makes them.
    ///
    /// # Panics
    /// When that cannot be done.
    pub(crate) fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", KEEP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let output = keeper.stdout.take().expect("what the keeper says");
        BufReader::new(output).read_line(&mut said).expect("a line");
        assert_eq!(said, "kept\n", "the namespaces were not made");
        Self { keeper }
    }

    /// A program that is to run there, in this directory.
    pub(crate) fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.keeper.id()))
            .args(["--net", "--mount"])
            .arg(format!("--wd={}", directory.display()))
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
