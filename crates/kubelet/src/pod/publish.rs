//! Tells the API server a pod's status: the newest only, in order, until it is heard.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::identity::{name, namespace};
use super::patch::status_patch;

/// The waits between tries while the API server is away.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

struct Wanted {
    version: u64,
    status: Option<(Arc<Pod>, PodStatus)>,
}

/// What the API server has, and the resource version that it was read at.
#[derive(Default)]
struct Told {
    resource_version: u64,
    status: PodStatus,
}

/// Publishes one pod's status; its task ends when it is dropped.
pub(crate) struct Publisher {
    wanted: watch::Sender<Wanted>,
    heard: watch::Receiver<u64>,
    told: Arc<Mutex<Told>>,
}

fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

impl Publisher {
    pub(crate) fn start(client: Client) -> Self {
        let (wanted, inbox) = watch::channel(Wanted {
            version: 0,
            status: None,
        });
        let (heard_sender, heard) = watch::channel(0);
        let told = Arc::<Mutex<Told>>::default();
        tokio::spawn(run(client, inbox, heard_sender, told.clone()));
        Self { wanted, heard, told }
    }

    /// Takes notice of the pod as the watch brought it, unless what it says is older than the last answer.
    pub(crate) fn saw(&self, pod: &Pod) {
        let mut told = self.told.lock();
        let seen = version(pod);
        if seen >= told.resource_version {
            told.resource_version = seen;
            told.status = pod.status.clone().unwrap_or_default();
        }
    }

    /// Makes this the status to publish.
    pub(crate) fn publish(&self, pod: &Arc<Pod>, status: &PodStatus) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.status = Some((pod.clone(), status.clone()));
        });
    }

    /// Waits until the last published status has been heard, or its pod is gone.
    pub(crate) async fn flush(&self) {
        let version = self.wanted.borrow().version;
        let mut heard = self.heard.clone();
        // The task lives as long as the sender in `self`.
        let _ = heard.wait_for(|heard| *heard >= version).await;
    }
}

async fn run(
    client: Client,
    mut inbox: watch::Receiver<Wanted>,
    heard: watch::Sender<u64>,
    told: Arc<Mutex<Told>>,
) {
    let mut wait = RETRY;
    while inbox.changed().await.is_ok() {
        loop {
            let (version, status) = {
                let wanted = inbox.borrow_and_update();
                (wanted.version, wanted.status.clone())
            };
            let Some((pod, status)) = status else { break };
            let patch = status_patch(&pod, &told.lock().status, &status);
            let Some(patch) = patch else {
                heard.send_replace(version);
                break;
            };
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace(&pod));
            match api
                .patch_status(name(&pod), &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(answer) => {
                    wait = RETRY;
                    let mut told = told.lock();
                    told.resource_version = told.resource_version.max(self::version(&answer));
                    told.status = answer.status.unwrap_or_default();
                    heard.send_replace(version);
                    break;
                }
                // Deleted, or replaced by a pod of the same name: nobody is left to tell.
                Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {
                    heard.send_replace(version);
                    break;
                }
                Err(error) => {
                    tracing::debug!(pod = name(&pod), %error, "status not published, trying again");
                    // The API server does not say when it is back.
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                    if inbox.has_changed().is_err() {
                        return;
                    }
                }
            }
        }
    }
}
