//! An endpoint slice: its ports, and who answers on them.

use serde_json::Value;

use super::Told;
use super::page::Page;
use crate::fields::{list, scalar, text, texts};

const UNSET: &str = "<unset>";

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let slice = told.object;
    page.metadata(slice);
    page.field(0, "AddressType", text(slice, "/addressType"));
    let ports = list(slice, "/ports");
    if ports.is_empty() {
        page.line(0, format!("Ports: {UNSET}"));
    } else {
        page.line(0, "Ports:");
        page.line(1, "Name\tPort\tProtocol");
        page.line(1, "----\t----\t--------");
    }
    for port in ports {
        let or_unset = |field: &str| match scalar(port, field) {
            value if value.is_empty() => UNSET.to_string(),
            value => value,
        };
        let line = format!(
            "{}\t{}\t{}",
            or_unset("/name"),
            or_unset("/port"),
            text(port, "/protocol")
        );
        page.line(1, line);
    }
    let endpoints = list(slice, "/endpoints");
    page.line(
        0,
        if endpoints.is_empty() {
            "Endpoints: <none>"
        } else {
            "Endpoints:"
        },
    );
    for endpoint in endpoints {
        one(endpoint, page);
    }
    page.events(told.events.as_deref());
}

fn one(endpoint: &Value, page: &mut Page) {
    let or_unset = |field: &str| match scalar(endpoint, field) {
        value if value.is_empty() => UNSET.to_string(),
        value => value,
    };
    page.line(
        1,
        format!("- Addresses:\t{}", texts(endpoint, "/addresses").join(", ")),
    );
    page.line(2, "Conditions:");
    page.field(3, "Ready", or_unset("/conditions/ready"));
    page.field(2, "Hostname", or_unset("/hostname"));
    let target = endpoint.get("targetRef").filter(|target| target.is_object());
    if let Some(target) = target {
        page.field(
            2,
            "TargetRef",
            format!("{}/{}", text(target, "/kind"), text(target, "/name")),
        );
    }
    page.field(2, "NodeName", or_unset("/nodeName"));
    page.field(2, "Zone", or_unset("/zone"));
}
