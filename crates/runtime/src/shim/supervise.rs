//! The shim's loop: one `poll` over the children's exits, their output, and the server's connections.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::children::{self, Helper, Made, Streams};
use super::connection::{Connection, ConnectionId, receive_fds, send_fd};
use super::container::{Attached, Output, Supervised};
use super::log::{LogFile, Source};
use super::protocol::{Decoded, Launch, Reply, Request, RunState, Start, decode, encode};
use crate::cgroup::Layout;
use crate::sys;

/// A subscriber that doesn't read is cut off beyond this many waiting bytes; it connects anew and gets a snapshot.
const MAX_WAITING: usize = 1 << 20;

/// How much of a stream is read at a time, and at most kept when its container ends.
const CHUNK: usize = 32 << 10;

/// The state of one shim.
pub(crate) struct Supervisor {
    launch: Launch,
    layout: Layout,
    listener: UnixListener,
    signals: SignalFd,
    pid_namespace_init: Option<Pid>,
    containers: HashMap<String, Supervised>,
    execs: Vec<Exec>,
    connections: HashMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    /// Exits of processes that a helper has made and not told of yet.
    early: HashMap<Pid, i32>,
    buffer: Vec<u8>,
    ending: Option<ConnectionId>,
}

struct Exec {
    connection: ConnectionId,
    process_file: PathBuf,
    helper: Option<Helper>,
    pid: Option<Pid>,
}

enum Token {
    Signals,
    Listener,
    Connection(ConnectionId),
    Output(String, RawFd),
    Attached(String, RawFd),
    Console(String),
    Creating(String),
    Exec(ConnectionId),
}

