//! IP addresses and ranges of addresses in the fields that are as old as the API: a new one must be written without
//! needless parts, one that was there before may stay as it is (`IsValidIPForLegacyField`).

use std::net::IpAddr;

use crate::field::{Errors, Path};
use crate::{names, networking};

/// Reads an address as upstream's older parser does: the numbers of an IPv4 address may have zeros in front.
pub(crate) fn parse_sloppily(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let plain: Vec<&str> = parts
        .iter()
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            rest => rest,
        })
        .collect();
    (parts.len() == 4).then(|| plain.join(".").parse().ok())?
}

/// Checks an address; `kept` are those that the object had before.
pub(crate) fn check(text: &str, kept: &[String], path: &Path, errors: &mut Errors) {
    if kept.iter().any(|known| known == text) {
        return;
    }
    match parse_sloppily(text) {
        None => errors.invalid(path, text, names::NOT_AN_ADDRESS),
        Some(_) if text.parse::<IpAddr>().is_err() => errors.invalid(path, text, "must not have leading 0s"),
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            errors.invalid(path, text, "must not be an IPv4-mapped IPv6 address");
        }
        Some(_) => {}
    }
}

/// Checks a range of addresses; `kept` are those that the object had before.
pub(crate) fn check_range(text: &str, kept: &[String], path: &Path, errors: &mut Errors) {
    if !kept.iter().any(|known| known == text) {
        networking::check_range(text, path, errors);
    }
}

/// Whether the texts are addresses of both families: at most one of each.
pub(crate) fn one_of_each_family(texts: &[&str]) -> bool {
    let six = texts.iter().filter(|text| text.contains(':')).count();
    texts.len() < 2 || (texts.len() == 2 && six == 1)
}

/// What the writer of an address is told that is valid and yet written as nobody else writes it.
pub(crate) fn warning(path: &Path, text: &str) -> Option<String> {
    let address = parse_sloppily(text)?;
    let mapped = match address {
        IpAddr::V6(address) => address.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    if text.parse::<IpAddr>().is_err() || mapped.is_some() {
        let plain = mapped.map_or_else(|| address.to_string(), |mapped| mapped.to_string());
        return Some(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: \
             use {plain:?}"
        ));
    }
    let canonical = address.to_string();
    (canonical != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_address_is_written_without_needless_parts() {
        let cases = [
            ("10.9.8.7", None, None),
            ("2001:db8::1", None, None),
            (
                "2001:DB8::1",
                None,
                Some(
                    "x: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
                ),
            ),
            (
                "010.9.8.007",
                Some("x: Invalid value: \"010.9.8.007\": must not have leading 0s"),
                Some(
                    "x: non-standard IP address \"010.9.8.007\" will be considered invalid in a future Kubernetes release: use \"10.9.8.7\"",
                ),
            ),
            (
                "::ffff:1.2.3.4",
                Some("x: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address"),
                Some(
                    "x: non-standard IP address \"::ffff:1.2.3.4\" will be considered invalid in a future Kubernetes release: use \"1.2.3.4\"",
                ),
            ),
            (
                "300.1.1.1",
                Some(
                    "x: Invalid value: \"300.1.1.1\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ),
                None,
            ),
            (
                "1.2.3.",
                Some(
                    "x: Invalid value: \"1.2.3.\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ),
                None,
            ),
        ];
        let path = Path::new("x");
        for (text, wrong, unusual) in cases {
            let mut errors = Errors::new();
            check(text, &[], &path, &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, wrong.into_iter().collect::<Vec<_>>(), "{text}");
            assert_eq!(warning(&path, text).as_deref(), unusual, "{text}");
            let mut errors = Errors::new();
            check(text, &[text.to_string()], &path, &mut errors);
            assert!(errors.is_empty(), "{text} was there before");
        }
    }
}
