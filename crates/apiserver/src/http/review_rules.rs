//! What a valid question about somebody's rights is (`pkg/apis/authorization/validation`).

use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, LabelSelectorAttributes, LocalSubjectAccessReview, NonResourceAttributes,
    ResourceAttributes, SelfSubjectAccessReview, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use skiff_api::{Errors, Path, selector};

/// Checks a question about anybody.
pub(super) fn access(review: &SubjectAccessReview) -> Errors {
    let mut errors = Errors::new();
    check_spec(&review.spec, &mut errors);
    check_metadata(&review.metadata, false, &mut errors);
    errors
}

/// Checks a question about anybody in one namespace.
pub(super) fn local(review: &LocalSubjectAccessReview) -> Errors {
    let mut errors = Errors::new();
    check_spec(&review.spec, &mut errors);
    check_metadata(&review.metadata, true, &mut errors);
    let namespace = review.metadata.namespace.as_deref().unwrap_or_default();
    let spec = Path::new("spec");
    if let Some(resource) = &review.spec.resource_attributes {
        let asked = resource.namespace.as_deref().unwrap_or_default();
        if asked != namespace {
            let path = spec.child("resourceAttributes.namespace");
            errors.invalid(&path, asked, "must match metadata.namespace");
        }
    }
    if let Some(path) = &review.spec.non_resource_attributes {
        let at = spec.child("nonResourceAttributes");
        errors.invalid(&at, internal(path), "disallowed on this kind of request");
    }
    errors
}

/// Checks a question about the caller.
pub(super) fn own(review: &SelfSubjectAccessReview) -> Errors {
    let mut errors = Errors::new();
    let spec = &review.spec;
    let (resource, path) = (
        spec.resource_attributes.as_ref(),
        spec.non_resource_attributes.as_ref(),
    );
    check_attributes(resource, path, &mut errors);
    check_selectors(resource, &mut errors);
    check_metadata(&review.metadata, false, &mut errors);
    errors
}

/// The form in which upstream shows a path and a verb.
fn internal(path: &NonResourceAttributes) -> serde_json::Value {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    json!({"Path": text(&path.path), "Verb": text(&path.verb)})
}

fn check_spec(spec: &SubjectAccessReviewSpec, errors: &mut Errors) {
    let resource = spec.resource_attributes.as_ref();
    check_attributes(resource, spec.non_resource_attributes.as_ref(), errors);
    let nobody = spec.user.as_deref().unwrap_or_default().is_empty()
        && spec.groups.as_ref().is_none_or(|groups| groups.is_empty());
    if nobody {
        let path = Path::new("spec.user");
        errors.invalid(&path, "", "at least one of user or group must be specified");
    }
    check_selectors(resource, errors);
}

