//! Node: a machine that runs pods.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeSystemInfo, Taint};
use serde_json::Value;

use super::{address, node_legacy};
use crate::cell;
use crate::field::{Errors, Internal, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::meta;
use crate::names;
use crate::quantity;

/// Upstream's path of the taints is below the metadata.
const TAINTS: &str = "metadata.taints";
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

fn roles(node: &Node) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in node.metadata.labels.iter().flatten() {
        match key.strip_prefix(ROLE_PREFIX) {
            Some("") => {}
            Some(role) => {
                roles.insert(role);
            }
            None if key == ROLE_LABEL && !value.is_empty() => {
                roles.insert(value);
            }
            None => {}
        }
    }
    let roles: Vec<&str> = roles.into_iter().collect();
    if roles.is_empty() {
        cell::NONE.into()
    } else {
        roles.join(",")
    }
}

fn readiness(node: &Node) -> String {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .map(|condition| {
            if condition.status == "True" {
                "Ready"
            } else {
                "NotReady"
            }
        })
        .next_back()
        .unwrap_or("Unknown");
    match node.spec.as_ref().and_then(|spec| spec.unschedulable) {
        Some(true) => format!("{ready},SchedulingDisabled"),
        _ => ready.into(),
    }
}

impl Kind for Node {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["no"],
            scope: Scope::Cluster,
            subresources: &[Subresource::Status, Subresource::Proxy],
            columns: vec![
                Column::object_name(),
                Column::new("Status", "string", "The status of the node"),
                Column::new("Roles", "string", "The roles of the node"),
                Column::age(),
                Column::of("Version", "string", "core.v1.NodeSystemInfo", "kubeletVersion"),
                Column::of("Internal-IP", "string", "core.v1.NodeStatus", "addresses").only_wide(),
                Column::of("External-IP", "string", "core.v1.NodeStatus", "addresses").only_wide(),
                Column::of("OS-Image", "string", "core.v1.NodeSystemInfo", "osImage").only_wide(),
                Column::of(
                    "Kernel-Version",
                    "string",
                    "core.v1.NodeSystemInfo",
                    "kernelVersion",
                )
                .only_wide(),
                Column::of(
                    "Container-Runtime",
                    "string",
                    "core.v1.NodeSystemInfo",
                    "containerRuntimeVersion",
                )
                .only_wide(),
            ],
            selectable_fields: &["spec.unschedulable"],
            store_prefix: "minions".into(),
            ..KindInfo::of::<Self>("node")
        }
    }

    fn default(&mut self) {
        agree_on_range(self.spec.get_or_insert_default());
        let status = self.status.get_or_insert_default();
        for amounts in [&mut status.capacity, &mut status.allocatable]
            .into_iter()
            .flatten()
        {
            amounts.values_mut().for_each(quantity::canonicalize);
        }
        for handler in status.runtime_handlers.iter_mut().flatten() {
            handler.name.get_or_insert_default();
        }
        let endpoints = status.daemon_endpoints.get_or_insert_default();
        endpoints.kubelet_endpoint.get_or_insert_default();
        status.node_info.get_or_insert_default();
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_for_create(&mut self) {
        // The feature is gone.
        self.spec.get_or_insert_default().config_source = None;
        self.status.get_or_insert_default().config = None;
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        match target {
            Target::Main => self.status.clone_from(&old.status),
            Target::Subresource(_) => self.spec.clone_from(&old.spec),
        }
        if let (Some(spec), Some(before)) = (&mut self.spec, &old.spec)
            && before.config_source.is_none()
        {
            spec.config_source = None;
        }
        let used = |node: &Self| node.status.as_ref().is_some_and(|status| status.config.is_some());
        if let Some(status) = self.status.as_mut().filter(|_| !used(old)) {
            status.config = None;
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        node_legacy::validate_annotations(&self.metadata, errors);
        validate_taints(spec.taints.as_deref(), &Path::new(TAINTS), errors);
        validate_status(self, errors);
        let ranges = spec.pod_cidrs.as_deref().unwrap_or_default();
        let at = path.child("podCIDRs");
        for (index, range) in ranges.iter().enumerate() {
            address::check_range(range, &[], &at.index(index), errors);
        }
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        if !address::one_of_each_family(&ranges) {
            errors.invalid(
                &at,
                &ranges,
                "may specify no more than one CIDR for each IP family",
            );
        }
        let mut seen = BTreeSet::new();
        for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
            if !seen.insert(range) {
                errors.duplicate(&at.index(index), range);
            }
        }
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        let (new, before) = (
            self.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        let path = Path::new("spec");
        node_legacy::validate_annotations(&self.metadata, errors);
        validate_status(self, errors);
        let status = self.status.clone().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for (index, address) in status.addresses.iter().flatten().enumerate() {
            if !seen.insert((&address.type_, &address.address)) {
                let shown = Internal::fields([
                    ("Type", Internal::plain(&address.type_)),
                    ("Address", Internal::plain(&address.address)),
                ]);
                errors.duplicate(&Path::new("status.addresses").index(index), shown);
            }
        }
        let ranges = |ranges: &Option<Vec<String>>| ranges.clone().unwrap_or_default();
        let (now, was) = (ranges(&new.pod_cidrs), ranges(&before.pod_cidrs));
        let changes = match (was.len(), now.len()) {
            (0, _) => 0,
            (a, b) if a != b => 1,
            _ => was.iter().zip(&now).filter(|(was, now)| was != now).count(),
        };
        for _ in 0..changes {
            errors.forbidden(
                &path.child("podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        if !text(&before.provider_id).is_empty() && text(&before.provider_id) != text(&new.provider_id) {
            errors.forbidden(
                &path.child("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
        node_legacy::validate_configuration(&new, &status, errors);
        validate_taints(new.taints.as_deref(), &Path::new(TAINTS), errors);
        if text(&before.external_id) != text(&new.external_id) {
            errors.forbidden(&path.child("externalID"), "may not be updated");
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let spec = self.spec.clone().unwrap_or_default();
        let mut warnings = Vec::new();
        if spec.config_source.is_some() {
            warnings.push("spec.configSource: the feature is removed".into());
        }
        if spec.external_id.is_some_and(|id| !id.is_empty()) {
            warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let info = self.status.as_ref().and_then(|status| status.node_info.as_ref());
        let known = |pick: fn(&NodeSystemInfo) -> &String| {
            cell::or(info.map(pick).map(String::as_str), cell::UNKNOWN).to_string()
        };
        let architecture = match info.map(|info| info.architecture.as_str()) {
            None | Some("") => String::new(),
            Some(architecture) => format!(" ({architecture})"),
        };
        let address = |type_: &str| {
            let addresses = self
                .status
                .iter()
                .flat_map(|status| status.addresses.iter().flatten());
            addresses
                .into_iter()
                .find(|address| address.type_ == type_)
                .map_or(cell::NONE, |address| &address.address)
                .to_string()
        };
        vec![
            self.metadata.name.clone().into(),
            readiness(self).into(),
            roles(self).into(),
            age(&self.metadata, now),
            info.map(|info| info.kubelet_version.clone())
                .unwrap_or_default()
                .into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            known(|info| &info.os_image).into(),
            (known(|info| &info.kernel_version) + &architecture).into(),
            known(|info| &info.container_runtime_version).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "spec.unschedulable" => self
                .spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false)
                .to_string(),
            _ => String::new(),
        }
    }
}

/// Checks taints.
pub(super) fn validate_taints(taints: Option<&[Taint]>, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.into_iter().flatten().enumerate() {
        let path = path.index(index);
        meta::validate_label_name(&taint.key, &path.child("key"), errors);
        let value = taint.value.as_deref().unwrap_or_default();
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.invalid(&path.child("value"), value, wrong.join(";"));
        }
        super::pod_spec::check_effect(&taint.effect, false, &path.child("effect"), errors);
        if !seen.insert((&taint.effect, &taint.key)) {
            let shown = Internal::fields([
                ("Key", Internal::plain(&taint.key)),
                ("Value", Internal::plain(&value)),
                ("Effect", Internal::plain(&taint.effect)),
                ("TimeAdded", Internal::plain(&taint.time_added)),
            ]);
            errors.duplicate_saying(&path, shown, "taints must be unique by key and effect pair");
        }
    }
}

fn validate_status(node: &Node, errors: &mut Errors) {
    let Some(status) = &node.status else { return };
    for (field, amounts) in [
        ("capacity", &status.capacity),
        ("allocatable", &status.allocatable),
    ] {
        for (name, amount) in amounts.iter().flatten() {
            let path = Path::new("status").child(field).child(name);
            super::pod_spec::resources::check_amount(name, amount, &path, errors);
        }
    }
    let features = status.declared_features.as_deref().unwrap_or_default();
    let path = Path::new("status.declaredFeatures");
    for (index, feature) in features.iter().enumerate() {
        if feature.len() > names::MAX_SUBDOMAIN {
            let detail = format!("invalid feature name {feature:?}: must be no more than 253 characters");
            errors.invalid(&path.index(index), feature, detail);
        } else if !is_feature(feature) {
            let detail = format!(
                "invalid feature name {feature:?}: must start with an UpperCamelCase segment, with subsequent segments \
                 separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric \
                 characters and slashes"
            );
            errors.invalid(&path.index(index), feature, detail);
        }
        if let Some(next) = features.get(index + 1) {
            let at = path.index(index + 1);
            match feature.cmp(next) {
                std::cmp::Ordering::Equal => errors.duplicate(&at, next),
                std::cmp::Ordering::Greater => {
                    errors.invalid(&at, next, "list must be sorted alphabetically")
                }
                std::cmp::Ordering::Less => {}
            }
        }
    }
}

/// `MyFeature`, `MyFeature/mySubFeature`.
fn is_feature(name: &str) -> bool {
    let alphanumeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(alphanumeric)
}

/// The range is the first of the ranges; who knows only the one field means both.
fn agree_on_range(spec: &mut NodeSpec) {
    let first = spec.pod_cidrs.as_ref().and_then(|ranges| ranges.first());
    match spec.pod_cidr.as_deref().unwrap_or_default() {
        "" => spec.pod_cidr = first.cloned(),
        one if first.is_none_or(|first| first != one) => spec.pod_cidrs = Some(vec![one.into()]),
        _ => {}
    }
}
