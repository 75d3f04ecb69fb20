//! The restricted standard: what is left of privilege is given up, too.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Volume};

use super::baseline::{added_capabilities, context, forbidden_seccomp};
use super::policy::{Subject, Version, Violation, containers, plural, quoted, setters};

pub(super) fn violations(version: Version, subject: Subject<'_>) -> Vec<Violation> {
    // Since it is known for which system a pod is, rules that only Linux can follow are for Linux.
    let linux = !(version.has(25) && subject.is_windows());
    let all = [
        (version.has(8) && linux)
            .then(|| privilege_escalation(subject))
            .flatten(),
        (version.has(22) && linux)
            .then(|| capabilities(subject))
            .flatten(),
        volumes(subject),
        non_root(subject),
        version.has(23).then(|| user(subject)).flatten(),
        (version.has(19) && linux).then(|| seccomp(subject)).flatten(),
    ];
    all.into_iter().flatten().collect()
}

fn privilege_escalation(subject: Subject<'_>) -> Option<Violation> {
    let names = subject.names(|container| {
        context(container).is_none_or(|own| own.allow_privilege_escalation != Some(false))
    });
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers(&names)
    );
    (!names.is_empty()).then(|| Violation::new("allowPrivilegeEscalation != false", detail))
}

fn capabilities(subject: Subject<'_>) -> Option<Violation> {
    let keeps_some = |container: &Container| {
        let capabilities = context(container).and_then(|own| own.capabilities.as_ref());
        let dropped = capabilities.and_then(|capabilities| capabilities.drop.as_ref());
        !dropped.is_some_and(|dropped| dropped.iter().any(|name| name == "ALL"))
    };
    let names = subject.names(keeps_some);
    let mut details = Vec::new();
    if !names.is_empty() {
        details.push(format!(
            r#"{} must set securityContext.capabilities.drop=["ALL"]"#,
            containers(&names)
        ));
    }
    details.extend(added_capabilities(subject, &["NET_BIND_SERVICE"]));
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

fn volumes(subject: Subject<'_>) -> Option<Violation> {
    let bad: Vec<&Volume> = subject
        .spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| !is_usual(volume))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let types: BTreeSet<&str> = bad.iter().map(|volume| type_of(volume)).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|volume| &volume.name)),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", types.len()),
        quoted(types)
    );
    Some(Violation::new("restricted volume types", detail))
}

fn is_usual(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}

fn type_of(volume: &Volume) -> &'static str {
    let types = [
        ("hostPath", volume.host_path.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("fc", volume.fc.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("storageos", volume.storageos.is_some()),
    ];
    types
        .into_iter()
        .find_map(|(name, is)| is.then_some(name))
        .unwrap_or("unknown")
}

fn non_root(subject: Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    const REASON: &str = "runAsNonRoot != true";
    let of_pod = subject
        .spec
        .security_context
        .as_ref()
        .and_then(|pod| pod.run_as_non_root);
    let of = |container: &Container| context(container).and_then(|own| own.run_as_non_root);
    let explicit = subject.names(|container| of(container) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &explicit) {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Some(Violation::new(REASON, detail));
    }
    let implicit = subject.names(|container| of(container).is_none() && of_pod != Some(true));
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers(&implicit)
    );
    (!implicit.is_empty()).then(|| Violation::new(REASON, detail))
}

fn user(subject: Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    let pod = subject.spec.security_context.as_ref();
    let names = subject.names(|container| context(container).is_some_and(|own| own.run_as_user == Some(0)));
    let who = setters(pod.is_some_and(|pod| pod.run_as_user == Some(0)), &names)?;
    Some(Violation::new(
        "runAsUser=0",
        format!("{who} must not set runAsUser=0"),
    ))
}

fn seccomp(subject: Subject<'_>) -> Option<Violation> {
    const REASON: &str = "seccompProfile";
    if let Some(detail) = forbidden_seccomp(subject) {
        return Some(Violation::new(REASON, detail));
    }
    let pod = subject.spec.security_context.as_ref();
    let pod_sets = pod.is_some_and(|pod| pod.seccomp_profile.is_some());
    let names = subject
        .names(|container| !pod_sets && context(container).is_none_or(|own| own.seccomp_profile.is_none()));
    let detail = format!(
        r#"pod or {} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#,
        containers(&names)
    );
    (!names.is_empty()).then(|| Violation::new(REASON, detail))
}
