//! The kernel calls that have no safe wrapper. All of the crate's `unsafe` is here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType};
use nix::unistd::{ForkResult, Pid};
use tokio::io::unix::AsyncFd;

/// Runs `child` in a forked process and returns its pid; what `child` returns is the process' exit code.
///
/// The child starts with no blocked signals and with default dispositions, since both are inherited through `execve`:
/// a container whose `SIGPIPE` is ignored behaves unlike anywhere else.
///
/// Only for a process with a single thread: a lock that another thread holds would stay locked in the child for ever.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the shim, the only caller, never starts a thread, so no lock can be held across the fork, and the child
    // may run any code. It leaves through `_exit`, so that nothing of the parent's is flushed or dropped twice.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            reset_signals();
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: `_exit` takes no pointer and doesn't return.
            unsafe { libc::_exit(code) }
        }
    }
}

fn reset_signals() {
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default disposition runs no code of ours.
            let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Takes over descriptors that `recvmsg` delivered.
pub(crate) fn adopt_received(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the kernel installed these descriptors for this message, so nobody else owns them.
    fds.into_iter()
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

/// Closes every descriptor from 3 on: what the starter of this process left open by mistake.
///
/// Only at the very start of a process, before it has opened anything.
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in `main`, when no object in this process owns a descriptor above stderr.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            0 as libc::c_uint,
        );
    }
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: both requests read and write one `ifreq`, which `request` is, and it outlives the calls. Reading the flags
    // through the union is right since SIOCGIFFLAGS has just set that member.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Hands a descriptor to the runtime of tasks, which says when it can be read or written.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is always the same open descriptor, and the returned object owns it until it has been
    // deregistered.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// A process, whoever's child it is: the descriptor can be read from when the process has ended.
pub(crate) fn process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to the caller, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Tells a terminal how large it is, in characters.
pub(crate) fn set_window_size(terminal: &impl AsRawFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which `size` is, and it outlives the call.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives memory that the allocator keeps for later back to the kernel.
///
/// A shim lives as long as its pod and is idle nearly all of that time.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
