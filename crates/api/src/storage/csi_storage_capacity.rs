//! CSIStorageCapacity: how much storage of a class there is, and for which nodes.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target};
use crate::meta;
use crate::names;
use crate::quantity::{self, Quantity};
use crate::selector;

impl Kind for CSIStorageCapacity {
    fn info() -> KindInfo {
        KindInfo {
            columns: vec![
                Column::object_name(),
                Column::of(
                    "StorageClassName",
                    "string",
                    "storage.v1.CSIStorageCapacity",
                    "storageClassName",
                ),
                Column::of("Capacity", "string", "storage.v1.CSIStorageCapacity", "capacity"),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("csistoragecapacity")
        }
    }

    fn default(&mut self) {
        for amount in [&mut self.capacity, &mut self.maximum_volume_size] {
            amount.iter_mut().for_each(quantity::canonicalize);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        if let Some(topology) = &self.node_topology {
            selector::validate(topology, &Path::new("nodeTopology"), errors);
        }
        let class = &self.storage_class_name;
        errors.invalid_each(
            &Path::new("storageClassName"),
            class,
            names::dns_subdomain(class, false),
        );
        let capacity = self.capacity.as_ref();
        if let Some(amount) = capacity.filter(|amount| Quantity::of(amount).is_negative()) {
            errors.invalid(
                &Path::new("capacity"),
                &amount.0,
                "must be greater than or equal to 0",
            );
        }
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        meta::immutable(
            &self.node_topology,
            &old.node_topology,
            &Path::new("nodeTopology"),
            errors,
        );
        meta::immutable(
            &self.storage_class_name,
            &old.storage_class_name,
            &Path::new("storageClassName"),
            errors,
        );
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let topology = self.node_topology.as_ref();
        topology
            .map(|topology| selector::node_warnings(topology, &Path::new("nodeTopology")))
            .unwrap_or_default()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let capacity = self.capacity.as_ref().map(|amount| amount.0.clone());
        vec![
            self.metadata.name.clone().into(),
            self.storage_class_name.clone().into(),
            capacity.unwrap_or_else(|| "<unset>".into()).into(),
        ]
    }
}
