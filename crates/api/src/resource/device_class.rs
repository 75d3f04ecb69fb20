//! DeviceClass: devices of a sort, chosen by their attributes, with a configuration.

use k8s_openapi::api::resource::v1::DeviceClass;

use super::claim_spec::{self, MOST};
use super::names;
use crate::core::pod_spec::resources::is_extended;
use crate::field::{Errors, Path};
use crate::kind::{Kind, KindInfo, Scope, Target};
use crate::meta::generation_after;
use crate::same::same;

impl Kind for DeviceClass {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            ..KindInfo::of::<Self>("deviceclass")
        }
    }

    fn default(&mut self) {
        self.spec.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (self.spec.clone().unwrap_or_default(), Path::new("spec"));
        claim_spec::validate_selectors(spec.selectors.as_ref(), &path.child("selectors"), errors);
        let at = path.child("config");
        names::each(spec.config.as_ref(), MOST, &at, errors, |config, path, errors| {
            claim_spec::validate_configuration(config.opaque.as_ref(), path, errors);
        });
        if let Some(name) = spec.extended_resource_name.filter(|name| !is_extended(name)) {
            let detail = "must be a valid extended resource name";
            errors.invalid(&path.child("extendedResourceName"), name, detail);
        }
    }
}
