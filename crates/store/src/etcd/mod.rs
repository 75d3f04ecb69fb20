//! The store in an external etcd v3: opening it, and where each method goes.
//!
//! [`members`] asks one member of the cluster, and the next one when it fails; [`failure`] says what a failure means for
//! the request. Keys are named by [`keys`]. Nothing is kept here but connections: what is true is in etcd.
//!
//! *Architecture invariants:* A write is never sent again while an earlier sending of it may yet be done beside it. Each
//! watch has a connection of its own, so that one that is not read holds up nobody.

mod backoff;
mod failure;
mod keys;
mod members;
mod read;
mod watch;
mod write;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::proto::PbKeyValue;

use self::failure::Failure;
use self::keys::Keys;
use self::members::{Members, Repeat};
use crate::{Error, Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, Written};

/// How to reach an etcd cluster, and where in it the keys are.
#[derive(Clone)]
pub struct EtcdOptions {
    /// The members' client URLs, such as `https://10.0.0.1:2379`. Without a scheme `https` when a certificate is given,
    /// else `http`.
    pub endpoints: Vec<String>,
    /// The authorities that the members' certificates are checked against, PEM. `None` for the machine's own.
    pub ca_pem: Option<String>,
    /// The certificate that is shown to the members, with its chain, PEM.
    pub client_certificate_pem: Option<String>,
    /// That certificate's private key, PEM.
    pub client_key_pem: Option<String>,
    /// What every key that is given to the store begins with. Others are refused.
    pub root: String,
    /// What stands for `root` in etcd (kube-apiserver's `--etcd-prefix`).
    pub prefix: String,
    /// A request that did not succeed in this time fails with [`Error::Unavailable`].
    pub timeout: Duration,
}

impl Default for EtcdOptions {
    /// Upstream's layout: `/registry/…`. Endpoints are for the caller to give.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            ca_pem: None,
            client_certificate_pem: None,
            client_key_pem: None,
            root: "/registry".into(),
            prefix: "/registry".into(),
            timeout: Duration::from_secs(15),
        }
    }
}

impl std::fmt::Debug for EtcdOptions {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("root", &self.root)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A [`Store`] in an etcd v3 cluster.
///
/// Several stores may be connected to one cluster, and others may write to it: all see the same revisions.
///
/// - A read is linearizable and is asked again, of another member if need be, until it is answered or
///   [`EtcdOptions::timeout`] is over.
/// - A write is asked again only when it is certain that nothing was done, or when a second one cannot do harm. When it
///   can't be known whether a write was done, it fails with [`Error::Unavailable`], as it does in upstream's client.
/// - A watch follows the whole of etcd, so that it can tell of each revision; it outlives the loss of its member, of
///   the leader and of the whole cluster, for as long as that lasts, and ends when it is refused or compacted away.
///   The user that the certificate names must therefore be allowed to read all keys.
/// - A lease lasts whole seconds, and at least as long as etcd lets it (about two seconds).
/// - What one lease held is deleted in one revision.
/// - When etcd is out of space ([`Error::NoSpace`]) it stays so until its operator has made room and disarmed the alarm.
///   The write that finds the quota exceeded may have been let in all the same: etcd looks before and after it.
pub struct EtcdStore {
    members: Arc<Members>,
    keys: Keys,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Opens the store. [`Error::Unavailable`] when the options can't be used, or no member answers in time.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        let store = Self {
            members: Arc::new(Members::new(&options).await?),
            keys: Keys::new(&options.root, &options.prefix),
        };
        store.revision().await?;
        Ok(store)
    }

    fn stored(&self, key: &str) -> Result<Vec<u8>> {
        match self.keys.stored(key) {
            Some(stored) if !stored.is_empty() => Ok(stored),
            _ => Err(Error::Unavailable(format!("{key:?} is not a key of this store"))),
        }
    }
}

/// Etcd's form of a key and its value in ours.
fn key_value(key: Arc<str>, stored: PbKeyValue) -> KeyValue {
    KeyValue {
        key,
        value: stored.value.into(),
        create_revision: stored.create_revision,
        mod_revision: stored.mod_revision,
        version: stored.version,
        lease: Some(stored.lease).filter(|lease| *lease != 0),
    }
}

/// The error that a failed request is, when nothing more is to be learned about it.
fn error(failure: Failure) -> Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::NotDone(text) | Failure::Unknown(text) => Error::Unavailable(text),
        // Of requests that name no revision.
        Failure::Compacted | Failure::Future => Error::Unavailable("etcd answered out of place".into()),
    }
}

#[async_trait]
impl Store for EtcdStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn revision(&self) -> Result<Revision> {
        read::revision(&self.members).await
    }

    async fn get(&self, key: &str) -> Result<Read<Option<KeyValue>>> {
        let stored = self.stored(key)?;
        let (found, revision) = read::get(&self.members, &stored).await?;
        let value = found.map(|found| key_value(key.into(), found));
        Ok(Read { value, revision })
    }

    async fn range(&self, range: Range) -> Result<Page> {
        read::range(&self.members, &self.keys, range).await
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, lease: Option<LeaseId>) -> Result<Written> {
        let stored = self.stored(key)?;
        let change = write::Change::Put { value, lease };
        write::write(&self.members, key, stored, change, expect).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written> {
        let stored = self.stored(key)?;
        write::write(&self.members, key, stored, write::Change::Delete, expect).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        watch::watch(self.members.clone(), self.keys.clone(), prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        if revision < 1 {
            return Ok(());
        }
        let compact = async |mut connection: members::Connection| {
            connection.kv.compact(revision, None).await?;
            Ok(())
        };
        let deadline = self.members.deadline();
        match self.members.call(Repeat::Always, deadline, compact).await {
            // It has been done before.
            Ok(()) | Err(Failure::Compacted) => Ok(()),
            Err(Failure::Future) => Err(Error::FutureRevision {
                current: self.revision().await?,
            }),
            Err(failure) => Err(error(failure)),
        }
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds.max(1)).unwrap_or(i64::MAX);
        let grant = async |mut connection: members::Connection| {
            let granted = connection.lease.grant(seconds, None).await?;
            Ok(granted.id())
        };
        // One that was granted unnoticed hangs on nothing and ends by itself.
        let deadline = self.members.deadline();
        let granted = self.members.call(Repeat::Always, deadline, grant).await;
        granted.map_err(error)
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<()> {
        let keep = async |mut connection: members::Connection| {
            connection.lease.keep_alive(lease).await?;
            Ok(())
        };
        let deadline = self.members.deadline();
        let kept = self.members.call(Repeat::Always, deadline, keep).await;
        kept.map_err(error)
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<()> {
        let revoke = async |mut connection: members::Connection| {
            connection.lease.revoke(lease).await?;
            Ok(())
        };
        let deadline = self.members.deadline();
        match self.members.call(Repeat::IfNotDone, deadline, revoke).await {
            // It may be gone by then, and that is what was asked for.
            Err(Failure::Unknown(_)) => match self.members.call(Repeat::Always, deadline, revoke).await {
                Err(Failure::Refused(Error::LeaseNotFound)) => Ok(()),
                again => again.map_err(error),
            },
            once => once.map_err(error),
        }
    }
}
