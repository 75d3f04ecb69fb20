//! A replica set, or another workload that counts its pods.

use serde_json::Value;

use super::page::Page;
use super::template::template;
use super::{Told, selected, selector, selector_query};
use crate::fields::{flag, integer, list, map, name, text};

/// The pods that match its selector.
pub(super) fn related(set: &Value) -> Vec<String> {
    let path = format!("/api/v1/namespaces/{}/pods", text(set, "/metadata/namespace"));
    let query = selector_query(set.pointer("/spec/selector").unwrap_or(&Value::Null));
    vec![selected(&path, &query)]
}

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let set = told.object;
    page.field(0, "Name", name(set));
    page.field(0, "Namespace", text(set, "/metadata/namespace"));
    page.field(
        0,
        "Selector",
        selector(set.pointer("/spec/selector").unwrap_or(&Value::Null)),
    );
    page.labels(0, "Labels", map(set, "/metadata/labels"));
    page.annotations(0, "Annotations", map(set, "/metadata/annotations"));
    page.controller(set);
    let (current, desired) = (integer(set, "/status/replicas"), integer(set, "/spec/replicas"));
    page.field(0, "Replicas", format!("{current} current / {desired} desired"));
    if let Some(answer) = told.answer(0) {
        page.field(0, "Pods Status", phases(set, list(answer, "/items")));
    }
    template(page, set);
    page.conditions_with_reason(set);
    page.events(told.events.as_deref());
}

/// `3 Running / 0 Waiting / 0 Succeeded / 0 Failed`, of the pods that it controls.
fn phases(set: &Value, pods: &[Value]) -> String {
    let uid = text(set, "/metadata/uid");
    let count = |phase: &str| {
        pods.iter()
            .filter(|pod| {
                text(pod, "/status/phase") == phase
                    && list(pod, "/metadata/ownerReferences")
                        .iter()
                        .any(|owner| flag(owner, "/controller") && text(owner, "/uid") == uid)
            })
            .count()
    };
    format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    )
}
