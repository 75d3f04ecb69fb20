//! The service-account controller: every namespace has a service account `default`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use skiff_informer::{Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::worker::{Failure, Reconcile, is_already_exists, is_namespace_terminating, is_not_found, work};

const NAME: &str = "default";

struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let namespaces = informers.all::<Namespace>();
    let accounts = informers.all::<ServiceAccount>();
    let queue = informers.queues().make::<String>("serviceaccount");
    namespaces.on_change({
        let queue = queue.clone();
        move |_, new| queue.add_name(new)
    });
    accounts.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let (Some(old), None) = (old, new)
                && old.metadata.name.as_deref() == Some(NAME)
            {
                queue.add(old.metadata.namespace.clone().unwrap_or_default());
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(namespaces.synced(), accounts.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        namespaces,
        accounts,
    };
    work("serviceaccount", Arc::new(controller), queue, 1, shutdown).await;
}

/// Puts the names of namespaces into a queue.
pub(crate) trait AddName {
    /// Adds the name, if there is a namespace.
    fn add_name(&self, namespace: Option<&Arc<Namespace>>);
}

impl AddName for WorkQueue<String> {
    fn add_name(&self, namespace: Option<&Arc<Namespace>>) {
        if let Some(name) = namespace.and_then(|namespace| namespace.metadata.name.clone()) {
            self.add(name);
        }
    }
}

/// Whether things may still be made in the namespace.
pub(crate) fn is_active(namespace: Option<&Arc<Namespace>>) -> bool {
    namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

/// What making something in a namespace comes to when it is there already or the namespace is on its way out.
pub(crate) fn unless_moot<T>(result: Result<T, kube::Error>) -> Result<(), Failure> {
    match result {
        Err(error)
            if !is_already_exists(&error) && !is_namespace_terminating(&error) && !is_not_found(&error) =>
        {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, namespace: &String) -> Result<(), Failure> {
        let present = self.accounts.get(&ObjectKey::new(namespace, NAME)).is_some();
        if present || !is_active(self.namespaces.get(&ObjectKey::new("", namespace)).as_ref()) {
            return Ok(());
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(NAME.to_string()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        unless_moot(api.create(&PostParams::default(), &account).await)
    }
}
