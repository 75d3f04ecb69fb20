//! `kubectl apply`: a manifest as the desired state; what was applied last is remembered in an annotation.

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use skiff_api::schema;

use crate::cluster::{Cluster, JSON, with_query};
use crate::discovery::Discovery;
use crate::failure::Failure;
use crate::fields::text;
use crate::manifest::{Files, Item};
use crate::output;
use crate::three_way;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What a write says of itself.
const WRITE: [(&str, &str); 2] = [
    ("fieldManager", "kubectl-client-side-apply"),
    ("fieldValidation", "Strict"),
];
/// How often a patch is tried when the object changes meanwhile, as kubectl's `maxPatchRetry`.
const TRIES: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
}

impl Apply {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        let discovery = Discovery::load(cluster).await?;
        let items = self.files.read(cluster, &discovery)?;
        if items.is_empty() {
            return Err(Failure::usage("no objects passed to apply"));
        }
        let mut failures = Vec::new();
        for item in items {
            let applied = async {
                let item = item?;
                let done = apply(cluster, &item).await?;
                output::line(&format!("{} {done}", item.title()))
            };
            if let Err(failure) = applied.await {
                failures.push(failure);
            }
        }
        Failure::all(failures)
    }
}

/// The object with itself, as JSON, in its annotation.
fn annotated(object: &Value) -> Result<Value, Failure> {
    let mut plain = object.clone();
    if let Some(annotations) = plain
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    // kubectl writes the annotation of an object without annotations with an empty map.
    let metadata = plain.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else {
        return Err(Failure::usage("the object has no metadata"));
    };
    metadata.entry("annotations").or_insert_with(|| json!({}));
    let text = format!("{plain}\n");
    let mut annotated = plain;
    if let Some(annotations) = annotated
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.insert(LAST_APPLIED.into(), text.into());
    }
    Ok(annotated)
}

async fn apply(cluster: &Cluster, item: &Item) -> Result<&'static str, Failure> {
    if item.name().is_empty() {
        let name = text(&item.object, "/metadata/generateName");
        return Err(Failure::usage(format!(
            "from {name}: cannot use generate name with apply"
        )));
    }
    let wanted = annotated(&item.object)?;
    let mut tries = 0;
    loop {
        let live = match cluster.get(&item.path(), JSON).await {
            Ok(live) => live,
            Err(failure) if failure.is_not_found() => {
                let path = with_query(&item.resource.collection(Some(&item.namespace)), &WRITE);
                cluster
                    .write(Method::POST, &path, &wanted)
                    .await
                    .map_err(|failure| failure.when("creating", &item.source))?;
                return Ok("created");
            }
            Err(failure) => return Err(failure),
        };
        match patch(cluster, item, &wanted, &live).await {
            Err(failure) if failure.is_conflict() && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn patch(
    cluster: &Cluster,
    item: &Item,
    wanted: &Value,
    live: &Value,
) -> Result<&'static str, Failure> {
    let annotation = live
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(LAST_APPLIED));
    let last: Value = match annotation.and_then(Value::as_str) {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => {
            output::error(&format!(
                "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl \
                 apply should only be used on resources created declaratively by either kubectl create --save-config or \
                 kubectl apply. The missing annotation will be patched automatically.",
                item.resource.plural,
                item.name()
            ));
            Value::Null
        }
    };
    let resource = &item.resource;
    let schema = schema::of_kind(&resource.group, &resource.version, &resource.kind);
    let patch = three_way::patch(&last, wanted, live, schema);
    if patch.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok("unchanged");
    }
    let content_type = match schema {
        Some(_) => "application/strategic-merge-patch+json",
        None => "application/merge-patch+json",
    };
    let path = with_query(&item.path(), &WRITE);
    let patched = cluster.write_as(Method::PATCH, &path, content_type, &patch).await;
    let patched = patched.map_err(|failure| {
        let doing = format!("applying patch:\n{patch}\nto:\nResource: \"{}\", GroupVersionKind: \"{}, Kind={}\"\nName: \"{}\", Namespace: \"{}\"\nfor:",
            resource.plural, resource.api_version(), resource.kind, item.name(), item.namespace);
        if failure.is_conflict() { failure } else { failure.when(&doing, &item.source) }
    })?;
    let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
    Ok(if version(&patched) == version(live) {
        "unchanged"
    } else {
        "configured"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_holds_the_object_without_the_annotation() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a"}});
        let once = annotated(&object).unwrap();
        let twice = annotated(&once).unwrap();
        assert_eq!(once, twice);
        let text = once["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        let stored: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            stored,
            json!({"kind": "Pod", "metadata": {"name": "a", "annotations": {}}})
        );
    }
}
