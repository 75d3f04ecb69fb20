//! The baseline standard: nothing that is known to lead out of a container.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe, SELinuxOptions, SecurityContext};

use super::policy::{Subject, Version, Violation, containers, plural, quoted, setters};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The kernel parameters that concern the pod alone, with the minor version since which they count as such.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// `restricted`: leaves out what the restricted standard has stricter rules for.
pub(super) fn violations(version: Version, subject: Subject<'_>, restricted: bool) -> Vec<Violation> {
    let stricter_capabilities = restricted && version.has(22);
    let stricter_seccomp = restricted && version.has(19);
    let all = [
        app_armor(subject),
        (!stricter_capabilities).then(|| capabilities(subject)).flatten(),
        host_namespaces(subject),
        (!restricted).then(|| host_path(subject)).flatten(),
        host_ports(subject),
        version.has(34).then(|| probe_hosts(subject)).flatten(),
        privileged(subject),
        proc_mount(subject),
        selinux(version, subject),
        (version.has(19) && !stricter_seccomp)
            .then(|| seccomp(subject))
            .flatten(),
        sysctls(version, subject),
        host_process(subject),
    ];
    all.into_iter().flatten().collect()
}

pub(super) fn context(container: &Container) -> Option<&SecurityContext> {
    container.security_context.as_ref()
}

fn app_armor(subject: Subject<'_>) -> Option<Violation> {
    let is_bad = |type_: &str| !matches!(type_, "RuntimeDefault" | "Localhost");
    let mut bad = BTreeSet::new();
    let pod = subject.spec.security_context.as_ref();
    let of_pod = pod.and_then(|pod| pod.app_armor_profile.as_ref());
    let of_pod = of_pod
        .map(|profile| profile.type_.clone())
        .filter(|type_| is_bad(type_));
    bad.extend(of_pod.clone());
    let of = |container: &Container| {
        let profile = context(container)?.app_armor_profile.as_ref()?;
        is_bad(&profile.type_).then(|| profile.type_.clone())
    };
    bad.extend(subject.containers().iter().filter_map(|part| of(&part.container)));
    let names = subject.names(|container| of(container).is_some());
    let annotations: Vec<String> = subject
        .meta
        .annotations
        .iter()
        .flatten()
        .filter(|(key, value)| {
            let fine = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR) && !fine
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who: Vec<String> = setters(of_pod.is_some(), &names).into_iter().collect();
    let mut values: Vec<String> = bad.into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).into());
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    Some(Violation::new(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            shown.join(", ")
        ),
    ))
}

fn capabilities(subject: Subject<'_>) -> Option<Violation> {
    added_capabilities(subject, &CAPABILITIES)
        .map(|detail| Violation::new("non-default capabilities", detail))
}

/// The text about containers that add capabilities other than these.
pub(super) fn added_capabilities(subject: Subject<'_>, allowed: &[&str]) -> Option<String> {
    let added = |container: &Container| -> Vec<String> {
        let capabilities = context(container).and_then(|context| context.capabilities.as_ref());
        let added = capabilities.and_then(|capabilities| capabilities.add.clone());
        let mut added = added.unwrap_or_default();
        added.retain(|capability| !allowed.contains(&capability.as_str()));
        added
    };
    let names = subject.names(|container| !added(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = subject
        .containers()
        .iter()
        .flat_map(|part| added(&part.container))
        .collect();
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(&names),
        quoted(all)
    ))
}

fn host_namespaces(subject: Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let shared: Vec<&str> = [
        ("hostNetwork=true", spec.host_network),
        ("hostPID=true", spec.host_pid),
        ("hostIPC=true", spec.host_ipc),
    ]
    .into_iter()
    .filter_map(|(name, set)| (set == Some(true)).then_some(name))
    .collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

fn host_path(subject: Subject<'_>) -> Option<Violation> {
    let volumes: Vec<&str> = subject
        .spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume.host_path.is_some())
        .map(|volume| volume.name.as_str())
        .collect();
    let detail = format!(
        "{} {}",
        plural("volume", "volumes", volumes.len()),
        quoted(&volumes)
    );
    (!volumes.is_empty()).then(|| Violation::new("hostPath volumes", detail))
}

fn host_ports(subject: Subject<'_>) -> Option<Violation> {
    let ports = |container: &Container| -> Vec<String> {
        let ports = container.ports.iter().flatten();
        ports
            .filter_map(|port| port.host_port.filter(|port| *port != 0))
            .map(|port| port.to_string())
            .collect()
    };
    let names = subject.names(|container| !ports(container).is_empty());
    let all: BTreeSet<String> = subject
        .containers()
        .iter()
        .flat_map(|part| ports(&part.container))
        .collect();
    if names.is_empty() {
        return None;
    }
    let list: Vec<String> = all.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", list.len()),
        list.join(", ")
    );
    Some(Violation::new("hostPort", detail))
}

