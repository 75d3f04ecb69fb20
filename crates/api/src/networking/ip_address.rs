//! IPAddress: an address of the service ranges that is taken, and by whom.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use serde_json::Value;

use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::{meta, names};

impl Kind for IPAddress {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            short_names: &["ip"],
            selectable_fields: &["spec.parentRef.name"],
            columns: vec![
                Column::object_name(),
                Column::of("ParentRef", "string", "networking.v1.IPAddressSpec", "parentRef"),
            ],
            ..KindInfo::of::<Self>("ipaddress")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let (parent, path) = (&self.spec.parent_ref, Path::new("spec.parentRef"));
        if *parent == ParentReference::default() {
            return errors.required(&path, "");
        }
        if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
            for message in names::dns_subdomain(group, false) {
                errors.invalid(&path.child("group"), group, message);
            }
        }
        for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
            if value.is_empty() {
                errors.required(&path.child(field), "");
            }
            for message in names::path_segment(value, false) {
                errors.invalid(&path.child(field), value, message);
            }
        }
        if let Some(namespace) = &parent.namespace {
            for message in names::path_segment(namespace, false) {
                errors.invalid(&path.child("namespace"), namespace, message);
            }
        }
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        meta::immutable(
            &self.spec.parent_ref,
            &old.spec.parent_ref,
            &Path::new("spec.parentRef"),
            errors,
        );
    }

    fn check_name(name: &str, _prefix: bool) -> Vec<String> {
        match name.parse::<IpAddr>() {
            Err(_) => vec![format!("ParseAddr({name:?}): unable to parse IP")],
            Ok(address) if address.to_string() != name => {
                vec!["must be a canonical format IP address".into()]
            }
            Ok(_) => Vec::new(),
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let parent = &self.spec.parent_ref;
        let text = if *parent == ParentReference::default() {
            cell::NONE.to_string()
        } else {
            let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            let resource = match given(&parent.group) {
                Some(group) => format!("{}.{group}", parent.resource),
                None => parent.resource.clone(),
            };
            let resource = resource.to_lowercase();
            match given(&parent.namespace) {
                Some(namespace) => format!("{resource}/{namespace}/{}", parent.name),
                None => format!("{resource}/{}", parent.name),
            }
        };
        // Upstream has the age in the rows, and no column of that name.
        vec![
            self.metadata.name.clone().into(),
            text.into(),
            age(&self.metadata, now),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "spec.parentRef.name" => self.spec.parent_ref.name.clone(),
            _ => String::new(),
        }
    }
}
