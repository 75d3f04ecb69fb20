//! The pod's containers: the regular ones, init containers and sidecars, ephemeral ones.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartRule, EphemeralContainer, PodSpec,
};

use super::handlers::{Purpose, validate_lifecycle, validate_probe};
use super::mounts::Mounts;
use super::volumes::Volumes;
use super::{env, given, invalid_each, resources, security, slice};
use crate::core::check_protocol;
use crate::field::{Errors, Path};
use crate::names;
use crate::pod;

const MAX_RESTART_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const NOT_FOR_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const ONLY_FOR_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

/// The pod around its containers.
pub(super) struct Around<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) claims: &'a BTreeSet<&'a str>,
}

/// Checks all containers.
pub(super) fn validate(around: &Around<'_>, path: &Path, errors: &mut Errors) {
    around.validate_regular(&path.child("containers"), errors);
    around.validate_init(&path.child("initContainers"), errors);
    around.validate_ephemeral(&path.child("ephemeralContainers"), errors);
}

impl Around<'_> {
    fn validate_regular(&self, all: &Path, errors: &mut Errors) {
        let containers = &self.spec.containers;
        if containers.is_empty() {
            return errors.required(all, "");
        }
        let mut seen = BTreeSet::new();
        for (index, container) in containers.iter().enumerate() {
            let path = all.index(index);
            self.validate_common(container, &path, errors);
            env::duplicates(&mut seen, &container.name, &path.child("name"), errors);
            self.validate_handlers(container, &path, errors);
            validate_restart(
                container.restart_policy.as_deref(),
                slice(&container.restart_policy_rules),
                &path,
                errors,
            );
        }
        check_host_ports(containers, all, errors);
    }

    fn validate_handlers(&self, container: &Container, path: &Path, errors: &mut Errors) {
        let grace = self.spec.termination_grace_period_seconds;
        if let Some(lifecycle) = &container.lifecycle {
            validate_lifecycle(lifecycle, grace, &path.child("lifecycle"), errors);
        }
        let probes = [
            ("livenessProbe", &container.liveness_probe, Purpose::Liveness),
            ("readinessProbe", &container.readiness_probe, Purpose::Readiness),
            ("startupProbe", &container.startup_probe, Purpose::Startup),
        ];
        for (field, probe, purpose) in probes {
            if let Some(probe) = probe {
                validate_probe(probe, purpose, grace, &path.child(field), errors);
            }
        }
    }

    fn validate_init(&self, all: &Path, errors: &mut Errors) {
        let mut seen: BTreeSet<&str> = self.spec.containers.iter().map(|c| c.name.as_str()).collect();
        for (index, container) in slice(&self.spec.init_containers).iter().enumerate() {
            let path = all.index(index);
            self.validate_common(container, &path, errors);
            validate_restart(
                container.restart_policy.as_deref(),
                slice(&container.restart_policy_rules),
                &path,
                errors,
            );
            if !container.name.is_empty() || seen.contains("") {
                env::duplicates(&mut seen, &container.name, &path.child("name"), errors);
            }
            check_host_ports(std::slice::from_ref(container), all, errors);
            if pod::is_sidecar(container) {
                self.validate_handlers(container, &path, errors);
                continue;
            }
            let given = [
                ("lifecycle", container.lifecycle.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
            ];
            for (field, _) in given.into_iter().filter(|(_, given)| *given) {
                errors.forbidden(&path.child(field), ONLY_FOR_SIDECARS);
            }
            for (index, policy) in slice(&container.resize_policy).iter().enumerate() {
                if policy.restart_policy == "RestartContainer" {
                    errors.invalid(
                        &path.child("resizePolicy").index(index).child("restartPolicy"),
                        &policy.restart_policy,
                        "must not be set to 'RestartContainer' for non-sidecar initContainers",
                    );
                }
            }
        }
    }

    /// What holds for containers of all sorts.
    fn validate_common(&self, container: &Container, path: &Path, errors: &mut Errors) {
        if container.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            let messages = names::dns_label(&container.name, false);
            invalid_each(&path.child("name"), &container.name, messages, errors);
        }
        let image = container.image.as_deref().unwrap_or_default();
        if image.is_empty() {
            errors.required(&path.child("image"), "");
        }
        super::one_of(
            &container.termination_message_policy,
            &["File", "FallbackToLogsOnError"],
            &path.child("terminationMessagePolicy"),
            errors,
        );
        validate_ports(slice(&container.ports), &path.child("ports"), errors);
        env::validate(slice(&container.env), &path.child("env"), errors);
        env::validate_from(slice(&container.env_from), &path.child("envFrom"), errors);
        let mounts = Mounts {
            mounts: &container.volume_mounts,
            devices: &container.volume_devices,
            security: container.security_context.as_ref(),
        };
        mounts.validate(self.volumes, path, errors);
        super::one_of(
            &container.image_pull_policy,
            &["Always", "IfNotPresent", "Never"],
            &path.child("imagePullPolicy"),
            errors,
        );
        if let Some(requirements) = &container.resources {
            resources::validate(requirements, self.claims, &path.child("resources"), errors);
        }
        let never = self.spec.restart_policy.as_deref() == Some("Never");
        validate_resize(
            slice(&container.resize_policy),
            never,
            &path.child("resizePolicy"),
            errors,
        );
        if let Some(context) = &container.security_context {
            let host_users = self.spec.host_users != Some(false);
            security::validate_container(context, host_users, &path.child("securityContext"), errors);
        }
    }

    fn validate_ephemeral(&self, all: &Path, errors: &mut Errors) {
        let init = slice(&self.spec.init_containers);
        let others: BTreeSet<&str> = self
            .spec
            .containers
            .iter()
            .chain(init)
            .map(|c| c.name.as_str())
            .collect();
        let mut seen = others.clone();
        for (index, container) in slice(&self.spec.ephemeral_containers).iter().enumerate() {
            let path = all.index(index);
            self.validate_common(&as_container(container), &path, errors);
            check_white_space(&container.image, &path, errors);
            env::duplicates(&mut seen, &container.name, &path.child("name"), errors);
            if let Some(target) = given(&container.target_container_name)
                && !others.contains(target)
            {
                errors.not_found(&path.child("targetContainerName"), target);
            }
            let has_resources = container
                .resources
                .as_ref()
                .is_some_and(|resources| *resources != Default::default());
            let forbidden = [
                ("ports", container.ports.is_some()),
                ("resources", has_resources),
                ("resizePolicy", container.resize_policy.is_some()),
                ("restartPolicy", container.restart_policy.is_some()),
                ("restartPolicyRules", container.restart_policy_rules.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
                ("lifecycle", container.lifecycle.is_some()),
            ];
            for (field, _) in forbidden.into_iter().filter(|(_, set)| *set) {
                errors.forbidden(&path.child(field), NOT_FOR_EPHEMERAL);
            }
            for (index, mount) in slice(&container.volume_mounts).iter().enumerate() {
                let path = path.child("volumeMounts").index(index);
                for (field, value) in [
                    ("subPath", &mount.sub_path),
                    ("subPathExpr", &mount.sub_path_expr),
                ] {
                    if given(value).is_some() {
                        errors.forbidden(&path.child(field), NOT_FOR_EPHEMERAL);
                    }
                }
            }
        }
    }
}

