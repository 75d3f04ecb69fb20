//! The certificate controllers: kubelets' requests are approved if their senders may make them, approved requests of
//! Kubernetes' own signers are signed by the cluster's authority, and requests that are done with are deleted.

mod authority;
mod request;
mod step;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use skiff_informer::{Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::worker::{Failure, Reconcile, unless_gone, work};

pub(crate) use authority::Authority;
use step::{Step, due, step};

/// How long a certificate lasts whose request does not ask for less (`--cluster-signing-duration`).
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

struct Controller {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    queue: Arc<WorkQueue<String>>,
    /// `None`: requests are approved and deleted, and somebody else signs them.
    authority: Option<Authority>,
}

/// Runs the controllers until `shutdown`.
pub(crate) async fn run(authority: Option<Authority>, informers: Informers, shutdown: CancellationToken) {
    let requests = informers.all::<CertificateSigningRequest>();
    let queue = informers.queues().make::<String>("certificate");
    requests.on_change({
        let queue = queue.clone();
        move |_, new| {
            if let Some(name) = new.and_then(|request| request.metadata.name.clone()) {
                queue.add(name);
            }
        }
    });
    tokio::select! {
        () = requests.synced() => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        requests,
        queue: queue.clone(),
        authority,
    };
    work("certificates", Arc::new(controller), queue, 1, shutdown).await;
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let Some(wish) = self.requests.get(&ObjectKey::new("", name)) else {
            return Ok(());
        };
        let now = Timestamp::now();
        match step(&wish, now) {
            Step::Delete => return self.delete(name, &wish).await,
            Step::Approve(ways) => self.approve(name, &wish, &ways).await?,
            Step::Sign(request) => {
                if let Some(authority) = &self.authority {
                    let asked = wish.spec.expiration_seconds;
                    let lifetime = step::lifetime(asked, LIFETIME);
                    let usages = wish.spec.usages.as_deref().unwrap_or_default();
                    let certificate = authority
                        .sign(&request, usages, lifetime, now)
                        .map_err(Failure::NotYet)?;
                    let mut signed = (*wish).clone();
                    signed.status.get_or_insert_default().certificate =
                        Some(k8s_openapi::ByteString(certificate.into_bytes()));
                    unless_gone(
                        self.api()
                            .replace_status(name, &PostParams::default(), &signed)
                            .await,
                    )?;
                }
            }
            Step::Fail(why) => {
                let failed = with_condition(&wish, "Failed", "SignerValidationFailure", &why, now);
                unless_gone(
                    self.api()
                        .replace_status(name, &PostParams::default(), &failed)
                        .await,
                )?;
            }
            Step::Rest => {}
        }
        if let Some(due) = due(&wish) {
            let wait = due.duration_since(now).unsigned_abs();
            self.queue.add_after(name.clone(), wait + Duration::from_secs(1));
        }
        Ok(())
    }
}

impl Controller {
    fn api(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }

    async fn delete(&self, name: &str, wish: &CertificateSigningRequest) -> Result<(), Failure> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: wish.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        Ok(unless_gone(self.api().delete(name, &parameters).await)?)
    }

    /// Approves a request in the first of the ways in which its sender may make it.
    async fn approve(
        &self,
        name: &str,
        wish: &CertificateSigningRequest,
        ways: &[step::Way],
    ) -> Result<(), Failure> {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let spec = &wish.spec;
        for way in ways {
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: spec.username.clone(),
                    uid: spec.uid.clone(),
                    groups: spec.groups.clone(),
                    extra: spec.extra.clone(),
                    resource_attributes: Some(ResourceAttributes {
                        group: Some("certificates.k8s.io".into()),
                        resource: Some("certificatesigningrequests".into()),
                        subresource: Some(way.subresource().into()),
                        verb: Some("create".into()),
                        ..ResourceAttributes::default()
                    }),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let answer = reviews.create(&PostParams::default(), &review).await?;
            if !answer.status.is_some_and(|status| status.allowed) {
                continue;
            }
            let approved = with_condition(wish, "Approved", "AutoApproved", way.message(), Timestamp::now());
            let sent = self
                .api()
                .replace_subresource("approval", name, &PostParams::default(), &approved)
                .await;
            return Ok(unless_gone(sent)?);
        }
        let tried: Vec<&str> = ways.iter().map(step::Way::subresource).collect();
        // The right to ask may yet be given.
        Err(Failure::Refused(format!(
            "recognized csr {name:?} as [{}] but subject access review was not approved",
            tried.join(" ")
        )))
    }
}

fn with_condition(
    wish: &CertificateSigningRequest,
    type_: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut changed = wish.clone();
    let conditions = &mut changed.status.get_or_insert_default().conditions;
    conditions
        .get_or_insert_default()
        .push(CertificateSigningRequestCondition {
            type_: type_.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        });
    changed
}
