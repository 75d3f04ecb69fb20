//! A container as its shim knows it: its state, its output on the way to the log.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use super::children::Helper;
use super::connection::ConnectionId;
use super::log::{LogFile, Pending, Source};
use super::protocol::{RunState, Start};
use crate::state::write_atomically;

/// The container.
pub(crate) struct Supervised {
    pub state: RunState,
    pub start: Start,
    pub oom_before: u64,
    pub log: Option<LogFile>,
    pub outputs: Vec<Output>,
    pub console: Option<UnixListener>,
    /// Kept open: a program that reads its input waits instead of ending.
    pub stdin: Option<OwnedFd>,
    /// Who listens beside the log.
    pub attached: Vec<Attached>,
    pub creating: Option<(Helper, ConnectionId)>,
}

/// Where somebody wants to have a container's output.
pub(crate) struct Attached {
    pub fd: OwnedFd,
    pub source: Source,
}

/// A stream of the container.
pub(crate) struct Output {
    pub fd: OwnedFd,
    pub source: Source,
    pub pending: Pending,
}

impl Supervised {
    pub(crate) fn copy(&mut self, fd: RawFd, buffer: &mut [u8]) {
        let Some(at) = self.outputs.iter().position(|o| o.fd.as_raw_fd() == fd) else {
            return;
        };
        let Some(output) = self.outputs.get_mut(at) else {
            return;
        };
        let mut lines = Vec::new();
        let ended = match read(&output.fd, buffer) {
            Ok(0) => true,
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or_default();
                // Who has left, or is so slow that the pipe is full, is let go: nobody keeps the container waiting.
                let source = output.source;
                self.attached
                    .retain(|to| to.source != source || nix::unistd::write(&to.fd, bytes) == Ok(bytes.len()));
                output
                    .pending
                    .push(bytes, output.source, Timestamp::now(), &mut lines);
                false
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            // A terminal whose other side is closed answers EIO.
            Err(_) => true,
        };
        if ended {
            output.pending.finish(output.source, Timestamp::now(), &mut lines);
            self.outputs.swap_remove(at);
        }
        if let Some(log) = &mut self.log {
            log.append(&lines);
        }
    }

    /// Takes what is still in the streams of a container that has ended, and closes them.
    pub(crate) fn drain(&mut self, buffer: &mut [u8]) {
        // A stream holds a bounded number of bytes and nobody adds to it any more, unless a process has left the
        // container's cgroup; it shall not keep us.
        for _ in 0..256 {
            let fds: Vec<RawFd> = self.outputs.iter().map(|o| o.fd.as_raw_fd()).collect();
            let mut more = false;
            for fd in fds {
                let readable = self
                    .outputs
                    .iter()
                    .any(|o| o.fd.as_raw_fd() == fd && readable(&o.fd));
                if readable {
                    self.copy(fd, buffer);
                    more = true;
                }
            }
            if !more {
                break;
            }
        }
        let mut lines = Vec::new();
        for output in &mut self.outputs {
            output.pending.finish(output.source, Timestamp::now(), &mut lines);
        }
        if let Some(log) = &mut self.log {
            log.append(&lines);
        }
        self.outputs.clear();
        self.attached.clear();
        self.console = None;
        self.stdin = None;
    }

    pub(crate) fn save(&self, durable: bool) {
        let path = self.start.bundle.join(RunState::FILE);
        if let Err(error) = write_atomically(&path, &self.state, durable) {
            eprintln!("{}: {error}", path.display());
        }
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

impl Output {
    pub(crate) fn new(fd: OwnedFd, source: Source) -> Self {
        Self {
            fd,
            source,
            pending: Pending::default(),
        }
    }
}
