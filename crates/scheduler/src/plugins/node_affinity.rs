//! NodeAffinity: `nodeSelector`, required and preferred node affinity.

use crate::framework::{Filter, Reason, Rejection, Score, normalize};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct NodeAffinity;

impl Filter for NodeAffinity {
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.affinity.matches(node) {
            return Ok(());
        }
        Err(Rejection::unresolvable(Reason::Affinity))
    }
}

impl Score for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn applies(&self, pod: &PodInfo) -> bool {
        !pod.preferred.is_empty()
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _snapshot: &Snapshot) -> i64 {
        pod.preferred.weight(node)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, false);
    }
}