fn check_attributes(
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
    errors: &mut Errors,
) {
    let spec = Path::new("spec");
    match (resource, path) {
        (Some(_), Some(path)) => errors.invalid(
            &spec.child("nonResourceAttributes"),
            internal(path),
            "cannot be specified in combination with resourceAttributes",
        ),
        (None, None) => errors.invalid(
            &spec.child("resourceAttributes"),
            resource,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
}

fn check_metadata(metadata: &ObjectMeta, may_have_namespace: bool, errors: &mut Errors) {
    let mut rest = metadata.clone();
    rest.managed_fields = None;
    if may_have_namespace {
        rest.namespace = None;
    }
    if rest != ObjectMeta::default() {
        let detail = if may_have_namespace {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        errors.invalid(&Path::new("metadata"), metadata, detail);
    }
}

fn check_selectors(resource: Option<&ResourceAttributes>, errors: &mut Errors) {
    let path = Path::new("spec.resourceAttributes");
    if let Some(selector) = resource.and_then(|resource| resource.field_selector.as_ref()) {
        check_fields(selector, &path.child("fieldSelector"), errors);
    }
    if let Some(selector) = resource.and_then(|resource| resource.label_selector.as_ref()) {
        check_labels(selector, &path.child("labelSelector"), errors);
    }
}

/// A selector is a text or a list of requirements.
fn check_form(raw: Option<&str>, requirements: usize, path: &Path, errors: &mut Errors) {
    let raw = raw.unwrap_or_default();
    if !raw.is_empty() && requirements > 0 {
        errors.invalid(
            &path.child("rawSelector"),
            raw,
            "may not specified at the same time as requirements",
        );
    }
    if raw.is_empty() && requirements == 0 {
        let detail = format!("when {path} is specified, requirements or rawSelector is required");
        errors.required(&path.child("requirements"), &detail);
    }
}

fn check_fields(selector: &FieldSelectorAttributes, path: &Path, errors: &mut Errors) {
    let requirements = selector.requirements.as_deref().unwrap_or_default();
    check_form(selector.raw_selector.as_deref(), requirements.len(), path, errors);
    for (index, requirement) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(index);
        if requirement.key.is_empty() {
            errors.required(&path.child("key"), "must be specified");
        }
        let values = requirement.values.as_deref().unwrap_or_default();
        selector::validate_operator(&requirement.operator, values, true, &path, errors);
    }
}

fn check_labels(selector: &LabelSelectorAttributes, path: &Path, errors: &mut Errors) {
    let requirements = selector.requirements.as_deref().unwrap_or_default();
    check_form(selector.raw_selector.as_deref(), requirements.len(), path, errors);
    for (index, requirement) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(index);
        selector::validate_requirement(requirement, true, &path, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_checked() {
        let pods = json!({"verb": "get", "resource": "pods", "namespace": "a"});
        let with = |field: &str, selector: serde_json::Value| {
            let mut attributes = pods.clone();
            attributes[field] = selector;
            json!({"spec": {"user": "jane", "resourceAttributes": attributes}})
        };
        let at = "spec.resourceAttributes";
        for (review, expected) in [
            (json!({"spec": {"user": "jane", "resourceAttributes": pods}}), vec![]),
            (
                json!({"metadata": {"name": "x"}, "spec": {"resourceAttributes": pods,
                    "nonResourceAttributes": {"path": "/", "verb": "get"}}}),
                vec![
                    "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/\",\"Verb\":\"get\"}: cannot be specified in combination with resourceAttributes".to_string(),
                    "spec.user: Invalid value: \"\": at least one of user or group must be specified".into(),
                    "metadata: Invalid value: {\"name\":\"x\"}: must be empty".into(),
                ],
            ),
            (
                with("fieldSelector", json!({})),
                vec![format!(
                    "{at}.fieldSelector.requirements: Required value: when {at}.fieldSelector is specified, \
                     requirements or rawSelector is required"
                )],
            ),
            (
                with("fieldSelector", json!({"rawSelector": "a=b", "requirements": [
                    {"key": "", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["x"]},
                    {"key": "a", "operator": "Later"}]})),
                vec![
                    format!("{at}.fieldSelector.rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements"),
                    format!("{at}.fieldSelector.requirements[0].key: Required value: must be specified"),
                    format!("{at}.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
                    format!("{at}.fieldSelector.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
                ],
            ),
            (
                with("labelSelector", json!({"requirements": [{"key": "a", "operator": "In"}]})),
                vec![format!("{at}.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'")],
            ),
        ] {
            let read: SubjectAccessReview = serde_json::from_value(review.clone()).unwrap();
            let found: Vec<String> = access(&read).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{review}");
        }
        let review: LocalSubjectAccessReview = serde_json::from_value(json!({"metadata": {"namespace": "b"},
            "spec": {"user": "jane", "resourceAttributes": pods}}))
        .unwrap();
        let found: Vec<String> = local(&review).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["spec.resourceAttributes.namespace: Invalid value: \"a\": must match metadata.namespace"]
        );
    }
}
