//! The states of containers, and as whom they run.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec};

use crate::core::pod_update::slice;
use crate::field::{Errors, Path};
use crate::names;

const MAX_ID: i64 = u32::MAX as i64;

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// A container that has ended and is not to be started again stays ended.
pub(super) fn validate(
    field: &str,
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    spec: &PodSpec,
    path: &Path,
    errors: &mut Errors,
) {
    let containers = match field {
        "containerStatuses" => spec.containers.as_slice(),
        "initContainerStatuses" => slice(&spec.init_containers),
        _ => &[],
    };
    if field != "ephemeralContainerStatuses" && all_may_restart(spec) {
        return;
    }
    for (index, known) in old.iter().enumerate() {
        let Some(code) = exit_code(known) else { continue };
        let Some(status) = new.iter().find(|status| status.name == known.name) else {
            continue;
        };
        let container = containers.iter().find(|container| container.name == known.name);
        let allowed = container.is_some_and(|container| restarts_after(container, spec, code));
        if exit_code(status).is_none() && !allowed {
            errors.forbidden(
                &path.index(index).child("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}

/// Whether some container's end starts all of them again.
fn all_may_restart(spec: &PodSpec) -> bool {
    let all = spec.containers.iter().chain(slice(&spec.init_containers));
    let mut rules = all.flat_map(|container| slice(&container.restart_policy_rules));
    rules.any(|rule| rule.action == "RestartAllContainers")
}

/// Whether a container that has ended with this code is started again: by its own rules, its own policy or the pod's.
fn restarts_after(container: &Container, spec: &PodSpec, code: i32) -> bool {
    let matches = |policy: &str| match policy {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    };
    let Some(own) = container.restart_policy.as_deref() else {
        return matches(spec.restart_policy.as_deref().unwrap_or_default());
    };
    let mut rules = slice(&container.restart_policy_rules).iter();
    let ruled = rules.any(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = slice(&codes.values).contains(&code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    });
    ruled || matches(own)
}

/// Checks as whom the containers run.
pub(super) fn validate_users(statuses: &[ContainerStatus], os: &str, path: &Path, errors: &mut Errors) {
    for (index, status) in statuses.iter().enumerate() {
        let Some(user) = status.user.as_ref().and_then(|user| user.linux.as_ref()) else {
            continue;
        };
        let path = path.index(index).child("user.linux");
        if os == "windows" {
            errors.forbidden(&path, "cannot be set for a windows pod");
            continue;
        }
        let groups = slice(&user.supplemental_groups).iter().enumerate();
        let groups = groups.map(|(index, group)| (path.child("supplementalGroups").index(index), *group));
        let ids = [(path.child("uid"), user.uid), (path.child("gid"), user.gid)];
        for (path, id) in ids.into_iter().chain(groups) {
            if !(0..=MAX_ID).contains(&id) {
                errors.invalid(&path, id, names::range(0, MAX_ID));
            }
        }
    }
}
