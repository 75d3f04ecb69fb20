//! A real etcd for a test: the binary of Debian's `etcd-server`, in a directory and at a loopback address of its own.

#![allow(dead_code, reason = "each test binary has its own use for it")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use skiff_store::{EtcdOptions, EtcdStore};
use tempfile::TempDir;

/// One member of a cluster. It is killed when it is dropped.
pub(crate) struct Member {
    directory: PathBuf,
    arguments: Vec<String>,
    pub(crate) address: Ipv4Addr,
    pub(crate) url: String,
    process: Option<Child>,
    /// Of the first member only.
    _directory: Option<TempDir>,
}

/// How a member is to serve its clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    /// A certificate, its key, and the authority of the clients' certificates, PEM.
    pub(crate) tls: Option<(String, String, String)>,
    pub(crate) more: Vec<String>,
}

/// A loopback address that nobody else has: there are sixteen million.
pub(crate) fn address() -> Ipv4Addr {
    loop {
        let [a, b, c]: [u8; 3] = rand::random();
        let address = Ipv4Addr::new(127, a, b, c);
        let free = |port| TcpListener::bind(SocketAddr::from((address, port))).is_ok();
        if c != 0 && c != 255 && free(2379) && free(2380) {
            return address;
        }
    }
}

/// One member that is a cluster by itself.
pub(crate) fn alone() -> Member {
    member_with(address(), &Setting::default())
}

pub(crate) fn member_with(address: Ipv4Addr, setting: &Setting) -> Member {
    // Nobody else is to be elected, so there is nothing to wait for.
    let quick = ["--heartbeat-interval", "10", "--election-timeout", "100"].map(String::from);
    let setting = Setting {
        tls: setting.tls.clone(),
        more: quick.into_iter().chain(setting.more.iter().cloned()).collect(),
    };
    let directory = tempfile::tempdir().unwrap();
    let mut member = prepare(
        directory.path(),
        "etcd",
        address,
        &format!("etcd=http://{address}:2380"),
        &setting,
    );
    member._directory = Some(directory);
    member.start();
    member
}

/// A cluster of so many members.
pub(crate) fn cluster(size: usize) -> Vec<Member> {
    let addresses: Vec<_> = (0..size).map(|_| address()).collect();
    let peers: Vec<_> = (addresses.iter().enumerate())
        .map(|(i, address)| format!("m{i}=http://{address}:2380"))
        .collect();
    let setting = Setting {
        tls: None,
        more: ["--heartbeat-interval", "50", "--election-timeout", "500"]
            .map(String::from)
            .to_vec(),
    };
    let directory = tempfile::tempdir().unwrap();
    let mut members: Vec<_> = (addresses.into_iter().enumerate())
        .map(|(i, address)| {
            prepare(
                directory.path(),
                &format!("m{i}"),
                address,
                &peers.join(","),
                &setting,
            )
        })
        .collect();
    members.iter_mut().for_each(Member::start);
    members[0]._directory = Some(directory);
    members
}

fn prepare(directory: &Path, name: &str, address: Ipv4Addr, peers: &str, setting: &Setting) -> Member {
    let directory = directory.join(name);
    std::fs::create_dir(&directory).unwrap();
    let scheme = if setting.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}:2379");
    let peer = format!("http://{address}:2380");
    let mut arguments: Vec<String> = [
        ("--name", name),
        ("--data-dir", directory.join("data").to_str().unwrap()),
        ("--listen-client-urls", &url),
        ("--advertise-client-urls", &url),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", peers),
        ("--logger", "zap"),
    ]
    .iter()
    .flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()])
    .collect();
    if let Some((certificate, key, ca)) = &setting.tls {
        for (flag, pem) in [
            ("--cert-file", certificate),
            ("--key-file", key),
            ("--trusted-ca-file", ca),
        ] {
            let path = directory.join(format!("{}.pem", flag.trim_start_matches('-')));
            std::fs::write(&path, pem).unwrap();
            arguments.extend([flag.to_owned(), path.to_str().unwrap().to_owned()]);
        }
        arguments.push("--client-cert-auth".into());
    }
    arguments.extend(setting.more.iter().cloned());
    Member {
        directory,
        arguments,
        address,
        url,
        process: None,
        _directory: None,
    }
}

impl Member {
    /// Starts it, or starts it again with the data that it has.
    pub(crate) fn start(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .unwrap();
        let mut command = Command::new("etcd");
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // Etcd takes flags from the environment too.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("etcd can't be started ({error}); install it: apt-get install etcd-server")
        });
        self.process = Some(process);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            kill(Pid::from_raw(process.id().try_into().unwrap()), signal).unwrap();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// It does nothing until [`Member::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        // Until all its threads have stopped, it may answer.
        let process = self.process.as_ref().unwrap();
        let pid = Pid::from_raw(process.id().try_into().unwrap());
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// What it said last.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// For keys of any text, each under its own name.
pub(crate) fn options(urls: &[&str]) -> EtcdOptions {
    EtcdOptions {
        endpoints: urls.iter().map(ToString::to_string).collect(),
        root: String::new(),
        prefix: String::new(),
        // A busy machine takes its time to start etcd.
        timeout: Duration::from_secs(60),
        ..EtcdOptions::default()
    }
}

pub(crate) async fn connect(members: &[&Member]) -> EtcdStore {
    let urls: Vec<_> = members.iter().map(|member| member.url.as_str()).collect();
    match EtcdStore::connect(options(&urls)).await {
        Ok(store) => store,
        Err(error) => panic!("{error}; etcd said:\n{}", members[0].log()),
    }
}
