//! How a worker brings containers, and at last the pod, to their end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use skiff_informer::EventType;

use super::{Desired, Next, Worker};
use crate::logs;
use crate::pod::identity::{name, namespace, uid};
use crate::pod::plan::pod_text;
use crate::pod::runtime::RuntimePod;
use crate::pod::stop::Stop;
use crate::pod::{cleanup, status};

impl Worker {
    fn grace_of(&self, pod: &Pod, run_id: &str, name: &str) -> Duration {
        let spec = pod.spec.as_ref();
        let of_probe = self.memory.condemned.get(run_id).and_then(|kind| {
            let container = spec?.containers.iter().find(|c| c.name == name)?;
            let probe = if *kind == "startup" {
                &container.startup_probe
            } else {
                &container.liveness_probe
            };
            probe.as_ref()?.termination_grace_period_seconds
        });
        let seconds = pod
            .metadata
            .deletion_grace_period_seconds
            .or(of_probe)
            .or_else(|| spec.and_then(|s| s.termination_grace_period_seconds))
            .unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    pub(super) fn stop(
        &mut self,
        pod: &Arc<Pod>,
        runtime: &RuntimePod,
        id: String,
        name: String,
        message: String,
    ) {
        let mut grace = self.grace_of(pod, &id, &name);
        let is_sidecar = pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .any(|c| c.name == name);
        if let Some(since) = self.ending_since.filter(|_| is_sidecar) {
            // Sidecars end after the others, within the same grace period.
            let passed = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or(Duration::ZERO);
            grace = grace.saturating_sub(passed);
        }
        self.event(pod, Some(&name), EventType::Normal, "Killing", message);
        self.memory.stopping.insert(id.clone());
        self.grace = Some(grace);
        self.begin_stop(pod, runtime, id, name, grace, true);
    }

    fn begin_stop(
        &self,
        pod: &Arc<Pod>,
        runtime: &RuntimePod,
        id: String,
        name: String,
        grace: Duration,
        with_hook: bool,
    ) {
        let pod_ip = runtime.sandboxes.first().and_then(|s| s.ips.first().cloned());
        let stop = Stop {
            shared: self.shared.clone(),
            pod: pod.clone(),
            id,
            name,
            pod_ip: pod_ip.unwrap_or_else(|| self.shared.node_ip.to_string()),
            grace,
            with_hook,
        };
        stop.begin(self.failed_stops.clone());
    }

    /// Stops what is being stopped sooner, when the pod's grace period has become shorter.
    pub(super) fn shorten(&mut self, pod: &Arc<Pod>, runtime: &RuntimePod) {
        for run in runtime
            .alive()
            .filter(|run| self.memory.stopping.contains(&run.id))
        {
            let grace = self.grace_of(pod, &run.id, &run.name);
            if self.grace.is_some_and(|before| grace < before) {
                self.begin_stop(pod, runtime, run.id.clone(), run.name.clone(), grace, false);
            }
        }
        if let Some(grace) = pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|s| u64::try_from(s).ok())
        {
            let grace = Duration::from_secs(grace);
            self.grace = self.grace.map(|before| before.min(grace));
        }
    }

    /// Cleans up after a pod of which nothing runs any more.
    pub(super) async fn finish(&mut self, desired: &Desired, runtime: &RuntimePod) -> Next {
        let pod = desired.pod();
        let pod_uid = uid(pod);
        self.probes.stop();
        if let (Desired::Pod(pod), true) = (desired, desired.is_leaving()) {
            if !self.cleaned {
                status::terminate(&mut self.told);
                self.publisher.publish(pod, &self.told);
            }
            self.publisher.flush().await;
        }
        if desired.is_leaving() && !cleanup::remove_from_runtime(&self.shared, runtime).await {
            return Next::Wait(Some(self.retry("remove")));
        }
        if !self.cleaned || desired.is_leaving() {
            if let Err(error) = self.shared.volumes.tear_down(pod_uid).await {
                tracing::warn!(pod = pod_text(pod), %error, "volumes not removed, trying again");
                return Next::Wait(Some(self.retry("tear down")));
            }
            self.shared.cgroups.remove_pod(pod_uid);
            self.shared.admitted.lock().remove(pod_uid);
            self.mounted = None;
            self.cleaned = true;
        }
        if !desired.is_leaving() {
            return Next::Wait(None);
        }
        logs::remove_pod(
            &self.shared.log_dir,
            &self.shared.container_log_dir,
            namespace(pod),
            name(pod),
            pod_uid,
        );
        if let Desired::Pod(pod) = desired
            && let Err(error) = cleanup::delete(&self.shared, pod).await
        {
            tracing::warn!(pod = pod_text(pod), %error, "pod not deleted, trying again");
            return Next::Wait(Some(self.retry("delete")));
        }
        Next::Done
    }
}
