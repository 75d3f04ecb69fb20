//! The endpoint controllers: a service's pods, as EndpointSlices and as the older Endpoints. A service without a selector
//! has endpoints that somebody else writes.

mod desired;
mod legacy;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use skiff_api::selector::LabelSelector;
use skiff_informer::{Index, Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::expectations::{self, Expectations};
use crate::worker::{Failure, Reconcile, is_namespace_terminating, is_not_found, unless_gone, work};
use desired::Desired;
use slices::{MANAGED_BY, MANAGER, Plan, SERVICE_NAME};

const WORKERS: usize = 5;

struct Controller {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    endpoints: Informer<Endpoints>,
    /// The slices that are ours, by service.
    slices: Index<ObjectKey, EndpointSlice>,
    expectations: Arc<Expectations>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

/// Runs both controllers until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let services = informers.all::<Service>();
    let pods = informers.all::<Pod>();
    let nodes = informers.all::<Node>();
    let endpoints = informers.all::<Endpoints>();
    let all_slices = informers.all::<EndpointSlice>();
    let queue = informers.queues().make::<ObjectKey>("endpoint_slice");
    let expectations: Arc<Expectations> = Arc::default();
    let slices = Index::new(&all_slices, |slice: &EndpointSlice| {
        service_of(slice).into_iter().collect()
    });
    services.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let Some(service) = new.or(old) {
                queue.add(ObjectKey::of(&service.metadata));
            }
        }
    });
    all_slices.on_change({
        let (queue, expectations) = (queue.clone(), expectations.clone());
        move |old, new| {
            if let Some(service) = new.or(old).and_then(|slice| service_of(slice)) {
                if old.is_none() {
                    expectations.creation_observed(&service);
                }
                queue.add(service);
            }
        }
    });
    endpoints.on_change({
        let (queue, services) = (queue.clone(), services.clone());
        move |old, new| {
            let key = new.or(old).map(|endpoints| ObjectKey::of(&endpoints.metadata));
            if let Some(key) = key.filter(|key| services.get(key).is_some()) {
                queue.add(key);
            }
        }
    });
    pods.on_change({
        let (queue, services) = (queue.clone(), services.clone());
        move |old, new| pod_changed(old, new, &queue, &services)
    });
    tokio::select! {
        () = async {
            tokio::join!(
                services.synced(), pods.synced(), nodes.synced(), endpoints.synced(), all_slices.synced(),
            );
        } => {}
        () = shutdown.cancelled() => return,
    }
    let client = informers.client().clone();
    let controller = Controller {
        client,
        services,
        pods,
        nodes,
        endpoints,
        slices,
        expectations,
        queue: queue.clone(),
    };
    work("endpointslice", Arc::new(controller), queue, WORKERS, shutdown).await;
}

/// The service whose slice this is, if it is ours.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let is_ours = labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let name = labels.get(SERVICE_NAME).filter(|_| is_ours)?;
    Some(ObjectKey::new(
        slice.metadata.namespace.clone().unwrap_or_default(),
        name.clone(),
    ))
}

fn selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| LabelSelector::of_map(labels))
}

/// Puts those services into the queue that select the pod or did so before.
fn pod_changed(
    old: Option<&Arc<Pod>>,
    new: Option<&Arc<Pod>>,
    queue: &WorkQueue<ObjectKey>,
    services: &Informer<Service>,
) {
    // What an endpoint is made of; most changes of a pod are none of it.
    let facts = |pod: &Arc<Pod>| {
        let status = pod.status.as_ref();
        (
            pod.metadata.uid.clone(),
            pod.metadata.labels.clone(),
            pod.metadata.deletion_timestamp.is_some(),
            crate::pods::is_ready(pod),
            crate::pods::is_terminated(pod),
            crate::pods::node_name(pod).to_string(),
            status.and_then(|status| status.pod_ip.clone()),
            status.and_then(|status| status.pod_ips.clone()),
        )
    };
    if old.map(facts) == new.map(facts) {
        return;
    }
    let Some(pod) = new.or(old) else { return };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = |meta: &ObjectMeta| meta.labels.clone().unwrap_or_default();
    let labels: Vec<_> = [old, new]
        .into_iter()
        .flatten()
        .map(|pod| labels(&pod.metadata))
        .collect();
    for service in services.list_namespace(namespace) {
        if selector(&service).is_some_and(|selector| labels.iter().any(|labels| selector.matches(labels))) {
            queue.add(ObjectKey::of(&service.metadata));
        }
    }
}

impl Reconcile<ObjectKey> for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(service) = self.services.get(key) else {
            self.expectations.forget(key);
            // The slices are the garbage collector's; the older object has no owner.
            return self.remove_endpoints(key).await;
        };
        let Some(selector) = selector(&service) else {
            return Ok(());
        };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let may_act = self.expectations.are_met(key);
        let empty = std::collections::BTreeMap::new();
        let mut selected = self.pods.list_namespace(&key.namespace);
        selected.retain(|pod| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&empty)));
        let desired = desired::desired(&service, &selected, |node| self.zone(node));
        self.store_endpoints(key, &service, &desired).await?;
        if !may_act {
            return Ok(());
        }
        let plan = slices::plan(&service, desired, &self.slices.get(key));
        self.carry_out(key, plan).await
    }
}

impl Controller {
    fn zone(&self, node: &str) -> Option<String> {
        let node = self.nodes.get(&ObjectKey::new("", node))?;
        node.metadata
            .labels
            .as_ref()?
            .get("topology.kubernetes.io/zone")
            .cloned()
    }

    async fn carry_out(&self, key: &ObjectKey, plan: Plan) -> Result<(), Failure> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        if !plan.create.is_empty() {
            self.expectations.expect(key, plan.create.len(), HashSet::new());
            self.queue.add_after(key.clone(), expectations::TIMEOUT);
        }
        let mut failed = None;
        for slice in plan.create {
            if let Err(error) = api.create(&PostParams::default(), &slice).await {
                self.expectations.creation_observed(key);
                if !is_namespace_terminating(&error) && !is_not_found(&error) {
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        for slice in plan.update {
            let name = slice.metadata.name.clone().unwrap_or_default();
            unless_gone(api.replace(&name, &PostParams::default(), &slice).await)?;
        }
        for slice in plan.delete {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let parameters = DeleteParams::default().preconditions(Preconditions {
                uid: slice.metadata.uid.clone(),
                resource_version: None,
            });
            unless_gone(api.delete(name, &parameters).await)?;
        }
        Ok(())
    }

    async fn store_endpoints(
        &self,
        key: &ObjectKey,
        service: &Service,
        desired: &Desired,
    ) -> Result<(), Failure> {
        let present = self.endpoints.get(key);
        let Some(new) = legacy::plan(service, desired, present.as_deref()) else {
            return Ok(());
        };
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        if present.is_some() {
            unless_gone(api.replace(&key.name, &PostParams::default(), &new).await)?;
            return Ok(());
        }
        match api.create(&PostParams::default(), &new).await {
            Err(error) if !is_namespace_terminating(&error) && !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn remove_endpoints(&self, key: &ObjectKey) -> Result<(), Failure> {
        if self.endpoints.get(key).is_none() {
            return Ok(());
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        unless_gone(api.delete(&key.name, &DeleteParams::default()).await)?;
        Ok(())
    }
}
