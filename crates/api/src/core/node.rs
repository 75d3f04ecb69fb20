//! Node: a machine that runs pods.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSystemInfo, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::meta;
use crate::names;
use crate::quantity;

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
                Column::new("Version", "string", "Kubelet Version reported by the node."),
                Column::wide(
                    "Internal-IP",
                    "string",
                    "List of addresses reachable to the node.",
                ),
                Column::wide(
                    "External-IP",
                    "string",
                    "List of addresses reachable to the node.",
                ),
                Column::wide(
                    "OS-Image",
                    "string",
                    "OS Image reported by the node from /etc/os-release.",
                ),
                Column::wide(
                    "Kernel-Version",
                    "string",
                    "Kernel Version reported by the node from 'uname -r'.",
                ),
                Column::wide(
                    "Container-Runtime",
                    "string",
                    "ContainerRuntime Version reported by the node through runtime remote API.",
                ),
            ],
            selectable_fields: &["spec.unschedulable"],
            store_prefix: "minions".into(),
            ..KindInfo::of::<Self>("node")
        }
    }

    fn default(&mut self) {
        self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        for amounts in [&mut status.capacity, &mut status.allocatable]
            .into_iter()
            .flatten()
        {
            amounts.values_mut().for_each(quantity::canonicalize);
        }
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        match target {
            Target::Main => self.status.clone_from(&old.status),
            Target::Subresource(_) => self.spec.clone_from(&old.spec),
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        validate_taints(
            spec.taints.as_deref().unwrap_or_default(),
            &path.child("taints"),
            errors,
        );
        if let Some(capacity) = self.status.as_ref().and_then(|status| status.capacity.as_ref()) {
            validate_amounts(capacity, &Path::new("status.capacity"), errors);
        }
        if let Some(allocatable) = self
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref())
        {
            validate_amounts(allocatable, &Path::new("status.allocatable"), errors);
        }
        let ranges = spec.pod_cidrs.as_deref().unwrap_or_default();
        for (index, range) in ranges.iter().enumerate() {
            if !is_range(range) {
                errors.invalid(
                    &path.child("podCIDRs").index(index),
                    range,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
        if ranges.len() > 2 {
            errors.invalid(
                &path.child("podCIDRs"),
                ranges,
                "may specify no more than one CIDR for each IP family",
            );
        }
        if let (Some(first), Some(one)) = (ranges.first(), &spec.pod_cidr)
            && first != one
        {
            errors.invalid(
                &path.child("podCIDR"),
                one,
                "podCIDR must be equal to podCIDRs[0]",
            );
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            return;
        }
        let (new, old) = (
            self.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        let path = Path::new("spec");
        let ranges = |ranges: &Option<Vec<String>>| ranges.clone().unwrap_or_default();
        if !ranges(&old.pod_cidrs).is_empty() && ranges(&old.pod_cidrs) != ranges(&new.pod_cidrs) {
            errors.forbidden(
                &path.child("podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
        let provider = |id: &Option<String>| id.clone().unwrap_or_default();
        if !provider(&old.provider_id).is_empty() && provider(&old.provider_id) != provider(&new.provider_id)
        {
            errors.forbidden(
                &path.child("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let info = self.status.as_ref().and_then(|status| status.node_info.as_ref());
        let known = |pick: fn(&NodeSystemInfo) -> &String| {
            cell::or(info.map(pick).map(String::as_str), cell::UNKNOWN).to_string()
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
            known(|info| &info.kernel_version).into(),
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

fn validate_taints(taints: &[Taint], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        meta::validate_label_name(&taint.key, &path.child("key"), errors);
        let wrong = names::label_value(taint.value.as_deref().unwrap_or_default());
        if !wrong.is_empty() {
            errors.invalid(&path.child("value"), &taint.value, wrong.join(";"));
        }
        super::pod_spec::check_effect(&taint.effect, false, &path.child("effect"), errors);
        if !seen.insert((&taint.effect, &taint.key)) {
            errors.duplicate_saying(&path, taint, "taints must be unique by key and effect pair");
        }
    }
}

fn validate_amounts(amounts: &BTreeMap<String, Text>, path: &Path, errors: &mut Errors) {
    for (name, amount) in amounts {
        let path = path.key(name);
        super::pod_spec::resources::check_name(name, &path, errors);
        super::pod_spec::resources::check_amount(name, amount, &path, errors);
    }
}

fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let Ok(length) = length.parse::<u8>() else {
        return false;
    };
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => length <= 32,
        Ok(std::net::IpAddr::V6(_)) => length <= 128,
        Err(_) => false,
    }
}
