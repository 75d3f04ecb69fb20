//! CSINode: the storage drivers on a node.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use serde_json::Value;

use crate::core::pod_spec;
use crate::field::{Errors, Internal, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta;
use crate::same::same;

/// The longest identity that a driver has for a node.
const MAX_NODE_ID: usize = 256;

impl Kind for CSINode {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Drivers",
                    "integer",
                    "Drivers indicates the number of CSI drivers registered on the node",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("csinode")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec.drivers");
        let mut names = BTreeSet::new();
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            let path = path.index(index);
            pod_spec::check_driver(&driver.name, &path.child("name"), errors);
            let id = path.child("nodeID");
            if driver.node_id.is_empty() {
                errors.required(&id, "");
            } else if driver.node_id.len() > MAX_NODE_ID {
                let detail = format!("must be {MAX_NODE_ID} characters or less");
                errors.invalid(&id, &driver.node_id, detail);
            }
            let count = driver.allocatable.as_ref().and_then(|all| all.count);
            errors.non_negative(&path.child("allocatable.count"), count);
            if !names.insert(&driver.name) {
                errors.duplicate(&path.child("name"), &driver.name);
            }
            let mut keys = BTreeSet::new();
            for key in driver.topology_keys.iter().flatten() {
                if key.is_empty() {
                    errors.required(&path, "");
                }
                if !keys.insert(key) {
                    errors.duplicate(&path, key);
                }
                meta::validate_label_name(key, &path, errors);
            }
        }
    }

    /// A driver that is registered again may only have another number of places for volumes.
    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        for before in &old.spec.drivers {
            for now in &self.spec.drivers {
                let fixed = |driver: &CSINodeDriver| CSINodeDriver {
                    allocatable: None,
                    ..driver.clone()
                };
                if now.name == before.name && !same(&fixed(now), &fixed(before)) {
                    let shown = Internal::fields([
                        ("Name", Internal::plain(&now.name)),
                        ("NodeID", Internal::plain(&now.node_id)),
                        ("TopologyKeys", Internal::plain(&now.topology_keys)),
                        ("Allocatable", Internal::optional(None)),
                    ]);
                    errors.invalid(&Path::new("spec.drivers"), shown, "field is immutable");
                }
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.spec.drivers.len().into(),
            age(&self.metadata, now),
        ]
    }
}
