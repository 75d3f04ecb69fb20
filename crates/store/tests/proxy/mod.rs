//! A proxy before an etcd, which can lose requests, answers and connections at the moment that a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    SwallowAnswers,
    SwallowRequests,
    Refuse,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Counts the cuts; a connection ends when it changes.
    cuts: watch::Sender<u64>,
    swallowed: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn before(etcd: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, cuts) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let swallowed = Arc::new(Notify::new());
        let task = tokio::spawn({
            let (mode, cuts, swallowed) = (mode.clone(), cuts.clone(), swallowed.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if *mode.borrow() == Mode::Refuse {
                        continue;
                    }
                    let mut cut = cuts.subscribe();
                    let (mode, swallowed) = (mode.subscribe(), swallowed.clone());
                    let lives = cuts.subscribe();
                    tokio::spawn(async move {
                        let server = TcpStream::connect((etcd, 2379)).await.unwrap();
                        tokio::select! {
                            _ = pump(client, server, lives, mode, swallowed) => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        });
        Self {
            address,
            mode,
            cuts,
            swallowed,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn pass(&self) {
        self.mode.send_replace(Mode::Pass);
    }

    pub(crate) fn refuse(&self) {
        self.mode.send_replace(Mode::Refuse);
    }

    pub(crate) fn swallow_answers(&self) {
        self.mode.send_replace(Mode::SwallowAnswers);
    }

    /// The future ends when something was swallowed.
    pub(crate) fn swallow_requests(&self) -> impl Future<Output = ()> {
        let swallowed = self.swallowed.clone().notified_owned();
        self.mode.send_replace(Mode::SwallowRequests);
        swallowed
    }

    /// Ends all connections that there are, with whatever is on its way, and lets what comes after pass.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
        self.pass();
    }
}

async fn pump(
    mut client: TcpStream,
    mut server: TcpStream,
    cuts: watch::Receiver<u64>,
    mode: watch::Receiver<Mode>,
    swallowed: Arc<Notify>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    // What is read after the cut is not passed on, even if the mode is another by then.
    let cut = || cuts.has_changed().unwrap_or(true);
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            let now = *mode.borrow();
            if cut() {
                return Ok(());
            }
            if now == Mode::SwallowRequests {
                swallowed.notify_waiters();
            } else {
                to_server.write_all(&buffer[..length]).await?;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            let now = *mode.borrow();
            if cut() {
                return Ok(());
            }
            if now != Mode::SwallowAnswers {
                to_client.write_all(&buffer[..length]).await?;
            }
        }
    };
    tokio::select! {
        done = requests => done,
        done = answers => done,
    }
}
