//! How the versions of a custom resource become each other.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceConversion;

use crate::field::{Errors, Path};
use crate::names;
use crate::webhook::{self, Client, Service};

/// The versions of `ConversionReview` that the server before this one knew.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_WEBHOOK: &str = "should not be set when strategy is not set to Webhook";

/// Whether a known version of the reviews is named, or none at all.
fn is_recognized(conversion: Option<&CustomResourceConversion>) -> bool {
    let webhook = conversion.and_then(|conversion| conversion.webhook.as_ref());
    let versions = webhook.map(|webhook| webhook.conversion_review_versions.as_slice());
    let versions = versions.unwrap_or_default();
    let known = |version: &String| REVIEW_VERSIONS.contains(&version.as_str());
    versions.is_empty() || versions.iter().any(known)
}

/// Checks a conversion. What was not recognized before need not be now.
pub(super) fn validate(
    conversion: Option<&CustomResourceConversion>,
    old: Option<&CustomResourceConversion>,
    path: &Path,
    errors: &mut Errors,
) {
    let Some(conversion) = conversion else { return };
    let strategy = conversion.strategy.as_str();
    errors.one_of(&path.child("strategy"), Some(strategy), &["None", "Webhook"]);
    let webhook = conversion.webhook.as_ref();
    let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
    let versions = webhook.map(|webhook| webhook.conversion_review_versions.as_slice());
    let versions = versions.unwrap_or_default();
    let (client_at, versions_at) = (
        path.child("webhookClientConfig"),
        path.child("conversionReviewVersions"),
    );
    if strategy != "Webhook" {
        if config.is_some() {
            errors.forbidden(&client_at, NO_WEBHOOK);
        }
        if !versions.is_empty() {
            errors.forbidden(&versions_at, NO_WEBHOOK);
        }
        return;
    }
    match config {
        None => errors.required(&client_at, "required when strategy is set to Webhook"),
        Some(config) => {
            let client = Client {
                url: config.url.as_deref(),
                service: config.service.as_ref().map(|service| Service {
                    name: &service.name,
                    namespace: &service.namespace,
                    path: service.path.as_deref(),
                    port: service.port.unwrap_or(0),
                }),
            };
            webhook::validate(&client, &client_at, errors);
        }
    }
    validate_versions(versions, is_recognized(old), &versions_at, errors);
}

fn validate_versions(versions: &[String], recognized: bool, path: &Path, errors: &mut Errors) {
    if versions.is_empty() {
        return errors.required(path, "");
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        if !seen.insert(version) {
            errors.invalid(&at, version, "duplicate version");
            continue;
        }
        errors.invalid_each(&at, version, names::dns_1035_label(version, false));
    }
    let known = |version: &String| REVIEW_VERSIONS.contains(&version.as_str());
    if recognized && !versions.iter().any(known) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(path, versions, detail);
    }
}
