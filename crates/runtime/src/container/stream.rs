//! Live streams of a process in a container: of one that is run for it, or of the container's own.
//!
//! The descriptors go over the shim's socket, so that an exec's bytes flow without it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use serde_json::Value;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::ContainerEntry;
use super::exec::process_of;
use super::lifecycle::exec_error;
use crate::runtime::{Runtime, blocking};
use crate::shim::client::ShimError;
use crate::shim::connection::receive_fds;
use crate::shim::protocol::{Reply, Request};
use crate::streaming::Wanted;
use crate::streaming::session::{Inbound, Outbound, Session, Size};
use crate::sys;

/// How much is read at a time, in bytes.
const CHUNK: usize = 32 << 10;
/// How much output a container may be ahead of who is attached to it, in bytes.
const AHEAD: i32 = 1 << 20;
/// How long the output of a process that has ended may be silent before it is taken to be complete. Its streams have no
/// end while something that it left behind holds them.
const SILENCE: Duration = Duration::from_millis(250);
/// As much as such a one may still say, in bytes.
const LAST_WORDS: usize = 4 << 20;

/// One end of a pipe, or a terminal's other side.
#[derive(Clone, Debug)]
struct Stream(Arc<AsyncFd<OwnedFd>>);

impl Stream {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(Arc::new(sys::watched(fd)?)))
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = |fd: &OwnedFd| nix::unistd::read(fd, buffer).map_err(io::Error::from);
        match self.0.async_io(Interest::READABLE, &mut read).await {
            // A terminal whose other side is closed.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => Ok(0),
            result => result,
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = |fd: &OwnedFd| nix::unistd::write(fd, bytes).map_err(io::Error::from);
            let written = self.0.async_io(Interest::WRITABLE, write).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn resize(&self, size: Size) {
        if let Err(error) = sys::set_window_size(self.0.get_ref(), size.width, size.height) {
            tracing::debug!(%error, "a terminal's size");
        }
    }
}

/// Copies a stream to the client until it ends; after `ended`, until it is silent.
async fn pump(
    stream: Stream,
    wrap: fn(Bytes) -> Outbound,
    to: mpsc::Sender<Outbound>,
    ended: CancellationToken,
) {
    let mut buffer = vec![0; CHUNK];
    let mut left = LAST_WORDS;
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read(&mut buffer) => read,
            () = async { ended.cancelled().await; tokio::time::sleep(SILENCE).await } => return,
        };
        let Ok(n @ 1..) = read else { return };
        let bytes = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
        if to.send(wrap(bytes)).await.is_err() {
            return;
        }
        if ended.is_cancelled() {
            left = left.saturating_sub(n);
            if left == 0 {
                return;
            }
        }
    }
}

/// Why the client's side of a session has nothing more to say.
#[derive(Debug, PartialEq, Eq)]
enum Fed {
    /// It has left.
    Gone,
    /// Its input is at its end.
    End,
}

/// Hands a client's input to a process until there is no more of it.
async fn feed(
    inbound: &mut mpsc::Receiver<Inbound>,
    stdin: &mut Option<Stream>,
    tty: Option<&Stream>,
) -> Fed {
    while let Some(piece) = inbound.recv().await {
        match piece {
            Inbound::Stdin(bytes) => {
                // A process that has closed its input loses what comes.
                if let Some(stream) = stdin
                    && stream.write_all(&bytes).await.is_err()
                {
                    *stdin = None;
                }
            }
            Inbound::StdinEnd => {
                *stdin = None;
                return Fed::End;
            }
            Inbound::Resize(size) => {
                if let Some(tty) = tty {
                    tty.resize(size);
                }
            }
        }
    }
    Fed::Gone
}

