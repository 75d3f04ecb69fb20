//! Annotations that mean something to pods: most of them are what a field was before it was one.

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::volumes::check_descending;
use super::{given, visit};
use crate::field::{Errors, Path};
use crate::pod::MIRROR_ANNOTATION;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(super) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Before the name of a container: its AppArmor profile.
pub(in crate::core) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
pub(super) const NO_APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const LOCALHOST: &str = "localhost/";
const UNCONFINED: &str = "unconfined";
const RUNTIME_DEFAULT: &str = "runtime/default";

fn of<'m>(metadata: &'m ObjectMeta, key: &str) -> Option<&'m String> {
    metadata.annotations.as_ref()?.get(key)
}

/// Checks the annotations (`ValidatePodSpecificAnnotations`).
pub(in crate::core) fn validate(metadata: &ObjectMeta, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if let Some(value) = of(metadata, MIRROR_ANNOTATION)
        && given(&spec.node_name).is_none()
    {
        errors.invalid(
            &path.key(MIRROR_ANNOTATION),
            value,
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    if let Some(value) = of(metadata, DELETION_COST) {
        let plain =
            !value.starts_with('+') && (value == "0" || !value.trim_start_matches('-').starts_with('0'));
        if !plain || value.parse::<i32>().is_err() {
            errors.invalid(&path.key(DELETION_COST), value, "must be a 32bit integer");
        }
    }
    let all = || metadata.annotations.iter().flatten();
    for (key, profile) in all().filter(|(key, _)| *key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER)) {
        check_seccomp(profile, &path.child(key), errors);
    }
    let containers = visit::all(spec, &Path::default());
    for (key, profile) in all() {
        let Some(container) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        let path = path.key(key);
        if !containers.iter().any(|known| known.name == container) {
            errors.invalid(&path, container, "container not found");
        }
        let known = matches!(profile.as_str(), "" | RUNTIME_DEFAULT | UNCONFINED);
        if !known && !profile.starts_with(LOCALHOST) {
            let detail = format!("invalid AppArmor profile name: {profile:?}");
            errors.invalid(&path, profile, detail);
        }
    }
}

fn check_seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    match profile {
        RUNTIME_DEFAULT | "docker/default" | UNCONFINED => {}
        other => match other.strip_prefix(LOCALHOST) {
            Some(file) => check_descending(file, path, errors),
            None => errors.invalid(path, other, "must be a valid seccomp profile"),
        },
    }
}

/// Checks that what the annotations say is what the fields say, where both say something.
pub(in crate::core) fn validate_with_fields(
    metadata: &ObjectMeta,
    spec: &PodSpec,
    path: &Path,
    errors: &mut Errors,
) {
    let pod = spec.security_context.as_ref();
    let containers = visit::all(spec, path);
    if let (Some(profile), Some(annotation)) = (
        pod.and_then(|pod| pod.seccomp_profile.as_ref()),
        of(metadata, SECCOMP_POD),
    ) {
        compare_seccomp(
            annotation,
            profile,
            &path.child("securityContext.seccompProfile"),
            errors,
        );
    }
    for container in &containers {
        let profile = container.security.and_then(|own| own.seccomp_profile.as_ref());
        let annotation = of(metadata, &format!("{SECCOMP_CONTAINER}{}", container.name));
        if let (Some(profile), Some(annotation)) = (profile, annotation) {
            let path = container.path.child("securityContext.seccompProfile");
            compare_seccomp(annotation, profile, &path, errors);
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    for container in &containers {
        let own = container.security.and_then(|own| own.app_armor_profile.as_ref());
        let profile = own.or_else(|| pod.and_then(|pod| pod.app_armor_profile.as_ref()));
        let annotation = of(metadata, &format!("{APP_ARMOR}{}", container.name));
        if let (Some(profile), Some(annotation)) = (profile, annotation) {
            let path = container.path.child("securityContext.appArmorProfile");
            let said = Said {
                what: "apparmor",
                type_: &profile.type_,
                file: profile.localhost_profile.as_deref(),
                default: &[RUNTIME_DEFAULT],
            };
            said.compare(annotation, &path, errors);
        }
    }
}

fn compare_seccomp(annotation: &str, profile: &SeccompProfile, path: &Path, errors: &mut Errors) {
    let said = Said {
        what: "seccomp",
        type_: &profile.type_,
        file: profile.localhost_profile.as_deref(),
        default: &[RUNTIME_DEFAULT, "docker/default"],
    };
    said.compare(annotation, path, errors);
}

/// What a field says of a profile.
struct Said<'a> {
    what: &'a str,
    type_: &'a str,
    file: Option<&'a str>,
    default: &'a [&'a str],
}

