//! Event in the newer form. It is kept as the core group's, whose names for the same things differ.

use k8s_openapi::api::core::v1::Event as Stored;
use k8s_openapi::api::events::v1::Event;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::field::{Errors, Path};
use crate::kind::Target;
use crate::names;
use crate::same::same;
use crate::version::Version;

/// What a field is called here, and in the core group.
const RENAMED: [(&str, &str); 7] = [
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
];

impl Version for Event {
    type Stored = Stored;

    fn selectable_fields() -> &'static [&'static str] {
        &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "source",
            "type",
        ]
    }

    fn stored_field(name: &str) -> Option<&'static str> {
        Some(match name {
            "reason" => "reason",
            "regarding.kind" => "involvedObject.kind",
            "regarding.namespace" => "involvedObject.namespace",
            "regarding.name" => "involvedObject.name",
            "regarding.uid" => "involvedObject.uid",
            "regarding.apiVersion" => "involvedObject.apiVersion",
            "regarding.resourceVersion" => "involvedObject.resourceVersion",
            "regarding.fieldPath" => "involvedObject.fieldPath",
            "reportingController" => "reportingComponent",
            "source" => "source",
            "type" => "type",
            _ => return None,
        })
    }

    fn to_stored(object: &mut Map<String, Value>) {
        rename(object, RENAMED);
    }

    fn of_stored(object: &mut Map<String, Value>) {
        rename(object, RENAMED.map(|(here, stored)| (stored, here)));
    }

    fn validate_create(event: &Stored, errors: &mut Errors) {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        errors.invalid_each(
            &Path::new("metadata.name"),
            name,
            names::dns_subdomain(name, false),
        );
        check_series(event, errors);
        if event.event_time.is_none() {
            errors.required(&Path::new("eventTime"), "");
        }
        let type_ = event.type_.as_deref().unwrap_or_default();
        if !matches!(type_, "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {type_}"));
        }
        let has_source = event.source.as_ref().is_some_and(|source| {
            [&source.component, &source.host]
                .into_iter()
                .flatten()
                .any(|text| !text.is_empty())
        });
        for (field, is_set) in [
            ("firstTimestamp", event.first_timestamp.is_some()),
            ("lastTimestamp", event.last_timestamp.is_some()),
            ("count", event.count.is_some_and(|count| count != 0)),
            ("source", has_source),
        ] {
            if is_set {
                errors.invalid(&Path::new(field), "", "needs to be unset");
            }
        }
    }

    fn validate_update(event: &Stored, old: &Stored, _target: Target, errors: &mut Errors) {
        if event.series != old.series {
            check_series(event, errors);
        }
        unchanged(
            "involvedObject",
            &event.involved_object,
            &old.involved_object,
            errors,
        );
        unchanged("reason", &event.reason, &old.reason, errors);
        unchanged("message", &event.message, &old.message, errors);
        unchanged("source", &event.source, &old.source, errors);
        unchanged(
            "firstTimestamp",
            &event.first_timestamp,
            &old.first_timestamp,
            errors,
        );
        unchanged(
            "lastTimestamp",
            &event.last_timestamp,
            &old.last_timestamp,
            errors,
        );
        unchanged("count", &event.count, &old.count, errors);
        unchanged("type", &event.type_, &old.type_, errors);
        unchanged("eventTime", &event.event_time, &old.event_time, errors);
        unchanged("action", &event.action, &old.action, errors);
        unchanged("related", &event.related, &old.related, errors);
        unchanged(
            "reportingController",
            &event.reporting_component,
            &old.reporting_component,
            errors,
        );
        unchanged(
            "reportingInstance",
            &event.reporting_instance,
            &old.reporting_instance,
            errors,
        );
    }
}

fn rename(object: &mut Map<String, Value>, names: [(&str, &str); 7]) {
    for (from, to) in names {
        if let Some(value) = object.remove(from) {
            object.insert(to.into(), value);
        }
    }
}

fn check_series(event: &Stored, errors: &mut Errors) {
    let Some(series) = &event.series else { return };
    if series.count.unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if series.last_observed_time.is_none() {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

fn unchanged<T: PartialEq + Serialize>(field: &str, new: &T, old: &T, errors: &mut Errors) {
    if !same(new, old) {
        errors.invalid(&Path::new(field), new, "field is immutable");
    }
}
