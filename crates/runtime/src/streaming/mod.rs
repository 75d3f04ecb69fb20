//! The streams behind CRI's `Exec`, `Attach` and `PortForward`: a server on the loopback interface, in which each address
//! is good for one connection and known only to who was told it.

mod idle;
mod multiplexed;
mod port_forward;
mod server;
pub(crate) mod session;
mod spdy;
mod websocket;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tonic::Status;

pub(crate) use server::run;

/// How long an address waits for its connection (upstream's).
const VALID: Duration = Duration::from_secs(60);
/// How many may wait at once (upstream's).
const MOST: usize = 1000;
/// How long a client may take to read what was said before it closes its connection (upstream's): what the buffers on
/// the way hold takes a slow one minutes.
const FINISH: Duration = Duration::from_secs(15 * 60);
/// How long a connection may be silent (upstream's). Clients that still are there send pings.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// Which of a process' streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Runs a process in a container.
    Exec {
        container: String,
        command: Vec<String>,
        wanted: Wanted,
    },
    /// Joins a container's own process.
    Attach { container: String, wanted: Wanted },
    /// Connects into a sandbox.
    PortForward {
        sandbox: String,
        /// Only who speaks channels says beforehand which.
        ports: Vec<u16>,
    },
}

/// The addresses that have been given out.
#[derive(Debug)]
pub(crate) struct Addresses {
    server: SocketAddr,
    waiting: Mutex<HashMap<String, (Purpose, Instant)>>,
}

impl Addresses {
    /// Binds the server's socket.
    pub(crate) async fn listen() -> io::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addresses = Self {
            server: listener.local_addr()?,
            waiting: Mutex::default(),
        };
        Ok((addresses, listener))
    }

    /// An address that is good for one connection.
    pub(crate) fn give(&self, purpose: Purpose) -> Result<String, Status> {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, (_, given)| now.duration_since(*given) < VALID);
        if waiting.len() >= MOST {
            return Err(Status::resource_exhausted(
                "maximum number of in-flight requests exceeded",
            ));
        }
        let kind = match &purpose {
            Purpose::Exec { .. } => "exec",
            Purpose::Attach { .. } => "attach",
            Purpose::PortForward { .. } => "portforward",
        };
        let token = crate::runtime::new_id();
        let url = format!("http://{}/{kind}/{token}", self.server);
        waiting.insert(token, (purpose, now));
        Ok(url)
    }

    /// What an address is for. It is good for nothing afterwards.
    fn take(&self, path: &str) -> Option<Purpose> {
        let token = path.rsplit('/').next()?;
        let (purpose, given) = self.waiting.lock().remove(token)?;
        (given.elapsed() < VALID).then_some(purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_good_for_one_connection() {
        let (addresses, _listener) = Addresses::listen().await.unwrap();
        let purpose = Purpose::PortForward {
            sandbox: "s".to_owned(),
            ports: Vec::new(),
        };
        let url = addresses.give(purpose.clone()).unwrap();
        let path = url.strip_prefix(&format!("http://{}", addresses.server)).unwrap();
        assert_eq!(addresses.take("/portforward/guessed"), None);
        assert_eq!(addresses.take(path), Some(purpose.clone()));
        assert_eq!(addresses.take(path), None);
        for _ in 0..MOST {
            addresses.give(purpose.clone()).unwrap();
        }
        let error = addresses.give(purpose).unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
    }
}
