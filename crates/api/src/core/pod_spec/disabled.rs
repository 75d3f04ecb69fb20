//! Fields of features that are off unless they are asked for, in the version that is spoken here: what a client writes
//! into them is dropped, as upstream's server drops it (`DropDisabledPodFields`).

use k8s_openapi::api::core::v1::{ContainerStatus, Lifecycle, PodSpec, PodStatus};

/// Drops them from a spec: stop signals, certificates and trust bundles in projected volumes, groups for scheduling,
/// responders to evictions, volumes made from another namespace's objects.
pub(super) fn drop_from_spec(spec: &mut PodSpec) {
    spec.scheduling_group = None;
    spec.eviction_responders = None;
    let init = spec.init_containers.iter_mut().flatten();
    let regular = init
        .chain(spec.containers.iter_mut())
        .map(|one| &mut one.lifecycle);
    let ephemeral = spec.ephemeral_containers.iter_mut().flatten();
    for lifecycle in regular.chain(ephemeral.map(|one| &mut one.lifecycle)) {
        drop_stop_signal(lifecycle);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        let sources = volume
            .projected
            .iter_mut()
            .flat_map(|projected| projected.sources.iter_mut().flatten());
        for source in sources {
            source.cluster_trust_bundle = None;
            source.pod_certificate = None;
        }
        let template = volume
            .ephemeral
            .as_mut()
            .and_then(|ephemeral| ephemeral.volume_claim_template.as_mut());
        if let Some(template) = template {
            crate::core::persistent_volume_claim::drop_other_namespaces(&mut template.spec);
        }
    }
}

fn drop_stop_signal(lifecycle: &mut Option<Lifecycle>) {
    if let Some(hooks) = lifecycle
        && hooks.stop_signal.take().is_some()
        && *hooks == Lifecycle::default()
    {
        *lifecycle = None;
    }
}

/// Drops them from a status.
pub(in crate::core) fn drop_from_status(status: &mut PodStatus) {
    status.node_allocatable_resource_claim_statuses = None;
    status.volume_health = None;
    let lists: [&mut Option<Vec<ContainerStatus>>; 3] = [
        &mut status.container_statuses,
        &mut status.init_container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        container.stop_signal = None;
        for mount in container.volume_mounts.iter_mut().flatten() {
            mount.volume_status = None;
        }
    }
}
