//! All containers of a pod, of whatever sort, as rules see them that hold for all (`VisitContainersWithPath`).

use k8s_openapi::api::core::v1::{
    ContainerPort, EnvVar, PodSpec, ResourceRequirements, SecurityContext, VolumeDevice,
};

use super::slice;
use crate::field::Path;

/// What init containers, regular and ephemeral ones have in common.
pub(super) struct Visited<'a> {
    pub(super) path: Path,
    pub(super) name: &'a str,
    pub(super) security: Option<&'a SecurityContext>,
    pub(super) env: &'a [EnvVar],
    pub(super) ports: &'a [ContainerPort],
    pub(super) devices: &'a [VolumeDevice],
    pub(super) resources: Option<&'a ResourceRequirements>,
}

/// The init containers, the regular and the ephemeral ones, each with its path.
pub(super) fn all<'a>(spec: &'a PodSpec, path: &Path) -> Vec<Visited<'a>> {
    macro_rules! visited {
        ($list:literal, $containers:expr) => {
            $containers
                .iter()
                .enumerate()
                .map(|(index, container)| Visited {
                    path: path.child($list).index(index),
                    name: &container.name,
                    security: container.security_context.as_ref(),
                    env: slice(&container.env),
                    ports: slice(&container.ports),
                    devices: slice(&container.volume_devices),
                    resources: container.resources.as_ref(),
                })
        };
    }
    let init = visited!("initContainers", slice(&spec.init_containers));
    let regular = visited!("containers", spec.containers);
    let ephemeral = visited!("ephemeralContainers", slice(&spec.ephemeral_containers));
    init.chain(regular).chain(ephemeral).collect()
}
