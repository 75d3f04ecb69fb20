//! A namespace, and what is rationed in it.

use serde_json::Value;
use skiff_api::quantity::Quantity;

use super::Told;
use super::page::Page;
use crate::fields::{list, map, name, scalar, text, texts};

/// Its quotas and its limit ranges.
pub(super) fn related(namespace: &Value) -> Vec<String> {
    let root = format!("/api/v1/namespaces/{}", name(namespace));
    vec![format!("{root}/resourcequotas"), format!("{root}/limitranges")]
}

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let namespace = told.object;
    page.field(0, "Name", name(namespace));
    page.labels(0, "Labels", map(namespace, "/metadata/labels"));
    page.annotations(0, "Annotations", map(namespace, "/metadata/annotations"));
    page.field(0, "Status", text(namespace, "/status/phase"));
    let conditions = list(namespace, "/status/conditions");
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t------------------\t------\t-------");
    }
    for condition in conditions {
        let field = |name: &str| text(condition, name);
        let line = format!(
            "{}\t{}\t{}\t{}\t{}",
            field("/type"),
            field("/status"),
            page.time(field("/lastTransitionTime")),
            field("/reason"),
            field("/message")
        );
        page.line(1, line);
    }
    // A server that has no such kinds has nothing to say of them.
    if let Some(quotas) = told.answer(0) {
        resource_quotas(list(quotas, "/items"), page);
    }
    if let Some(ranges) = told.answer(1) {
        limit_ranges(list(ranges, "/items"), page);
    }
}

fn resource_quotas(quotas: &[Value], page: &mut Page) {
    page.line(0, "");
    if quotas.is_empty() {
        return page.line(0, "No resource quota.");
    }
    page.line(0, "Resource Quotas");
    for quota in quotas {
        page.line(1, format!("Name:\t{}", name(quota)));
        let mut scopes = texts(quota, "/spec/scopes");
        scopes.sort_unstable();
        if !scopes.is_empty() {
            page.line(1, format!("Scopes:\t{}", scopes.join(", ")));
        }
        page.line(1, "Resource\tUsed\tHard");
        page.line(1, "--------\t---\t---");
        let used = map(quota, "/status/used");
        for (resource, hard) in map(quota, "/status/hard") {
            let used = used
                .get(resource)
                .map(|amount| scalar(amount, ""))
                .unwrap_or_else(|| "0".into());
            page.line(1, format!("{resource}\t{used}\t{}", scalar(hard, "")));
        }
    }
}

fn limit_ranges(ranges: &[Value], page: &mut Page) {
    page.line(0, "");
    if ranges.is_empty() {
        return page.line(0, "No LimitRange resource.");
    }
    page.line(0, "Resource Limits");
    page.line(
        1,
        "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
    );
    page.line(
        1,
        "----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
    );
    const SIDES: [&str; 5] = [
        "/min",
        "/max",
        "/defaultRequest",
        "/default",
        "/maxLimitRequestRatio",
    ];
    for limit in ranges.iter().flat_map(|range| list(range, "/spec/limits")) {
        let mut resources: Vec<&String> = SIDES.iter().flat_map(|side| map(limit, side).keys()).collect();
        resources.sort();
        resources.dedup();
        for resource in resources {
            let cells: Vec<String> = SIDES
                .iter()
                .map(|side| match map(limit, side).get(resource) {
                    Some(amount) => plain(&scalar(amount, "")),
                    None => "-".into(),
                })
                .collect();
            page.line(
                1,
                format!("{}\t{resource}\t{}", text(limit, "/type"), cells.join("\t")),
            );
        }
    }
}

/// An amount in its canonical form.
fn plain(amount: &str) -> String {
    amount
        .parse::<Quantity>()
        .map_or_else(|_| amount.to_string(), |amount| amount.to_string())
}
