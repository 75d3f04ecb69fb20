//! Gets a container's image onto the node: pull policy, credentials, back-off, and what is told about it.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::{AuthConfig, ImageSpec, PodSandboxConfig};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use serde::Deserialize;
use skiff_informer::events::reference_to_pod;
use skiff_informer::{EventRecorder, EventType};

use super::backoff::Backoffs;
use super::plan::Failure;
use crate::cri::Cri;
use crate::duration::{go_text, to_millis};

/// `ErrImagePull` is shown for this long before it becomes `ImagePullBackOff`.
const FAILURE_SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// An image's name with its tag, and the registry that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) text: String,
    pub(crate) registry: String,
    /// The repository within the registry.
    pub(crate) repository: String,
    /// The tag is `latest`, said or not.
    pub(crate) is_latest: bool,
}

/// Reads an image name as Docker does.
///
/// # Errors
/// What is wrong with it, in the words of `distribution/reference`.
pub(crate) fn parse(image: &str) -> Result<Reference, String> {
    let invalid = || "invalid reference format".to_string();
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        let (algorithm, hex) = digest.split_once(':').ok_or_else(invalid)?;
        if algorithm.is_empty() || hex.len() < 32 || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(invalid());
        }
    }
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let tag_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if tag.is_some_and(|tag| {
        tag.is_empty() || tag.len() > 128 || !tag.chars().all(tag_char) || tag.starts_with(['.', '-'])
    }) {
        return Err(invalid());
    }
    let (registry, repository) = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_string()),
        Some(_) => ("docker.io", path.to_string()),
        None => ("docker.io", format!("library/{path}")),
    };
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "{}: repository name ({repository}) must be lowercase",
            invalid()
        ));
    }
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if !repository.split('/').all(part) || path.is_empty() {
        return Err(invalid());
    }
    let text = if tag.is_none() && digest.is_none() {
        format!("{image}:latest")
    } else {
        image.to_string()
    };
    Ok(Reference {
        text,
        registry: registry.to_string(),
        repository,
        is_latest: digest.is_none() && tag.is_none_or(|tag| tag == "latest"),
    })
}

#[derive(Debug, Default, Deserialize)]
struct Credentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Credentials>,
}