/// Hands over input until the client has left.
async fn feed_to_the_end(
    inbound: &mut mpsc::Receiver<Inbound>,
    mut stdin: Option<Stream>,
    tty: Option<&Stream>,
) {
    while feed(inbound, &mut stdin, tty).await == Fed::End {}
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

fn null(flags: OFlag) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(
        "/dev/null",
        flags | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// The socket on which a terminal comes; it goes with this.
struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Console {
    async fn take(&self) -> io::Result<Stream> {
        let (socket, _) = self.listener.accept().await?;
        let socket = socket.into_std()?;
        socket.set_nonblocking(false)?;
        let fds = blocking(move || receive_fds(&socket)).await?;
        let terminal = fds.into_iter().next();
        Stream::new(terminal.ok_or_else(|| io::Error::other("no terminal came"))?)
    }
}

impl Runtime {
    /// Whether a process can be run in a container or attached to.
    pub(crate) fn check_running(&self, id: &str) -> Result<Arc<ContainerEntry>, Status> {
        let container = self.container(id)?;
        if container.run.borrow().running() {
            return Ok(container);
        }
        let state = container.state().as_str_name();
        Err(Status::unknown(format!("container is in {state} state")))
    }

    /// Runs a process in a container and connects it with the client; returns its exit code.
    ///
    /// # Errors
    /// Why it didn't run, or that the client has left, whereupon it is killed.
    pub(crate) async fn exec_streams(
        &self,
        id: &str,
        command: &[String],
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<i32, String> {
        let container = self
            .check_running(id)
            .map_err(|status| status.message().to_owned())?;
        self.exec_with(&container, command, wanted, session)
            .await
            .map_err(|error| exec_error(&container.id, &error.to_string(), command))
    }

    async fn exec_with(
        &self,
        container: &ContainerEntry,
        command: &[String],
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<i32, ShimError> {
        let sandbox = self
            .sandbox(&container.sandbox)
            .map_err(|status| ShimError::Failed(status.message().to_owned()))?;
        let config = self.container_paths(&container.id).folder.join("config.json");
        let spec: Value = blocking(move || crate::state::read(&config)).await?;
        let console = match wanted.tty {
            true => {
                let name = crate::runtime::new_id();
                let name = format!("{}.tty", name.get(..20).unwrap_or(&name));
                let path = self.config.run_dir.join("shim").join(name);
                let listener = UnixListener::bind(&path)?;
                Some(Console { listener, path })
            }
            false => None,
        };
        let request = Request::Exec {
            container: container.id.clone(),
            process: process_of(&spec, command, wanted.tty),
            console: console.as_ref().map(|console| console.path.clone()),
        };
        let ended = CancellationToken::new();
        let mut pumps = JoinSet::new();
        let mut copy =
            |stream, wrap| pumps.spawn(pump(stream, wrap, session.outbound.clone(), ended.clone()));
        let (mut conversation, stdin, tty);
        let mut early = None;
        if let Some(console) = console {
            conversation = sandbox.shim.open(&request, Vec::new()).await?;
            // Not begun anew: the connection that the terminal comes over may have been accepted already.
            let mut terminal = std::pin::pin!(console.take());
            let terminal = tokio::select! {
                terminal = &mut terminal => terminal?,
                reply = conversation.next() => {
                    // It has failed, or ended before its terminal was looked at. There is no second answer.
                    early = Some(reply?);
                    terminal.await?
                }
            };
            copy(terminal.clone(), Outbound::Stdout as fn(Bytes) -> Outbound);
            stdin = Some(terminal.clone()).filter(|_| wanted.stdin);
            tty = Some(terminal);
        } else {
            let (stdin_end, input) = match wanted.stdin {
                true => {
                    let (read, write) = pipe()?;
                    (read, Some(Stream::new(write)?))
                }
                false => (null(OFlag::O_RDONLY)?, None),
            };
            let mut fds = vec![stdin_end];
            for (wanted, wrap) in [
                (wanted.stdout, Outbound::Stdout as fn(Bytes) -> Outbound),
                (wanted.stderr, Outbound::Stderr),
            ] {
                if wanted {
                    let (read, write) = pipe()?;
                    copy(Stream::new(read)?, wrap);
                    fds.push(write);
                } else {
                    fds.push(null(OFlag::O_WRONLY)?);
                }
            }
            conversation = sandbox.shim.open(&request, fds).await?;
            (stdin, tty) = (input, None);
        }
        // Leaving drops the conversation, which is how the shim learns to kill the process.
        let answer = async {
            match early {
                Some(reply) => Ok(reply),
                None => conversation.next().await,
            }
        };
        let reply = tokio::select! {
            reply = answer => reply?,
            () = feed_to_the_end(&mut session.inbound, stdin, tty.as_ref()) => {
                return Err(ShimError::Failed("the client has left".to_owned()));
            }
        };
        ended.cancel();
        while pumps.join_next().await.is_some() {}
        match reply {
            Reply::Exited { exit_code } => Ok(exit_code),
            _ => Err(ShimError::Failed("unexpected answer".to_owned())),
        }
    }

    /// Connects a container's own process with the client until either has gone.
    pub(crate) async fn attach_streams(
        &self,
        id: &str,
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<(), String> {
        let text = |status: Status| status.message().to_owned();
        let container = self.check_running(id).map_err(text)?;
        let attached = self.attach_with(&container, wanted, session).await;
        let record = container.record.lock().clone();
        if wanted.stdin && record.stdin_once && !record.tty {
            let sandbox = self.sandbox(&container.sandbox).map_err(text)?;
            let request = Request::CloseStdin {
                container: container.id.clone(),
            };
            // A shim that is gone has closed it.
            let _ = sandbox.shim.call(&request).await;
        }
        attached.map_err(|error| error.to_string())
    }

    async fn attach_with(
        &self,
        container: &ContainerEntry,
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<(), ShimError> {
        let sandbox = self
            .sandbox(&container.sandbox)
            .map_err(|status| ShimError::Failed(status.message().to_owned()))?;
        let (has_tty, once) = {
            let record = container.record.lock();
            (record.tty, record.stdin_once)
        };
        let ended = CancellationToken::new();
        let mut pumps = JoinSet::new();
        let mut fds = Vec::new();
        for (wanted, wrap) in [
            (wanted.stdout, Outbound::Stdout as fn(Bytes) -> Outbound),
            (wanted.stderr && !has_tty, Outbound::Stderr),
        ] {
            let (read, write) = pipe()?;
            if wanted {
                // The most that can be had; a smaller one only makes less patient.
                let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(AHEAD));
                pumps.spawn(pump(
                    Stream::new(read)?,
                    wrap,
                    session.outbound.clone(),
                    ended.clone(),
                ));
            }
            fds.push(write);
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        fds.push(OwnedFd::from(theirs));
        let request = Request::Attach {
            container: container.id.clone(),
        };
        sandbox.shim.open(&request, fds).await?.next().await?;
        ours.set_nonblocking(true)?;
        // It was sent before the answer, if there is one.
        let input = receive_fds(&ours).unwrap_or_default().into_iter().next();
        let input = input.map(Stream::new).transpose()?;
        let tty = input.clone().filter(|_| has_tty);
        let mut stdin = input.filter(|_| wanted.stdin);
        let mut run = container.run.subscribe();
        let exited = async {
            let _ = run.wait_for(|run| run.exited()).await;
        };
        tokio::pin!(exited);
        loop {
            let fed = tokio::select! {
                () = &mut exited => break,
                fed = feed(&mut session.inbound, &mut stdin, tty.as_ref()) => fed,
            };
            if fed == Fed::Gone {
                return Ok(());
            }
            if once && !has_tty {
                let request = Request::CloseStdin {
                    container: container.id.clone(),
                };
                sandbox.shim.call(&request).await?;
            }
        }
        ended.cancel();
        while pumps.join_next().await.is_some() {}
        Ok(())
    }
}
