//! What of a pod is for Linux and what for Windows.

use k8s_openapi::api::core::v1::{PodSpec, WindowsSecurityContextOptions};

use super::visit;
use crate::field::{Errors, Path};
use crate::names;

const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";
const MAX_CREDENTIAL: usize = 64 << 10;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;

/// Checks the operating system that the pod is for, and that it has nothing of the other one.
pub(super) fn validate_os(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => validate_linux(spec, path, errors),
        "windows" => validate_windows(spec, path, errors),
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn validate_linux(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    const WINDOWS: &str = "windows options cannot be set for a linux pod";
    let context = spec.security_context.as_ref();
    if context.is_some_and(|context| context.windows_options.is_some()) {
        errors.forbidden(&path.child("securityContext.windowsOptions"), WINDOWS);
    }
    for container in visit::all(spec, path) {
        if container
            .security
            .is_some_and(|own| own.windows_options.is_some())
        {
            errors.forbidden(&container.path.child("securityContext.windowsOptions"), WINDOWS);
        }
    }
}

fn validate_windows(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut forbid = |path: Path, set: bool| {
        if set {
            errors.forbidden(&path, NOT_FOR_WINDOWS);
        }
    };
    let none = Default::default();
    let context = spec.security_context.as_ref().unwrap_or(&none);
    let own = |field: &str| path.child("securityContext").child(field);
    forbid(own("appArmorProfile"), context.app_armor_profile.is_some());
    forbid(own("seLinuxOptions"), context.se_linux_options.is_some());
    forbid(path.child("hostUsers"), spec.host_users.is_some());
    forbid(path.child("hostPID"), spec.host_pid == Some(true));
    forbid(path.child("hostIPC"), spec.host_ipc == Some(true));
    forbid(own("seccompProfile"), context.seccomp_profile.is_some());
    forbid(own("fsGroup"), context.fs_group.is_some());
    forbid(
        own("fsGroupChangePolicy"),
        context.fs_group_change_policy.is_some(),
    );
    forbid(
        own("sysctls"),
        context.sysctls.as_ref().is_some_and(|all| !all.is_empty()),
    );
    forbid(
        path.child("shareProcessNamespace"),
        spec.share_process_namespace.is_some(),
    );
    forbid(own("runAsUser"), context.run_as_user.is_some());
    forbid(own("runAsGroup"), context.run_as_group.is_some());
    forbid(own("supplementalGroups"), context.supplemental_groups.is_some());
    forbid(
        own("supplementalGroupsPolicy"),
        context.supplemental_groups_policy.is_some(),
    );
    forbid(
        own("seLinuxChangePolicy"),
        context.se_linux_change_policy.is_some(),
    );
    for container in visit::all(spec, path) {
        let Some(context) = container.security else {
            continue;
        };
        let own = |field: &str| container.path.child("securityContext").child(field);
        forbid(own("appArmorProfile"), context.app_armor_profile.is_some());
        forbid(own("seLinuxOptions"), context.se_linux_options.is_some());
        forbid(own("seccompProfile"), context.seccomp_profile.is_some());
        forbid(own("capabilities"), context.capabilities.is_some());
        forbid(
            own("readOnlyRootFilesystem"),
            context.read_only_root_filesystem.is_some(),
        );
        forbid(own("privileged"), context.privileged.is_some());
        forbid(
            own("allowPrivilegeEscalation"),
            context.allow_privilege_escalation.is_some(),
        );
        forbid(own("procMount"), context.proc_mount.is_some());
        forbid(own("runAsUser"), context.run_as_user.is_some());
        forbid(own("runAsGroup"), context.run_as_group.is_some());
    }
}

/// A pod whose containers are processes of the Windows host has no other ones, and the host's network.
pub(super) fn validate_host_process(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let options = spec
        .security_context
        .as_ref()
        .and_then(|context| context.windows_options.as_ref());
    let of_pod = options.and_then(|options| options.host_process);
    let (mut count, mut on_host) = (0, 0);
    for container in visit::all(spec, path) {
        count += 1;
        let options = container.security.and_then(|own| own.windows_options.as_ref());
        let own = options.and_then(|options| options.host_process);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            errors.invalid(
                &container.path.child("securityContext.windowsOptions.hostProcess"),
                own,
                format!("pod hostProcess value must be identical if both are specified, was {of_pod}"),
            );
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != count {
        errors.invalid(
            path,
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    if spec.host_network != Some(true) {
        errors.invalid(
            &path.child("hostNetwork"),
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        );
    }
}

/// Checks the options for Windows.
pub(super) fn validate_options(
    options: Option<&WindowsSecurityContextOptions>,
    path: &Path,
    errors: &mut Errors,
) {
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        let at = path.child("gmsaCredentialSpecName");
        errors.invalid_each(&at, name, names::dns_subdomain(name, false));
    }
    if let Some(credential) = &options.gmsa_credential_spec {
        let at = path.child("gmsaCredentialSpec");
        if credential.is_empty() {
            errors.invalid(&at, credential, "gmsaCredentialSpec cannot be an empty string");
        } else if credential.len() > MAX_CREDENTIAL {
            errors.invalid(&at, credential, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = &options.run_as_user_name {
        let at = path.child("runAsUserName");
        for wrong in wrong_with_user(name) {
            errors.invalid(&at, name, wrong);
        }
    }
}

fn wrong_with_user(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".into()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".into()];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, rest)) if rest.contains('\\') => {
            return vec!["runAsUserName cannot contain more than one backslash".into()];
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut wrong = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            wrong.push(format!(
                "runAsUserName's Domain length must be under {MAX_DOMAIN} characters"
            ));
        }
        if !is_net_bios(domain) && !is_domain(domain) {
            wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".into());
        }
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".into());
    } else if user.len() > MAX_USER {
        wrong.push(format!(
            "runAsUserName's User length must not be longer than {MAX_USER} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".into());
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        wrong.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".into());
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let inner = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    })
}
