//! What the server and a shim say to each other: frames of a length (u32, big endian) and JSON.
//!
//! A connection carries one request and its answer; [`Request::Subscribe`] is answered by an endless row of events.
//! Descriptors for an exec's standard streams travel with the request's first byte.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The largest frame either side accepts.
pub(crate) const MAX_FRAME: usize = 4 << 20;

/// What a shim is started with: `launch.json` in the sandbox' folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The sandbox.
    pub id: String,
    /// Where to listen.
    pub socket: PathBuf,
    /// Where libcontainer keeps what it knows of running containers.
    pub libcontainer_root: PathBuf,
    /// The cgroup to live in.
    pub cgroup: String,
    /// The pod's host name, when it has a UTS namespace of its own.
    pub hostname: Option<String>,
    /// Where to keep the pod's network namespace visible; `None` for the host's network.
    pub netns: Option<PathBuf>,
    /// Whether to make an IPC namespace.
    pub ipc: bool,
    /// Whether the containers share one PID namespace.
    pub shared_pid: bool,
    /// Where to mount the pod's `/dev/shm`; `None` for the host's.
    pub shm: Option<PathBuf>,
    /// Kernel parameters, by dotted name.
    pub sysctls: BTreeMap<String, String>,
}

/// What a shim tells of itself once it listens: the line on its starter's standard output.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Launched {
    /// It runs.
    Ready {
        /// The shim.
        pid: i32,
        /// The first process of the shared PID namespace.
        pid_namespace_init: Option<i32>,
    },
    /// It couldn't.
    Failed(String),
}

/// A container to create and start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The container.
    pub container: String,
    /// Its folder: `config.json` is there, and `state.json` will be.
    pub bundle: PathBuf,
    /// Its cgroup.
    pub cgroup: String,
    /// Its log file.
    pub log: Option<PathBuf>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub stdin: bool,
    /// The wish for its OOM score.
    pub oom_score_adj: i32,
    /// Whether all its processes die with the first one.
    pub private_pid: bool,
}

/// Asked by the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// Creates and starts a container. Answer: `State` or `Failed`.
    Start(Box<Start>),
    /// Sends a signal to a container's first process, or to every process of it.
    Signal {
        /// The container.
        container: String,
        /// The signal's number.
        signal: i32,
        /// Whether to reach every process.
        all: bool,
    },
    /// Runs another process in a container; stdin, stdout and stderr come as descriptors. Answer: `Exited`. Closing the
    /// connection before kills it.
    Exec {
        /// The container.
        container: String,
        /// The OCI process.
        process: serde_json::Value,
        /// Where the process' terminal is sent to, instead of coming with descriptors.
        #[serde(default)]
        console: Option<PathBuf>,
    },
    /// Copies what a container says from now on into two pipes, and sends the other side of its standard input, if it
    /// has one, over a socket; the three come as descriptors. Answer: `Done`.
    Attach {
        /// The container.
        container: String,
    },
    /// Ends a container's standard input.
    CloseStdin {
        /// The container.
        container: String,
    },
    /// Opens the log file anew.
    ReopenLog {
        /// The container.
        container: String,
    },
    /// Forgets a container that has exited.
    Forget {
        /// The container.
        container: String,
    },
    /// Answer: `Snapshot` first, then a `State` whenever one changes.
    Subscribe,
    /// Kills everything and ends.
    Shutdown,
}

/// Answered by the shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Not done.
    Failed(String),
    /// There is no such container, or it doesn't run.
    NotRunning,
    /// A container.
    State(Box<RunState>),
    /// All containers.
    Snapshot(Vec<RunState>),
    /// An exec's end.
    Exited {
        /// Its exit code; 128 and the signal's number for one that was killed.
        exit_code: i32,
    },
}

/// How far a container's process has come: `state.json` in its folder, written by the shim.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RunState {
    /// The container.
    pub container: String,
    /// Its first process, as the host sees it; 0 before it was started.
    pub pid: i32,
    /// Nanoseconds since 1970; 0 before it was started.
    pub started_at: i64,
    /// Nanoseconds since 1970; 0 before it ended.
    pub finished_at: i64,
    /// How it ended.
    pub exit_code: i32,
    /// Whether the kernel killed some process of it for want of memory.
    pub oom_killed: bool,
    /// CRI's reason, when it is neither `Completed` nor `Error` nor `OOMKilled`.
    pub reason: String,
    /// What went wrong.
    pub message: String,
}

impl RunState {
    /// The name of the file it is kept in.
    pub(crate) const FILE: &str = "state.json";

    /// Whether the process runs.
    pub(crate) fn running(&self) -> bool {
        self.started_at != 0 && self.finished_at == 0
    }

    /// Whether it has ended.
    pub(crate) fn exited(&self) -> bool {
        self.finished_at != 0
    }
}

/// Frames a message.
pub(crate) fn encode(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX).to_be_bytes();
    for (to, from) in frame.iter_mut().zip(length) {
        *to = from;
    }
    Ok(frame)
}

/// A frame's end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// More bytes are needed.
    Incomplete,
    /// The message is in this range of the buffer.
    Message(std::ops::Range<usize>),
    /// Longer than [`MAX_FRAME`].
    TooLong,
}

/// Looks for a whole frame at the buffer's start.
pub(crate) fn decode(buffer: &[u8]) -> Decoded {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Decoded::Incomplete;
    };
    let end = 4 + u32::from_be_bytes(*length) as usize;
    if end > MAX_FRAME {
        Decoded::TooLong
    } else if buffer.len() < end {
        Decoded::Incomplete
    } else {
        Decoded::Message(4..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_when_whole() {
        let frame = encode(&Request::Subscribe).unwrap();
        for cut in 0..frame.len() {
            assert_eq!(decode(&frame[..cut]), Decoded::Incomplete);
        }
        let Decoded::Message(range) = decode(&frame) else {
            panic!("no message")
        };
        assert!(matches!(
            serde_json::from_slice(&frame[range]).unwrap(),
            Request::Subscribe
        ));
        assert_eq!(decode(&[0xff; 8]), Decoded::TooLong);
    }
}
