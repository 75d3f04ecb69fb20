//! `projected` and `downwardAPI`: files from several sources in one volume.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod, PodSpec, ProjectedVolumeSource};

use super::payload::{self, DEFAULT_MODE, File, Payload, mode_bits};
use crate::objects::Objects;
use crate::pod::fields::{self, Facts};
use crate::pod::identity::namespace;

/// The life of a token that says nothing about it, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// The files of the downward API.
///
/// # Errors
/// When a field is unknown.
pub(crate) fn downward(
    pod: &Pod,
    facts: &Facts,
    items: &[DownwardAPIVolumeFile],
    default_mode: i32,
) -> Result<Payload, String> {
    let mut files = Payload::new();
    for item in items {
        let text = if let Some(selector) = &item.field_ref {
            fields::field(pod, facts, selector)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let container = pod
                .spec
                .iter()
                .flat_map(|spec| {
                    spec.containers
                        .iter()
                        .chain(spec.init_containers.iter().flatten())
                })
                .find(|container| container.name == name)
                .ok_or_else(|| format!("container {name} not found"))?;
            fields::resource(container, facts, selector)?
        } else {
            return Err(format!("{}: fieldRef or resourceFieldRef is required", item.path));
        };
        let file = File {
            data: text.into_bytes(),
            mode: mode_bits(item.mode.unwrap_or(default_mode)),
            owner: None,
        };
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}

/// The files of all sources; a later source wins.
///
/// # Errors
/// The text for the pod's event.
pub(crate) async fn collect(
    objects: &Objects,
    pod: &Pod,
    spec: &PodSpec,
    source: &ProjectedVolumeSource,
    facts: &Facts,
) -> Result<(Payload, Option<Timestamp>), String> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let namespace = namespace(pod);
    let mut files = Payload::new();
    let mut refresh_at = None;
    for source in source.sources.iter().flatten() {
        if let Some(source) = &source.config_map {
            let optional = source.optional == Some(true);
            let data = match objects.config_map(namespace, &source.name).await? {
                Some(map) => payload::of_config_map(&map),
                None if optional => continue,
                None => return Err(format!("configmap {:?} not found", source.name)),
            };
            files.extend(payload::pick(
                &data,
                source.items.as_ref(),
                mode,
                optional,
                "config",
            )?);
        } else if let Some(source) = &source.secret {
            let optional = source.optional == Some(true);
            let data = match objects.secret(namespace, &source.name).await? {
                Some(secret) => payload::of_secret(&secret),
                None if optional => continue,
                None => return Err(format!("secret {:?} not found", source.name)),
            };
            files.extend(payload::pick(
                &data,
                source.items.as_ref(),
                mode,
                optional,
                "secret",
            )?);
        } else if let Some(source) = &source.downward_api {
            files.extend(downward(
                pod,
                facts,
                source.items.as_deref().unwrap_or_default(),
                mode,
            )?);
        } else if let Some(source) = &source.service_account_token {
            let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS);
            let audience = source.audience.as_deref().filter(|audience| !audience.is_empty());
            let (token, refresh) = objects.token(pod, audience, seconds).await?;
            refresh_at = refresh_at.into_iter().chain([refresh]).min();
            files.insert(source.path.clone(), token_file(spec, token, mode));
        } else {
            return Err("clusterTrustBundle and podCertificate sources are not supported".into());
        }
    }
    Ok((files, refresh_at))
}

/// A token is for the pod's user alone, when all its containers run as one, or for the pod's group.
fn token_file(spec: &PodSpec, token: String, default_mode: i32) -> File {
    let owner = common_user(spec);
    let has_group = spec
        .security_context
        .as_ref()
        .is_some_and(|context| context.fs_group.is_some());
    let mode = if owner.is_some() || has_group {
        0o600
    } else {
        mode_bits(default_mode)
    };
    File {
        data: token.into_bytes(),
        mode,
        owner,
    }
}

fn common_user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| {
            container
                .security_context
                .as_ref()
                .and_then(|c| c.run_as_user)
                .or(of_pod)
        });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_belongs_to_the_user_that_all_containers_run_as() {
        let cases = [
            (json!({ "containers": [{ "name": "a" }] }), None, 0o644),
            (
                json!({ "containers": [{ "name": "a" }], "securityContext": { "fsGroup": 7 } }),
                None,
                0o600,
            ),
            (
                json!({ "containers": [{ "name": "a" }], "securityContext": { "runAsUser": 1000 } }),
                Some(1000),
                0o600,
            ),
            (
                json!({ "containers": [{ "name": "a" }, { "name": "b", "securityContext": { "runAsUser": 5 } }],
                    "securityContext": { "runAsUser": 1000 } }),
                None,
                0o644,
            ),
        ];
        for (spec, owner, mode) in cases {
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            let file = token_file(&spec, "t".into(), 0o644);
            assert_eq!((file.owner, file.mode), (owner, mode));
        }
    }
}
