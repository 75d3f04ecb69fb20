//! Who clears up after a test that cannot do it any more, because it was killed.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// A shell in a process group of its own that waits for the end of this process. When it comes before
/// [`Guardian::dismiss`], it does what it was told.
#[derive(Debug)]
pub(crate) struct Guardian {
    shell: Child,
}

impl Guardian {
    /// Starts one over a command's directory and environment, with a script for the case of need.
    ///
    /// # Panics
    /// When there is no shell.
    pub(crate) fn start(mut shell: Command, script: &str) -> Self {
        // The other end of its standard input is in this process alone, so the kernel closes it with the process.
        let shell = shell
            .args(["-c", &format!("read -r dismissed && exit 0\n{script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        Self { shell }
    }

    /// Sends it home.
    pub(crate) fn dismiss(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            let _ = stdin.write_all(b"dismissed\n");
        }
        let _ = self.shell.wait();
    }
}

/// A command that the kernel kills when the thread that starts it ends, however it ends.
pub fn bound(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}
