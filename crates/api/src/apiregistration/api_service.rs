//! APIService: which server answers for a version of an API group.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceCondition, APIServiceStatus,
};
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::names;

/// The type of the condition that says whether the server behind an APIService answers.
const AVAILABLE: &str = "Available";
/// The reason of the condition of one that the API server answers for itself.
const LOCAL: &str = "Local";

/// Whether the status says that the API server answers for it itself.
pub fn is_locally_available(service: &APIService) -> bool {
    let conditions = service
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.type_ == AVAILABLE
            && condition.status == "True"
            && condition.reason.as_deref() == Some(LOCAL)
    })
}

/// The status of one that the API server answers for itself.
pub fn locally_available(status: Option<APIServiceStatus>) -> APIServiceStatus {
    let mut status = status.unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let since = conditions
        .iter()
        .find(|condition| condition.type_ == AVAILABLE && condition.status == "True")
        .and_then(|condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != AVAILABLE);
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    conditions.push(APIServiceCondition {
        type_: AVAILABLE.into(),
        status: "True".into(),
        reason: Some(LOCAL.into()),
        message: Some("Local APIServices are always available".into()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    });
    status
}

impl Kind for APIService {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            categories: &["api-extensions"],
            subresources: &[Subresource::Status],
            store_prefix: "apiregistration.k8s.io/apiservices".into(),
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Service",
                    "string",
                    "The reference to the service that hosts this API endpoint.",
                ),
                Column::new("Available", "string", "Whether this service is available."),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("apiservice")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(service) = &mut spec.service {
            service.port.get_or_insert(443);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        let local = self.spec.as_ref().is_none_or(|spec| spec.service.is_none());
        self.status = Some(if local {
            locally_available(None)
        } else {
            APIServiceStatus::default()
        });
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Main {
            self.status.clone_from(&old.status);
        } else {
            self.spec.clone_from(&old.spec);
            self.metadata.labels.clone_from(&old.metadata.labels);
            self.metadata.annotations.clone_from(&old.metadata.annotations);
            self.metadata.finalizers.clone_from(&old.metadata.finalizers);
            self.metadata
                .owner_references
                .clone_from(&old.metadata.owner_references);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let group = spec.group.unwrap_or_default();
        let version = spec.version.unwrap_or_default();
        let path = Path::new("spec");
        let wanted = format!("{version}.{group}");
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name != wanted && names::path_segment(name, false).is_empty() {
            errors.invalid(
                &Path::new("metadata.name"),
                name,
                format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"),
            );
        }
        if group.is_empty() {
            if version != "v1" {
                errors.required(
                    &path.child("group"),
                    "only v1 may have an empty group and it better be legacy kube",
                );
            }
        } else {
            for message in names::dns_subdomain(&group, false) {
                errors.invalid(&path.child("group"), &group, message);
            }
        }
        for message in names::dns_1035_label(&version, false) {
            errors.invalid(&path.child("version"), &version, message);
        }
        for (field, priority, most) in [
            ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
            ("versionPriority", spec.version_priority, 1000),
        ] {
            if !(1..=most).contains(&priority) {
                errors.invalid(
                    &path.child(field),
                    priority,
                    format!("must be positive and less than {most}"),
                );
            }
        }
        let bundle = spec.ca_bundle.map_or(0, |bundle| bundle.0.len());
        let insecure = spec.insecure_skip_tls_verify == Some(true);
        let at = path.child("insecureSkipTLSVerify");
        let Some(service) = spec.service else {
            if bundle > 0 {
                errors.invalid(
                    &path.child("caBundle"),
                    format!("{bundle} bytes"),
                    "local APIServices may not have a caBundle",
                );
            }
            if insecure {
                errors.invalid(&at, true, "local APIServices may not have insecureSkipTLSVerify");
            }
            return;
        };
        for (field, value) in [("namespace", &service.namespace), ("name", &service.name)] {
            if value.as_deref().unwrap_or_default().is_empty() {
                errors.required(&path.child("service").child(field), "");
            }
        }
        if let Some(port) = service.port {
            for message in names::port_number(port) {
                errors.invalid(
                    &path.child("service.port"),
                    port,
                    format!("port is not valid: {message}"),
                );
            }
        }
        if insecure && bundle > 0 {
            errors.invalid(&at, true, "may not be true if caBundle is present");
        }
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return;
        }
        let status = self.status.clone().unwrap_or_default();
        for (index, condition) in status.conditions.iter().flatten().enumerate() {
            if !matches!(condition.status.as_str(), "True" | "False" | "Unknown") {
                errors.not_supported(
                    &Path::new("status.conditions").index(index).child("status"),
                    &condition.status,
                    &["False", "True", "Unknown"],
                );
            }
        }
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let service = self.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let service = match service {
            Some(service) => format!(
                "{}/{}",
                service.namespace.as_deref().unwrap_or_default(),
                service.name.as_deref().unwrap_or_default()
            ),
            None => "Local".into(),
        };
        let condition = self
            .status
            .iter()
            .filter_map(|status| status.conditions.as_ref())
            .flatten()
            .find(|condition| condition.type_ == "Available");
        let available = match condition {
            None => "Unknown".to_string(),
            Some(condition) => match condition.reason.as_deref().unwrap_or_default() {
                reason if condition.status != "True" && !reason.is_empty() => {
                    format!("{} ({reason})", condition.status)
                }
                _ => condition.status.clone(),
            },
        };
        vec![
            self.metadata.name.clone().into(),
            service.into(),
            available.into(),
            age(&self.metadata, now),
        ]
    }
}
