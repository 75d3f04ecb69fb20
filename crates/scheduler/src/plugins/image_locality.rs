//! ImageLocality: a node that has the images already is better, the more so the larger they are.

use crate::framework::{MAX_SCORE, Score};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const MIB: i64 = 1024 * 1024;
/// Less than this is pulled in no time.
const LEAST: i64 = 23 * MIB;
/// More than this, per container, makes no difference any more.
const MOST: i64 = 1000 * MIB;

pub(super) struct ImageLocality;

impl Score for ImageLocality {
    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> i64 {
        let nodes = i64::try_from(snapshot.node_count()).unwrap_or(i64::MAX).max(1);
        let scaled = |image: &String| {
            let size = node.images.get(image).copied().unwrap_or(0);
            let having = i64::try_from(snapshot.nodes_with_image(image)).unwrap_or(0);
            // By how widespread it is, so that one node does not draw all pods of an image.
            size.saturating_mul(having) / nodes
        };
        let sum = pod.images.iter().map(scaled).fold(0, i64::saturating_add);
        let most = MOST
            .saturating_mul(i64::try_from(pod.images.len()).unwrap_or(1))
            .max(MOST);
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
