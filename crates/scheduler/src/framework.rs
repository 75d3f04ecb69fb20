//! Plugins: what they are asked, and how their answers become a node or the reason why there is none.
//!
//! The extension points are upstream's. Filters and scores are here; pre-filters, post-filters (preemption), reserve
//! and permit belong between them when the plugins that need them come.

use crate::snapshot::{NodeInfo, PodInfo, ResourceNames, Snapshot};

/// The best score of a plugin for a node.
pub(crate) const MAX_SCORE: i64 = 100;

/// Why a node cannot have a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `spec.unschedulable`.
    Unschedulable,
    /// The pod names another node.
    NodeName,
    /// A taint.
    Taint,
    /// Labels.
    Affinity,
    /// A host port is taken.
    Ports,
    /// It has as many pods as it may have.
    TooManyPods,
    /// It has too little left of the resource with this number.
    Insufficient(usize),
}

const FIXED_REASONS: [Reason; 6] = [
    Reason::Unschedulable,
    Reason::NodeName,
    Reason::Taint,
    Reason::Affinity,
    Reason::Ports,
    Reason::TooManyPods,
];
/// The last bit stands for all resources with higher numbers.
const MOST_REASONS: usize = 128;

impl Reason {
    fn bit(self) -> usize {
        match self {
            Self::Insufficient(resource) => (FIXED_REASONS.len() + resource).min(MOST_REASONS - 1),
            fixed => FIXED_REASONS
                .iter()
                .position(|reason| *reason == fixed)
                .unwrap_or(0),
        }
    }

    fn of_bit(bit: usize) -> Self {
        FIXED_REASONS
            .get(bit)
            .copied()
            .unwrap_or(Self::Insufficient(bit.saturating_sub(FIXED_REASONS.len())))
    }

    /// The words that users see.
    fn text(self, names: &ResourceNames) -> String {
        match self {
            Self::Unschedulable => "node(s) were unschedulable".to_string(),
            Self::NodeName => "node(s) didn't match the requested node name".to_string(),
            Self::Taint => "node(s) had untolerated taint(s)".to_string(),
            Self::Affinity => "node(s) didn't match Pod's node affinity/selector".to_string(),
            Self::Ports => "node(s) didn't have free ports for the requested pod ports".to_string(),
            Self::TooManyPods => "Too many pods".to_string(),
            Self::Insufficient(resource) => format!("Insufficient {}", names.name(resource)),
        }
    }
}

/// A filter's no. It is `Copy`, so that rejecting ten thousand nodes allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    reasons: u128,
    /// Whether the node would be refused even without the pods that are on it.
    pub(crate) unresolvable: bool,
}

impl Rejection {
    /// A no that taking pods away would not change.
    pub(crate) fn unresolvable(reason: Reason) -> Self {
        Self {
            reasons: 1 << reason.bit(),
            unresolvable: true,
        }
    }

    /// A no because of the pods that are there.
    pub(crate) fn crowded(reason: Reason) -> Self {
        Self {
            reasons: 1 << reason.bit(),
            unresolvable: false,
        }
    }

    /// Both reasons together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            reasons: self.reasons | other.reasons,
            unresolvable: self.unresolvable || other.unresolvable,
        }
    }

    fn reasons(self) -> impl Iterator<Item = Reason> {
        (0..MOST_REASONS)
            .filter(move |bit| self.reasons >> bit & 1 == 1)
            .map(Reason::of_bit)
    }
}

/// Something that happened in the cluster and may make room for a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClusterEvent<'a> {
    /// A node is there, or has changed so that it may take more pods.
    Node(&'a NodeInfo),
    /// A pod has left its node.
    PodLeft(&'a PodInfo),
}

/// A plugin that says whether a node can have a pod.
pub(crate) trait Filter: Send + Sync {
    /// Whether the node can have the pod.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection>;

    /// Whether an event may change this plugin's no (its queueing hint).
    fn may_help(&self, event: ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::Node(node) => self.filter(pod, node).is_ok(),
            ClusterEvent::PodLeft(_) => false,
        }
    }
}

/// A plugin that says how good a node is for a pod.
pub(crate) trait Score: Send + Sync {
    /// How much its score counts.
    fn weight(&self) -> i64;

    /// Whether it makes a difference for this pod at all.
    fn applies(&self, _pod: &PodInfo) -> bool {
        true
    }

    /// A figure for the node, which [`Score::normalize`] makes a score from 0 to [`MAX_SCORE`].
    fn score(&self, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> i64;

    /// Brings the figures of all nodes into the range.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Scales figures so that the greatest is [`MAX_SCORE`], or 0 when less is better (`DefaultNormalizeScore`).
pub(crate) fn normalize(scores: &mut [i64], less_is_better: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if less_is_better {
            MAX_SCORE - scaled
        } else {
            scaled
        };
    }
}

/// The filters that said no, as bits in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RejectedBy(u32);

/// Why no node can have a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unfit {
    /// Who said no.
    pub(crate) by: RejectedBy,
    /// The words that users see.
    pub(crate) message: String,
}

/// All plugins.
pub(crate) struct Framework {
    filters: Vec<Box<dyn Filter>>,
    scores: Vec<Box<dyn Score>>,
}

