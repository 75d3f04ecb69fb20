//! The server's side of the conversation with a shim.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::protocol::{Launched, MAX_FRAME, Reply, Request, encode};

/// Why a shim didn't do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// Nobody answers.
    #[error("shim: {0}")]
    Gone(#[from] io::Error),
    /// It said no.
    #[error("{0}")]
    Failed(String),
    /// The container doesn't run.
    #[error("container is not running")]
    NotRunning,
}

/// Starts a shim and returns once it serves.
pub(crate) async fn launch(program: &Path, folder: &Path) -> Result<Launched, ShimError> {
    let output = Command::new(program)
        .arg("shim")
        .arg(folder)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .map_err(|e| ShimError::Failed(format!("running {}: {e}", program.display())))?;
    match serde_json::from_slice(&output.stdout) {
        Ok(Launched::Failed(message)) => Err(ShimError::Failed(message)),
        Ok(ready) => Ok(ready),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(ShimError::Failed(format!(
                "{} ended with {}: {}",
                program.display(),
                output.status,
                said.trim()
            )))
        }
    }
}

/// Where a shim listens.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    socket: PathBuf,
}

impl Shim {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks and waits for the answer.
    pub(crate) async fn call(&self, request: &Request) -> Result<Reply, ShimError> {
        self.open(request, Vec::new()).await?.next().await
    }

    /// Asks, and gives descriptors along. Dropping the conversation of an exec kills it.
    pub(crate) async fn open(&self, request: &Request, fds: Vec<OwnedFd>) -> Result<Conversation, ShimError> {
        let stream = UnixStream::connect(&self.socket).await?;
        let frame = encode(request).map_err(io::Error::from)?;
        let mut sent = 0;
        while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
            stream.writable().await?;
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&raw)];
            let control: &[ControlMessage<'_>] = if sent == 0 && !raw.is_empty() {
                &rights
            } else {
                &[]
            };
            let result = stream.try_io(Interest::WRITABLE, || {
                sendmsg::<()>(
                    stream.as_raw_fd(),
                    &[IoSlice::new(rest)],
                    control,
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                )
                .map_err(io::Error::from)
            });
            match result {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Conversation { stream })
    }
}

/// A connection on which answers come.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: UnixStream,
}

impl Conversation {
    /// The next answer.
    pub(crate) async fn next(&mut self) -> Result<Reply, ShimError> {
        let length = self.stream.read_u32().await? as usize;
        if length > MAX_FRAME {
            return Err(ShimError::Gone(io::ErrorKind::InvalidData.into()));
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).await?;
        match serde_json::from_slice(&frame).map_err(io::Error::from)? {
            Reply::Failed(message) => Err(ShimError::Failed(message)),
            Reply::NotRunning => Err(ShimError::NotRunning),
            reply => Ok(reply),
        }
    }
}
