//! `scale`: a workload's number of replicas as an `autoscaling/v1` `Scale`, whatever the workload is.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_api::{Errors, KindInfo, Path, Subresource, Target};

use crate::error::{ApiError, ApiResult};
use crate::http::Response;
use crate::http::resources::{Call, not_allowed, patch_type, shown};
use crate::patch::{Config, Patch};
use crate::registry::{PatchType, Resource, WriteOptions, of_type};

/// What a `Scale` shows of a workload.
#[derive(Deserialize)]
struct Workload {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WorkloadSpec,
    #[serde(default)]
    status: WorkloadStatus,
}

#[derive(Default, Deserialize)]
struct WorkloadSpec {
    replicas: Option<i32>,
    selector: Option<Value>,
}

#[derive(Default, Deserialize)]
struct WorkloadStatus {
    #[serde(default)]
    replicas: i32,
}

/// Serves `get`, `update` and `patch` of a scale.
pub(crate) async fn handle(mut call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    let (namespace, name) = call.place(&resource);
    let (namespace, name) = (namespace.to_string(), name.to_string());
    let present = read(resource.get(&namespace, &name).await?.json())?;
    let mut options = match call.info.verb {
        "patch" => call.patch_options(patch_type(&call.headers)?)?,
        _ => call.tracked_options("UpdateOptions")?,
    };
    options.tracked_as = Some(Subresource::Scale);
    let mut type_ = PatchType::Merge;
    let wanted = match call.info.verb {
        "get" => return shown(&call, present),
        "update" => call.read_posted(&mut options).await?,
        "patch" => {
            type_ = patch_type(&call.headers)?;
            let body = call.read_body().await?;
            patched(&present, type_, &body, &options)?
        }
        _ => return Err(not_allowed()),
    };
    let mut change = change(&name, &present, &wanted, call.info.verb == "patch")?;
    if type_ == PatchType::Apply {
        change = config(resource.info(), &name, change);
    } else {
        type_ = PatchType::Merge;
    }
    let body = serde_json::to_vec(&change).map_err(ApiError::internal)?;
    let written = resource
        .patch(&namespace, &name, Target::Main, type_, &body, &options)
        .boxed()
        .await?;
    shown(&call, read(written.entry.json())?)
}

/// A workload as its scale.
fn read(json: &[u8]) -> ApiResult<Scale> {
    let workload: Workload = serde_json::from_slice(json).map_err(ApiError::internal)?;
    let meta = workload.metadata;
    Ok(Scale {
        metadata: ObjectMeta {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            creation_timestamp: meta.creation_timestamp,
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec {
            replicas: Some(workload.spec.replicas.unwrap_or(1)),
        }),
        status: Some(ScaleStatus {
            replicas: workload.status.replicas,
            selector: workload.spec.selector.map(selector_text),
        }),
    })
}

/// A selector as text: `a=b,c in (d,e)`. A replication controller's is a plain map.
fn selector_text(selector: Value) -> String {
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let selector: LabelSelector = if structured {
        serde_json::from_value(selector).unwrap_or_default()
    } else {
        serde_json::from_value(json!({ "matchLabels": selector })).unwrap_or_default()
    };
    let equal = selector.match_labels.into_iter().flatten();
    let mut texts: Vec<(String, String)> = equal
        .map(|(key, value)| (key.clone(), format!("{key}={value}")))
        .collect();
    for requirement in selector.match_expressions.into_iter().flatten() {
        let key = requirement.key;
        let values = requirement.values.unwrap_or_default().join(",");
        let text = match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        texts.push((key, text));
    }
    texts.sort();
    texts
        .into_iter()
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join(",")
}

/// The scale that a patch makes of the present one. It has no lists, so a strategic merge is a
/// plain one.
fn patched(present: &Scale, type_: PatchType, body: &[u8], options: &WriteOptions) -> ApiResult<Scale> {
    if type_ == PatchType::Apply {
        let mut value = serde_json::to_value(present).map_err(ApiError::internal)?;
        let config = Config::parse(&KindInfo::of::<Scale>("scale"), body)?;
        json_patch::merge(&mut value, &config.wanted);
        return serde_json::from_value(value).map_err(|error| ApiError::bad_request(error.to_string()));
    }
    let patch = Patch::parse(type_, body)?;
    let present = serde_json::to_vec(present).map_err(ApiError::internal)?;
    let json = patch.apply(&present, None)?.json()?;
    of_type(&json, options, &patch.beside).map_err(|unfit| {
        let why = match type_ {
            PatchType::Strategic => unfit.converted(),
            _ => unfit.decoded,
        };
        ApiError::invalid_patch(&patch.shown(&json), &why)
    })
}

