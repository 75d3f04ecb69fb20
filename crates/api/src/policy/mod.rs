//! The kinds of the policy group.

pub mod disruption;
mod pod_disruption_budget;
