//! What is a valid name of a signer.

use crate::field::{Errors, Path};
use crate::names;

/// Checks the name of a signer: a domain, a slash and a path.
pub(super) fn check(name: &str, path: &Path, errors: &mut Errors) {
    // In the path there is room for a namespace and a name with a dot between.
    const LONGEST: usize = names::MAX_SUBDOMAIN + 1 + names::MAX_SUBDOMAIN + 1 + 63;
    if name.is_empty() {
        return errors.required(path, "");
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, rest] = parts.as_slice() else {
        return errors.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    if domain.len() > names::MAX_SUBDOMAIN {
        errors.too_long(path, names::MAX_SUBDOMAIN);
    }
    let labels = || domain.split('.');
    check_first_wrong(domain, labels(), names::dns_label, path, errors);
    if labels().count() < 2 {
        errors.invalid(
            path,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    check_first_wrong(rest, rest.split('.'), names::dns_subdomain, path, errors);
    if name.len() > LONGEST {
        errors.too_long(path, LONGEST);
    }
}

/// Reports what is wrong with the first of the labels that is wrong: the others would be told of in the same words.
fn check_first_wrong<'a>(
    part: &str,
    labels: impl Iterator<Item = &'a str>,
    rule: fn(&str, bool) -> Vec<String>,
    path: &Path,
    errors: &mut Errors,
) {
    let mut wrong = labels.map(|label| (label, rule(label, false)));
    if let Some((label, messages)) = wrong.find(|(_, messages)| !messages.is_empty()) {
        for message in messages {
            errors.invalid(path, part, format!("validating label {label:?}: {message}"));
        }
    }
}

/// Whether a signer is one of Kubernetes' own.
pub(super) fn is_kubernetes(name: &str) -> bool {
    let host = name.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}