fn probe_hosts(subject: Subject<'_>) -> Option<Violation> {
    fn of_probe(probe: Option<&Probe>) -> Vec<String> {
        let Some(probe) = probe else { return Vec::new() };
        let http = probe.http_get.as_ref().and_then(|get| get.host.clone());
        let tcp = probe.tcp_socket.as_ref().and_then(|socket| socket.host.clone());
        http.into_iter().chain(tcp).collect()
    }
    fn of_hook(hook: Option<&LifecycleHandler>) -> Vec<String> {
        let Some(hook) = hook else { return Vec::new() };
        let http = hook.http_get.as_ref().and_then(|get| get.host.clone());
        let tcp = hook.tcp_socket.as_ref().and_then(|socket| socket.host.clone());
        http.into_iter().chain(tcp).collect()
    }
    let hosts = |container: &Container| -> Vec<String> {
        let hooks = container.lifecycle.as_ref();
        let mut hosts = of_probe(container.liveness_probe.as_ref());
        hosts.extend(of_probe(container.readiness_probe.as_ref()));
        hosts.extend(of_probe(container.startup_probe.as_ref()));
        hosts.extend(of_hook(hooks.and_then(|hooks| hooks.post_start.as_ref())));
        hosts.extend(of_hook(hooks.and_then(|hooks| hooks.pre_stop.as_ref())));
        hosts.retain(|host| !host.is_empty());
        hosts
    };
    let names: BTreeSet<String> = subject
        .names(|container| !hosts(container).is_empty())
        .into_iter()
        .collect();
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = subject
        .containers()
        .iter()
        .flat_map(|part| hosts(&part.container))
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
        quoted(all)
    );
    Some(Violation::new("probe or lifecycle host", detail))
}

fn privileged(subject: Subject<'_>) -> Option<Violation> {
    let names = subject.names(|container| context(container).is_some_and(|own| own.privileged == Some(true)));
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers(&names)
    );
    (!names.is_empty()).then(|| Violation::new("privileged", detail))
}

fn proc_mount(subject: Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    let of = |container: &Container| {
        let type_ = context(container)?.proc_mount.clone()?;
        (type_ != "Default").then_some(type_)
    };
    let names = subject.names(|container| of(container).is_some());
    let types: BTreeSet<String> = subject
        .containers()
        .iter()
        .filter_map(|part| of(&part.container))
        .collect();
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers(&names),
        quoted(types)
    );
    (!names.is_empty()).then(|| Violation::new("procMount", detail))
}

fn selinux(version: Version, subject: Subject<'_>) -> Option<Violation> {
    let type_is_fine = |type_: &str| {
        matches!(type_, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || type_ == "container_engine_t" && version.has(31)
    };
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let is_bad = |options: &SELinuxOptions| {
        !type_is_fine(options.type_.as_deref().unwrap_or_default())
            || set(&options.user)
            || set(&options.role)
    };
    let of_pod = subject
        .spec
        .security_context
        .as_ref()
        .and_then(|pod| pod.se_linux_options.clone());
    let of = |container: &Container| context(container)?.se_linux_options.clone();
    let pod_is_bad = of_pod.as_ref().is_some_and(is_bad);
    let names = subject.names(|container| of(container).as_ref().is_some_and(is_bad));
    let who = setters(pod_is_bad, &names)?;
    let all: Vec<SELinuxOptions> = of_pod
        .into_iter()
        .chain(subject.containers().iter().filter_map(|part| of(&part.container)))
        .collect();
    let types: BTreeSet<&str> = all
        .iter()
        .filter_map(|options| options.type_.as_deref())
        .filter(|type_| !type_is_fine(type_))
        .collect();
    let mut said = Vec::new();
    if !types.is_empty() {
        said.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            quoted(&types)
        ));
    }
    if all.iter().any(|options| set(&options.user)) {
        said.push("user may not be set".into());
    }
    if all.iter().any(|options| set(&options.role)) {
        said.push("role may not be set".into());
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        said.join("; ")
    );
    Some(Violation::new("seLinuxOptions", detail))
}

fn seccomp(subject: Subject<'_>) -> Option<Violation> {
    forbidden_seccomp(subject).map(|detail| Violation::new("seccompProfile", detail))
}

/// The text about whoever sets another seccomp profile than the runtime's or a local one.
pub(super) fn forbidden_seccomp(subject: Subject<'_>) -> Option<String> {
    let is_bad = |type_: &String| !matches!(type_.as_str(), "RuntimeDefault" | "Localhost");
    let pod = subject.spec.security_context.as_ref();
    let of_pod = pod.and_then(|pod| pod.seccomp_profile.as_ref());
    let of_pod = of_pod.map(|profile| profile.type_.clone()).filter(is_bad);
    let of = |container: &Container| {
        let profile = context(container)?.seccomp_profile.as_ref()?;
        Some(profile.type_.clone()).filter(is_bad)
    };
    let names = subject.names(|container| of(container).is_some());
    let who = setters(of_pod.is_some(), &names)?;
    let types: BTreeSet<String> = of_pod
        .into_iter()
        .chain(subject.containers().iter().filter_map(|part| of(&part.container)))
        .collect();
    Some(format!(
        "{who} must not set securityContext.seccompProfile.type to {}",
        quoted(types)
    ))
}

fn sysctls(version: Version, subject: Subject<'_>) -> Option<Violation> {
    let is_fine = |name: &str| {
        SYSCTLS
            .iter()
            .any(|(allowed, since)| *allowed == name && version.has(*since))
    };
    let context = subject.spec.security_context.as_ref()?;
    let set = context
        .sysctls
        .iter()
        .flatten()
        .map(|sysctl| sysctl.name.as_str());
    let bad: Vec<&str> = set.filter(|name| !is_fine(name)).collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

fn host_process(subject: Subject<'_>) -> Option<Violation> {
    let pod = subject.spec.security_context.as_ref();
    let of_pod = pod
        .and_then(|pod| pod.windows_options.as_ref())
        .is_some_and(|windows| windows.host_process == Some(true));
    let names = subject.names(|container| {
        let windows = context(container).and_then(|own| own.windows_options.as_ref());
        windows.is_some_and(|windows| windows.host_process == Some(true))
    });
    let who = setters(of_pod, &names)?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
