//! ServiceAccount: every pod runs as one, and finds its token at a known place.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use rand::Rng;
use skiff_api::Object;

use super::{Plugin, new_pod, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::look_up;
use crate::registry::{AdmissionRequest, Frame, Registry, WatchOptions};

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a pod waits for the account that a controller makes for every new namespace.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let shown = shown_name(request, object.metadata());
        let Some(pod) = new_pod(request, object) else {
            return Ok(());
        };
        let refuse = |why: &str| ApiError::forbidden(request.info, &shown, why);
        let is_mirror = pod
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(MIRROR));
        let spec = pod.spec.get_or_insert_default();
        let asked = spec.service_account_name.clone().unwrap_or_default();
        if is_mirror {
            // A node's own pod has no rights in the cluster.
            return if asked.is_empty() {
                Ok(())
            } else {
                Err(refuse("a mirror pod may not reference service accounts"))
            };
        }
        let name = if asked.is_empty() {
            DEFAULT.to_string()
        } else {
            asked
        };
        spec.service_account_name = Some(name.clone());
        spec.service_account = Some(name.clone());
        let account = match look_up(registry, request.namespace, &name).await? {
            Some(account) => Some(account),
            None if name == DEFAULT => appears(registry, request.namespace).await?,
            None => None,
        };
        let account = account.ok_or_else(|| {
            let namespace = request.namespace;
            refuse(&format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            ))
        })?;
        equip(pod, &account);
        Ok(())
    }
}

/// Waits for a namespace's default account.
async fn appears(registry: &Registry, namespace: &str) -> ApiResult<Option<Arc<core::ServiceAccount>>> {
    let Some(accounts) = registry.resource("", "v1", "serviceaccounts") else {
        return Ok(None);
    };
    let mut frames = accounts
        .watch(WatchOptions {
            namespace: Some(namespace.to_string()),
            field_selector: format!("metadata.name={DEFAULT}"),
            timeout: LONGEST_WAIT,
            ..WatchOptions::default()
        })
        .await?;
    let arrival = async {
        while let Some(frame) = frames.next().await {
            if let Frame::Added(entry) | Frame::Modified(entry) = frame {
                return entry.decoded().map(Some);
            }
        }
        Ok(None)
    };
    tokio::time::timeout(LONGEST_WAIT, arrival)
        .await
        .unwrap_or(Ok(None))
}

/// Gives a pod what its account brings: the secrets to pull images with, and its token.
fn equip(pod: &mut Pod, account: &core::ServiceAccount) {
    let spec = pod.spec.get_or_insert_default();
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets.clone_from(&account.image_pull_secrets);
    }
    let mounted = spec
        .automount_service_account_token
        .or(account.automount_service_account_token)
        .unwrap_or(true);
    if !mounted {
        return;
    }
    let volumes = spec.volumes.get_or_insert_default();
    let name = loop {
        let name = format!("kube-api-access-{}", suffix());
        if volumes.iter().all(|volume| volume.name != name) {
            break name;
        }
    };
    let mut used = false;
    let containers = spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers);
    for container in containers {
        used |= mount(container, &name);
    }
    if used {
        volumes.push(token_volume(name));
    } else if volumes.is_empty() {
        spec.volumes = None;
    }
}

/// Mounts the token, unless something else is mounted there.
fn mount(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    if mounts.iter().any(|mount| mount.mount_path == MOUNT_PATH) {
        return false;
    }
    mounts.push(VolumeMount {
        name: volume.into(),
        mount_path: MOUNT_PATH.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    true
}

fn token_volume(name: String) -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".into(),
            expiration_seconds: Some(60 * 60 + 7),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".into(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".into(),
                path: "ca.crt".into(),
                ..KeyToPath::default()
            }]),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".into(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".into()),
                    field_path: "metadata.namespace".into(),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name,
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o644),
            sources: Some(vec![token, authority, namespace]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Five characters of those that generated names are made of.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5)
        .filter_map(|_| ALPHABET.get(random.random_range(0..ALPHABET.len())))
        .map(|byte| char::from(*byte))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    #[test]
    fn a_pod_finds_its_token_where_it_expects_it() {
        let mut pod = pod(json!({
            "containers": [
                { "name": "a" },
                { "name": "b", "volumeMounts": [{ "name": "own", "mountPath": MOUNT_PATH }] },
            ],
            "initContainers": [{ "name": "i" }],
            "volumes": [{ "name": "own", "emptyDir": {} }],
        }));
        let account = core::ServiceAccount {
            image_pull_secrets: Some(vec![core::LocalObjectReference { name: "pull".into() }]),
            ..core::ServiceAccount::default()
        };
        equip(&mut pod, &account);
        let spec = pod.spec.unwrap();
        let volume = &spec.volumes.unwrap()[1];
        assert!(volume.name.starts_with("kube-api-access-") && volume.name.len() == 21);
        assert_eq!(
            volume.projected.as_ref().unwrap().sources.as_ref().unwrap().len(),
            3
        );
        let mount = &spec.containers[0].volume_mounts.as_ref().unwrap()[0];
        assert_eq!(
            (mount.name.as_str(), mount.read_only),
            (volume.name.as_str(), Some(true))
        );
        assert_eq!(spec.containers[1].volume_mounts.as_ref().unwrap().len(), 1);
        assert_eq!(
            spec.init_containers.unwrap()[0]
                .volume_mounts
                .as_ref()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "pull");
    }

    #[test]
    fn a_pod_or_its_account_can_do_without() {
        let cases = [
            (None, None, true),
            (Some(false), None, false),
            (None, Some(false), false),
            (Some(true), Some(false), true),
        ];
        for (of_pod, of_account, expected) in cases {
            let mut pod = pod(json!({ "containers": [{ "name": "a" }] }));
            pod.spec.as_mut().unwrap().automount_service_account_token = of_pod;
            let account = core::ServiceAccount {
                automount_service_account_token: of_account,
                ..core::ServiceAccount::default()
            };
            equip(&mut pod, &account);
            assert_eq!(
                pod.spec.unwrap().volumes.is_some(),
                expected,
                "{of_pod:?} {of_account:?}"
            );
        }
    }
}
