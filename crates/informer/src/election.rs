//! Leader election by a Lease: which one of several processes on one store does the work, and who takes over from it.
//!
//! The rules are those of client-go's `leaderelection`. Clocks of different machines are never compared: a lease is taken
//! for expired when it has not *changed* for as long as it says, by the clock of whoever looks at it. A leader that
//! cannot renew its lease stops before the others may take it.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::{EventRecorder, EventType, reference_to};

/// How long a lease lasts, and how its holder and the others go about it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Others may take a lease that has not been renewed for so long. Whole seconds.
    pub lease: Duration,
    /// The holder gives up when it could not renew for so long; less than `lease`.
    pub renew: Duration,
    /// The pause between two attempts; less than `renew`.
    pub retry: Duration,
}

impl Default for Timing {
    /// kube-controller-manager's and kube-scheduler's.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// One who stands for election.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Lease's namespace.
    pub namespace: &'static str,
    /// The Lease's name.
    pub lease: &'static str,
    /// Tells this process from the others.
    pub identity: String,
    /// The component that the events come from.
    pub component: &'static str,
    /// How long, how often.
    pub timing: Timing,
}

impl Candidate {
    /// Does the work whenever it is this candidate's turn, until `shutdown`. A term's work ends at the token that it is
    /// given; what has not ended when the others may begin is dropped.
    ///
    /// # Errors
    /// Those of the work. That the lease cannot be had is no error.
    pub async fn lead<E, F>(
        self,
        client: Client,
        shutdown: CancellationToken,
        mut work: impl FnMut(CancellationToken) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
    {
        let events = EventRecorder::new(client.clone(), self.component, None, shutdown.clone());
        let timing = self.timing;
        let mut bid = Bid {
            leases: Api::namespaced(client, self.namespace),
            candidate: self,
            seen: None,
            held: None,
        };
        loop {
            tokio::select! {
                () = bid.win() => {}
                () = shutdown.cancelled() => return Ok(()),
            }
            bid.tell(&events, "became leader");
            let term = shutdown.child_token();
            let mut working = std::pin::pin!(work(term.clone()));
            let ended = tokio::select! {
                result = &mut working => Some(result),
                () = bid.keep() => None,
            };
            if let Some(result) = ended {
                // Whoever ends of its own accord lets the others begin at once.
                let _ = tokio::time::timeout(timing.retry, bid.release()).await;
                return result;
            }
            bid.tell(&events, "stopped leading");
            term.cancel();
            if let Ok(result) = tokio::time::timeout(timing.lease.saturating_sub(timing.renew), working).await
            {
                result?;
            }
        }
    }
}

/// A candidate and what it knows of the lease.
struct Bid {
    candidate: Candidate,
    leases: Api<Lease>,
    /// The lease as it was last seen, and when it was first seen so.
    seen: Option<(LeaseSpec, Instant)>,
    /// The lease as this candidate wrote it last.
    held: Option<Lease>,
}

impl Bid {
    /// Waits until the lease is this candidate's.
    async fn win(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(lease = self.candidate.lease, %error, "the lease cannot be had, trying again")
                }
            }
            // As client-go: up to 2.2 times as long, so that several do not ask at once.
            let pause = self
                .candidate
                .timing
                .retry
                .mul_f64(1.0 + 1.2 * rand::random::<f64>());
            tokio::time::sleep(pause).await;
        }
    }

    /// Renews the lease until it is lost.
    async fn keep(&mut self) {
        let timing = self.candidate.timing;
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(timing.retry).await;
            match tokio::time::timeout_at(renewed + timing.renew, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::warn!(lease = self.candidate.lease, "the lease has another holder");
                    return;
                }
                Ok(Err(error)) if renewed.elapsed() < timing.renew => {
                    tracing::warn!(lease = self.candidate.lease, %error, "the lease is not renewed, trying again");
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(
                        lease = self.candidate.lease,
                        "the lease could not be renewed in time"
                    );
                    return;
                }
            }
        }
    }

    /// Takes or renews the lease; false when it is somebody else's.
    async fn attempt(&mut self) -> kube::Result<bool> {
        // A holder need not look before it renews; if somebody wrote meanwhile, it does.
        if let Some(held) = self.held.take() {
            let spec = renewed(held.spec.as_ref(), &self.candidate, Timestamp::now());
            match self.write(held, spec).await {
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {}
                outcome => return outcome.map(|()| true),
            }
        }
        let Some(lease) = self.leases.get_opt(self.candidate.lease).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.candidate.lease.to_string()),
                    namespace: Some(self.candidate.namespace.to_string()),
                    ..ObjectMeta::default()
                },
                spec: Some(renewed(None, &self.candidate, Timestamp::now())),
            };
            let made = self.leases.create(&PostParams::default(), &lease).await?;
            self.hold(made);
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let unchanged = self
            .seen
            .as_ref()
            .map(|(_, since)| since.elapsed())
            .unwrap_or_default();
        if is_taken(&spec, &self.candidate, unchanged) {
            return Ok(false);
        }
        let spec = renewed(Some(&spec), &self.candidate, Timestamp::now());
        self.write(lease, spec).await.map(|()| true)
    }

    async fn write(&mut self, mut lease: Lease, spec: LeaseSpec) -> kube::Result<()> {
        lease.spec = Some(spec);
        let written = self
            .leases
            .replace(self.candidate.lease, &PostParams::default(), &lease)
            .await?;
        self.hold(written);
        Ok(())
    }

    fn hold(&mut self, lease: Lease) {
        self.seen = lease.spec.clone().map(|spec| (spec, Instant::now()));
        self.held = Some(lease);
    }

    /// Gives the lease back, if it is held.
    async fn release(&mut self) {
        let Some(lease) = self.held.take() else { return };
        let spec = released(lease.spec.as_ref(), Timestamp::now());
        if let Err(error) = self.write(lease, spec).await {
            tracing::debug!(lease = self.candidate.lease, %error, "the lease is not given back");
        }
        self.held = None;
    }

    fn tell(&self, events: &EventRecorder, what: &str) {
        let identity = &self.candidate.identity;
        tracing::info!(lease = self.candidate.lease, identity, "{what}");
        let named = Lease {
            metadata: ObjectMeta {
                name: Some(self.candidate.lease.to_string()),
                namespace: Some(self.candidate.namespace.to_string()),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let lease = self.held.as_ref().unwrap_or(&named);
        let message = format!("{identity} {what}");
        events.record(reference_to(lease), EventType::Normal, "LeaderElection", message);
    }
}

/// Whether a lease that has not changed for some time is somebody else's.
fn is_taken(spec: &LeaseSpec, candidate: &Candidate, unchanged: Duration) -> bool {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let lasts = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(candidate.timing.lease, Duration::from_secs);
    !holder.is_empty() && holder != candidate.identity && unchanged < lasts
}

/// The lease that a candidate writes: its own for longer, or somebody else's that has ended.
fn renewed(before: Option<&LeaseSpec>, candidate: &Candidate, now: Timestamp) -> LeaseSpec {
    let is_own = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&candidate.identity));
    let transitions = before.map(|spec| spec.lease_transitions.unwrap_or(0) + i32::from(!is_own));
    LeaseSpec {
        holder_identity: Some(candidate.identity.clone()),
        lease_duration_seconds: i32::try_from(candidate.timing.lease.as_secs()).ok(),
        acquire_time: before
            .filter(|_| is_own)
            .and_then(|spec| spec.acquire_time.clone())
            .or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: transitions.or(Some(0)),
        ..before.cloned().unwrap_or_default()
    }
}

