//! NodeResourcesFit and NodeResourcesBalancedAllocation: a node has what a pod requests, and use is spread evenly.

use crate::framework::{ClusterEvent, Filter, MAX_SCORE, Reason, Rejection, Score};
use crate::snapshot::{CPU, MEMORY, NodeInfo, PodInfo, Snapshot};

pub(super) struct Fit;

impl Filter for Fit {
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut no: Option<Rejection> = None;
        let mut refuse = |rejection: Rejection| {
            no = Some(no.map_or(rejection, |no| no.and(rejection)));
        };
        if node.pod_count + 1 > node.allowed_pods {
            refuse(Rejection::crowded(Reason::TooManyPods));
        }
        for (resource, wanted) in pod.requests.iter() {
            let all = node.allocatable.get(resource);
            if wanted > all {
                refuse(Rejection::unresolvable(Reason::Insufficient(resource)));
            } else if wanted > all - node.requested.get(resource) {
                refuse(Rejection::crowded(Reason::Insufficient(resource)));
            }
        }
        no.map_or(Ok(()), Err)
    }

    fn may_help(&self, event: ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::Node(node) => self.filter(pod, node).is_ok(),
            // It frees a place and what it requested; which node was short of what is not remembered.
            ClusterEvent::PodLeft(_) => true,
        }
    }
}

impl Score for Fit {
    fn weight(&self) -> i64 {
        1
    }

    /// LeastAllocated: the share that is left with the pod on it, mean of processor and memory.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _snapshot: &Snapshot) -> i64 {
        let mut sum = 0;
        let mut resources = 0;
        for resource in [CPU, MEMORY] {
            let all = node.allocatable.get(resource);
            if all == 0 {
                continue;
            }
            resources += 1;
            let used = node
                .scored_requested
                .get(resource)
                .saturating_add(pod.scored_requests.get(resource));
            if used <= all {
                sum += (all - used).saturating_mul(MAX_SCORE) / all;
            }
        }
        if resources == 0 { 0 } else { sum / resources }
    }
}

pub(super) struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn weight(&self) -> i64 {
        1
    }

    fn applies(&self, pod: &PodInfo) -> bool {
        pod.requests.get(CPU) != 0 || pod.requests.get(MEMORY) != 0
    }

    /// The nearer the shares of processor and memory in use, the better.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _snapshot: &Snapshot) -> i64 {
        let share = |resource| {
            let all = node.allocatable.get(resource);
            let used = node
                .requested
                .get(resource)
                .saturating_add(pod.requests.get(resource));
            (all != 0).then(|| (used as f64 / all as f64).min(1.0))
        };
        let deviation = match (share(CPU), share(MEMORY)) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        // Between 0 and 100, so the cast is exact enough.
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    }
}
