//! The rules for names, keys and values, with apimachinery's messages (`k8s.io/apimachinery/pkg/util/validation`).
//!
//! Each rule returns the messages of all that is wrong; an empty list means a valid text. Where a rule takes `prefix`,
//! the text is a `generateName`: it may end with a dash, because more follows.

use rand::Rng;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
     an alphanumeric character";

/// What a text must not be when it must be something.
pub const EMPTY: &str = "must be non-empty";

/// What is said of a text that is no IP address.
pub const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// The longest DNS subdomain.
pub const MAX_SUBDOMAIN: usize = 253;
/// The longest DNS label, label value and name part of a key.
pub const MAX_LABEL: usize = 63;

/// `must be no more than 63 characters`, as upstream says it of names; it means bytes.
fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// `must be no more than 63 bytes`, as upstream says it of labels.
fn too_many_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// `must be between 1 and 65535, inclusive`
pub fn range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A message about a text that does not match: what it must be, examples, and the expression.
pub fn mismatch(message: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let shown: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{expression}')",
        shown.join(" or ")
    )
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether the text is not empty, all of `inner`, and begins and ends with `edge`.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => edge(first) && edge(last) && bytes.iter().all(|&byte| inner(byte)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    framed(text, lower, |byte| lower(byte) || byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified(text: &str) -> bool {
    framed(
        text,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    )
}

/// A `generateName` may end with a dash; it is checked with a letter in that place (`maskTrailingDash`).
fn masked(text: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match text.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => format!("{rest}a").into(),
        _ => text.into(),
    }
}

/// DNS subdomains (RFC 1123): the rule for most objects' names.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut messages = Vec::new();
    if name.len() > MAX_SUBDOMAIN {
        messages.push(too_long(MAX_SUBDOMAIN));
    }
    if !is_subdomain(&name) {
        messages.push(mismatch(SUBDOMAIN_MESSAGE, SUBDOMAIN, &["example.com"]));
    }
    messages
}

/// DNS subdomains below one that is left open: `*.example.com`.
pub fn wildcard_dns_subdomain(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > MAX_SUBDOMAIN {
        messages.push(too_long(MAX_SUBDOMAIN));
    }
    let valid = name
        .strip_prefix("*.")
        .is_some_and(|rest| rest.len() > MAX_SUBDOMAIN || dns_subdomain(rest, false).is_empty());
    if !valid {
        messages.push(mismatch(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["*.example.com"],
        ));
    }
    messages
}

