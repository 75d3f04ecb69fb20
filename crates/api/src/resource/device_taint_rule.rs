//! DeviceTaintRule: a taint on all devices that it selects.

use k8s_openapi::api::resource::v1::DeviceTaintRule;

use super::{names, taints};
use crate::conditions;
use crate::core::pod_spec::check_driver;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Kind, KindInfo, Scope, Subresource, Target};

const MOST_CONDITIONS: usize = 8;

impl Kind for DeviceTaintRule {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            ..KindInfo::of::<Self>("devicetaintrule")
        }
    }

    fn default(&mut self) {
        taints::default_taint(&mut self.spec.taint);
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
