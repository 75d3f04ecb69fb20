//! TaintToleration: taints keep pods away, or make a node less welcome.

use k8s_openapi::api::core::v1::Toleration;
use skiff_api::toleration::{Effect, tolerates, untolerated};

use crate::framework::{Filter, Reason, Rejection, Score, normalize};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct TaintToleration;

fn tolerations(pod: &PodInfo) -> &[Toleration] {
    pod.spec()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default()
}

impl Filter for TaintToleration {
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match untolerated(
            node.taints(),
            tolerations(pod),
            &[Effect::NoSchedule, Effect::NoExecute],
        ) {
            Some(_) => Err(Rejection::unresolvable(Reason::Taint)),
            None => Ok(()),
        }
    }
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _snapshot: &Snapshot) -> i64 {
        let taints = node
            .taints()
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule");
        let bad = taints.filter(|taint| {
            !tolerations(pod)
                .iter()
                .any(|toleration| tolerates(toleration, taint))
        });
        i64::try_from(bad.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, true);
    }
}
