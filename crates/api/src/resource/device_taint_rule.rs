//! DeviceTaintRule: a taint on all devices that it selects.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::DeviceTaintRule;
use serde_json::Value;

use super::{names, taints};
use crate::cell;
use crate::conditions;
use crate::core::pod_spec::check_driver;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};

const MOST_CONDITIONS: usize = 8;

impl Kind for DeviceTaintRule {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of("Key", "string", "resource.v1.DeviceTaint", "key"),
                Column::of("Value", "string", "resource.v1.DeviceTaint", "value"),
                Column::of("Effect", "string", "resource.v1.DeviceTaint", "effect"),
                Column::of("TimeAdded", "string", "resource.v1.DeviceTaint", "timeAdded"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("devicetaintrule")
        }
    }

    fn default(&mut self) {
        taints::default_taint(&mut self.spec.taint);
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over_with_metadata(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec");
        if let Some(selector) = &self.spec.device_selector {
            let path = path.child("deviceSelector");
            if let Some(driver) = &selector.driver {
                check_driver(driver, &path.child("driver"), errors);
            }
            if let Some(pool) = &selector.pool {
                names::check_pool(pool, &path.child("pool"), errors);
            }
            if let Some(device) = &selector.device {
                names::check_label(device, &path.child("device"), errors);
            }
        }
        taints::validate_taint(&self.spec.taint, &path.child("taint"), errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let taint = &self.spec.taint;
        let added = taint.time_added.as_ref();
        vec![
            self.metadata.name.clone().into(),
            taint.key.clone().into(),
            taint.value.clone().unwrap_or_default().into(),
            taint.effect.clone().into(),
            added.map(|_| cell::since(added, now)).unwrap_or_default().into(),
            age(&self.metadata, now),
        ]
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return;
        }
        let status = self.status.clone().unwrap_or_default();
        let (list, path) = (
            status.conditions.unwrap_or_default(),
            Path::new("status.conditions"),
        );
        conditions::validate(&list, &path, errors);
        if list.len() > MOST_CONDITIONS {
            errors.too_many(&path, list.len(), MOST_CONDITIONS);
        }
    }
}