impl std::fmt::Debug for Framework {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framework")
            .field("filters", &self.filters.len())
            .finish_non_exhaustive()
    }
}

impl Framework {
    /// A framework of these plugins; the filters are asked in their order.
    pub(crate) fn new(filters: Vec<Box<dyn Filter>>, scores: Vec<Box<dyn Score>>) -> Self {
        Self { filters, scores }
    }

    /// Whether an event may help a pod that these filters have refused. Without any, every event may.
    pub(crate) fn may_help(&self, event: ClusterEvent<'_>, pod: &PodInfo, by: RejectedBy) -> bool {
        let refused = |index: usize| by.0 >> index & 1 == 1;
        by == RejectedBy::default()
            || self
                .filters
                .iter()
                .enumerate()
                .any(|(index, filter)| refused(index) && filter.may_help(event, pod))
    }

    /// The best node for the pod. `start` is where the search begins, so that in a large cluster, where not all nodes
    /// are looked at, all get their turn.
    pub(crate) fn choose(&self, pod: &PodInfo, snapshot: &Snapshot, start: usize) -> Result<String, Unfit> {
        let nodes = snapshot.nodes();
        let count = snapshot.node_count();
        if count == 0 {
            return Err(Unfit {
                by: RejectedBy::default(),
                message: "no nodes available to schedule pods".to_string(),
            });
        }
        let enough = enough_nodes(count);
        let mut fitting: Vec<&NodeInfo> = Vec::with_capacity(enough.min(64));
        let mut by = RejectedBy::default();
        let mut tally = Tally::default();
        let offset = start % nodes.len().max(1);
        let (before, from) = nodes.split_at(offset.min(nodes.len()));
        for node in from.iter().chain(before).filter(|node| node.node.is_some()) {
            match self.check(pod, node) {
                Ok(()) => {
                    fitting.push(node);
                    if fitting.len() >= enough {
                        break;
                    }
                }
                Err((filter, rejection)) => {
                    by.0 |= 1 << filter;
                    tally.add(rejection);
                }
            }
        }
        match self.best(pod, &fitting, snapshot) {
            Some(node) => Ok(node.name.clone()),
            None => Err(Unfit {
                by,
                message: tally.message(pod, count, &snapshot.names),
            }),
        }
    }

    /// The first no, and whose it is.
    fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), (usize, Rejection)> {
        for (index, filter) in self.filters.iter().enumerate() {
            filter.filter(pod, node).map_err(|rejection| (index, rejection))?;
        }
        Ok(())
    }

    /// The node with the highest score; of equal ones the first by name.
    fn best<'n>(&self, pod: &PodInfo, nodes: &[&'n NodeInfo], snapshot: &Snapshot) -> Option<&'n NodeInfo> {
        if let [only] = nodes {
            return Some(only);
        }
        let mut totals = vec![0i64; nodes.len()];
        for plugin in self.scores.iter().filter(|plugin| plugin.applies(pod)) {
            let mut scores: Vec<i64> = nodes
                .iter()
                .map(|node| plugin.score(pod, node, snapshot))
                .collect();
            plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += score * plugin.weight();
            }
        }
        let scored = nodes.iter().zip(totals);
        scored
            .max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.name.cmp(&a.name)))
            .map(|(node, _)| *node)
    }
}

/// How many fitting nodes are enough to choose from (`numFeasibleNodesToFind`): all of 100, then a falling share.
fn enough_nodes(count: usize) -> usize {
    const LEAST: usize = 100;
    if count < LEAST {
        return count;
    }
    let percent = 50usize.saturating_sub(count / 125).max(5);
    (count * percent / 100).max(LEAST)
}

/// Counts the nodes by the reasons why they were refused.
#[derive(Debug)]
struct Tally {
    counts: [u32; MOST_REASONS],
    unresolvable: u32,
    crowded: u32,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: [0; MOST_REASONS],
            unresolvable: 0,
            crowded: 0,
        }
    }
}

impl Tally {
    fn add(&mut self, rejection: Rejection) {
        for reason in rejection.reasons() {
            if let Some(count) = self.counts.get_mut(reason.bit()) {
                *count += 1;
            }
        }
        if rejection.unresolvable {
            self.unresolvable += 1;
        } else {
            self.crowded += 1;
        }
    }

    /// Upstream's `FitError`, with what preemption says.
    fn message(&self, pod: &PodInfo, nodes: usize, names: &ResourceNames) -> String {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let reasons = counted.map(|(bit, count)| format!("{count} {}", Reason::of_bit(bit).text(names)));
        let never = pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never");
        let preemption = if never {
            "not eligible due to preemptionPolicy=Never.".to_string()
        } else {
            let parts = [
                (self.unresolvable, "Preemption is not helpful for scheduling"),
                (self.crowded, "No preemption victims found for incoming pod"),
            ];
            let parts = parts.iter().filter(|(count, _)| *count > 0);
            histogram(nodes, parts.map(|(count, text)| format!("{count} {text}")))
        };
        format!("{} preemption: {preemption}", histogram(nodes, reasons))
    }
}

fn histogram(nodes: usize, reasons: impl Iterator<Item = String>) -> String {
    let mut reasons: Vec<String> = reasons.collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}
