//! StorageVersionMigration: all objects of a resource are to be written again, in the version that is stored now.

use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use serde_json::Value;

use crate::conditions;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target};
use crate::meta;
use crate::names;

impl Kind for StorageVersionMigration {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                {
                    let mut name = Column::object_name();
                    name.format = "";
                    name
                },
                Column::new("Resource", "string", "GroupResource to migrate"),
                Column::new("Status", "string", "Status of the migration"),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("storageversionmigration")
        }
    }

    fn default(&mut self) {
        self.spec.get_or_insert_default();
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
        let resource = self.spec.clone().unwrap_or_default().resource;
        let path = Path::new("spec.resource");
        if resource.resource.is_empty() {
            errors.required(&path.child("resource"), "resource is required to be set");
        } else {
            let wrong = names::dns_1035_label(&resource.resource, false);
            if !wrong.is_empty() {
                errors.invalid(&path.child("resource"), &resource.resource, wrong.join(","));
            }
        }
        let wrong = names::dns_subdomain(&resource.group, false);
        if !resource.group.is_empty() && !wrong.is_empty() {
            errors.invalid(&path.child("group"), &resource.group, wrong.join(","));
        }
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let resource = self.spec.clone().unwrap_or_default().resource;
        let shown = match resource.group.as_str() {
            "" => resource.resource,
            group => format!("{}.{group}", resource.resource),
        };
        let conditions = self.status.iter().filter_map(|status| status.conditions.as_ref());
        let last = conditions
            .flatten()
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .rfind(|type_| ["Running", "Failed", "Succeeded"].contains(type_));
        vec![
            self.metadata.name.clone().into(),
            shown.into(),
            last.unwrap_or("Unknown").into(),
        ]
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            let status = self.status.clone().unwrap_or_default();
            let list = status.conditions.unwrap_or_default();
            return conditions::validate(&list, &Path::new("status.conditions"), errors);
        }
        let of = |object: &Self| object.spec.clone().unwrap_or_default().resource;
        let (new, old) = (of(self), of(old));
        meta::immutable(&new.group, &old.group, &Path::new("group"), errors);
        meta::immutable(&new.resource, &old.resource, &Path::new("resource"), errors);
    }
}
