//! Which nodes a pod must or would rather be on: `nodeSelector` and node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use skiff_api::selector::{LabelSelector, Operator, Requirement};

use crate::snapshot::NodeInfo;

/// One term: all of its requirements must be met. A term that asks for nothing, or for what cannot be understood,
/// matches no node.
#[derive(Clone, Debug, Default)]
struct Term {
    labels: Vec<Requirement>,
    /// `metadata.name`: whether it must be one of these names.
    names: Vec<(bool, Vec<String>)>,
    impossible: bool,
}

impl Term {
    fn of(term: &NodeSelectorTerm) -> Self {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let mut compiled = Self {
            impossible: expressions.is_empty() && fields.is_empty(),
            ..Self::default()
        };
        for expression in expressions {
            match requirement(expression) {
                Some(requirement) => compiled.labels.push(requirement),
                None => compiled.impossible = true,
            }
        }
        for field in fields {
            let values = field.values.clone().unwrap_or_default();
            match (field.key.as_str(), field.operator.as_str()) {
                ("metadata.name", "In") => compiled.names.push((true, values)),
                ("metadata.name", "NotIn") => compiled.names.push((false, values)),
                _ => compiled.impossible = true,
            }
        }
        compiled
    }

    fn matches(&self, node: &NodeInfo) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = node
            .node
            .as_ref()
            .and_then(|node| node.metadata.labels.as_ref())
            .unwrap_or(&NONE);
        !self.impossible
            && self.labels.iter().all(|requirement| requirement.matches(labels))
            && self
                .names
                .iter()
                .all(|(wanted, names)| names.contains(&node.name) == *wanted)
    }
}

fn requirement(expression: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Requirement::new(
        &expression.key,
        operator,
        expression.values.clone().unwrap_or_default(),
    )
    .ok()
}

/// The nodes that a pod must be on.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeAffinity {
    selector: Option<LabelSelector>,
    /// One of them must match; `None` asks for nothing.
    terms: Option<Vec<Term>>,
}

impl NodeAffinity {
    /// What the specification asks for.
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let selector = spec
            .node_selector
            .as_ref()
            .filter(|labels| !labels.is_empty())
            .map(LabelSelector::of_map);
        let node = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
        let terms = required.map(|required| required.node_selector_terms.iter().map(Term::of).collect());
        Self { selector, terms }
    }

    /// Whether the node is one of them.
    pub(crate) fn matches(&self, node: &NodeInfo) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = node
            .node
            .as_ref()
            .and_then(|node| node.metadata.labels.as_ref())
            .unwrap_or(&NONE);
        self.selector
            .as_ref()
            .is_none_or(|selector| selector.matches(labels))
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }
}

/// The nodes that a pod would rather be on, with weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct PreferredAffinity(Vec<(i64, Term)>);

impl PreferredAffinity {
    /// What the specification prefers.
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let node = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let preferred =
            node.and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref());
        let terms = preferred.into_iter().flatten().filter(|term| term.weight != 0);
        Self(
            terms
                .map(|term| (i64::from(term.weight), Term::of(&term.preference)))
                .collect(),
        )
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sum of the weights of what the node has.
    pub(crate) fn weight(&self, node: &NodeInfo) -> i64 {
        self.0
            .iter()
            .filter(|(_, term)| term.matches(node))
            .map(|(weight, _)| weight)
            .sum()
    }
}
