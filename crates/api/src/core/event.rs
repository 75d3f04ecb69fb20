//! Event: a report of something that happened to an object.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::Value;

use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Dependents, Kind, KindInfo, human_duration};
use crate::names;

impl Kind for Event {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["ev"],
            columns: vec![
                Column::of("Last Seen", "string", "core.v1.Event", "lastTimestamp"),
                Column::of("Type", "string", "core.v1.Event", "type"),
                Column::of("Reason", "string", "core.v1.Event", "reason"),
                Column::of("Object", "string", "core.v1.Event", "involvedObject"),
                Column::of("Subobject", "string", "core.v1.ObjectReference", "fieldPath").only_wide(),
                Column::of("Source", "string", "core.v1.Event", "source").only_wide(),
                Column::of("Message", "string", "core.v1.Event", "message"),
                Column::of("First Seen", "string", "core.v1.Event", "firstTimestamp").only_wide(),
                Column::of("Count", "string", "core.v1.Event", "count").only_wide(),
                Column::object_name().only_wide(),
            ],
            selectable_fields: &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            // Upstream's `--event-ttl`.
            ttl: Some(Duration::from_secs(3600)),
            create_on_update: true,
            dependents: Dependents::None,
            ..KindInfo::of::<Self>("event")
        }
    }

    fn default(&mut self) {
        self.source.get_or_insert_default();
        self.reporting_component.get_or_insert_default();
        self.reporting_instance.get_or_insert_default();
    }

    fn validate(&self, errors: &mut Errors) {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let about = self.involved_object.namespace.as_deref().unwrap_or_default();
        // An object of the whole cluster has its events in `default`.
        let in_place = match (self.event_time.is_some(), about) {
            (false, "") => matches!(namespace, "" | "default"),
            (false, about) => namespace == about,
            (true, "") => matches!(namespace, "default" | "kube-system"),
            (true, _) => true,
        };
        if !in_place {
            errors.invalid(
                &Path::new("involvedObject.namespace"),
                about,
                "does not match event.namespace",
            );
        }
        if self.event_time.is_some() {
            self.validate_newer(errors);
        }
        errors.invalid_each(
            &Path::new("namespace"),
            namespace,
            names::dns_subdomain(namespace, false),
        );
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let event_time = || micro(self.event_time.as_ref(), now);
        let first = match &self.first_timestamp {
            Some(_) => cell::since(self.first_timestamp.as_ref(), now),
            None => event_time(),
        };
        let (last, count) = match &self.series {
            Some(series) => (
                micro(series.last_observed_time.as_ref(), now),
                series.count.unwrap_or(0),
            ),
            None => (
                match &self.last_timestamp {
                    Some(_) => cell::since(self.last_timestamp.as_ref(), now),
                    None => first.clone(),
                },
                self.count.filter(|&count| count != 0).unwrap_or(1),
            ),
        };
        let about = &self.involved_object;
        let kind = about.kind.as_deref().unwrap_or_default().to_lowercase();
        let object = match about.name.as_deref().unwrap_or_default() {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        vec![
            last.into(),
            self.type_.clone().unwrap_or_default().into(),
            self.reason.clone().unwrap_or_default().into(),
            object.into(),
            about.field_path.clone().unwrap_or_default().into(),
            self.reporter().into(),
            self.message.as_deref().unwrap_or_default().trim().into(),
            first.into(),
            count.into(),
            self.metadata.name.clone().into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        let about = &self.involved_object;
        let source = self.source.as_ref().and_then(|source| source.component.clone());
        match name {
            "involvedObject.kind" => about.kind.clone(),
            "involvedObject.namespace" => about.namespace.clone(),
            "involvedObject.name" => about.name.clone(),
            "involvedObject.uid" => about.uid.clone(),
            "involvedObject.apiVersion" => about.api_version.clone(),
            "involvedObject.resourceVersion" => about.resource_version.clone(),
            "involvedObject.fieldPath" => about.field_path.clone(),
            "reason" => self.reason.clone(),
            "reportingComponent" => self.reporting_component.clone(),
            "source" => source
                .filter(|component| !component.is_empty())
                .or_else(|| self.reporting_component.clone()),
            "type" => self.type_.clone(),
            _ => None,
        }
        .unwrap_or_default()
    }
}

trait Reported {
    fn reporter(&self) -> String;
    fn validate_newer(&self, errors: &mut Errors);
}

impl Reported for Event {
    /// What holds for events of the newer form only: those with an `eventTime`.
    fn validate_newer(&self, errors: &mut Errors) {
        let reporting = self.reporting_component.as_deref().unwrap_or_default();
        let path = Path::new("reportingController");
        if reporting.is_empty() {
            errors.required(&path, "");
        }
        errors.invalid_each(&path, reporting, names::qualified_name(reporting));
        for (field, text) in [
            ("reportingInstance", &self.reporting_instance),
            ("action", &self.action),
            ("reason", &self.reason),
        ] {
            match text.as_deref().unwrap_or_default() {
                "" => errors.required(&Path::new(field), ""),
                text if text.len() > 128 => {
                    errors.invalid(&Path::new(field), "", "can have at most 128 characters");
                }
                _ => {}
            }
        }
        if self.message.as_ref().is_some_and(|message| message.len() > 1024) {
            errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
        }
    }

    /// The component and, if known, its instance or host.
    fn reporter(&self) -> String {
        let source = self.source.as_ref();
        let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        let component = given(source.and_then(|source| source.component.as_ref()))
            .or_else(|| given(self.reporting_component.as_ref()))
            .unwrap_or_default();
        let instance = given(source.and_then(|source| source.host.as_ref()))
            .or_else(|| given(self.reporting_instance.as_ref()));
        match instance {
            Some(instance) => format!("{component}, {instance}"),
            None => component,
        }
    }
}

fn micro(time: Option<&MicroTime>, now: Timestamp) -> String {
    match time {
        Some(MicroTime(time)) => human_duration(now.as_second() - time.as_second()),
        None => cell::UNKNOWN.into(),
    }
}
