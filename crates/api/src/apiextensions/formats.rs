//! The formats of texts in the schemas of custom resources (`kube-openapi/pkg/validation/strfmt`).

use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::names;
use crate::regexp;

/// Formats that a pattern tells whole, by their names without dashes.
const PATTERNS: [(&str, &str); 10] = [
    ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
    (
        "byte",
        r"^(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$",
    ),
    ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
    ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    (
        "uuid",
        "(?i)(^[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}$)|(^[0-9A-F]{32}$)",
    ),
    (
        "uuid3",
        "(?i)(^[0-9A-F]{8}-[0-9A-F]{4}-3[0-9A-F]{3}-[0-9A-F]{4}-[0-9A-F]{12}$)|(^[0-9A-F]{12}3[0-9A-F]{3}[0-9A-F]{16}$)",
    ),
    (
        "uuid4",
        "(?i)(^[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$)|(^[0-9A-F]{12}4[0-9A-F]{3}[89AB][0-9A-F]{15}$)",
    ),
    (
        "uuid5",
        "(?i)(^[0-9A-F]{8}-[0-9A-F]{4}-5[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$)|(^[0-9A-F]{12}5[0-9A-F]{3}[89AB][0-9A-F]{15}$)",
    ),
    (
        "mac",
        "(?i)^([0-9a-f]{2}([:-][0-9a-f]{2}){5}|([0-9a-f]{4}\\.){2}[0-9a-f]{4})$",
    ),
];
/// What is in front of a domain, and the domain itself.
const HOST_NAME: &str = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
const TIME: &str = r"([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";
/// A number and the beginning of a unit's name.
const DURATION: &str = r"(?i)(\d+)\s*(nano|ns|micro|us|µs|milli|ms|sec|s|min|m|hour|hr|h|day|d|week|wk|w)";

/// The other formats that are known, by their names without dashes: those that are looked at below.
const OTHERS: [&str; 16] = [
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "password",
    "uri",
];

/// The formats of texts in a schema that nobody knows, in order, each once.
pub(super) fn unknown(schema: &JSONSchemaProps, found: &mut Vec<String>) {
    let format = schema.format.as_deref().unwrap_or_default();
    let name = format.replace('-', "");
    let is_known = OTHERS.contains(&name.as_str()) || PATTERNS.iter().any(|(known, _)| *known == name);
    let is_text = schema.type_.as_deref() == Some("string");
    if is_text && !format.is_empty() && !is_known && !found.iter().any(|known| known == format) {
        found.push(format.into());
    }
    if let Some(items) = &schema.items {
        match items {
            JSONSchemaPropsOrArray::Schema(items) => unknown(items, found),
            JSONSchemaPropsOrArray::Schemas(all) => all.iter().for_each(|items| unknown(items, found)),
        }
    }
    let conditions = [&schema.all_of, &schema.any_of, &schema.one_of];
    let below = conditions.into_iter().flat_map(|list| list.iter().flatten());
    let properties = schema.properties.iter().flatten().map(|(_, property)| property);
    below
        .chain(schema.not.as_deref())
        .chain(properties)
        .for_each(|below| unknown(below, found));
    if let Some(JSONSchemaPropsOrBool::Schema(additional)) = &schema.additional_properties {
        unknown(additional, found);
    }
}

