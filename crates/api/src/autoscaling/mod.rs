//! The kinds of the autoscaling group.

mod horizontal_pod_autoscaler;
mod metrics;
