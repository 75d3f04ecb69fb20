//! The shim's beginning: from `skiff shim FOLDER` to a process of its own that serves.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getpid, pipe2, setsid};

use super::namespaces;
use super::protocol::{Launch, Launched};
use super::supervise::Supervisor;
use crate::cgroup::Layout;
use crate::sys;

/// The hidden subcommand `shim`: `args` are what follows that word. To be called before the process has a second thread.
///
/// Reads `launch.json` in the folder that is named by the one argument, starts the shim as a process of its own, and
/// returns once that serves, after printing [`Launched`] as one line of JSON.
pub fn shim_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    sys::close_inherited();
    let (Some(folder), None) = (args.next(), args.next()) else {
        eprintln!("usage: shim FOLDER");
        return ExitCode::FAILURE;
    };
    let launched = match launch(Path::new(&folder)) {
        Ok(launched) => launched,
        Err(error) => Launched::Failed(error.to_string()),
    };
    let line = serde_json::to_string(&launched).unwrap_or_default();
    let told = writeln!(io::stdout(), "{line}");
    match (launched, told) {
        (Launched::Ready { .. }, Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn launch(folder: &Path) -> io::Result<Launched> {
    let launch: Launch = serde_json::from_slice(&fs::read(folder.join("launch.json"))?)?;
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let folder = folder.to_owned();
    sys::fork(move || live(launch, folder, File::from(write)))?;
    // One line, not everything: processes that the shim starts hold the pipe open too.
    let mut line = String::new();
    BufReader::new(File::from(read)).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(Launched::Failed("the shim ended without a word".to_owned()));
    }
    Ok(serde_json::from_str(&line)?)
}

fn live(launch: Launch, folder: PathBuf, mut starter: File) -> i32 {
    let (launched, supervisor) = match prepare(launch, &folder) {
        Ok((supervisor, pid_namespace_init)) => {
            let pid_namespace_init = pid_namespace_init.map(Pid::as_raw);
            (
                Launched::Ready {
                    pid: getpid().as_raw(),
                    pid_namespace_init,
                },
                Some(supervisor),
            )
        }
        Err(error) => (Launched::Failed(error.to_string()), None),
    };
    let line = serde_json::to_string(&launched).unwrap_or_default();
    if writeln!(starter, "{line}").is_err() {
        return 1;
    }
    drop(starter);
    match supervisor {
        Some(supervisor) => supervisor.run(),
        None => 1,
    }
}

type Prepared = (Supervisor, Option<Pid>);

fn prepare(launch: Launch, folder: &Path) -> Result<Prepared, Box<dyn std::error::Error>> {
    setsid()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o022));
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let complaints = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("shim.log"))?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&complaints)?;
    let _ = nix::sys::prctl::set_name(c"skiff-shim");
    nix::sys::prctl::set_child_subreaper(true)?;
    // A pod whose shim is gone is gone: the kernel should look elsewhere first. Not every machine allows it.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");

    let layout = Layout::detect()?;
    layout.create(&launch.cgroup)?;
    layout.enter(&launch.cgroup, getpid())?;
    namespaces::set_up(&launch)?;
    let pid_namespace_init = launch
        .shared_pid
        .then(namespaces::shared_pid_namespace)
        .transpose()?;

    let _ = fs::remove_file(&launch.socket);
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&launch.socket);
    umask(before);
    let listener = listener?;
    fs::set_permissions(&launch.socket, fs::Permissions::from_mode(0o600))?;
    fs::create_dir_all(&launch.libcontainer_root)?;
    let supervisor = Supervisor::new(launch, listener, layout, pid_namespace_init)?;
    Ok((supervisor, pid_namespace_init))
}