/// The lease of a leader that has gone: nobody's, and soon over for those who go by its times.
fn released(before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..before.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(identity: &str) -> Candidate {
        Candidate {
            namespace: "kube-system",
            lease: "l",
            identity: identity.into(),
            component: "c",
            timing: Timing::default(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_lease_is_anothers_while_it_changes() {
        let of = |holder: Option<&str>, seconds: Option<i32>| LeaseSpec {
            holder_identity: holder.map(str::to_string),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        for (spec, unchanged, taken) in [
            (of(None, None), 0, false),
            (of(Some(""), Some(1)), 0, false),
            (of(Some("me"), Some(15)), 0, false),
            (of(Some("other"), Some(15)), 0, true),
            (of(Some("other"), Some(15)), 14, true),
            (of(Some("other"), Some(15)), 15, false),
            // The holder knows how often it renews.
            (of(Some("other"), Some(60)), 30, true),
            (of(Some("other"), None), 14, true),
            (of(Some("other"), Some(-1)), 14, true),
        ] {
            let found = is_taken(&spec, &candidate("me"), Duration::from_secs(unchanged));
            assert_eq!(found, taken, "{spec:?} after {unchanged} s");
        }
    }

    #[test]
    fn a_lease_counts_how_often_it_went_to_another() {
        let (me, other) = (candidate("me"), candidate("other"));
        let first = renewed(None, &me, at(1));
        assert_eq!(first.holder_identity.as_deref(), Some("me"));
        assert_eq!(
            (first.lease_transitions, first.lease_duration_seconds),
            (Some(0), Some(15))
        );
        let again = renewed(Some(&first), &me, at(5));
        assert_eq!(
            (again.lease_transitions, &again.acquire_time),
            (Some(0), &Some(MicroTime(at(1))))
        );
        assert_eq!(again.renew_time, Some(MicroTime(at(5))));
        let taken = renewed(Some(&again), &other, at(30));
        assert_eq!(
            (taken.lease_transitions, &taken.acquire_time),
            (Some(1), &Some(MicroTime(at(30))))
        );
        let given_back = released(Some(&taken), at(40));
        assert!(!is_taken(&given_back, &me, Duration::ZERO));
        assert_eq!(renewed(Some(&given_back), &me, at(41)).lease_transitions, Some(2));
    }
}
