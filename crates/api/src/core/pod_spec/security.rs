//! What a pod and its containers may do, and as whom.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use super::volumes::check_descending;
use super::{slice, visit, windows};
use crate::field::{Errors, Path};
use crate::internal;
use crate::names;

/// The greatest user or group.
const MAX_ID: i64 = u32::MAX as i64;
const MAX_SYSCTL: usize = 253;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn check_id(id: Option<i64>, path: &Path, errors: &mut Errors) {
    if let Some(id) = id.filter(|id| !(0..=MAX_ID).contains(id)) {
        errors.invalid(path, id, names::range(0, MAX_ID));
    }
}

fn one_of(value: Option<&str>, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| !allowed.contains(value)) {
        errors.not_supported(path, value, allowed);
    }
}

/// Checks the pod's security context.
pub(super) fn validate_pod(spec: &PodSpec, spec_path: &Path, errors: &mut Errors) {
    let Some(context) = &spec.security_context else {
        return;
    };
    let path = spec_path.child("securityContext");
    check_id(context.fs_group, &path.child("fsGroup"), errors);
    check_id(context.run_as_user, &path.child("runAsUser"), errors);
    check_id(context.run_as_group, &path.child("runAsGroup"), errors);
    for (index, group) in slice(&context.supplemental_groups).iter().enumerate() {
        check_id(
            Some(*group),
            &path.child("supplementalGroups").index(index),
            errors,
        );
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    validate_sysctls(context, spec, &path.child("sysctls"), errors);
    one_of(
        context.fs_group_change_policy.as_deref(),
        &["Always", "OnRootMismatch"],
        &path.child("fsGroupChangePolicy"),
        errors,
    );
    validate_seccomp(
        context.seccomp_profile.as_ref(),
        &path.child("seccompProfile"),
        errors,
    );
    windows::validate_options(
        context.windows_options.as_ref(),
        &path.child("windowsOptions"),
        errors,
    );
    validate_app_armor(
        context.app_armor_profile.as_ref(),
        &path.child("appArmorProfile"),
        errors,
    );
    one_of(
        context.supplemental_groups_policy.as_deref(),
        &["Merge", "Strict"],
        &path.child("supplementalGroupsPolicy"),
        errors,
    );
    one_of(
        context.se_linux_change_policy.as_deref(),
        &["MountOption", "Recursive"],
        &path.child("seLinuxChangePolicy"),
        errors,
    );
}

fn is_sysctl(name: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= MAX_SYSCTL
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            let inner =
                |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
            edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
        })
}

fn validate_sysctls(context: &PodSecurityContext, spec: &PodSpec, all: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in slice(&context.sysctls).iter().enumerate() {
        let path = all.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            let detail = format!("must have at most {MAX_SYSCTL} characters and match regex {SYSCTL}");
            errors.invalid(&path, name, detail);
        } else if seen.contains(name) {
            errors.duplicate(&path, name);
        }
        seen.insert(name);
        let dotted = name.replace('/', ".");
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."]
            .iter()
            .any(|prefix| dotted.starts_with(prefix));
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.host_ipc == Some(true) && ipc {
            errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn validate_seccomp(profile: Option<&SeccompProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    match profile.type_.as_str() {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        other => errors.not_supported(
            &path.child("type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
    let at = path.child("localhostProfile");
    match (profile.type_ == "Localhost", &profile.localhost_profile) {
        (true, None) => errors.required(&at, "must be set when seccomp type is Localhost"),
        (true, Some(local)) => check_descending(local, &at, errors),
        (false, Some(_)) => errors.invalid(&at, profile, "can only be set when seccomp type is Localhost"),
        (false, None) => {}
    }
}

fn validate_app_armor(profile: Option<&AppArmorProfile>, path: &Path, errors: &mut Errors) {
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = profile else { return };
    let at = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.required(&at, NEEDED),
        ("Localhost", Some(local)) => {
            if local.trim() != local {
                errors.invalid(&at, local, "must not be padded with whitespace");
            } else if local.is_empty() {
                errors.required(&at, NEEDED);
            }
            if local.len() > 4095 {
                errors.too_long(&at, 4095);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            errors.invalid(&at, local, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(
            &path.child("type"),
            "type is required when appArmorProfile is set",
        ),
        (other, _) => errors.not_supported(
            &path.child("type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
}

/// Checks a container's security context.
pub(super) fn validate_container(
    context: &SecurityContext,
    host_users: bool,
    path: &Path,
    errors: &mut Errors,
) {
    check_id(context.run_as_user, &path.child("runAsUser"), errors);
    check_id(context.run_as_group, &path.child("runAsGroup"), errors);
    if let Some(mount) = context.proc_mount.as_deref() {
        let path = path.child("procMount");
        one_of(Some(mount), &["Default", "Unmasked"], &path, errors);
        if host_users && mount == "Unmasked" {
            errors.invalid(&path, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    validate_seccomp(
        context.seccomp_profile.as_ref(),
        &path.child("seccompProfile"),
        errors,
    );
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            errors.invalid(
                path,
                internal::of("SecurityContext", context),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = context
            .capabilities
            .iter()
            .flat_map(|capabilities| slice(&capabilities.add));
        for _ in added
            .into_iter()
            .filter(|capability| *capability == "CAP_SYS_ADMIN")
        {
            errors.invalid(
                path,
                internal::of("SecurityContext", context),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows::validate_options(
        context.windows_options.as_ref(),
        &path.child("windowsOptions"),
        errors,
    );
    validate_app_armor(
        context.app_armor_profile.as_ref(),
        &path.child("appArmorProfile"),
        errors,
    );
}

/// A user namespace of its own does not go with the host's other namespaces.
pub(super) fn validate_host_users(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    const WHEN: &str = "when `hostUsers` is false";
    let shared = [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ];
    for (field, _) in shared.into_iter().filter(|(_, shared)| *shared == Some(true)) {
        errors.forbidden(&path.child(field), WHEN);
    }
    for container in visit::all(spec, path) {
        if !container.devices.is_empty() {
            errors.forbidden(&container.path.child("volumeDevices"), WHEN);
        }
    }
}
