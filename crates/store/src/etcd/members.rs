//! The members of the cluster: which one is asked, and the next when it fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, KvClient, LeaseClient, TlsOptions, WatchClient,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::EtcdOptions;
use super::backoff::Backoff;
use super::failure::{Attempt, Failure};
use crate::{Error, Result};

/// Etcd itself gives a proposal up after 7 s (5 s and two elections).
pub(super) const ATTEMPT: Duration = Duration::from_secs(8);
const CONNECT: Duration = Duration::from_secs(3);
/// A connection whose other end does not answer a ping is given up. Etcd cuts off whoever pings more often than each 5 s.
const PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Which failures are followed by another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// All that another try may mend: the request does the same when it is done twice.
    Always,
    /// Only those that left nothing done.
    IfNotDone,
}

/// The connection to one member. It is made at its first use, and made again when it broke.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
}

/// The endpoints, and a connection to each. All requests go to one of them until it fails.
pub(super) struct Members {
    endpoints: Vec<(String, Option<TlsOptions>)>,
    connections: Vec<Connection>,
    /// Counts the changes of the member in use; modulo the number of endpoints it is that member.
    turn: AtomicUsize,
    patience: Duration,
}

impl Members {
    pub(super) async fn new(options: &EtcdOptions) -> Result<Self> {
        let tls = tls(options)?;
        let mut endpoints = Vec::new();
        for text in &options.endpoints {
            endpoints.push(endpoint(text, tls.as_ref()));
        }
        let mut connections = Vec::new();
        for (url, tls) in &endpoints {
            connections.push(connection(url, tls.clone()).await?);
        }
        if connections.is_empty() {
            return Err(Error::Unavailable("etcd: no endpoint is given".into()));
        }
        Ok(Self {
            endpoints,
            connections,
            turn: AtomicUsize::new(0),
            patience: options.timeout,
        })
    }

    /// The turn, and the connection whose turn it is.
    fn current(&self) -> Option<(usize, Connection)> {
        let turn = self.turn.load(Ordering::Relaxed);
        let connection = self.connections.get(turn % self.connections.len())?;
        Some((turn, connection.clone()))
    }

    /// The next member has its turn, unless another request has seen to that.
    pub(super) fn failed(&self, turn: usize) {
        let next = turn.wrapping_add(1);
        let changed = self
            .turn
            .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok()
            && let Some((url, _)) = self.endpoints.get(next % self.endpoints.len())
        {
            tracing::debug!(%url, "asking another member of the etcd cluster");
        }
    }

    /// The failure with the name of its member.
    fn named(&self, turn: usize, failure: Failure) -> Failure {
        let url = match self.endpoints.get(turn % self.endpoints.len()) {
            Some((url, _)) => url,
            None => "nowhere",
        };
        match failure {
            Failure::NotDone(text) => Failure::NotDone(format!("etcd at {url}: {text}")),
            Failure::Unknown(text) => Failure::Unknown(format!("etcd at {url}: {text}")),
            Failure::Refused(Error::Unavailable(text)) => {
                Failure::Refused(Error::Unavailable(format!("etcd at {url}: {text}")))
            }
            failure => failure,
        }
    }

    fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// When a request that begins now is given up.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// A client on a connection of its own, to the member in use, and whose turn that is. For a watch: one that is not
    /// read holds up whatever shares its connection.
    pub(super) async fn apart(&self) -> Result<(usize, WatchClient)> {
        let turn = self.turn.load(Ordering::Relaxed);
        let (url, tls) = self
            .endpoints
            .get(turn % self.endpoints.len())
            .ok_or_else(|| Error::Unavailable("etcd: no endpoint is given".into()))?;
        Ok((turn, connection(url, tls.clone()).await?.watch))
    }

    /// Makes a request, of one member after the other while that is useful, until the deadline.
    pub(super) async fn call<T, F, Fut>(&self, repeat: Repeat, deadline: Instant, request: F) -> Attempt<T>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Attempt<T>>,
    {
        let mut backoff = Backoff::default();
        for attempt in 1.. {
            let Some((turn, connection)) = self.current() else {
                break;
            };
            let until = deadline.min(Instant::now() + ATTEMPT);
            let failure = match timeout_at(until, request(connection)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => self.named(turn, failure),
                Err(_) => self.named(turn, Failure::Unknown("no answer in time".into())),
            };
            match &failure {
                Failure::NotDone(text) => {
                    tracing::debug!(%text, attempt, "etcd did not take a request");
                }
                Failure::Unknown(text) => {
                    tracing::debug!(%text, attempt, "what became of a request to etcd is unknown");
                }
                _ => return Err(failure),
            }
            self.failed(turn);
            let again = repeat == Repeat::Always || matches!(failure, Failure::NotDone(_));
            // Each member is asked once before the first wait.
            let wait = if attempt % self.len() == 0 {
                backoff.next()
            } else {
                Duration::ZERO
            };
            if !again || Instant::now() + wait >= deadline {
                return Err(failure);
            }
            // Etcd has no way to tell that it has a leader again, so it is asked again.
            sleep(wait).await;
        }
        Err(Failure::NotDone("etcd: no endpoint is given".into()))
    }
}