/// Whether a text is of a format; one that upstream does not know either allows everything.
pub(super) fn holds(format: &str, text: &str) -> bool {
    let format = format.replace('-', "");
    if let Some((_, pattern)) = PATTERNS.iter().find(|(name, _)| *name == format) {
        return matches(pattern, text);
    }
    match format.as_str() {
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => text == "0" || matches(DURATION, text),
        "email" => is_email(text),
        "hostname" => is_host_name(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_range(text),
        "uri" => is_uri(text),
        "creditcard" => is_card(text),
        "isbn" => is_isbn(text, 10) || is_isbn(text, 13),
        "isbn10" => is_isbn(text, 10),
        "isbn13" => is_isbn(text, 13),
        "k8slongname" => names::dns_subdomain(text, false).is_empty(),
        "k8sshortname" => names::dns_label(text, false).is_empty(),
        _ => true,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    regexp::compile(pattern).is_ok_and(|compiled| compiled.is_none_or(|compiled| compiled.is_match(text)))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    let Ok(Some(pattern)) = regexp::compile(TIME) else {
        return false;
    };
    let Some(found) = pattern.captures(time) else {
        return false;
    };
    let at_most = |part: usize, most: &str| found.get(part).is_some_and(|part| part.as_str() <= most);
    is_date(date) && at_most(1, "23") && at_most(2, "59") && at_most(3, "59")
}

/// An address, with or without a name in front of it.
fn is_email(text: &str) -> bool {
    let address = match text.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text,
    };
    let Some((user, host)) = address.trim().rsplit_once('@') else {
        return false;
    };
    let words = |text: &str| {
        let is_word = |word: &str| {
            let allowed = |letter: char| {
                !letter.is_control() && !letter.is_whitespace() && !"()<>[]:;@\\,\"".contains(letter)
            };
            !word.is_empty() && word.chars().all(allowed)
        };
        text.split('.').all(is_word)
    };
    words(user) && words(host)
}

fn is_host_name(text: &str) -> bool {
    let parts = || text.split('.');
    let total: usize = parts().map(|part| part.len() + 1).sum();
    matches(HOST_NAME, text) && total <= 256 && parts().all(|part| (1..=63).contains(&part.len()))
}

fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let is_number = !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit());
    let bits: u8 = bits.parse().unwrap_or(u8::MAX);
    is_number
        && (address.parse::<Ipv4Addr>().is_ok() && bits <= 32
            || address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

/// What a request could be sent to: a path, or something behind a scheme.
fn is_uri(text: &str) -> bool {
    if text.chars().any(|letter| letter.is_control() || letter == ' ') {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    is_scheme && !rest.is_empty()
}

/// Between 13 and 19 digits, whose sum checks.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|letter| letter.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

fn is_isbn(text: &str, length: usize) -> bool {
    let letters: Vec<char> = text.chars().filter(|letter| !"- ".contains(*letter)).collect();
    let mut digits = Vec::new();
    for (place, letter) in letters.iter().enumerate() {
        match letter.to_digit(10) {
            Some(digit) => digits.push(digit),
            None if *letter == 'X' && length == 10 && place == 9 => digits.push(10),
            None => return false,
        }
    }
    let weighed = |weight: fn(u32) -> u32| -> u32 {
        (0..)
            .zip(&digits)
            .map(|(place, digit)| weight(place) * digit)
            .sum()
    };
    digits.len() == length
        && match length {
            10 => weighed(|place| place + 1).is_multiple_of(11),
            _ => weighed(|place| if place % 2 == 0 { 1 } else { 3 }).is_multiple_of(10),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_of_their_formats() {
        let cases = [
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("date", "2024-02-29", "2023-02-29"),
            ("date-time", "2024-01-01T10:00:00Z", "2024-01-01 10:00:00"),
            ("datetime", "2024-01-01t10:00:00.5+01:00", "2024-01-01T24:00:00Z"),
            ("duration", "1h30m", "soon"),
            ("duration", "3 days", "h"),
            ("email", "a.b@example.com", "a.example.com"),
            ("hostname", "a.example.com", "a_b!"),
            ("uri", "https://example.com/a", "example"),
            ("byte", "YWJj", "YWJ"),
            ("uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b"),
            (
                "uuid4",
                "0f8fad5b-d9cb-469f-a165-70867728950e",
                "0f8fad5b-d9cb-369f-a165-70867728950e",
            ),
            ("mac", "01:23:45:67:89:ab", "01:23:45"),
            ("hexcolor", "#fff", "#ggg"),
            ("rgbcolor", "rgb(1, 2, 3)", "rgb(1, 2)"),
            ("ssn", "123-45-6789", "12-345"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "a_b"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("isbn", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("isbn10", "0-306-40615-2", "978-0-306-40615-7"),
        ];
        for (format, right, wrong) in cases {
            assert!(holds(format, right), "{format} {right}");
            assert!(!holds(format, wrong), "{format} {wrong}");
        }
        assert!(holds("of-my-own", "anything") && holds("password", "anything"));
    }
}
