//! Who brings a kind into one of Kubernetes' own groups must say where that was approved, or that it was not.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::field::{Errors, Path};

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn annotation(object: &CustomResourceDefinition) -> &str {
    let annotations = object.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(ANNOTATION))
        .map(String::as_str)
        .unwrap_or_default()
}

fn approval(object: &CustomResourceDefinition) -> Approval {
    let text = annotation(object);
    let has_host = |(scheme, rest): (&str, &str)| {
        let mut letters = scheme.chars();
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
            && !host.is_empty()
            && !text.contains([' ', '\t', '\n'])
    };
    if text.is_empty() {
        Approval::Missing
    } else if text.starts_with("unapproved") {
        Approval::Bypassed
    } else if text.split_once("://").is_some_and(has_host) {
        Approval::Approved
    } else {
        Approval::Invalid
    }
}

/// Whether a group is Kubernetes' own.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .into_iter()
        .any(|own| group == own || group.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')))
}

/// Checks the annotation that tells of the approval. What it was it may stay.
pub(super) fn validate(
    object: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
    errors: &mut Errors,
) {
    let found = approval(object);
    if !is_protected(&object.spec.group) || old.is_some_and(|old| approval(old) == found) {
        return;
    }
    let path = Path::new("metadata.annotations").key(ANNOTATION);
    let must = format!("protected groups must have approval annotation {ANNOTATION:?}");
    match found {
        Approval::Missing => errors.required(&path, &format!("{must}, {SEE}")),
        Approval::Invalid => errors.invalid(
            &path,
            annotation(object),
            format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}"),
        ),
        Approval::Bypassed | Approval::Approved => {}
    }
}
