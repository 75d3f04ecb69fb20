//! Creating, starting, updating and removing containers.

use std::fs;
use std::io;
use std::sync::Arc;

use k8s_cri::v1;
use tonic::Status;

use super::prepare::{self, Preparation};
use super::{ContainerEntry, ContainerRecord};
use crate::cgroup::Limits;
use crate::image::ImageError;
use crate::runtime::{Runtime, blocking, failed, new_id, now, unmount};
use crate::sandbox::{Phase, SandboxEntry};
use crate::shim::client::ShimError;
use crate::shim::protocol::{Reply, Request, RunState, Start};
use crate::state::write_atomically;

use v1::ContainerEventType as Event;

impl Runtime {
    /// CRI `CreateContainer`.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        request: v1::CreateContainerRequest,
    ) -> Result<String, Status> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("container config is nil"))?;
        let metadata = config.metadata.clone().unwrap_or_default();
        let name = format!("{}_{}_{}", sandbox.id, metadata.name, metadata.attempt);
        let _reserved = self.reserve(format!("container {name}"), || {
            self.containers_of(&sandbox.id).iter().any(|known| {
                let known = known.record.lock();
                known.name == metadata.name && known.attempt == metadata.attempt
            })
        })?;
        // The sandbox may not go meanwhile.
        let _operation = sandbox.operation.lock().await;
        if sandbox.record.lock().phase != Phase::Ready {
            return Err(Status::unknown(format!(
                "sandbox container \"{}\" is not running",
                sandbox.id
            )));
        }
        let named = config.image.clone().unwrap_or_default();
        let wanted_image = named.image;
        let image = self.config.images.get(&wanted_image).ok_or_else(|| {
            Status::not_found(format!("failed to resolve image \"{wanted_image}\": not found"))
        })?;
        let image_tag = image.tag_named([named.user_specified_image.as_str(), &wanted_image]);
        let id = new_id();
        let lower = self.config.images.hold(&id, &image).await.map_err(image_error)?;
        let preparation = Preparation {
            id: id.clone(),
            image: image.config.clone(),
            image_tag: image_tag.unwrap_or_default().to_owned(),
            image_id: image.id.clone(),
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            lower,
            sandbox: sandbox.record.lock().clone(),
            sandbox_paths: self.sandbox_paths(&sandbox.id),
            paths: self.container_paths(&id),
            layout: self.layout.clone(),
            target_pid: self.target_of(&config),
            created_at: now(),
            config,
        };
        let prepared = tokio::task::spawn_blocking(move || prepare::prepare(&preparation)).await;
        let record = match prepared.unwrap_or_else(|error| Err(Status::unknown(error.to_string()))) {
            Ok(record) => record,
            Err(error) => {
                if let Err(error) = self.remove_container_files(&id).await {
                    tracing::error!(container = id, %error, "left-overs of a failed container");
                }
                return Err(error);
            }
        };
        let run = RunState {
            container: id.clone(),
            ..RunState::default()
        };
        self.insert_container(Arc::new(ContainerEntry::new(record, run)));
        self.publish(&id, &sandbox.id, Event::ContainerCreatedEvent);
        Ok(id)
    }

    fn target_of(&self, config: &v1::ContainerConfig) -> Option<i32> {
        let options = super::spec::security(config).namespace_options?;
        let target = self
            .container(Some(options.target_id.as_str()).filter(|t| !t.is_empty())?)
            .ok()?;
        let run = target.run.borrow();
        run.running().then_some(run.pid)
    }

    /// CRI `StartContainer`.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Status> {
        let container = self.container(id)?;
        let _operation = container.operation.lock().await;
        let state = container.state();
        if state != v1::ContainerState::ContainerCreated {
            return Err(Status::unknown(format!(
                "failed to start container \"{}\": container is in {} state",
                container.id,
                state.as_str_name()
            )));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        if sandbox.record.lock().phase != Phase::Ready {
            return Err(Status::unknown(format!(
                "sandbox container \"{}\" is not running",
                sandbox.id
            )));
        }
        let record = container.record.lock().clone();
        let start = Start {
            container: record.id.clone(),
            bundle: self.container_paths(&record.id).folder,
            cgroup: record.cgroup.clone(),
            log: record.log_path.clone(),
            tty: record.tty,
            stdin: record.stdin,
            oom_score_adj: i32::try_from(record.resources.oom_score_adj)
                .unwrap_or(0)
                .clamp(-1000, 1000),
            private_pid: record.private_pid,
        };
        match sandbox.shim.call(&Request::Start(Box::new(start))).await {
            Ok(Reply::State(state)) => {
                self.apply(*state);
                Ok(())
            }
            Ok(_) => Err(Status::unknown("the shim gave an unexpected answer")),
            Err(error) => Err(self.start_failed(&container, &error).await),
        }
    }

    /// A container that couldn't be started has exited, so that it is not tried again.
    async fn start_failed(&self, container: &ContainerEntry, error: &ShimError) -> Status {
        let folder = self.container_paths(&container.id).folder;
        let (config, file) = (folder.join("config.json"), folder.join(RunState::FILE));
        let command = blocking(move || crate::state::read::<oci_spec::runtime::Spec>(&config)).await;
        let command = command
            .ok()
            .and_then(|spec| spec.process().as_ref()?.args().clone())
            .unwrap_or_default();
        let message = format!(
            "failed to create task: OCI runtime create failed: {}",
            process_error(&error.to_string(), &command)
        );
        let state = RunState {
            container: container.id.clone(),
            finished_at: now(),
            exit_code: 128,
            reason: "StartError".to_owned(),
            message: message.clone(),
            ..RunState::default()
        };
        let saved = state.clone();
        if let Err(error) = blocking(move || write_atomically(&file, &saved, true)).await {
            tracing::error!(container = container.id, %error, "saving why a container didn't start");
        }
        self.apply(state);
        Status::unknown(format!(
            "failed to start container \"{}\": {message}",
            container.id
        ))
    }

    /// CRI `RemoveContainer`: one that runs is killed first.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let Ok(container) = self.container(id) else {
            return Ok(());
        };
        self.stop_container_now(&container, 0).await?;
        let _operation = container.operation.lock().await;
        // Somebody else may have been faster.
        if self.container(&container.id).is_err() {
            return Ok(());
        }
        if let Ok(sandbox) = self.sandbox(&container.sandbox) {
            self.forget_in_shim(&sandbox, &container.id).await?;
        }
        let (layout, cgroup) = (self.layout.clone(), container.record.lock().cgroup.clone());
        blocking(move || layout.remove(&cgroup))
            .await
            .map_err(failed("failed to remove cgroup"))?;
        self.remove_container_files(&container.id).await?;
        self.forget_container(&container.id);
        self.publish(&container.id, &container.sandbox, Event::ContainerDeletedEvent);
        Ok(())
    }

    async fn forget_in_shim(&self, sandbox: &SandboxEntry, id: &str) -> Result<(), Status> {
        if sandbox.record.lock().phase != Phase::Ready {
            return Ok(());
        }
        match sandbox
            .shim
            .call(&Request::Forget {
                container: id.to_owned(),
            })
            .await
        {
            Ok(_) | Err(ShimError::Gone(_) | ShimError::NotRunning) => Ok(()),
            Err(error) => Err(Status::unknown(format!(
                "failed to remove container \"{id}\": {error}"
            ))),
        }
    }

    /// Unmounts and removes everything of a container on the disk, and lets go of its image.
    pub(crate) async fn remove_container_files(&self, id: &str) -> Result<(), Status> {
        let paths = self.container_paths(id);
        blocking(move || {
            unmount(paths.rootfs, true)?;
            match fs::remove_dir_all(&paths.folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await
        .map_err(failed("failed to remove container"))?;
        self.config.images.release(id).await.map_err(image_error)
    }

    /// CRI `UpdateContainerResources`.
    pub(crate) async fn update_resources(
        &self,
        id: &str,
        update: v1::LinuxContainerResources,
    ) -> Result<(), Status> {
        let container = self.container(id)?;
        let _operation = container.operation.lock().await;
        let state = container.state();
        if state == v1::ContainerState::ContainerExited {
            return Err(Status::unknown(format!(
                "container is in {} state",
                state.as_str_name()
            )));
        }
        let mut record = container.record.lock().clone();
        record.resources.merge(&update);
        let (layout, running) = (self.layout.clone(), state == v1::ContainerState::ContainerRunning);
        let folder = self.container_paths(id).folder;
        let changed = record.clone();
        blocking(move || {
            if running {
                layout.update(&changed.cgroup, &limits_of(&update))?;
            } else {
                rewrite_limits(&folder.join("config.json"), &changed)?;
            }
            write_atomically(&folder.join(ContainerRecord::FILE), &changed, true)
        })
        .await
        .map_err(failed("failed to update resources"))?;
        *container.record.lock() = record;
        Ok(())
    }

    /// CRI `ReopenContainerLog`.
    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Status> {
        let container = self.container(id)?;
        if !container.run.borrow().running() {
            return Err(Status::unknown("container is not running"));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        let request = Request::ReopenLog {
            container: container.id.clone(),
        };
        let reply = sandbox.shim.call(&request).await;
        reply
            .map(|_| ())
            .map_err(|e| Status::unknown(format!("failed to reopen container log: {e}")))
    }
}

fn limits_of(update: &v1::LinuxContainerResources) -> Limits {
    let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    Limits {
        cpu_shares: positive(update.cpu_shares),
        cpu_quota: Some(update.cpu_quota).filter(|q| *q != 0),
        cpu_period: positive(update.cpu_period),
        memory: Some(update.memory_limit_in_bytes).filter(|m| *m != 0),
        memory_and_swap: Some(update.memory_swap_limit_in_bytes).filter(|m| *m != 0),
        cpuset_cpus: Some(update.cpuset_cpus.clone()).filter(|c| !c.is_empty()),
        cpuset_mems: Some(update.cpuset_mems.clone()).filter(|c| !c.is_empty()),
        unified: update.unified.clone().into_iter().collect(),
    }
}

/// A container that hasn't been started gets its limits from its specification.
fn rewrite_limits(config: &std::path::Path, record: &ContainerRecord) -> io::Result<()> {
    let mut spec: serde_json::Value = crate::state::read(config)?;
    let resources = &record.resources;
    // Said only where swap can be limited; without a wish of its own it goes with the memory.
    let limits_swap = spec.pointer("/linux/resources/memory/swap").is_some();
    let swap = match resources.memory_swap_limit_in_bytes {
        0 if limits_swap => resources.memory_limit_in_bytes,
        swap => swap,
    };
    for (pointer, key, value) in [
        ("cpu", "shares", resources.cpu_shares),
        ("cpu", "quota", resources.cpu_quota),
        ("cpu", "period", resources.cpu_period),
        ("memory", "limit", resources.memory_limit_in_bytes),
        ("memory", "swap", swap),
    ] {
        if value != 0
            && let Some(limits) = spec
                .pointer_mut("/linux/resources")
                .and_then(|r| r.as_object_mut())
        {
            let group = limits.entry(pointer).or_insert_with(|| serde_json::json!({}));
            if let Some(group) = group.as_object_mut() {
                group.insert(key.to_owned(), serde_json::json!(value));
            }
        }
    }
    write_atomically(config, &spec, false)
}

fn image_error(error: ImageError) -> Status {
    match error {
        ImageError::NotFound(_) => Status::not_found(error.to_string()),
        _ => Status::unknown(error.to_string()),
    }
}

/// Words an error of libcontainer as users know it from elsewhere, where it is about the program itself.
pub(crate) fn process_error(message: &str, command: &[String]) -> String {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let why = if message.contains("not found in $PATH") {
        if program.contains('/') {
            format!("exec: \"{program}\": stat {program}: no such file or directory")
        } else {
            format!("exec: \"{program}\": executable file not found in $PATH")
        }
    } else if message.contains("does not have correct permissions") {
        format!("exec: \"{program}\": permission denied")
    } else {
        return message.to_owned();
    };
    format!("unable to start container process: {why}")
}

/// Why a process could not be run in a container, as containerd and runc word it.
pub(crate) fn exec_error(container: &str, message: &str, command: &[String]) -> String {
    let why = process_error(message, command);
    format!(
        "failed to exec in container: failed to start exec \"{container}\": OCI runtime exec failed: exec failed: {why}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_worded_as_everywhere() {
        let start = "unable to start container process: exec:";
        for (message, program, wanted) in [
            (
                "x: executable 'foo' not found in $PATH",
                "foo",
                format!("{start} \"foo\": executable file not found in $PATH"),
            ),
            (
                "x: executable '/foo' not found in $PATH",
                "/foo",
                format!("{start} \"/foo\": stat /foo: no such file or directory"),
            ),
            (
                "'/x' does not have correct permissions",
                "/x",
                format!("{start} \"/x\": permission denied"),
            ),
            ("no space left", "x", "no space left".to_owned()),
        ] {
            assert_eq!(process_error(message, &[program.to_owned()]), wanted);
        }
    }
}
