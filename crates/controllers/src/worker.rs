//! The loop around every controller: take a key, reconcile it, put it back with back-off when that failed.

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use skiff_informer::WorkQueue;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a pass over one key can fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API refused or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// What was read is not ready to be acted on, as when a kind is not yet known.
    #[error("{0}")]
    NotYet(String),
    /// Somebody may not do what they asked for; it is looked at again, for rights change.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// Whether this is nothing to tell anybody: somebody else was faster, and the next pass will see what he did, or
    /// somebody's request was refused.
    fn is_usual(&self) -> bool {
        match self {
            Self::Api(error) => status_code(error) == Some(409),
            Self::Refused(_) => true,
            Self::NotYet(_) => false,
        }
    }
}

/// The HTTP status that the API answered with.
pub(crate) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the API says that there is no such object.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    status_code(error) == Some(404)
}

/// Whether the API says that an object of this name exists.
pub(crate) fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// Whether nothing can be made in the namespace because it is being deleted.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes
        .unwrap_or_default()
        .iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}

/// The API's own words about a failure.
pub(crate) fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A missing object is what a deletion wants, too.
pub(crate) fn unless_gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Something that makes the world under one key as it should be.
pub(crate) trait Reconcile<Key>: Send + Sync + 'static {
    /// One pass. It runs for one key at a time at most.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Works on the queue with so many workers until `shutdown`.
pub(crate) async fn work<Key>(
    name: &'static str,
    reconciler: Arc<impl Reconcile<Key>>,
    queue: Arc<WorkQueue<Key>>,
    workers: usize,
    shutdown: CancellationToken,
) where
    Key: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let reconciler = reconciler.clone();
        let queue = queue.clone();
        tasks.spawn(async move {
            while let Some(key) = queue.next().await {
                match reconciler.reconcile(&key).await {
                    Ok(()) => queue.forget(&key),
                    Err(failure) => {
                        if failure.is_usual() {
                            tracing::debug!(controller = name, %key, %failure, "trying again");
                        } else {
                            tracing::warn!(controller = name, %key, %failure, "trying again");
                        }
                        queue.add_rate_limited(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
    shutdown.cancelled().await;
    queue.close();
    // A pass that is in the middle of a request is not waited for: the next start repeats it.
    tasks.shutdown().await;
}
