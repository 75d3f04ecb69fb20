//! What makes a pod's surroundings: its namespaces, host name, kernel parameters, `/dev/shm`.
//!
//! The shim itself lives in the pod's network, IPC and UTS namespaces; nobody else has to, so no pause container is
//! needed. It stays in the host's mount namespace: kubelet mounts volumes there at any time, and a container sees them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, sethostname};

use super::protocol::Launch;
use crate::sys;

/// Why the surroundings couldn't be made.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(crate) struct SetupError {
    what: String,
    source: io::Error,
}

fn step<T, E: Into<io::Error>>(what: impl Into<String>, result: Result<T, E>) -> Result<T, SetupError> {
    result.map_err(|e| SetupError {
        what: what.into(),
        source: e.into(),
    })
}

/// Enters new namespaces and prepares them.
pub(crate) fn set_up(launch: &Launch) -> Result<(), SetupError> {
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWNET, launch.netns.is_some());
    flags.set(CloneFlags::CLONE_NEWIPC, launch.ipc);
    flags.set(CloneFlags::CLONE_NEWUTS, launch.hostname.is_some());
    step("making namespaces", unshare(flags))?;
    if let Some(hostname) = &launch.hostname {
        step("setting the host name", sethostname(hostname))?;
    }
    if let Some(netns) = &launch.netns {
        step("bringing the loopback interface up", sys::loopback_up())?;
        step(format!("creating {}", netns.display()), fs::write(netns, ""))?;
        let bind = mount(
            Some("/proc/self/ns/net"),
            netns,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        step(
            format!("mounting the network namespace at {}", netns.display()),
            bind,
        )?;
    }
    for (name, value) in &launch.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        step(format!("setting sysctl {name}={value}"), fs::write(path, value))?;
    }
    if let Some(shm) = &launch.shm {
        step(format!("creating {}", shm.display()), fs::create_dir_all(shm))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let made = mount(
            Some("shm"),
            shm,
            Some("tmpfs"),
            flags,
            Some("mode=1777,size=67108864"),
        );
        step(format!("mounting {}", shm.display()), made)?;
    }
    Ok(())
}

/// Starts the first process of a PID namespace that the pod's containers share: it does nothing but reap.
pub(crate) fn shared_pid_namespace() -> Result<Pid, SetupError> {
    let (read, write) = step("making a pipe", pipe2(nix::fcntl::OFlag::O_CLOEXEC))?;
    let middle = sys::fork(|| {
        if unshare(CloneFlags::CLONE_NEWPID).is_err() {
            return 1;
        }
        let Ok(pid) = sys::fork(reap_for_ever) else {
            return 1;
        };
        match fs::File::from(write).write_all(&pid.as_raw().to_ne_bytes()) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    });
    let middle = step("starting the PID namespace's first process", middle)?;
    let mut pid = [0; 4];
    let told = fs::File::from(read).read_exact(&mut pid);
    let _ = waitpid(middle, None);
    step("starting the PID namespace's first process", told)?;
    Ok(Pid::from_raw(i32::from_ne_bytes(pid)))
}

fn reap_for_ever() -> i32 {
    let _ = nix::sys::prctl::set_name(c"pause");
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    let _ = signals.thread_block();
    loop {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        let _ = signals.wait();
    }
}
