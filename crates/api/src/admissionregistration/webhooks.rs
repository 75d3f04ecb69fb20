//! What both kinds of webhooks have in common: their rules.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{FAILURE_POLICIES, expressions, rules};
use crate::field::{Errors, Path};
use crate::names;
use crate::selector;
use crate::webhook::{self, Client, Service};

/// What a webhook may do beside answering.
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
/// The versions of `AdmissionReview` that the server before this one knew.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const TIMEOUT: i32 = 10;
const PORT: i32 = 443;

/// A webhook of either kind.
pub(super) struct Webhook<'a> {
    name: &'a str,
    client: &'a WebhookClientConfig,
    rules: Option<&'a Vec<RuleWithOperations>>,
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    namespace_selector: Option<&'a LabelSelector>,
    object_selector: Option<&'a LabelSelector>,
    side_effects: &'a str,
    timeout: Option<i32>,
    review_versions: &'a [String],
    conditions: Option<&'a Vec<MatchCondition>>,
}

macro_rules! common {
    ($kind:ty) => {
        impl<'a> From<&'a $kind> for Webhook<'a> {
            fn from(hook: &'a $kind) -> Self {
                Self {
                    name: &hook.name,
                    client: &hook.client_config,
                    rules: hook.rules.as_ref(),
                    failure_policy: hook.failure_policy.as_deref(),
                    match_policy: hook.match_policy.as_deref(),
                    namespace_selector: hook.namespace_selector.as_ref(),
                    object_selector: hook.object_selector.as_ref(),
                    side_effects: &hook.side_effects,
                    timeout: hook.timeout_seconds,
                    review_versions: &hook.admission_review_versions,
                    conditions: hook.match_conditions.as_ref(),
                }
            }
        }

        impl Fill for $kind {
            fn fill_in(&mut self) {
                self.failure_policy.get_or_insert_with(|| "Fail".into());
                self.match_policy.get_or_insert_with(|| "Equivalent".into());
                self.namespace_selector.get_or_insert_default();
                self.object_selector.get_or_insert_default();
                self.timeout_seconds.get_or_insert(TIMEOUT);
                if let Some(service) = &mut self.client_config.service {
                    service.port.get_or_insert(PORT);
                }
                rules::default(&mut self.rules);
            }
        }
    };
}

/// Fills in what a client left out of a webhook.
pub(super) trait Fill {
    fn fill_in(&mut self);
}

common!(MutatingWebhook);
common!(ValidatingWebhook);

/// Checks webhooks of either kind; `own` checks what one kind has alone.
pub(super) fn validate<'a, H: 'a>(
    hooks: Option<&'a Vec<H>>,
    errors: &mut Errors,
    own: impl Fn(&H, &Path, &mut Errors),
) where
    Webhook<'a>: From<&'a H>,
{
    let mut seen = std::collections::BTreeSet::new();
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        let path = Path::new("webhooks").index(index);
        let common = Webhook::from(hook);
        common.validate(&path, errors, |path, errors| own(hook, path, errors));
        if !common.name.is_empty() && !seen.insert(common.name) {
            errors.duplicate(&path.child("name"), common.name);
        }
    }
}

impl Webhook<'_> {
    fn validate(&self, path: &Path, errors: &mut Errors, own: impl Fn(&Path, &mut Errors)) {
        check_name(self.name, &path.child("name"), errors);
        for (index, rule) in self.rules.into_iter().flatten().enumerate() {
            rules::validate(rule, &path.child("rules").index(index), errors);
        }
        for (field, policy, known) in [
            ("failurePolicy", self.failure_policy, &FAILURE_POLICIES),
            ("matchPolicy", self.match_policy, &rules::MATCH_POLICIES),
        ] {
            if let Some(policy) = policy.filter(|policy| !known.contains(policy)) {
                errors.not_supported(&path.child(field), policy, known);
            }
        }
        let at = path.child("sideEffects");
        match self.side_effects {
            "" => errors.required(&at, &format!("must specify one of {}", SIDE_EFFECTS.join(", "))),
            other if SIDE_EFFECTS.contains(&other) => {}
            other => errors.not_supported(&at, other, &SIDE_EFFECTS),
        }
        if let Some(seconds) = self.timeout.filter(|seconds| !(1..=30).contains(seconds)) {
            errors.invalid(
                &path.child("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            );
        }
        for (field, given) in [
            ("namespaceSelector", self.namespace_selector),
            ("objectSelector", self.object_selector),
        ] {
            if let Some(given) = given {
                selector::validate(given, &path.child(field), errors);
            }
        }
        own(path, errors);
        let client = Client {
            url: self.client.url.as_deref(),
            service: self.client.service.as_ref().map(|service| Service {
                name: &service.name,
                namespace: &service.namespace,
                path: service.path.as_deref(),
                port: service.port.unwrap_or(0),
            }),
        };
        webhook::validate(&client, &path.child("clientConfig"), errors);
        expressions::validate_conditions(self.conditions, &path.child("matchConditions"), errors);
        check_versions(
            self.review_versions,
            &path.child("admissionReviewVersions"),
            errors,
        );
    }
}

/// A webhook's name must be fully qualified.
fn check_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let wrong = names::dns_subdomain(name, false);
    if !wrong.is_empty() {
        errors.invalid(path, name, wrong.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, name, detail);
    }
}

fn check_versions(versions: &[String], path: &Path, errors: &mut Errors) {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return errors.required(path, &format!("must specify one of {known}"));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.invalid(&path.index(index), version, "duplicate version");
            continue;
        }
        errors.invalid_each(&path.index(index), version, names::dns_1035_label(version, false));
    }
    if !versions
        .iter()
        .any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
    {
        errors.invalid(path, versions, format!("must include at least one of {known}"));
    }
}
