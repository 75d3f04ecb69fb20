//! Probes: one task for each probe of a running container.

pub(crate) mod http;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use skiff_informer::EventType;
use skiff_informer::events::reference_to_pod;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::pod::hook::{http_target, port};
use crate::pod::plan::Memory;
use crate::pod::runtime::{Run, RuntimePod, State};
use crate::resources::is_sidecar;
use crate::shared::Shared;
use verdict::{Counter, Kind};

type Key = (String, Kind);

/// The probes of one pod. Dropping it ends them.
pub(crate) struct Probes {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    tasks: BTreeMap<Key, JoinHandle<()>>,
    /// The last verdicts, by container id and kind.
    verdicts: Arc<Mutex<BTreeMap<Key, bool>>>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Prober {
    shared: Arc<Shared>,
    pod: Pod,
    container: Container,
    probe: Probe,
    kind: Kind,
    id: String,
    pod_ip: String,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value
            .and_then(|v| u64::try_from(v).ok())
            .filter(|v| *v > 0)
            .unwrap_or(default),
    )
}

impl Probes {
    pub(crate) fn new(shared: Arc<Shared>, wake: Arc<Notify>) -> Self {
        Self {
            shared,
            wake,
            tasks: BTreeMap::new(),
            verdicts: Arc::default(),
        }
    }

    /// Ends all probes.
    pub(crate) fn stop(&mut self) {
        for task in std::mem::take(&mut self.tasks).into_values() {
            task.abort();
        }
    }

    /// Starts and ends probes as containers come and go, and puts their verdicts into the memory.
    pub(crate) fn reconcile(&mut self, pod: &Pod, runtime: &RuntimePod, memory: &mut Memory) {
        memory.started.clear();
        memory.ready.clear();
        memory.condemned.clear();
        let mut wanted: Vec<Key> = Vec::new();
        let Some(spec) = &pod.spec else { return self.stop() };
        let init = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        for container in spec.containers.iter().chain(init) {
            let Some(run) = runtime
                .latest(&container.name)
                .filter(|run| run.state == State::Running)
            else {
                continue;
            };
            let id = &run.id;
            let verdict = |kind: Kind| self.verdicts.lock().get(&(id.clone(), kind)).copied();
            let started = container.startup_probe.is_none() || verdict(Kind::Startup) == Some(true);
            if started {
                memory.started.insert(id.clone());
            } else if verdict(Kind::Startup) == Some(false) {
                memory.condemned.insert(id.clone(), "startup");
            }
            if started && (container.readiness_probe.is_none() || verdict(Kind::Readiness) == Some(true)) {
                memory.ready.insert(id.clone());
            }
            if verdict(Kind::Liveness) == Some(false) {
                memory.condemned.insert(id.clone(), "liveness");
            }
            let probes = [
                (Kind::Startup, &container.startup_probe, !started && !is_leaving),
                (Kind::Liveness, &container.liveness_probe, started && !is_leaving),
                (Kind::Readiness, &container.readiness_probe, started),
            ];
            for (kind, probe, now) in probes {
                if let (Some(probe), true) = (probe, now) {
                    wanted.push((id.clone(), kind));
                    self.ensure(pod, container, probe, kind, run, runtime);
                }
            }
        }
        self.tasks.retain(|key, task| {
            let keep = wanted.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        self.verdicts.lock().retain(|(id, _), _| {
            runtime
                .runs
                .iter()
                .any(|run| run.id == *id && run.state == State::Running)
        });
    }

    fn ensure(
        &mut self,
        pod: &Pod,
        container: &Container,
        probe: &Probe,
        kind: Kind,
        run: &Run,
        runtime: &RuntimePod,
    ) {
        let key = (run.id.clone(), kind);
        if self.tasks.contains_key(&key) {
            return;
        }
        let host_network = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.host_network)
            .unwrap_or(false);
        let sandbox_ip = runtime
            .sandboxes
            .first()
            .and_then(|sandbox| sandbox.ips.first().cloned());
        let prober = Prober {
            shared: self.shared.clone(),
            pod: pod.clone(),
            container: container.clone(),
            probe: probe.clone(),
            kind,
            id: run.id.clone(),
            pod_ip: match sandbox_ip {
                Some(ip) if !host_network => ip,
                _ => self.shared.node_ip.to_string(),
            },
        };
        let age = run
            .started_at
            .and_then(|at| Duration::try_from(jiff::Timestamp::now().duration_since(at)).ok())
            .unwrap_or(Duration::ZERO);
        let (verdicts, wake) = (self.verdicts.clone(), self.wake.clone());
        let task = tokio::spawn(prober.run(age, move |verdict| {
            verdicts.lock().insert((key.0.clone(), key.1), verdict);
            wake.notify_one();
        }));
        self.tasks.insert((run.id.clone(), kind), task);
    }
}

impl Prober {
    async fn run(self, age: Duration, tell: impl Fn(bool) + Send) {
        let delay = seconds(self.probe.initial_delay_seconds, 0).saturating_sub(age);
        // Probing is periodic by its nature.
        tokio::time::sleep(delay).await;
        let mut ticks = tokio::time::interval(seconds(self.probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counter = Counter::new(self.kind, &self.probe);
        loop {
            ticks.tick().await;
            let result = self.once().await;
            if let Err(message) = &result {
                let text = format!("{} probe failed: {message}", self.kind.title());
                self.shared.recorder.record(
                    reference_to_pod(&self.pod, Some(&self.container.name)),
                    EventType::Warning,
                    "Unhealthy",
                    text,
                );
            }
            if let Some(verdict) = counter.count(result.is_ok()) {
                tell(verdict);
            }
        }
    }

    async fn once(&self) -> Result<(), String> {
        let limit = seconds(self.probe.timeout_seconds, 1);
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let answer = self
                .shared
                .cri
                .exec_sync(&self.id, command, limit)
                .await
                .map_err(|error| error.to_string())?;
            let output = [answer.stdout, answer.stderr].concat();
            return match answer.exit_code {
                0 => Ok(()),
                _ => Err(String::from_utf8_lossy(&output).into_owned()),
            };
        }
        if let Some(action) = &self.probe.http_get {
            let target = http_target(&self.container, action, &self.pod_ip)?;
            let answer = http::get(&target, limit).await?;
            return if (200..400).contains(&answer.status) {
                Ok(())
            } else {
                Err(format!("HTTP probe failed with statuscode: {}", answer.status))
            };
        }
        if let Some(action) = &self.probe.tcp_socket {
            let host = action
                .host
                .clone()
                .filter(|h| !h.is_empty())
                .unwrap_or_else(|| self.pod_ip.clone());
            let port = port(&self.container, &action.port).ok_or("invalid port number")?;
            let connect = TcpStream::connect((host.as_str(), port));
            return match tokio::time::timeout(limit, connect).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {}", http::connect_error(&error))),
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            };
        }
        if self.probe.grpc.is_some() {
            return Err("gRPC probes are not supported".into());
        }
        Err(format!("missing probe handler for {}", self.container.name))
    }
}