impl Said<'_> {
    fn compare(&self, annotation: &str, path: &Path, errors: &mut Errors) {
        let file = annotation.strip_prefix(LOCALHOST);
        let same_type = match self.type_ {
            "Unconfined" => annotation == UNCONFINED,
            "RuntimeDefault" => self.default.contains(&annotation),
            "Localhost" => file.is_some(),
            _ => true,
        };
        let what = self.what;
        if !same_type {
            let detail = format!("{what} type in annotation and field must match");
            errors.forbidden(&path.child("type"), &detail);
        } else if self.type_ == "Localhost" && file != self.file {
            let detail = format!("{what} profile in annotation and field must match");
            errors.forbidden(&path.child("localhostProfile"), &detail);
        }
    }
}

/// The profile that an AppArmor annotation means, if it means a valid one.
fn profile_of(annotation: &str) -> Option<AppArmorProfile> {
    let (type_, file) = match annotation {
        "" => return None,
        UNCONFINED => ("Unconfined", None),
        RUNTIME_DEFAULT => ("RuntimeDefault", None),
        other => ("Localhost", Some(other.strip_prefix(LOCALHOST)?)),
    };
    let valid = file.is_none_or(|file| !file.is_empty() && file.trim() == file && file.len() <= 4095);
    valid.then(|| AppArmorProfile {
        type_: type_.into(),
        localhost_profile: file.map(Into::into),
    })
}

/// The warnings about AppArmor annotations of a new pod that say something of their own: what no field says, or what is
/// no profile.
pub(in crate::core) fn app_armor_warnings(metadata: &ObjectMeta, spec: &PodSpec) -> Vec<String> {
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Vec::new();
    }
    let pod = spec
        .security_context
        .as_ref()
        .and_then(|pod| pod.app_armor_profile.as_ref());
    let containers = visit::all(spec, &Path::default());
    let without_field = containers.iter().filter(|container| {
        container
            .security
            .is_none_or(|own| own.app_armor_profile.is_none())
    });
    without_field
        .filter_map(|container| {
            let key = format!("{APP_ARMOR}{}", container.name);
            let profile = profile_of(of(metadata, &key)?);
            (profile.is_none() || profile.as_ref() != pod).then(|| {
                let path = Path::new("metadata.annotations").key(key);
                format!("{path}: {NO_APP_ARMOR}")
            })
        })
        .collect()
}

/// What AppArmor annotations of a new pod say is written into the fields, where the fields say nothing.
pub(in crate::core) fn app_armor_into_fields(metadata: &ObjectMeta, spec: &mut PodSpec) {
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let pod = spec
        .security_context
        .as_ref()
        .and_then(|pod| pod.app_armor_profile.clone());
    let fill = |name: &str, security: &mut Option<SecurityContext>| {
        let annotation = of(metadata, &format!("{APP_ARMOR}{name}"));
        let has = security
            .as_ref()
            .is_some_and(|own| own.app_armor_profile.is_some());
        if let Some(profile) = annotation.and_then(|annotation| profile_of(annotation))
            && !has
            && pod.as_ref() != Some(&profile)
        {
            security.get_or_insert_default().app_armor_profile = Some(profile);
        }
    };
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(spec.containers.iter_mut()) {
        fill(&container.name, &mut container.security_context);
    }
}
