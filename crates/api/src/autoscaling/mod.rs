//! The kinds of the autoscaling group.

mod horizontal_pod_autoscaler;
mod metrics;
mod scale;
mod v1;
mod v1_metrics;