impl Supervisor {
    pub(crate) fn new(
        launch: Launch,
        listener: UnixListener,
        layout: Layout,
        pid_namespace_init: Option<Pid>,
    ) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let mut blocked = mask;
        // Who is attached, and the server, may leave while they are written to. With the default disposition, which a
        // forked process has, that would be the end of the shim and of its pod.
        blocked.add(Signal::SIGPIPE);
        children::block(&blocked)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            launch,
            layout,
            listener,
            signals,
            pid_namespace_init,
            containers: HashMap::new(),
            execs: Vec::new(),
            connections: HashMap::new(),
            next_connection: 0,
            early: HashMap::new(),
            buffer: vec![0; CHUNK],
            ending: None,
        })
    }

    /// Serves until told to end.
    pub(crate) fn run(mut self) -> i32 {
        sys::trim_heap();
        loop {
            if let Some(code) = self.finished() {
                return code;
            }
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    eprintln!("poll: {error}");
                    return 1;
                }
            };
            // Exits come last: what a process wrote before its end is in the log before the end is known.
            let mut exits = false;
            for token in ready {
                match token {
                    Token::Signals => exits = true,
                    Token::Listener => self.accept(),
                    Token::Connection(id) => self.serve(id),
                    Token::Output(container, fd) => self.copy(&container, fd),
                    Token::Attached(container, fd) => self.let_go(&container, fd),
                    Token::Console(container) => self.take_console(&container),
                    Token::Creating(container) => self.created(&container),
                    Token::Exec(connection) => self.exec_made(connection),
                }
            }
            if exits {
                while matches!(self.signals.read_signal(), Ok(Some(_))) {}
                self.reap();
            }
            self.flush();
        }
    }

    fn finished(&mut self) -> Option<i32> {
        let ending = self.ending?;
        let busy = self
            .containers
            .values()
            .any(|c| c.creating.is_some() || c.state.running());
        if busy {
            return None;
        }
        self.reply(ending, &Reply::Done);
        self.flush();
        if let Some(init) = self.pid_namespace_init {
            let _ = kill(init, Signal::SIGKILL);
        }
        let _ = std::fs::remove_file(&self.launch.socket);
        let _ = std::fs::remove_dir_all(&self.launch.libcontainer_root);
        Some(0)
    }

    fn wait(&self) -> nix::Result<Vec<Token>> {
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags, Token)> = vec![
            (self.signals.as_fd(), PollFlags::POLLIN, Token::Signals),
            (self.listener.as_fd(), PollFlags::POLLIN, Token::Listener),
        ];
        for (id, connection) in &self.connections {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, !connection.waiting.is_empty());
            fds.push((connection.stream.as_fd(), events, Token::Connection(*id)));
        }
        for (id, container) in &self.containers {
            for output in &container.outputs {
                fds.push((
                    output.fd.as_fd(),
                    PollFlags::POLLIN,
                    Token::Output(id.clone(), output.fd.as_raw_fd()),
                ));
            }
            // That its other end is closed is told unasked.
            for attached in &container.attached {
                fds.push((
                    attached.fd.as_fd(),
                    PollFlags::empty(),
                    Token::Attached(id.clone(), attached.fd.as_raw_fd()),
                ));
            }
            if let Some(console) = &container.console {
                fds.push((console.as_fd(), PollFlags::POLLIN, Token::Console(id.clone())));
            }
            if let Some((helper, _)) = &container.creating {
                fds.push((
                    helper.result.as_fd(),
                    PollFlags::POLLIN,
                    Token::Creating(id.clone()),
                ));
            }
        }
        for exec in &self.execs {
            if let Some(helper) = &exec.helper {
                fds.push((
                    helper.result.as_fd(),
                    PollFlags::POLLIN,
                    Token::Exec(exec.connection),
                ));
            }
        }
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|(fd, events, _)| PollFd::new(*fd, *events))
            .collect();
        poll(&mut polled, PollTimeout::NONE)?;
        let ready: Vec<bool> = polled.iter().map(|p| p.any().unwrap_or(true)).collect();
        Ok(fds
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|((_, _, token), _)| token)
            .collect())
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let connection = Connection::new(stream);
            self.connections.insert(self.next_connection, connection);
            self.next_connection += 1;
        }
    }

    fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.receive(&mut self.buffer) {
            return self.hang_up(id);
        }
        if connection.asked {
            return;
        }
        let request = match decode(&connection.received) {
            Decoded::Incomplete => return,
            Decoded::TooLong => return self.hang_up(id),
            Decoded::Message(range) => {
                serde_json::from_slice(connection.received.get(range).unwrap_or_default())
            }
        };
        connection.asked = true;
        connection.received = Vec::new();
        match request {
            Ok(request) => self.handle(id, request),
            Err(error) => self.reply(id, &Reply::Failed(format!("request: {error}"))),
        }
    }

    fn handle(&mut self, id: ConnectionId, request: Request) {
        match request {
            Request::Start(start) => self.start(id, *start),
            Request::Signal {
                container,
                signal,
                all,
            } => {
                let reply = self.signal(&container, signal, all);
                self.reply(id, &reply);
            }
            Request::Exec {
                container,
                process,
                console,
            } => self.exec(id, &container, &process, console),
            Request::Attach { container } => {
                let reply = self.attach(id, &container);
                self.reply(id, &reply);
            }
            Request::CloseStdin { container } => {
                if let Some(container) = self.containers.get_mut(&container) {
                    container.stdin = None;
                }
                self.reply(id, &Reply::Done);
            }
            Request::ReopenLog { container } => {
                let reply = match self.containers.get_mut(&container) {
                    Some(Supervised { log: Some(log), .. }) => match log.reopen() {
                        Ok(()) => Reply::Done,
                        Err(error) => Reply::Failed(error.to_string()),
                    },
                    Some(_) => Reply::Done,
                    None => Reply::NotRunning,
                };
                self.reply(id, &reply);
            }
            Request::Forget { container } => {
                if self.containers.get(&container).is_some_and(|c| c.state.exited()) {
                    self.containers.remove(&container);
                    sys::trim_heap();
                }
                self.reply(id, &Reply::Done);
            }
            Request::Subscribe => {
                let states = self.containers.values().map(|c| c.state.clone()).collect();
                self.reply(id, &Reply::Snapshot(states));
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.subscribed = true;
                }
            }
            Request::Shutdown => {
                self.ending = Some(id);
                for container in self.containers.values().filter(|c| c.state.running()) {
                    self.layout.kill_all(&container.start.cgroup);
                    let _ = kill(Pid::from_raw(container.state.pid), Signal::SIGKILL);
                }
            }
        }
    }

    fn start(&mut self, id: ConnectionId, start: Start) {
        if let Some(known) = self.containers.get(&start.container) {
            let reply = match known.creating {
                Some(_) => Reply::Failed("container is being started".to_owned()),
                None => Reply::State(Box::new(known.state.clone())),
            };
            return self.reply(id, &reply);
        }
        if self.ending.is_some() {
            return self.reply(id, &Reply::Failed("the pod is ending".to_owned()));
        }
        let (helper, streams) = match children::create(&start, &self.launch.libcontainer_root) {
            Ok(made) => made,
            Err(error) => return self.reply(id, &Reply::Failed(error.to_string())),
        };
        let Streams {
            stdin,
            stdout,
            stderr,
            console,
        } = streams;
        let outputs = [(stdout, Source::Stdout), (stderr, Source::Stderr)];
        let outputs = outputs
            .into_iter()
            .filter_map(|(fd, source)| Some(Output::new(fd?, source)))
            .collect();
        let state = RunState {
            container: start.container.clone(),
            ..RunState::default()
        };
        let supervised = Supervised {
            state,
            oom_before: 0,
            log: start.log.clone().map(LogFile::open),
            outputs,
            console,
            stdin,
            attached: Vec::new(),
            creating: Some((helper, id)),
            start,
        };
        self.containers
            .insert(supervised.state.container.clone(), supervised);
    }

    fn created(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some((helper, _)) = &mut container.creating else {
            return;
        };
        let Some(made) = helper.receive() else { return };
        let Some((_, connection)) = container.creating.take() else {
            return;
        };
        let started = match made {
            Made::Failed(message) => Err(message),
            Made::Pid(pid) => {
                container.state.pid = pid;
                container.oom_before = self.layout.oom_kills(&container.start.cgroup);
                children::start(id, &self.launch.libcontainer_root)
            }
        };
        match started {
            Ok(()) => {
                container.state.started_at = now();
                if self.ending.is_some() {
                    let _ = kill(Pid::from_raw(container.state.pid), Signal::SIGKILL);
                }
                container.save(false);
                let state = container.state.clone();
                if let Some(status) = self.early.remove(&Pid::from_raw(state.pid)) {
                    self.publish(&state);
                    self.exited(id, status);
                } else {
                    self.publish(&state);
                }
                self.reply(connection, &Reply::State(Box::new(state)));
            }
            Err(message) => {
                let Some(mut container) = self.containers.remove(id) else {
                    return;
                };
                container.drain(&mut self.buffer);
                if container.state.pid != 0 {
                    let _ = kill(Pid::from_raw(container.state.pid), Signal::SIGKILL);
                }
                self.layout.kill_all(&container.start.cgroup);
                let _ = self.layout.remove(&container.start.cgroup);
                self.reply(connection, &Reply::Failed(message));
            }
        }
        self.forget_early_exits();
    }

    fn take_console(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some(listener) = container.console.take() else {
            return;
        };
        let received = listener.accept().and_then(|(stream, _)| receive_fds(&stream));
        let path = self
            .launch
            .libcontainer_root
            .join(format!("{}.tty", children::short_id(id)));
        let _ = std::fs::remove_file(path);
        match received.map(|fds| fds.into_iter().next().map(children::nonblocking)) {
            Ok(Some(Ok(fd))) => container.outputs.push(Output::new(fd, Source::Stdout)),
            Ok(Some(Err(error))) | Err(error) => eprintln!("console of {id}: {error}"),
            Ok(None) => eprintln!("console of {id}: none came"),
        }
    }

    fn copy(&mut self, id: &str, fd: RawFd) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        container.copy(fd, &mut self.buffer);
    }

    /// Forgets an attached client that has left: a silent container would never find out by writing to it.
    fn let_go(&mut self, id: &str, fd: RawFd) {
        if let Some(container) = self.containers.get_mut(id) {
            container.attached.retain(|to| to.fd.as_raw_fd() != fd);
        }
    }

    fn signal(&mut self, id: &str, signal: i32, all: bool) -> Reply {
        let Some(container) = self.containers.get(id).filter(|c| c.state.running()) else {
            return Reply::NotRunning;
        };
        let Ok(signal) = Signal::try_from(signal) else {
            return Reply::Failed(format!("no signal {signal}"));
        };
        if all {
            self.layout.signal(&container.start.cgroup, signal);
        }
        match kill(Pid::from_raw(container.state.pid), signal) {
            Ok(()) => Reply::Done,
            Err(Errno::ESRCH) => Reply::NotRunning,
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    fn attach(&mut self, id: ConnectionId, container: &str) -> Reply {
        let Some(container) = self.containers.get_mut(container).filter(|c| c.state.running()) else {
            return Reply::NotRunning;
        };
        let fds = self.connections.get_mut(&id).map(|c| std::mem::take(&mut c.fds));
        let Ok([stdout, stderr, channel]): Result<[OwnedFd; 3], _> = fds.unwrap_or_default().try_into()
        else {
            return Reply::Failed("an attach needs three descriptors".to_owned());
        };
        // A terminal is its own input.
        let terminal = container.outputs.first().filter(|_| container.start.tty);
        let input = match &container.stdin {
            Some(stdin) => Some(stdin),
            None => terminal.map(|output| &output.fd),
        };
        if let Some(input) = input
            && let Err(error) = send_fd(&channel, input)
        {
            return Reply::Failed(error.to_string());
        }
        for (fd, source) in [(stdout, Source::Stdout), (stderr, Source::Stderr)] {
            match children::nonblocking(fd) {
                Ok(fd) => container.attached.push(Attached { fd, source }),
                Err(error) => return Reply::Failed(error.to_string()),
            }
        }
        Reply::Done
    }

    fn exec(
        &mut self,
        id: ConnectionId,
        container: &str,
        process: &serde_json::Value,
        console: Option<PathBuf>,
    ) {
        if !self.containers.get(container).is_some_and(|c| c.state.running()) {
            return self.reply(id, &Reply::NotRunning);
        }
        let fds = self
            .connections
            .get_mut(&id)
            .map(|c| std::mem::take(&mut c.fds))
            .unwrap_or_default();
        let streams = match <[OwnedFd; 3]>::try_from(fds) {
            Ok(streams) => streams.map(Some),
            Err(_) if console.is_some() => [None, None, None],
            Err(_) => return self.reply(id, &Reply::Failed("an exec needs three descriptors".to_owned())),
        };
        let process_file = self.launch.libcontainer_root.join(format!("exec-{id}.json"));
        let root = &self.launch.libcontainer_root;
        let made = std::fs::write(&process_file, process.to_string())
            .and_then(|()| children::exec(container, root, process_file.clone(), console, streams));
        match made {
            Ok(helper) => self.execs.push(Exec {
                connection: id,
                process_file,
                helper: Some(helper),
                pid: None,
            }),
            Err(error) => self.reply(id, &Reply::Failed(error.to_string())),
        }
    }

    fn exec_made(&mut self, connection: ConnectionId) {
        let Some(exec) = self.execs.iter_mut().find(|e| e.connection == connection) else {
            return;
        };
        let Some(made) = exec.helper.as_mut().and_then(Helper::receive) else {
            return;
        };
        exec.helper = None;
        let _ = std::fs::remove_file(&exec.process_file);
        match made {
            Made::Pid(pid) => {
                let pid = Pid::from_raw(pid);
                exec.pid = Some(pid);
                if let Some(status) = self.early.remove(&pid) {
                    self.exec_ended(pid, status);
                } else if !self.connections.contains_key(&connection) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
            Made::Failed(message) => {
                self.execs.retain(|e| e.connection != connection);
                self.reply(connection, &Reply::Failed(message));
            }
        }
        self.forget_early_exits();
    }

    fn exec_ended(&mut self, pid: Pid, exit_code: i32) {
        let Some(at) = self.execs.iter().position(|e| e.pid == Some(pid)) else {
            return;
        };
        let exec = self.execs.swap_remove(at);
        self.reply(exec.connection, &Reply::Exited { exit_code });
    }

    fn reap(&mut self) {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return eprintln!("waitpid: {error}"),
            };
            self.reaped(pid, code);
        }
    }

    fn reaped(&mut self, pid: Pid, code: i32) {
        let running = |c: &Supervised| c.state.pid == pid.as_raw() && c.state.running();
        if let Some(id) = self
            .containers
            .iter()
            .find(|(_, c)| running(c))
            .map(|(id, _)| id.clone())
        {
            return self.exited(&id, code);
        }
        if self.execs.iter().any(|e| e.pid == Some(pid)) {
            return self.exec_ended(pid, code);
        }
        // A helper that ends tells its result before; if it could not, this is the result.
        let creating = |c: &Supervised| c.creating.as_ref().is_some_and(|(helper, _)| helper.pid == pid);
        if let Some(id) = self
            .containers
            .iter()
            .find(|(_, c)| creating(c))
            .map(|(id, _)| id.clone())
        {
            if let Some((helper, _)) = self.containers.get_mut(&id).and_then(|c| c.creating.as_mut()) {
                helper.ended();
            }
            return self.created(&id);
        }
        let helped = self
            .execs
            .iter_mut()
            .find(|e| e.helper.as_ref().is_some_and(|h| h.pid == pid));
        if let Some(exec) = helped {
            if let Some(helper) = &mut exec.helper {
                helper.ended();
            }
            let connection = exec.connection;
            return self.exec_made(connection);
        }
        if self.helping() {
            self.early.insert(pid, code);
        }
    }

    fn helping(&self) -> bool {
        self.containers.values().any(|c| c.creating.is_some())
            || self.execs.iter().any(|e| e.helper.is_some())
    }

    fn forget_early_exits(&mut self) {
        if !self.helping() {
            self.early.clear();
        }
    }

    fn exited(&mut self, id: &str, code: i32) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let cgroup = container.start.cgroup.clone();
        let cgroup = cgroup.as_str();
        if !container.start.private_pid {
            self.layout.kill_all(cgroup);
        }
        container.drain(&mut self.buffer);
        container.state.oom_killed = self.layout.oom_kills(cgroup) > container.oom_before;
        container.state.exit_code = code;
        container.state.finished_at = now();
        container.save(true);
        if let Err(error) = self.layout.remove(cgroup) {
            eprintln!("removing cgroup {cgroup}: {error}");
        }
        let _ = std::fs::remove_dir_all(self.launch.libcontainer_root.join(children::short_id(id)));
        let state = container.state.clone();
        self.publish(&state);
        sys::trim_heap();
    }

    fn publish(&mut self, state: &RunState) {
        let Ok(frame) = encode(&Reply::State(Box::new(state.clone()))) else {
            return;
        };
        for connection in self.connections.values_mut().filter(|c| c.subscribed) {
            connection.waiting.extend_from_slice(&frame);
        }
    }

    fn reply(&mut self, id: ConnectionId, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match encode(reply) {
            Ok(frame) => connection.waiting.extend_from_slice(&frame),
            Err(error) => eprintln!("reply: {error}"),
        }
        connection.answered = !matches!(reply, Reply::Snapshot(_));
    }

    fn flush(&mut self) {
        let mut gone = Vec::new();
        for (id, connection) in &mut self.connections {
            if !connection.flush() || connection.waiting.len() > MAX_WAITING {
                gone.push(*id);
            }
        }
        for id in gone {
            self.hang_up(id);
        }
    }

    fn hang_up(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        // Whoever asked for an exec and left wants it ended: that is how a timeout is told.
        if let Some(pid) = self.execs.iter().find(|e| e.connection == id).and_then(|e| e.pid) {
            let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
