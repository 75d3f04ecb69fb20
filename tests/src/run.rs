//! Running a program and looking at what it said.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// What was run, for messages.
    pub command: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl Output {
    /// Standard output of a program that succeeded.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "{}\nstdout: {}\nstderr: {}",
            self.command,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Standard error of a program that failed.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn failure(self) -> String {
        assert_ne!(
            self.code,
            Some(0),
            "{} succeeded\nstdout: {}",
            self.command,
            self.stdout
        );
        self.stderr
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, "")
}

/// Runs a program with something on its standard input.
///
/// # Panics
/// When it cannot be started.
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is free to do so.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output {
        command: format!("{command:?}"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}