/// The credentials in pull secrets that fit the image: the longest match of host and path first.
pub(crate) fn credentials(secrets: &[Secret], reference: &Reference) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in secrets {
        let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
        let entries = if let Some(json) = data(".dockerconfigjson") {
            serde_json::from_slice::<DockerConfig>(&json.0).map(|config| config.auths)
        } else if let Some(json) = data(".dockercfg") {
            serde_json::from_slice(&json.0)
        } else {
            continue;
        };
        for (server, credentials) in entries.into_iter().flatten() {
            if let Some(length) = matches(&server, reference) {
                found.push((length, auth_config(&server, credentials)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// How much of the image's name a server entry matches.
fn matches(server: &str, reference: &Reference) -> Option<usize> {
    let bare = server
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let is_hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let same = host == reference.registry
        || is_hub(host) && is_hub(&reference.registry)
        || glob(host, &reference.registry);
    let below = path.is_empty()
        || reference.repository == path
        || reference
            .repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'));
    (same && below).then_some(bare.len())
}

/// `*` stands for the whole or a part of one label of a host name.
fn glob(pattern: &str, host: &str) -> bool {
    let (patterns, labels): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len()
        && patterns
            .iter()
            .zip(labels)
            .all(|(pattern, label)| match pattern.split_once('*') {
                None => *pattern == label,
                Some((start, end)) => {
                    label.len() >= start.len() + end.len() && label.starts_with(start) && label.ends_with(end)
                }
            })
}

fn auth_config(server: &str, credentials: Credentials) -> AuthConfig {
    let mut auth = AuthConfig {
        username: credentials.username,
        password: credentials.password,
        identity_token: credentials.identity_token,
        registry_token: credentials.registry_token,
        server_address: server.to_string(),
        auth: String::new(),
    };
    if auth.username.is_empty()
        && let Ok(decoded) = STANDARD.decode(&credentials.auth)
        && let Some((username, password)) = String::from_utf8_lossy(&decoded).split_once(':')
    {
        auth.username = username.to_string();
        auth.password = password.trim_end_matches('\0').to_string();
    }
    auth
}

/// What the image step needs to know.
pub(crate) struct ImageStep<'a> {
    pub(crate) cri: &'a Cri,
    pub(crate) recorder: &'a EventRecorder,
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) secrets: &'a [Secret],
    pub(crate) sandbox: &'a PodSandboxConfig,
    /// How the last start failed.
    pub(crate) before: Option<&'a Failure>,
}

/// An image that is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Present {
    /// What containers are created from.
    pub(crate) image_ref: String,
    /// The user that the image says, as a number and as a name.
    pub(crate) uid: Option<i64>,
    pub(crate) username: String,
}

/// Whether the policy wants a pull.
pub(crate) fn wants_pull(policy: Option<&str>, is_latest: bool, is_present: bool) -> bool {
    match policy {
        Some("Always") => true,
        Some("Never") => false,
        Some(_) => !is_present,
        None => is_latest || !is_present,
    }
}

impl ImageStep<'_> {
    fn event(&self, type_: EventType, reason: &'static str, message: String) {
        self.recorder.record(
            reference_to_pod(self.pod, Some(&self.container.name)),
            type_,
            reason,
            message,
        );
    }

    fn spec(&self, reference: &Reference) -> ImageSpec {
        ImageSpec {
            image: reference.text.clone(),
            user_specified_image: self.container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }
    }

    /// Makes sure that the image is on the node.
    ///
    /// # Errors
    /// The waiting state of the container, and when to try again.
    pub(crate) async fn ensure(&self, pulls: &mut Backoffs) -> Result<Present, Failure> {
        let image = self.container.image.as_deref().unwrap_or_default();
        let soon = |now: Timestamp| now.saturating_add(SignedDuration::from_secs(10)).unwrap_or(now);
        let reference = parse(image).map_err(|error| {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {error}"
            );
            self.event(EventType::Warning, "InspectFailed", message.clone());
            Failure {
                reason: "InvalidImageName".into(),
                message,
                retry_at: soon(Timestamp::now()),
            }
        })?;
        let present = self.present(&reference).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            self.event(EventType::Warning, "InspectFailed", message.clone());
            Failure {
                reason: "ImageInspectError".into(),
                message,
                retry_at: soon(Timestamp::now()),
            }
        })?;
        let policy = self.container.image_pull_policy.as_deref();
        if !wants_pull(policy, reference.is_latest, present.is_some()) {
            if let Some((present, _)) = present {
                let message = format!("Container image {image:?} already present on machine");
                self.event(EventType::Normal, "Pulled", message);
                return Ok(present);
            }
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            self.event(EventType::Warning, "ErrImageNeverPull", message.clone());
            return Err(Failure {
                reason: "ErrImageNeverPull".into(),
                message,
                retry_at: soon(Timestamp::now()),
            });
        }
        self.pull(&reference, pulls).await
    }

    async fn present(&self, reference: &Reference) -> crate::cri::Result<Option<(Present, u64)>> {
        let found = self.cri.image_status(self.spec(reference)).await?;
        Ok(found.map(|image| {
            let present = Present {
                image_ref: image.id,
                uid: image.uid.map(|uid| uid.value),
                username: image.username,
            };
            (present, image.size)
        }))
    }

    async fn pull(&self, reference: &Reference, pulls: &mut Backoffs) -> Result<Present, Failure> {
        let image = self.container.image.as_deref().unwrap_or_default();
        let now = Timestamp::now();
        if let Some(failed) = pulls.updated(image)
            && let Some(left) = pulls.remaining(image, failed, now)
        {
            let message = format!("Back-off pulling image {image:?}");
            self.event(EventType::Normal, "BackOff", message.clone());
            // The status goes on to say why the last pull failed.
            let message = match self.before {
                Some(before) if before.reason == "ErrImagePull" => {
                    format!("{message}: ErrImagePull: {}", before.message)
                }
                Some(before) if before.reason == "ImagePullBackOff" => before.message.clone(),
                _ => message,
            };
            let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::ZERO);
            return Err(Failure {
                reason: "ImagePullBackOff".into(),
                message,
                retry_at: now.saturating_add(left).unwrap_or(now),
            });
        }
        self.event(EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
        let started = Instant::now();
        match self.try_pull(reference).await {
            Ok(()) => {
                let took = go_text(to_millis(started.elapsed()));
                let found = self.present(reference).await.ok().flatten();
                let (present, size) = found.unwrap_or_default();
                let message = format!(
                    "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
                );
                self.event(EventType::Normal, "Pulled", message);
                pulls.forget(image);
                Ok(present)
            }
            Err(error) => {
                let message = format!("Failed to pull image {image:?}: {error}");
                self.event(EventType::Warning, "Failed", message);
                self.event(EventType::Warning, "Failed", "Error: ErrImagePull".into());
                let failed = Timestamp::now();
                pulls.next(image, failed, failed);
                Err(Failure {
                    reason: "ErrImagePull".into(),
                    message: error.to_string(),
                    retry_at: failed.saturating_add(FAILURE_SHOWN).unwrap_or(failed),
                })
            }
        }
    }

    async fn try_pull(&self, reference: &Reference) -> crate::cri::Result<()> {
        let mut choices: Vec<Option<AuthConfig>> = credentials(self.secrets, reference)
            .into_iter()
            .map(Some)
            .collect();
        if choices.is_empty() {
            choices.push(None);
        }
        let mut result = Ok(());
        for auth in choices {
            let pulled = self
                .cri
                .pull_image(self.spec(reference), auth, self.sandbox.clone())
                .await;
            result = pulled.map(drop);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let cases = [
            ("nginx", Ok(("nginx:latest", "docker.io", "library/nginx", true))),
            (
                "nginx:1.2",
                Ok(("nginx:1.2", "docker.io", "library/nginx", false)),
            ),
            ("a/b:latest", Ok(("a/b:latest", "docker.io", "a/b", true))),
            (
                "localhost:5000/x/y",
                Ok(("localhost:5000/x/y:latest", "localhost:5000", "x/y", true)),
            ),
            ("reg.io/x:1", Ok(("reg.io/x:1", "reg.io", "x", false))),
            ("", Err("invalid reference format")),
            ("a b", Err("invalid reference format")),
            ("x:", Err("invalid reference format")),
            ("x@sha256:12", Err("invalid reference format")),
            (
                "NGINX",
                Err("invalid reference format: repository name (library/NGINX) must be lowercase"),
            ),
        ];
        for (image, expected) in cases {
            let parsed = parse(image);
            let got = parsed
                .as_ref()
                .map(|r| {
                    (
                        r.text.as_str(),
                        r.registry.as_str(),
                        r.repository.as_str(),
                        r.is_latest,
                    )
                })
                .map_err(String::as_str);
            assert_eq!(got, expected, "{image}");
        }
    }

    #[test]
    fn the_policy_decides_on_a_pull() {
        let cases = [
            (Some("Always"), false, true, true),
            (Some("Never"), true, false, false),
            (Some("IfNotPresent"), true, true, false),
            (Some("IfNotPresent"), true, false, true),
            (None, true, true, true),
            (None, false, true, false),
        ];
        for (policy, latest, present, pull) in cases {
            assert_eq!(
                wants_pull(policy, latest, present),
                pull,
                "{policy:?} {latest} {present}"
            );
        }
    }

    #[test]
    fn the_closest_credentials_come_first() {
        let config = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:pw") },
            "reg.io": { "username": "all", "password": "1" },
            "reg.io/team": { "username": "team", "password": "2" },
            "*.example.com": { "username": "any", "password": "3" },
        } });
        let data = json!({ "data": { ".dockerconfigjson": STANDARD.encode(config.to_string()) } });
        let secret: Secret = serde_json::from_value(data).unwrap();
        let cases: [(&str, &[&str]); 5] = [
            ("nginx", &["hub"]),
            ("reg.io/team/x", &["team", "all"]),
            ("reg.io/teams/x", &["all"]),
            ("a.example.com/x", &["any"]),
            ("other.io/x", &[]),
        ];
        for (image, users) in cases {
            let found = credentials(std::slice::from_ref(&secret), &parse(image).unwrap());
            let names: Vec<&str> = found.iter().map(|auth| auth.username.as_str()).collect();
            assert_eq!(names, users, "{image}");
        }
    }
}