fn tls(options: &EtcdOptions) -> Result<Option<TlsOptions>> {
    let identity = match (&options.client_certificate_pem, &options.client_key_pem) {
        (Some(certificate), Some(key)) => Some(Identity::from_pem(certificate, key)),
        (None, None) => None,
        _ => {
            let text = "etcd: a client certificate and its key are given together or not at all";
            return Err(Error::Unavailable(text.into()));
        }
    };
    let secured = |text: &String| text.starts_with("https://");
    if options.ca_pem.is_none() && identity.is_none() && !options.endpoints.iter().any(secured) {
        return Ok(None);
    }
    let tls = match &options.ca_pem {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_native_roots(),
    };
    Ok(Some(match identity {
        Some(identity) => tls.identity(identity),
        None => tls,
    }))
}

/// An endpoint without a scheme is an `https` one when there is anything to secure it with, as in etcd's own client.
fn endpoint(text: &str, tls: Option<&TlsOptions>) -> (String, Option<TlsOptions>) {
    let text = text.trim_end_matches('/');
    if text.starts_with("http://") {
        (text.to_owned(), None)
    } else if text.starts_with("https://") {
        (text.to_owned(), tls.cloned())
    } else if tls.is_some() {
        (format!("https://{text}"), tls.cloned())
    } else {
        (format!("http://{text}"), None)
    }
}

async fn connection(url: &str, tls: Option<TlsOptions>) -> Result<Connection> {
    let mut options = ConnectOptions::new()
        // A member that is cut off from the others says so rather than answer with what is old.
        .with_require_leader(true)
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PING, PING_TIMEOUT)
        .with_keep_alive_while_idle(false);
    if let Some(tls) = tls {
        options = options.with_tls(tls);
    }
    let client = Client::connect([url], Some(options))
        .await
        .map_err(|error| Error::Unavailable(format!("etcd at {url}: {error}")))?;
    Ok(Connection {
        kv: client.kv_client().max_decoding_message_size(usize::MAX),
        lease: client.lease_client(),
        watch: client.watch_client().max_decoding_message_size(usize::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoints: &[&str]) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            ..EtcdOptions::default()
        }
    }

    #[test]
    fn an_endpoint_is_secured_when_it_says_so_or_there_is_a_certificate() {
        let ca = EtcdOptions {
            ca_pem: Some("a".into()),
            ..options(&["a:1"])
        };
        let with = tls(&ca).unwrap();
        for (text, tls, url, secured) in [
            ("http://a:1", None, "http://a:1", false),
            ("http://a:1", with.as_ref(), "http://a:1", false),
            ("https://a:1/", with.as_ref(), "https://a:1", true),
            ("a:1", with.as_ref(), "https://a:1", true),
            ("a:1", None, "http://a:1", false),
        ] {
            let (found, tls) = endpoint(text, tls);
            assert_eq!((found.as_str(), tls.is_some()), (url, secured), "{text}");
        }
        assert!(tls(&options(&["http://a:1"])).unwrap().is_none());
        assert!(tls(&options(&["http://a:1", "https://a:2"])).unwrap().is_some());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let options = EtcdOptions {
            client_certificate_pem: Some("a".into()),
            ..options(&["https://a:1"])
        };
        assert!(matches!(tls(&options), Err(Error::Unavailable(_))));
    }

    #[tokio::test]
    async fn of_many_requests_that_fail_one_changes_the_member() {
        let members = Members::new(&options(&["a:1", "b:1", "c:1"])).await.unwrap();
        for _ in 0..5 {
            members.failed(0);
        }
        assert_eq!(members.current().unwrap().0, 1);
        members.failed(1);
        members.failed(2);
        assert_eq!(members.current().unwrap().0, 3);
    }

    #[tokio::test]
    async fn no_endpoint_is_no_cluster() {
        assert!(matches!(
            Members::new(&options(&[])).await,
            Err(Error::Unavailable(_))
        ));
    }
}
