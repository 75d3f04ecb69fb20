//! MutatingAdmissionPolicyBinding: where a policy changes what is written, and with which parameters.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;
use serde_json::Value;

use super::validating_admission_policy_binding::{check_policy, columns};
use super::{parameters, rules};
use crate::field::{Errors, Path};
use crate::kind::{Kind, KindInfo, Scope, Target, age};
use crate::meta::generation_after;
use crate::same::same;

impl Kind for MutatingAdmissionPolicyBinding {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            categories: &["api-extensions"],
            columns: columns(),
            unconditional_update: false,
            ..KindInfo::of::<Self>("mutatingadmissionpolicybinding")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(resources) = &mut spec.match_resources {
            rules::default_match(resources);
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (self.spec.clone().unwrap_or_default(), Path::new("spec"));
        let policy = spec.policy_name.as_deref().unwrap_or_default();
        check_policy(policy, &path.child("policyName"), errors);
        if let Some(reference) = &spec.param_ref {
            parameters::validate_reference(reference, &path.child("paramRef"), errors);
        }
        let at = path.child("matchResources");
        if let Some(resources) = &spec.match_resources {
            rules::validate_match(resources, &at, errors);
        }
        rules::validate_mutating(spec.match_resources.as_ref(), &at, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let policy = spec.and_then(|spec| spec.policy_name.clone());
        vec![
            self.metadata.name.clone().into(),
            policy.unwrap_or_default().into(),
            parameters::shown_reference(spec.and_then(|spec| spec.param_ref.as_ref())).into(),
            age(&self.metadata, now),
        ]
    }
}