/// DNS labels (RFC 1123): namespaces, containers, volumes.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut messages = Vec::new();
    if name.len() > MAX_LABEL {
        messages.push(too_long(MAX_LABEL));
    }
    if !is_label(&name) {
        messages.push(if is_subdomain(&name) {
            "must not contain dots".into()
        } else {
            mismatch(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                 start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    messages
}

/// DNS labels (RFC 1035), which begin with a letter.
pub fn dns_1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut messages = Vec::new();
    if name.len() > MAX_LABEL {
        messages.push(too_long(MAX_LABEL));
    }
    if !is_label(&name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        messages.push(mismatch(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    messages
}

/// DNS subdomains whose labels may have underscores: DNS search paths.
pub fn dns_subdomain_with_underscore(name: &str) -> Vec<String> {
    let part = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        framed(text, lower, |byte| lower(byte) || matches!(byte, b'-' | b'_'))
    };
    let mut messages = Vec::new();
    if name.len() > MAX_SUBDOMAIN {
        messages.push(too_long(MAX_SUBDOMAIN));
    }
    if !name.split('.').all(part) {
        messages.push(mismatch(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
             must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    messages
}

/// Qualified names: label keys, annotation keys (in lower case), finalizers, resource names.
pub fn qualified_name(text: &str) -> Vec<String> {
    let examples = &["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                mismatch(QUALIFIED_MESSAGE, QUALIFIED, examples)
            )];
        }
        Some(("", name)) => {
            messages.push(format!("prefix part {EMPTY}"));
            name
        }
        Some((domain, name)) => {
            if domain.len() > MAX_SUBDOMAIN {
                messages.push(format!("prefix part {}", too_many_bytes(MAX_SUBDOMAIN)));
            }
            if !is_subdomain(domain) {
                let wrong = mismatch(SUBDOMAIN_MESSAGE, SUBDOMAIN, &["example.com"]);
                messages.push(format!("prefix part {wrong}"));
            }
            name
        }
    };
    if name.is_empty() {
        messages.push(format!("name part {EMPTY}"));
    } else if name.len() > MAX_LABEL {
        messages.push(format!("name part {}", too_many_bytes(MAX_LABEL)));
    }
    if !is_qualified(name) {
        messages.push(format!(
            "name part {}",
            mismatch(QUALIFIED_MESSAGE, QUALIFIED, examples)
        ));
    }
    messages
}

/// Values of labels.
pub fn label_value(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > MAX_LABEL {
        messages.push(too_many_bytes(MAX_LABEL));
    }
    if !text.is_empty() && !is_qualified(text) {
        messages.push(mismatch(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

/// Names that only must be able to stand in a path: RBAC objects.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    let mut messages = Vec::new();
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    for character in ["/", "%"] {
        if name.contains(character) {
            messages.push(format!("may not contain '{character}'"));
        }
    }
    messages
}

/// Names of environment variables: printable ASCII without `=`.
pub fn env_var(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.is_empty() {
        messages.push(format!("environment variable name {EMPTY}"));
    }
    if name.chars().any(|c| !matches!(c, ' '..='~') || c == '=') {
        messages.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        );
    }
    messages
}

/// Keys of config maps and secrets.
pub fn config_map_key(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if key.len() > MAX_SUBDOMAIN {
        messages.push(too_long(MAX_SUBDOMAIN));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !framed(key, allowed, allowed) {
        messages.push(mismatch(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." | ".." => messages.push(format!("must not be '{key}'")),
        key if key.starts_with("..") => messages.push("must not start with '..'".into()),
        _ => {}
    }
    messages
}

/// Names of ports (RFC 6335, in lower case).
pub fn port_name(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > 15 {
        messages.push(too_long(15));
    }
    if name.is_empty() || !name.bytes().all(|byte| lower(byte) || byte == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        messages.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        messages.push("must not begin or end with a hyphen".into());
    }
    messages
}

/// Port numbers.
pub fn port_number(port: i32) -> Vec<String> {
    if (1..=65_535).contains(&port) {
        Vec::new()
    } else {
        vec![range(1, 65_535)]
    }
}

/// Names of HTTP headers.
pub fn http_header_name(name: &str) -> Vec<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if framed(name, allowed, allowed) {
        Vec::new()
    } else {
        vec![mismatch(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            "[-A-Za-z0-9]+",
            &["X-Header-Name"],
        )]
    }
}

/// Paths behind a domain: `acme.io/foo`.
pub fn domain_prefixed_path(text: &str) -> Vec<String> {
    match text.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            let mut wrong = dns_subdomain(domain, false);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~!$&'()*+,;=:".contains(&byte);
            if !path.bytes().all(allowed) {
                wrong.push(mismatch("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]));
            }
            wrong
        }
        _ => vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".into()],
    }
}

/// Percentages: `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digit = |byte: u8| byte.is_ascii_digit();
    if text
        .strip_suffix('%')
        .is_some_and(|number| framed(number, digit, digit))
    {
        Vec::new()
    } else {
        vec![mismatch(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )]
    }
}

/// Letters and digits of generated names: no vowels and nothing that looks like another, so that no words arise.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const RANDOM: usize = 5;

/// A name from a `generateName`: its first 58 bytes and five random characters.
pub fn generate(base: &str) -> String {
    let mut end = base.len().min(MAX_LABEL - RANDOM);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let (base, _) = base.split_at(end);
    format!("{base}{}", random_suffix(RANDOM))
}

/// So many random characters of the alphabet of generated names.
pub fn random_suffix(length: usize) -> String {
    let mut random = rand::rng();
    (0..length)
        .filter_map(|_| ALPHABET.get(random.random_range(0..ALPHABET.len())))
        .map(|&byte| char::from(byte))
        .collect()
}

/// A hash's text in the alphabet of generated names (`rand.SafeEncodeString`), as in a replica set's name.
pub fn safe_encode(text: &str) -> String {
    text.bytes()
        .filter_map(|byte| ALPHABET.get(usize::from(byte) % ALPHABET.len()))
        .map(|&byte| char::from(byte))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> Vec<String>;

    #[test]
    fn valid_names_pass() {
        let cases: &[(&str, Rule, &[&str])] = &[
            (
                "subdomain",
                |t| dns_subdomain(t, false),
                &["a", "0", "a-b.c", "1.2.3"],
            ),
            (
                "generateName",
                |t| dns_subdomain(t, true),
                &["web-", "a.b-", "web"],
            ),
            ("label", |t| dns_label(t, false), &["a", "0-9"]),
            ("1035", |t| dns_1035_label(t, false), &["a", "a-9"]),
            ("qualified", qualified_name, &["a", "A_b.c", "example.com/A", "1"]),
            ("value", label_value, &["", "A", "a_b"]),
            ("path segment", |t| path_segment(t, false), &["system:x", "a b"]),
            ("env", env_var, &["A", "a b", "1", "a.b-c"]),
            ("key", config_map_key, &["a", ".a", "A_b", "a..b"]),
            ("port", port_name, &["http", "a-1"]),
            ("header", http_header_name, &["X-A"]),
            ("percent", percent, &["0%", "250%"]),
            (
                "search path",
                dns_subdomain_with_underscore,
                &["_ldap._tcp.a", "a_b"],
            ),
        ];
        for (rule, check, texts) in cases {
            for text in *texts {
                assert_eq!(check(text), Vec::<String>::new(), "{rule}: {text:?}");
            }
        }
    }

    #[test]
    fn messages_are_those_of_apimachinery() {
        let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
            '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
            is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
            start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation \
            is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        let qualified = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
            alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
            '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let long = "a".repeat(254);
        let cases: &[(Vec<String>, Vec<String>)] = &[
            (dns_subdomain("Foo", false), vec![subdomain.into()]),
            (dns_subdomain("foo-", false), vec![subdomain.into()]),
            (dns_subdomain("-", true), vec![subdomain.into()]),
            (dns_subdomain("", false), vec![subdomain.into()]),
            (dns_subdomain("a..b", false), vec![subdomain.into()]),
            (dns_subdomain(&long, false), vec!["must be no more than 253 characters".into()]),
            (dns_label("a_b", false), vec![label.into()]),
            (dns_label("a.b", false), vec!["must not contain dots".into()]),
            (
                dns_1035_label("1a", false),
                vec![
                    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                     regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                        .into(),
                ],
            ),
            (
                qualified_name("/a"),
                vec!["prefix part must be non-empty".into()],
            ),
            (
                qualified_name("Example/"),
                vec![
                    format!("prefix part {subdomain}"),
                    "name part must be non-empty".into(),
                    format!("name part {qualified}"),
                ],
            ),
            (
                qualified_name("a/b/c"),
                vec![format!(
                    "a valid label key {qualified} with an optional DNS subdomain prefix and '/' (e.g. \
                     'example.com/MyName')"
                )],
            ),
            (path_segment("..", false), vec!["may not be '..'".into()]),
            (path_segment("a/%", false), vec!["may not contain '/'".into(), "may not contain '%'".into()]),
            (
                port_name("-1--2-345678901234"),
                vec![
                    "must be no more than 15 characters".into(),
                    "must contain at least one letter (a-z)".into(),
                    "must not contain consecutive hyphens".into(),
                    "must not begin or end with a hyphen".into(),
                ],
            ),
            (port_number(0), vec!["must be between 1 and 65535, inclusive".into()]),
            (config_map_key(".."), vec!["must not be '..'".into()]),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(name.starts_with(&"x".repeat(58)));
        let name = generate("web-");
        assert!(
            name.len() == 9 && name.bytes().skip(4).all(|byte| ALPHABET.contains(&byte)),
            "{name}"
        );
        assert_ne!(generate("web-"), generate("web-"), "two names alike in a row");
        assert!(generate(&"é".repeat(40)).starts_with(&"é".repeat(29)));
    }

    #[test]
    fn hashes_are_encoded_without_vowels() {
        // 0x30 % 27 = 21 …: what upstream's SafeEncodeString gives for these digits.
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }
}
