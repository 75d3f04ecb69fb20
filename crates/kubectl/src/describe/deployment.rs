//! A deployment: its template, how it is rolled out, and the replica sets that it has made.

use serde_json::Value;

use super::page::{NONE, Page};
use super::template::template;
use super::{Told, selected, selector, selector_query};
use crate::fields::{integer, list, map, name, scalar, text};

/// The replica sets that match its selector.
pub(super) fn related(deployment: &Value) -> Vec<String> {
    let namespace = text(deployment, "/metadata/namespace");
    let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
    let query = selector_query(deployment.pointer("/spec/selector").unwrap_or(&Value::Null));
    vec![selected(&path, &query)]
}

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let deployment = told.object;
    page.field(0, "Name", name(deployment));
    page.field(0, "Namespace", text(deployment, "/metadata/namespace"));
    let created = page.time(text(deployment, "/metadata/creationTimestamp"));
    page.field(0, "CreationTimestamp", created);
    page.labels(0, "Labels", map(deployment, "/metadata/labels"));
    page.annotations(0, "Annotations", map(deployment, "/metadata/annotations"));
    page.field(
        0,
        "Selector",
        selector(deployment.pointer("/spec/selector").unwrap_or(&Value::Null)),
    );
    let number = |field: &str| integer(deployment, &format!("/status/{field}"));
    page.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            integer(deployment, "/spec/replicas"),
            number("updatedReplicas"),
            number("replicas"),
            number("availableReplicas"),
            number("unavailableReplicas")
        ),
    );
    page.field(0, "StrategyType", text(deployment, "/spec/strategy/type"));
    page.field(
        0,
        "MinReadySeconds",
        integer(deployment, "/spec/minReadySeconds").to_string(),
    );
    if let Some(rolling) = deployment.pointer("/spec/strategy/rollingUpdate") {
        let (unavailable, surge) = (scalar(rolling, "/maxUnavailable"), scalar(rolling, "/maxSurge"));
        page.field(
            0,
            "RollingUpdateStrategy",
            format!("{unavailable} max unavailable, {surge} max surge"),
        );
    }
    template(page, deployment);
    page.conditions_with_reason(deployment);
    if let Some(answer) = told.answer(0) {
        let (old, new) = replica_sets(deployment, list(answer, "/items"));
        if old != NONE || new != NONE {
            page.field(0, "OldReplicaSets", old);
            page.field(0, "NewReplicaSet", new);
        }
    }
    page.events(told.events.as_deref());
}

/// The old replica sets and the new one, with what they have made.
fn replica_sets(deployment: &Value, all: &[Value]) -> (String, String) {
    let uid = text(deployment, "/metadata/uid");
    let owned = |set: &&Value| {
        list(set, "/metadata/ownerReferences")
            .iter()
            .any(|owner| crate::fields::flag(owner, "/controller") && text(owner, "/uid") == uid)
    };
    let mut sets: Vec<&Value> = all.iter().filter(owned).collect();
    sets.sort_by_key(|set| (text(set, "/metadata/creationTimestamp"), name(set)));
    let new = sets.iter().position(|set| same_template(deployment, set));
    let told = |set: &&Value| {
        format!(
            "{} ({}/{} replicas created)",
            name(set),
            integer(set, "/status/replicas"),
            integer(set, "/spec/replicas")
        )
    };
    let new_told = new
        .and_then(|index| sets.get(index))
        .map_or_else(|| NONE.into(), told);
    let old: Vec<String> = sets
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != new)
        .map(|(_, set)| told(set))
        .collect();
    let old = if old.is_empty() {
        NONE.into()
    } else {
        old.join(", ")
    };
    (old, new_told)
}

/// Whether a replica set was made of the deployment's template, as it stands now.
fn same_template(deployment: &Value, set: &Value) -> bool {
    let plain = |workload: &Value| {
        let mut template = workload.pointer("/spec/template").cloned().unwrap_or_default();
        if let Some(labels) = template
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.remove("pod-template-hash");
        }
        template
    };
    plain(deployment) == plain(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_new_replica_set_is_the_one_with_the_template() {
        let set = |name: &str, image: &str, owner: &str, created: &str| {
            json!({
                "metadata": {
                    "name": name, "creationTimestamp": created,
                    "ownerReferences": [{"controller": true, "uid": owner}]},
                "spec": {"replicas": 2, "template": {
                    "metadata": {"labels": {"a": "b", "pod-template-hash": name}}, "spec": {"image": image}}},
                "status": {"replicas": 1}})
        };
        let deployment = json!({
            "metadata": {"uid": "u"},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"image": "x:2"}}}});
        let sets = [
            set("w-3", "x:2", "u", "2026-01-03T00:00:00Z"),
            set("w-2", "x:1", "u", "2026-01-02T00:00:00Z"),
            set("w-1", "x:0", "u", "2026-01-01T00:00:00Z"),
            set("other", "x:2", "v", "2026-01-01T00:00:00Z"),
        ];
        let told = |number| format!("w-{number} (1/2 replicas created)");
        assert_eq!(
            replica_sets(&deployment, &sets),
            (format!("{}, {}", told(1), told(2)), told(3))
        );
        assert_eq!(replica_sets(&deployment, &[]), (NONE.into(), NONE.into()));
    }
}
