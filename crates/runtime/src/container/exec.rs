//! Running another process in a container and taking what it says.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use k8s_cri::v1;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tonic::Status;

use super::lifecycle::exec_error;
use crate::runtime::{Runtime, blocking, failed};
use crate::shim::client::ShimError;
use crate::shim::protocol::{Reply, Request};

/// More output than this of one stream is cut off: it has to fit into a message.
const MAX_OUTPUT: usize = 4 << 20;

struct Output {
    pipe: Receiver,
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    fn new() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((
            Self {
                pipe: Receiver::from_owned_fd(read)?,
                bytes: Vec::new(),
                ended: false,
            },
            write,
        ))
    }

    async fn take(&mut self) {
        let mut chunk = [0; 8192];
        match self.pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => self.ended = true,
            Ok(n) => self.keep(chunk.get(..n).unwrap_or_default()),
        }
    }

    fn keep(&mut self, chunk: &[u8]) {
        let room = MAX_OUTPUT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
    }

    /// What is there, without waiting: a process that the command left behind may hold the pipe for ever.
    fn drain(&mut self) {
        let mut chunk = [0; 8192];
        while let Ok(n @ 1..) = self.pipe.try_read(&mut chunk) {
            self.keep(chunk.get(..n).unwrap_or_default());
        }
    }
}

impl Runtime {
    /// CRI `ExecSync`: `timeout` in seconds, 0 for none.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: i64,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let container = self.container(id)?;
        if !container.run.borrow().running() {
            let state = container.state().as_str_name();
            return Err(Status::unknown(format!("container is in {state} state")));
        }
        if command.is_empty() {
            return Err(Status::invalid_argument("cmd cannot be empty"));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        let config = self.container_paths(&container.id).folder.join("config.json");
        let spec: Value = blocking(move || crate::state::read(&config))
            .await
            .map_err(failed("failed to exec in container"))?;
        let request = Request::Exec {
            container: container.id.clone(),
            process: process_of(&spec, &command, false),
            console: None,
        };
        let run = async {
            let null = nix::fcntl::open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            let null = null.map_err(io::Error::from)?;
            let (mut out, out_end) = Output::new()?;
            let (mut err, err_end) = Output::new()?;
            let mut conversation = sandbox.shim.open(&request, vec![null, out_end, err_end]).await?;
            let reply = {
                let answer = conversation.next();
                tokio::pin!(answer);
                loop {
                    tokio::select! {
                        reply = &mut answer => break reply?,
                        () = out.take(), if !out.ended => {}
                        () = err.take(), if !err.ended => {}
                    }
                }
            };
            out.drain();
            err.drain();
            let Reply::Exited { exit_code } = reply else {
                return Err(ShimError::Failed("unexpected answer".to_owned()));
            };
            Ok(v1::ExecSyncResponse {
                stdout: out.bytes,
                stderr: err.bytes,
                exit_code,
            })
        };
        // Giving up closes the conversation, which is how the shim learns to kill the process.
        let result = match u64::try_from(timeout) {
            Ok(seconds @ 1..) => tokio::time::timeout(Duration::from_secs(seconds), run)
                .await
                .map_err(|_| {
                    Status::deadline_exceeded(format!(
                        "failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded"
                    ))
                })?,
            _ => run.await,
        };
        result.map_err(|error| Status::unknown(exec_error(&container.id, &error.to_string(), &command)))
    }
}

/// The container's own process with another command.
pub(super) fn process_of(spec: &Value, command: &[String], terminal: bool) -> Value {
    let mut process = spec.get("process").cloned().unwrap_or_else(|| json!({}));
    if let Some(process) = process.as_object_mut() {
        process.insert("args".to_owned(), json!(command));
        process.insert("terminal".to_owned(), json!(terminal));
    }
    process
}
