//! Processes made by libcontainer, each through a forked helper.
//!
//! libcontainer changes the process that calls it (OOM score, dumpability, memory) and blocks until the new process is
//! ready. So a short-lived child calls it and makes the container's process its sibling: a child of the shim.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::protocol::Start;
use crate::sys;

/// What a helper writes into its pipe, as one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Made {
    /// The new process.
    Pid(i32),
    /// Why there is none.
    Failed(String),
}

/// A helper that has not told its result yet.
#[derive(Debug)]
pub(crate) struct Helper {
    pub pid: Pid,
    pub result: File,
    pub received: Vec<u8>,
}

/// The shim's ends of a container's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub console: Option<UnixListener>,
}

/// The id by which libcontainer knows a container: short, since it becomes a part of socket paths.
pub(crate) fn short_id(container: &str) -> &str {
    container.get(..20).unwrap_or(container)
}

/// Begins to create a container.
pub(crate) fn create(start: &Start, root: &Path) -> io::Result<(Helper, Streams)> {
    let id = short_id(&start.container).to_owned();
    // What an earlier attempt left.
    let _ = fs::remove_dir_all(root.join(&id));
    let mut ours = Streams::default();
    let mut theirs: [Option<OwnedFd>; 3] = [None, None, None];
    let mut console_path = None;
    if start.tty {
        let path = root.join(format!("{id}.tty"));
        let _ = fs::remove_file(&path);
        ours.console = Some(UnixListener::bind(&path)?);
        console_path = Some(path);
    } else {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (ours.stdout, theirs[1]) = (Some(nonblocking(read)?), Some(write));
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (ours.stderr, theirs[2]) = (Some(nonblocking(read)?), Some(write));
        if start.stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (ours.stdin, theirs[0]) = (Some(write), Some(read));
        }
    }
    let (bundle, score) = (start.bundle.clone(), start.oom_score_adj);
    let root = root.to_owned();
    let helper = helper(move || {
        set_oom_score(score);
        let builder = builder(id, &root, theirs)?.with_console_socket(console_path);
        let built = builder
            .as_init(bundle)
            .with_systemd(false)
            .as_sibling(true)
            .build();
        let container = built.map_err(|e| chain(&e))?;
        container
            .pid()
            .map(|pid| pid.as_raw())
            .ok_or_else(|| "no process was made".to_owned())
    })?;
    Ok((helper, ours))
}

/// Begins to run a process in a container; `process` is a file with an OCI process.
pub(crate) fn exec(
    container: &str,
    root: &Path,
    process: PathBuf,
    console: Option<PathBuf>,
    streams: [Option<OwnedFd>; 3],
) -> io::Result<Helper> {
    let id = short_id(container).to_owned();
    let root = root.to_owned();
    helper(move || {
        let detach = console.is_some();
        let tenant = builder(id, &root, streams)?
            .with_console_socket(console)
            .as_tenant();
        let tenant = tenant
            // libcontainer gives a terminal to detached processes only.
            .with_detach(detach)
            .as_sibling(true)
            .with_process(Some(process));
        tenant.build().map(|pid| pid.as_raw()).map_err(|e| chain(&e))
    })
}

/// Lets a created container's process run its program.
pub(crate) fn start(container: &str, root: &Path) -> Result<(), String> {
    let mut container = Container::load(root.join(short_id(container))).map_err(|e| chain(&e))?;
    container.start().map_err(|e| chain(&e))
}

fn builder(id: String, root: &Path, streams: [Option<OwnedFd>; 3]) -> Result<ContainerBuilder, String> {
    let mut builder = ContainerBuilder::new(id, SyscallType::default())
        .with_root_path(root)
        .and_then(ContainerBuilder::validate_id)
        .map_err(|e| chain(&e))?;
    [builder.stdin, builder.stdout, builder.stderr] = streams;
    Ok(builder)
}

fn helper(make: impl FnOnce() -> Result<i32, String>) -> io::Result<Helper> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let read = nonblocking(read)?;
    let mut write = File::from(write);
    let pid = sys::fork(move || {
        let made = match make() {
            Ok(pid) => Made::Pid(pid),
            Err(message) => Made::Failed(message),
        };
        let mut line = serde_json::to_vec(&made).unwrap_or_default();
        line.push(b'\n');
        i32::from(write.write_all(&line).is_err())
    })?;
    Ok(Helper {
        pid,
        result: File::from(read),
        received: Vec::new(),
    })
}

/// The container's processes inherit the score. Going below the shim's own needs a capability that not every machine
/// grants; then the nearest possible one, which is to leave it, is said and kept.
fn set_oom_score(score: i32) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        eprintln!("oom_score_adj {score}: {error}; kept the inherited one");
    }
}

pub(crate) fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// An error with all that caused it, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Blocks the signals that the supervisor reads from a descriptor.
pub(crate) fn block(signals: &SigSet) -> io::Result<()> {
    Ok(signals.thread_block()?)
}

impl Helper {
    /// The result, once it is whole. The pipe's end says nothing: the process that was made holds it open too.
    pub(crate) fn receive(&mut self) -> Option<Made> {
        let mut chunk = [0; 1024];
        loop {
            match File::read(&mut self.result, &mut chunk) {
                Ok(0) => {
                    self.ended();
                    break;
                }
                Ok(n) => self
                    .received
                    .extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(_) => break,
            }
        }
        let line = self
            .received
            .split(|b| *b == b'\n')
            .next()
            .filter(|l| l.len() < self.received.len())?;
        Some(serde_json::from_slice(line).unwrap_or_else(|e| Made::Failed(e.to_string())))
    }

    /// The helper is gone: without a result there will never be one.
    pub(crate) fn ended(&mut self) {
        if !self.received.contains(&b'\n') {
            let made = Made::Failed("the process that makes containers ended without a result".to_owned());
            let mut chunk = [0; 1024];
            while let Ok(n @ 1..) = File::read(&mut self.result, &mut chunk) {
                self.received
                    .extend_from_slice(chunk.get(..n).unwrap_or_default());
            }
            if !self.received.contains(&b'\n') {
                self.received = serde_json::to_vec(&made).unwrap_or_default();
                self.received.push(b'\n');
            }
        }
    }
}
