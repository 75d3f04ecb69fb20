//! Makes a sandbox and starts containers in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::{DnsConfig, PodSandboxConfig};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Secret};
use skiff_informer::EventType;
use skiff_informer::events::reference_to_pod;

use super::backoff::Backoffs;
use super::container::{self, Parts};
use super::dns::{parse_resolv_conf, pod_dns};
use super::identity::{domain, hostname, log_directory, log_link, name, namespace, pod_directory, uid};
use super::image::ImageStep;
use super::plan::Failure;
use super::{env, hook, hosts, sandbox};
use crate::shared::Shared;
use crate::volumes::Mounted;

/// A `postStart` hook has no limit of its own.
const HOOK: Duration = Duration::from_secs(24 * 3600);

/// A pod and what of it exists already.
pub(crate) struct Starter<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a PodSpec,
    pub(crate) mounted: &'a Mounted,
}

fn io_text(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

impl Starter<'_> {
    fn event(
        &self,
        container: Option<&str>,
        type_: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.shared
            .recorder
            .record(reference_to_pod(self.pod, container), type_, reason, message);
    }

    fn dns(&self) -> DnsConfig {
        let host = fs::read_to_string(&self.shared.resolv_conf).unwrap_or_default();
        let (servers, domain) = (&self.shared.cluster_dns, &self.shared.cluster_domain);
        pod_dns(self.pod, parse_resolv_conf(&host), servers, domain)
    }

    fn sandbox_config(&self, attempt: u32) -> PodSandboxConfig {
        let parent = self.shared.cgroups.parent(self.spec, uid(self.pod));
        sandbox::config(
            self.pod,
            self.spec,
            attempt,
            self.dns(),
            parent,
            &self.shared.log_dir,
        )
    }

    /// Makes the pod's sandbox.
    ///
    /// # Errors
    /// The text of the pod's event.
    pub(crate) async fn sandbox(&self, attempt: u32) -> Result<(), String> {
        let logs = log_directory(
            &self.shared.log_dir,
            namespace(self.pod),
            name(self.pod),
            uid(self.pod),
        );
        fs::create_dir_all(&logs).map_err(|error| io_text(&logs, &error))?;
        let handler = String::new();
        self.shared
            .cri
            .run_sandbox(self.sandbox_config(attempt), handler)
            .await
            .map_err(|error| format!("Failed to create pod sandbox: {error}"))?;
        Ok(())
    }

    fn hosts_file(&self, ips: &[String]) -> Result<(), String> {
        let path = pod_directory(&self.shared.root_dir, uid(self.pod)).join("etc-hosts");
        let aliases = self.spec.host_aliases.as_deref().unwrap_or_default();
        let text = if self.spec.host_network.unwrap_or(false) {
            hosts::of_host(&fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases)
        } else {
            let domain = domain(self.pod, &self.shared.cluster_domain);
            hosts::managed(ips, &hostname(self.pod), &domain, aliases)
        };
        // Written in place: running containers have the file mounted.
        fs::write(&path, text).map_err(|error| io_text(&path, &error))
    }

    async fn pull_secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for reference in self.spec.image_pull_secrets.iter().flatten() {
            match self
                .shared
                .objects
                .secret(namespace(self.pod), &reference.name)
                .await
            {
                Ok(Some(secret)) => secrets.push(secret),
                Ok(None) | Err(_) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.event(
                        None,
                        EventType::Warning,
                        "FailedToRetrieveImagePullSecret",
                        message,
                    );
                }
            }
        }
        secrets
    }

    /// Starts a container in the sandbox.
    ///
    /// # Errors
    /// The waiting state of the container, and when to try again.
    pub(crate) async fn container(
        &self,
        container: &Container,
        restart_count: u32,
        sandbox: &super::runtime::Sandbox,
        pulls: &mut Backoffs,
        before: Option<&Failure>,
        retry: Duration,
    ) -> Result<(), Failure> {
        let name = &container.name;
        let sandbox_config = self.sandbox_config(sandbox.attempt);
        let secrets = self.pull_secrets().await;
        let step = ImageStep {
            cri: &self.shared.cri,
            recorder: &self.shared.recorder,
            pod: self.pod,
            container,
            secrets: &secrets,
            sandbox: &sandbox_config,
            before,
        };
        let image = step.ensure(pulls).await.inspect_err(|failure| {
            if failure.reason != "ErrImagePull" {
                self.event(
                    Some(name),
                    EventType::Warning,
                    "Failed",
                    format!("Error: {}", failure.reason),
                );
            }
        })?;
        let failed = |reason: &str, message: String| {
            self.event(
                Some(name),
                EventType::Warning,
                "Failed",
                format!("Error: {message}"),
            );
            let now = Timestamp::now();
            let wait = SignedDuration::try_from(retry).unwrap_or(SignedDuration::from_secs(10));
            Failure {
                reason: reason.into(),
                message,
                retry_at: now.saturating_add(wait).unwrap_or(now),
            }
        };
        let pod_ips = self.pod_ips(sandbox);
        self.hosts_file(&pod_ips)
            .map_err(|message| failed("CreateContainerConfigError", message))?;
        let env = self
            .env(container, pod_ips.clone())
            .await
            .map_err(|message| failed("CreateContainerConfigError", message))?;
        let config = container::config(&Parts {
            pod: self.pod,
            spec: self.spec,
            container,
            restart_count,
            image: &image,
            env,
            volumes: &self.mounted.paths,
            root_dir: &self.shared.root_dir,
            node_memory: self.shared.node_memory(),
        })
        .map_err(|message| failed("CreateContainerConfigError", message))?;
        let log_file = Path::new(&sandbox_config.log_directory).join(&config.log_path);
        if let Some(dir) = log_file.parent() {
            fs::create_dir_all(dir)
                .map_err(|error| failed("CreateContainerConfigError", io_text(dir, &error)))?;
        }
        let id = self
            .shared
            .cri
            .create_container(&sandbox.id, config, sandbox_config)
            .await
            .map_err(|error| failed("CreateContainerError", error.message))?;
        self.event(Some(name), EventType::Normal, "Created", "Container created");
        self.shared
            .cri
            .start_container(&id)
            .await
            .map_err(|error| failed("RunContainerError", error.message))?;
        self.event(Some(name), EventType::Normal, "Started", "Container started");
        self.link_log(name, &id, &log_file);
        self.post_start(container, &id, pod_ips.first().map_or("", String::as_str))
            .await
            .map_err(|message| failed("PostStartHookError", message))
    }

    fn pod_ips(&self, sandbox: &super::runtime::Sandbox) -> Vec<String> {
        if self.spec.host_network.unwrap_or(false) {
            vec![self.shared.node_ip.to_string()]
        } else {
            sandbox.ips.clone()
        }
    }

    async fn env(
        &self,
        container: &Container,
        pod_ips: Vec<String>,
    ) -> Result<Vec<(String, String)>, String> {
        self.shared.services.synced().await;
        let (config_maps, secrets) = env::needed(container);
        let sources = self
            .shared
            .objects
            .sources(namespace(self.pod), config_maps, secrets)
            .await?;
        let mut services = self.shared.services.list_namespace(namespace(self.pod));
        let kubernetes = skiff_informer::ObjectKey::new("default", "kubernetes");
        if namespace(self.pod) != "default" {
            services.extend(self.shared.services.get(&kubernetes));
        }
        env::resolve(
            self.pod,
            container,
            &self.shared.facts(pod_ips),
            &services,
            &sources,
        )
    }

    fn link_log(&self, container: &str, id: &str, file: &Path) {
        let dir = &self.shared.container_log_dir;
        let link = log_link(dir, namespace(self.pod), name(self.pod), container, id);
        let linked = fs::create_dir_all(dir).and_then(|()| std::os::unix::fs::symlink(file, &link));
        if let Err(error) = linked {
            tracing::warn!(link = %link.display(), %error, "log not linked");
        }
    }

    async fn post_start(&self, container: &Container, id: &str, pod_ip: &str) -> Result<(), String> {
        let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let ran = hook::run(&self.shared.cri, container, id, handler, pod_ip, HOOK).await;
        let Err(message) = ran else { return Ok(()) };
        let message = format!("PostStartHook failed: {message}");
        self.event(
            Some(&container.name),
            EventType::Warning,
            "FailedPostStartHook",
            message.clone(),
        );
        self.event(
            Some(&container.name),
            EventType::Normal,
            "Killing",
            "FailedPostStartHook",
        );
        let grace = self.spec.termination_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if let Err(error) = self.shared.cri.stop_container(id, grace).await {
            tracing::warn!(container = container.name, %error, "container not stopped after its hook failed");
        }
        Err(message)
    }
}