/// An image has no white space around it.
pub(super) fn check_white_space(image: &Option<String>, path: &Path, errors: &mut Errors) {
    let image = image.as_deref().unwrap_or_default();
    if image.trim() != image {
        errors.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
}

/// What an ephemeral container has in common with the others.
fn as_container(ephemeral: &EphemeralContainer) -> Container {
    Container {
        name: ephemeral.name.clone(),
        image: ephemeral.image.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        volume_mounts: ephemeral.volume_mounts.clone(),
        volume_devices: ephemeral.volume_devices.clone(),
        security_context: ephemeral.security_context.clone(),
        ports: ephemeral.ports.clone(),
        resources: ephemeral.resources.clone(),
        resize_policy: ephemeral.resize_policy.clone(),
        ..Default::default()
    }
}

fn validate_restart(policy: Option<&str>, rules: &[ContainerRestartRule], path: &Path, errors: &mut Errors) {
    match policy {
        None if !rules.is_empty() => errors.required(
            &path.child("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        ),
        None | Some("Always" | "OnFailure" | "Never") => {}
        Some(other) => errors.not_supported(
            &path.child("restartPolicy"),
            other,
            &["Always", "Never", "OnFailure"],
        ),
    }
    let all = path.child("restartPolicyRules");
    if rules.len() > MAX_RESTART_RULES {
        errors.too_many(&all, rules.len(), MAX_RESTART_RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = all.index(index);
        if !matches!(rule.action.as_str(), "Restart" | "RestartAllContainers") {
            errors.not_supported(
                &path.child("action"),
                &rule.action,
                &["Restart", "RestartAllContainers"],
            );
        }
        let Some(codes) = &rule.exit_codes else {
            errors.required(&path.child("exitCodes"), "must be specified");
            continue;
        };
        let path = path.child("exitCodes");
        if !matches!(codes.operator.as_str(), "In" | "NotIn") {
            errors.not_supported(&path.child("operator"), &codes.operator, &["In", "NotIn"]);
        }
        let values = slice(&codes.values);
        if values.len() > MAX_EXIT_CODES {
            errors.too_many(&path.child("values"), values.len(), MAX_EXIT_CODES);
        }
    }
}

fn validate_ports(ports: &[ContainerPort], all: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = all.index(index);
        if let Some(name) = given(&port.name) {
            let messages = names::port_name(name);
            if messages.is_empty() {
                env::duplicates(&mut seen, name, &path.child("name"), errors);
            } else {
                invalid_each(&path.child("name"), name, messages, errors);
            }
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            for message in names::port_number(port.container_port) {
                errors.invalid(&path.child("containerPort"), port.container_port, message);
            }
        }
        if let Some(number) = port.host_port.filter(|&number| number != 0) {
            for message in names::port_number(number) {
                errors.invalid(&path.child("hostPort"), number, message);
            }
        }
        check_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
    }
}

/// Two containers cannot have the same port of the host.
fn check_host_ports(containers: &[Container], all: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in slice(&container.ports).iter().enumerate() {
            let Some(number) = port.host_port.filter(|&number| number != 0) else {
                continue;
            };
            let (protocol, ip) = (port.protocol.as_deref(), port.host_ip.as_deref());
            let key = format!(
                "{}/{}/{number}",
                protocol.unwrap_or_default(),
                ip.unwrap_or_default()
            );
            let path = all
                .index(index)
                .child("ports")
                .index(port_index)
                .child("hostPort");
            if seen.contains(&key) {
                errors.duplicate(&path, &key);
            } else {
                seen.insert(key);
            }
        }
    }
}

fn validate_resize(policies: &[ContainerResizePolicy], never: bool, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        let name = policy.resource_name.as_str();
        if !seen.insert(name) {
            errors.duplicate(&path.index(index), name);
        }
        match name {
            "cpu" | "memory" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["cpu", "memory"]),
        }
        let restart = policy.restart_policy.as_str();
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if never && restart != "NotRequired" {
            errors.invalid(
                path,
                restart,
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            );
        }
    }
}
