//! What is a valid name of a signer.

use crate::field::{Errors, Path};
use crate::names;

/// Checks the name of a signer: a domain, a slash and a path.
pub(super) fn check(name: &str, path: &Path, errors: &mut Errors) {
    const LONGEST: usize = names::MAX_SUBDOMAIN + 1 + names::MAX_SUBDOMAIN;
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
    if domain.is_empty() || rest.is_empty() {
        return errors.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    }
    for message in names::dns_subdomain(domain, false) {
        errors.invalid(path, domain, format!("validating label {domain:?}: {message}"));
    }
    if domain.split('.').count() < 2 {
        errors.invalid(
            path,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for message in names::dns_subdomain(rest, false) {
        errors.invalid(path, rest, format!("validating label {rest:?}: {message}"));
    }
    if name.len() > LONGEST {
        errors.too_long(path, LONGEST);
    }
}
