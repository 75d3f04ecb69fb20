//! PodDisruptionBudget: how many pods of a set may be away at once of somebody's own will.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::conditions;
use crate::field::{Errors, Internal, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::selector;
use crate::workload;

impl Kind for PodDisruptionBudget {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["pdb"],
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Min Available",
                    "string",
                    "The minimum number of pods that must be available.",
                ),
                Column::new(
                    "Max Unavailable",
                    "string",
                    "The maximum number of pods that may be unavailable.",
                ),
                Column::new(
                    "Allowed Disruptions",
                    "integer",
                    "Calculated number of pods that may be disrupted at this time.",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("poddisruptionbudget")
        }
    }

    fn default(&mut self) {
        self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        status.current_healthy.get_or_insert(0);
        status.desired_healthy.get_or_insert(0);
        status.disruptions_allowed.get_or_insert(0);
        status.expected_pods.get_or_insert(0);
    }

    fn prepare_for_create(&mut self) {
        self.status = None;
        Kind::default(self);
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        validate_spec(&spec, &Path::new("spec"), errors);
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return;
        }
        let status = self.status.clone().unwrap_or_default();
        let path = Path::new("status");
        let list = status.conditions.as_deref().unwrap_or_default();
        conditions::validate(list, &path.child("conditions"), errors);
        for (field, count) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            errors.non_negative(&path.child(field), count);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        match selector {
            Some(selector) if workload::is_empty(selector) => {
                vec!["spec.selector: empty selector will match all pods in the namespace".into()]
            }
            _ => Vec::new(),
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let allowed = self.status.as_ref().and_then(|status| status.disruptions_allowed);
        let shown = |amount: &Option<IntOrString>| match amount {
            Some(IntOrString::Int(count)) => count.to_string(),
            Some(IntOrString::String(text)) => text.clone(),
            None => "N/A".into(),
        };
        vec![
            self.metadata.name.clone().into(),
            shown(&spec.min_available).into(),
            shown(&spec.max_unavailable).into(),
            allowed.unwrap_or(0).into(),
            age(&self.metadata, now),
        ]
    }
}

fn validate_spec(spec: &PodDisruptionBudgetSpec, path: &Path, errors: &mut Errors) {
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let shown = Internal::fields([
            ("MinAvailable", Internal::plain(&spec.min_available)),
            ("Selector", Internal::plain(&spec.selector)),
            ("MaxUnavailable", Internal::plain(&spec.max_unavailable)),
            (
                "UnhealthyPodEvictionPolicy",
                Internal::plain(&spec.unhealthy_pod_eviction_policy),
            ),
        ]);
        errors.invalid(path, shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for (field, amount) in [
        ("minAvailable", &spec.min_available),
        ("maxUnavailable", &spec.max_unavailable),
    ] {
        let Some(amount) = amount else { continue };
        let at = path.child(field);
        workload::check_count_or_percent(amount, &at, errors);
        workload::check_not_more_than_all(amount, &at, errors);
    }
    if let Some(selector) = &spec.selector {
        selector::validate(selector, &path.child("selector"), errors);
    }
    if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref()
        && !matches!(policy, "IfHealthyBudget" | "AlwaysAllow")
    {
        errors.not_supported(
            &path.child("unhealthyPodEvictionPolicy"),
            policy,
            &["AlwaysAllow", "IfHealthyBudget"],
        );
    }
}
