//! One connection of the server to its shim.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::sys;

/// Says which connection is meant, also after it is gone.
pub(crate) type ConnectionId = u64;

/// A connection, with what has come and what is to go.
pub(crate) struct Connection {
    pub stream: UnixStream,
    pub received: Vec<u8>,
    pub fds: Vec<OwnedFd>,
    pub waiting: Vec<u8>,
    pub subscribed: bool,
    pub asked: bool,
    pub answered: bool,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            fds: Vec::new(),
            waiting: Vec::new(),
            subscribed: false,
            asked: false,
            answered: false,
        }
    }

    /// Takes what has come; false when the other side is gone.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            let mut control = cmsg_space!([RawFd; 4]);
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received = recvmsg::<()>(self.stream.as_raw_fd(), &mut parts, Some(&mut control), flags);
            let (length, fds) = match received {
                Ok(message) => (message.bytes, take_fds(&message)),
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => continue,
                Err(_) => return false,
            };
            self.fds.extend(fds);
            if length == 0 {
                return false;
            }
            if !self.asked {
                self.received
                    .extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
        }
    }

    /// Sends what it can; false when the connection has served its purpose.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(n) => {
                    self.waiting.drain(..n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !self.answered || self.subscribed
    }
}

fn take_fds(message: &nix::sys::socket::RecvMsg<'_, '_, ()>) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(received) = control {
            fds.extend(sys::adopt_received(received));
        }
    }
    fds
}

/// Takes the descriptors of one message.
pub(crate) fn receive_fds(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut control = cmsg_space!([RawFd; 4]);
    let mut byte = [0; 512];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    Ok(take_fds(&message))
}

/// Gives a descriptor to whoever has the other end of a socket.
pub(crate) fn send_fd(socket: &OwnedFd, fd: &OwnedFd) -> io::Result<()> {
    let raw = [fd.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &[ControlMessage::ScmRights(&raw)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}
