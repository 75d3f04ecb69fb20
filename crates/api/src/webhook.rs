//! How a webhook is reached: what is a valid URL or service (`k8s.io/apiserver/pkg/util/webhook`).

use crate::field::{Errors, Path};
use crate::names;

const FORM: &str = "; desired format: https://host[/path]";

/// Where a webhook is, as a configuration says.
pub(crate) struct Client<'a> {
    pub(crate) url: Option<&'a str>,
    pub(crate) service: Option<Service<'a>>,
}

/// A service that serves a webhook.
pub(crate) struct Service<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) path: Option<&'a str>,
    pub(crate) port: i32,
}

/// Checks that there is one way to reach the webhook, and that it is one.
pub(crate) fn validate(client: &Client<'_>, path: &Path, errors: &mut Errors) {
    match (client.url, &client.service) {
        (Some(url), None) => validate_url(url, &path.child("url"), errors),
        (None, Some(service)) => validate_service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn validate_url(url: &str, path: &Path, errors: &mut Errors) {
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if !scheme.contains('/') => (scheme, rest),
        _ => ("", rest),
    };
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if !scheme.eq_ignore_ascii_case("https") {
        errors.invalid(
            path,
            scheme,
            format!("'https' is the only allowed URL scheme{FORM}"),
        );
    }
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be provided{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn validate_service(service: &Service<'_>, path: &Path, errors: &mut Errors) {
    // Upstream mistakes the one for the other; each is said of the other's absence.
    if service.namespace.is_empty() {
        errors.required(&path.child("name"), "service name is required");
    }
    if service.name.is_empty() {
        errors.required(&path.child("namespace"), "service namespace is required");
    }
    let wrong = names::port_number(service.port);
    if !wrong.is_empty() {
        let message = format!("port is not valid: {}", wrong.join(", "));
        errors.invalid(&path.child("port"), service.port, message);
    }
    let Some(text) = service.path.filter(|text| !matches!(*text, "" | "/")) else {
        return;
    };
    let at = path.child("path");
    if text == "//" {
        return errors.invalid(&at, text, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        errors.invalid(&at, text, "must start with a '/'");
    }
    let mut letters = text.chars();
    letters.next();
    let below = letters.as_str();
    for (index, step) in below.strip_suffix('/').unwrap_or(below).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at, text, format!("segment[{index}] may not be empty"));
            continue;
        }
        for message in names::dns_subdomain(step, false) {
            errors.invalid(&at, text, format!("segment[{index}]: {message}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: Option<&str>, service: Option<(&str, &str, Option<&str>, i32)>) -> Vec<String> {
        let service = service.map(|(name, namespace, path, port)| Service {
            name,
            namespace,
            path,
            port,
        });
        let mut errors = Errors::new();
        validate(&Client { url, service }, &Path::new("c"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_webhook_is_reached_in_one_way() {
        let cases: [(_, _, &[&str]); 11] = [
            (
                None,
                None,
                &["c: Required value: exactly one of url or service is required"],
            ),
            (Some("https://h/p"), None, &[]),
            (Some("https://h:9443"), None, &[]),
            (
                Some("http://h"),
                None,
                &[
                    "c.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ],
            ),
            (
                Some("https:///p"),
                None,
                &["c.url: Invalid value: \"\": host must be provided; desired format: https://host[/path]"],
            ),
            (
                Some("https://u:p@h/x?q=1#f"),
                None,
                &[
                    "c.url: Invalid value: \"u:p\": user information is not permitted in the URL",
                    "c.url: Invalid value: \"f\": fragments are not permitted in the URL",
                    "c.url: Invalid value: \"q=1\": query parameters are not permitted in the URL",
                ],
            ),
            (None, Some(("n", "s", Some("/a/b/"), 443)), &[]),
            (
                None,
                Some(("", "s", None, 0)),
                &[
                    "c.service.namespace: Required value: service namespace is required",
                    "c.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                None,
                Some(("n", "s", Some("//"), 443)),
                &["c.service.path: Invalid value: \"//\": segment[0] may not be empty"],
            ),
            (
                None,
                Some(("n", "s", Some("/a//b"), 443)),
                &["c.service.path: Invalid value: \"/a//b\": segment[1] may not be empty"],
            ),
            (
                Some("https://h"),
                Some(("n", "s", None, 443)),
                &["c: Required value: exactly one of url or service is required"],
            ),
        ];
        for (url, service, expected) in cases {
            assert_eq!(found(url, service), expected, "{url:?} {service:?}");
        }
    }
}
