//! The volumes of a pod: made before its containers, kept up to date while they run, removed when they have ended.
//!
//! The layout under the root directory is upstream's: `pods/<uid>/volumes/kubernetes.io~<kind>/<name>`.

pub(crate) mod atomic;
mod empty_dir;
mod host_path;
pub(crate) mod mounts;
mod ownership;
pub(crate) mod payload;
mod projected;
pub(crate) mod sub_path;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

use crate::objects::Objects;
use crate::pod::fields::Facts;
use crate::pod::identity::{namespace, pod_directory, uid};
use payload::{DEFAULT_MODE, Payload};

/// Volumes made from API objects are looked after this often, as upstream's `syncFrequency`.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);

/// A volume that could not be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeError {
    pub(crate) volume: String,
    pub(crate) message: String,
}

/// The volumes of a pod as they stand on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// The host's path of each volume, by its name.
    pub(crate) paths: BTreeMap<String, PathBuf>,
    /// When they have to be looked after again; never, when nothing in them can change.
    pub(crate) refresh_at: Option<Timestamp>,
}

/// Makes the volumes of all pods of the node.
#[derive(Clone)]
pub(crate) struct Volumes {
    root_dir: PathBuf,
    objects: Objects,
}

/// A payload, its refresh time, and whether it is secret: then it lives in memory.
struct Content {
    payload: Payload,
    refresh_at: Option<Timestamp>,
    kind: &'static str,
    in_memory: bool,
}

impl Volumes {
    pub(crate) fn new(root_dir: &Path, objects: Objects) -> Self {
        Self {
            root_dir: root_dir.to_path_buf(),
            objects,
        }
    }

    /// Sets up all volumes of a pod, or brings them up to date: both are the same.
    ///
    /// # Errors
    /// The first volume that could not be set up.
    pub(crate) async fn set_up(&self, pod: &Pod, facts: &Facts) -> Result<Mounted, VolumeError> {
        let mut mounted = Mounted::default();
        let Some(spec) = &pod.spec else { return Ok(mounted) };
        for volume in spec.volumes.iter().flatten() {
            let (path, refresh_at) = self
                .set_up_one(pod, spec, volume, facts)
                .await
                .map_err(|message| VolumeError {
                    volume: volume.name.clone(),
                    message,
                })?;
            mounted.paths.insert(volume.name.clone(), path);
            mounted.refresh_at = match (mounted.refresh_at, refresh_at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(mounted)
    }

    fn directory(&self, pod: &Pod, kind: &str, volume: &str) -> PathBuf {
        let volumes = pod_directory(&self.root_dir, uid(pod)).join("volumes");
        volumes.join(format!("kubernetes.io~{kind}")).join(volume)
    }

    async fn set_up_one(
        &self,
        pod: &Pod,
        spec: &PodSpec,
        volume: &Volume,
        facts: &Facts,
    ) -> Result<(PathBuf, Option<Timestamp>), String> {
        let group = fs_group(spec);
        if let Some(source) = &volume.host_path {
            host_path::set_up(&source.path, source.type_.as_deref().unwrap_or_default())?;
            return Ok((PathBuf::from(&source.path), None));
        }
        if let Some(source) = &volume.empty_dir {
            let dir = self.directory(pod, "empty-dir", &volume.name);
            if empty_dir::set_up(&dir, source, spec)?
                && let Some(group) = group
            {
                ownership::give_to_group(&dir, group, false).map_err(|error| error.to_string())?;
            }
            return Ok((dir, None));
        }
        let content = self.content(pod, spec, volume, facts).await?;
        let dir = self.directory(pod, content.kind, &volume.name);
        write(&dir, &content, group).map_err(|error| format!("{}: {error}", dir.display()))?;
        let soon = Timestamp::now().saturating_add(REFRESH).ok();
        Ok((dir, content.refresh_at.into_iter().chain(soon).min()))
    }

    async fn content(
        &self,
        pod: &Pod,
        spec: &PodSpec,
        volume: &Volume,
        facts: &Facts,
    ) -> Result<Content, String> {
        let namespace = namespace(pod);
        let content = |kind, payload, in_memory| Content {
            payload,
            refresh_at: None,
            kind,
            in_memory,
        };
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let optional = source.optional == Some(true);
            let data = match self.objects.config_map(namespace, &source.name).await? {
                Some(map) => payload::of_config_map(&map),
                None if optional => BTreeMap::new(),
                None => return Err(format!("configmap {:?} not found", source.name)),
            };
            let payload = payload::pick(&data, source.items.as_ref(), mode, optional, "config")?;
            return Ok(content("configmap", payload, false));
        }
        if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let optional = source.optional == Some(true);
            let name = source.secret_name.as_deref().unwrap_or_default();
            let data = match self.objects.secret(namespace, name).await? {
                Some(secret) => payload::of_secret(&secret),
                None if optional => BTreeMap::new(),
                None => return Err(format!("secret {name:?} not found")),
            };
            let payload = payload::pick(&data, source.items.as_ref(), mode, optional, "secret")?;
            return Ok(content("secret", payload, true));
        }
        if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let items = source.items.as_deref().unwrap_or_default();
            let payload = projected::downward(pod, facts, items, mode)?;
            return Ok(content("downward-api", payload, true));
        }
        if let Some(source) = &volume.projected {
            let (payload, refresh_at) = projected::collect(&self.objects, pod, spec, source, facts).await?;
            return Ok(Content {
                payload,
                refresh_at,
                kind: "projected",
                in_memory: true,
            });
        }
        Err(format!("no volume plugin matched name: {}", volume.name))
    }

    /// Unmounts and removes everything that a pod had on the node.
    ///
    /// # Errors
    /// When something is still in use.
    pub(crate) async fn tear_down(&self, pod_uid: &str) -> std::io::Result<()> {
        self.objects.forget(pod_uid);
        let dir = pod_directory(&self.root_dir, pod_uid);
        let removed = tokio::task::spawn_blocking(move || {
            if !dir.exists() {
                return Ok(());
            }
            mounts::unmount_under(&dir)?;
            // What is still mounted belongs to someone else: it must not be emptied.
            if let Some(busy) = mounts::under(&dir)?.first() {
                return Err(std::io::Error::other(format!(
                    "{} is still mounted",
                    busy.display()
                )));
            }
            fs::remove_dir_all(&dir)
        });
        removed.await.map_err(std::io::Error::other)?
    }

    /// The uids of the pods that have a directory.
    pub(crate) fn pods(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root_dir.join("pods"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

fn fs_group(spec: &PodSpec) -> Option<u32> {
    let group = spec.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn write(dir: &Path, content: &Content, group: Option<u32>) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    if content.in_memory && !mounts::is_mount_point(dir)? {
        mounts::tmpfs(dir, None, 0o755)?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let changed = atomic::write(dir, &content.payload)?;
    if changed && let Some(group) = group {
        ownership::give_to_group(dir, group, true)?;
    }
    Ok(())
}
