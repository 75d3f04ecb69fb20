//! The work of controllers and scheduler: of all processes on one store, one does it at a time.

use std::future::Future;

use kube::Client;
use skiff_informer::election::Timing;
use skiff_informer::{Candidate, Informers};
use tokio_util::sync::CancellationToken;

/// Where the loops of a process run.
#[derive(Clone)]
pub(crate) struct Loops {
    /// Whether no other process can be on the store.
    pub(crate) alone: bool,
    /// Tells this process from the others.
    pub(crate) identity: String,
    /// What the loops of this process share when they run all the time.
    pub(crate) informers: Informers,
    /// When they end for good.
    pub(crate) shutdown: CancellationToken,
}

impl Loops {
    /// Runs one loop, all the time or whenever the lease of this name is this process'. Each term begins with informers
    /// of its own, since what follows them ends with it.
    pub(crate) async fn run<E, F>(
        self,
        lease: &'static str,
        component: &'static str,
        client: Client,
        work: impl Fn(Informers, CancellationToken) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
    {
        if self.alone {
            return work(self.informers, self.shutdown).await;
        }
        let candidate = Candidate {
            namespace: "kube-system",
            lease,
            identity: self.identity,
            component,
            timing: Timing::default(),
        };
        let informers = self.informers;
        candidate
            .lead(client, self.shutdown, |term| {
                work(informers.afresh(term.clone()), term)
            })
            .await
    }
}
