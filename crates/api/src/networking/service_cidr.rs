//! ServiceCIDR: the ranges of which services get their addresses.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::Value;

use super::cidr::{self, Cidr};
use crate::field::{Errors, Path};
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::meta;
use crate::same::same;

impl Kind for ServiceCIDR {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of("CIDRs", "string", "networking.v1.ServiceCIDRSpec", "cidrs"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("servicecidr")
        }
    }

    fn default(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Subresource(Subresource::Status) {
            self.spec.clone_from(&old.spec);
            return;
        }
        self.status.clone_from(&old.status);
        self.metadata.generation = meta::generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec");
        let ranges = ranges(self);
        match ranges {
            [] => return errors.required(&path.child("cidrs"), "at least one CIDR required"),
            [first, second] => {
                let families = Cidr::parse(first).zip(Cidr::parse(second));
                if families.is_none_or(|(first, second)| first.is_v4() == second.is_v4()) {
                    return errors.invalid(
                        &path,
                        internal::of("networking.v1.ServiceCIDRSpec", &self.spec),
                        "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
                    );
                }
            }
            [_] => {}
            _ => {
                let shown = internal::of("networking.v1.ServiceCIDRSpec", &self.spec);
                return errors.invalid(&path, shown, "may only hold up to 2 values");
            }
        }
        for (index, range) in ranges.iter().enumerate() {
            cidr::check(range, &path.child("cidrs").index(index), errors);
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            return;
        }
        let path = Path::new("spec.cidrs");
        let (new, old) = (ranges(self), ranges(old));
        // A range of the other family may be added.
        if new.len() != old.len() && (old.len(), new.len()) != (1, 2) {
            return errors.invalid(&path, new, meta::IMMUTABLE);
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            meta::immutable(new, old, &path.index(index), errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            ranges(self).join(",").into(),
            age(&self.metadata, now),
        ]
    }
}

fn ranges(object: &ServiceCIDR) -> &[String] {
    object
        .spec
        .as_ref()
        .and_then(|spec| spec.cidrs.as_deref())
        .unwrap_or_default()
}