/// A change of a workload as a configuration of it.
fn config(info: &KindInfo, name: &str, mut change: Value) -> Value {
    if let Some(fields) = change.as_object_mut() {
        fields.insert("apiVersion".into(), info.api_version().into());
        fields.insert("kind".into(), info.kind.as_ref().into());
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("name".into(), name.into());
        }
    }
    change
}

/// The merge patch of the workload that brings the wanted replicas. A version in the wanted scale is demanded of the
/// workload, unless it is only what the patch was applied to.
fn change(name: &str, present: &Scale, wanted: &Scale, patch: bool) -> ApiResult<Value> {
    let info = KindInfo::of::<Scale>("scale");
    if wanted.metadata.name.as_deref().is_some_and(|its| its != name) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            wanted.metadata.name.as_deref().unwrap_or_default()
        )));
    }
    let replicas = wanted
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or_default();
    if replicas < 0 {
        let mut errors = Errors::new();
        errors.invalid(
            &Path::new("spec.replicas"),
            replicas,
            "must be greater than or equal to 0",
        );
        return Err(ApiError::invalid(&info, name, &errors));
    }
    let mut change = json!({ "spec": { "replicas": replicas } });
    let version = wanted.metadata.resource_version.as_ref();
    let demanded = version.filter(|version| !version.is_empty());
    if let Some(version) = demanded
        && (!patch || present.metadata.resource_version.as_ref() != Some(version))
        && let Some(change) = change.as_object_mut()
    {
        change.insert("metadata".into(), json!({ "resourceVersion": version }));
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::FieldValidation;

    fn made(present: &Scale, type_: PatchType, body: &[u8]) -> ApiResult<Scale> {
        let options = WriteOptions {
            field_validation: FieldValidation::Strict,
            ..WriteOptions::default()
        };
        patched(present, type_, body, &options)
    }

    const DEPLOYMENT: &[u8] = br#"{"metadata":{"name":"d","resourceVersion":"7"},"spec":{"replicas":2,
        "selector":{"matchLabels":{"b":"2","a":"1"},"matchExpressions":[{"key":"c","operator":"NotIn","values":["x","y"]}]}},
        "status":{"replicas":1}}"#;

    #[test]
    fn a_workload_is_read_as_its_scale() {
        let scale = read(DEPLOYMENT).unwrap();
        assert_eq!(scale.spec.unwrap().replicas, Some(2));
        let status = scale.status.unwrap();
        assert_eq!(
            (status.replicas, status.selector.as_deref()),
            (1, Some("a=1,b=2,c notin (x,y)"))
        );
    }

    #[test]
    fn a_patch_changes_the_replicas_and_demands_only_the_version_it_names() {
        let present = read(DEPLOYMENT).unwrap();
        let cases = [
            (r#"{"spec":{"replicas":5}}"#, json!({"spec":{"replicas":5}})),
            (
                r#"{"metadata":{"resourceVersion":"6"},"spec":{"replicas":5}}"#,
                json!({"spec":{"replicas":5},"metadata":{"resourceVersion":"6"}}),
            ),
        ];
        for (patch, expected) in cases {
            let wanted = made(&present, PatchType::Merge, patch.as_bytes()).unwrap();
            assert_eq!(change("d", &present, &wanted, true).unwrap(), expected);
        }
        let patch = br#"[{"op":"replace","path":"/spec/replicas","value":3}]"#;
        assert_eq!(
            made(&present, PatchType::Json, patch)
                .unwrap()
                .spec
                .unwrap()
                .replicas,
            Some(3)
        );
    }

    #[test]
    fn replicas_are_not_negative() {
        let present = read(DEPLOYMENT).unwrap();
        let wanted = made(&present, PatchType::Merge, br#"{"spec":{"replicas":-1}}"#).unwrap();
        let error = change("d", &present, &wanted, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#
        );
    }
}
