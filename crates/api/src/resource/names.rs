//! What is a valid name of a driver, a pool, a device, a request, an attribute; lists that are bounded and unique.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::core::pod_spec::check_driver;
use crate::field::{Errors, Path};
use crate::names;

/// The longest domain and the longest identifier of an attribute, in bytes.
const MAX_DOMAIN: usize = 63;
const MAX_IDENTIFIER: usize = 32;
/// The longest name of a pool, in bytes.
const MAX_POOL: usize = 253;
const IDENTIFIER: &str = "[A-Za-z_][A-Za-z0-9_]*";

pub(super) fn check_label(name: &str, path: &Path, errors: &mut Errors) {
    errors.invalid_each(path, name, names::dns_label(name, false));
}

pub(super) fn check_pool(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > MAX_POOL {
        errors.too_long(path, MAX_POOL);
    }
    for part in name.split('/') {
        errors.invalid_each(path, part, names::dns_subdomain(part, false));
    }
}

/// `size`, or `example.com/size`.
pub(super) fn check_qualified(name: &str, path: &Path, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [name] => check_identifier(name, path, errors),
        [domain, name] => {
            match *domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                domain => check_driver(domain, path, errors),
            }
            match *name {
                "" => errors.invalid(path, "", "the name must not be empty"),
                name => check_identifier(name, path, errors),
            }
        }
        _ => errors.invalid(path, name, "must not contain more than one slash"),
    }
}

/// `example.com/size`.
pub(super) fn check_fully_qualified(name: &str, path: &Path, errors: &mut Errors) {
    check_qualified(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

fn check_identifier(name: &str, path: &Path, errors: &mut Errors) {
    if name.len() > MAX_IDENTIFIER {
        errors.too_long(path, MAX_IDENTIFIER);
    }
    let mut letters = name.chars();
    let is_one = letters
        .next()
        .is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric());
    if !is_one {
        let message = names::mismatch(
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
            IDENTIFIER,
            &["my_name", "MY_NAME", "MyName"],
        );
        errors.invalid(path, name, message);
    }
}

/// Checks a UUID in its normal form.
pub(super) fn check_uid(uid: &str, path: &Path, errors: &mut Errors) {
    let hex = |text: &str| text.bytes().all(|letter| letter.is_ascii_hexdigit());
    let lengths: Vec<usize> = uid.split('-').map(str::len).collect();
    if lengths != [8, 4, 4, 4, 12] || !uid.split('-').all(hex) {
        errors.invalid(path, uid, "error validating uid: invalid UUID format");
    } else if uid.bytes().any(|letter| letter.is_ascii_uppercase()) {
        errors.invalid(
            path,
            uid,
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
             hexadecimal characters",
        );
    }
}

/// Checks each of a list that has a greatest length; of one that is too long, nothing else is said.
pub(super) fn each<T>(
    list: Option<&Vec<T>>,
    most: usize,
    path: &Path,
    errors: &mut Errors,
    mut check: impl FnMut(&T, &Path, &mut Errors),
) -> bool {
    let list = list.map(Vec::as_slice).unwrap_or_default();
    if list.len() > most {
        errors.too_many(path, list.len(), most);
        return false;
    }
    for (index, item) in list.iter().enumerate() {
        check(item, &path.index(index), errors);
    }
    true
}

/// The same of a list whose elements differ by a key.
pub(super) fn each_unique<T>(
    list: Option<&Vec<T>>,
    most: usize,
    key: impl Fn(&T) -> String,
    path: &Path,
    errors: &mut Errors,
    check: impl FnMut(&T, &Path, &mut Errors),
) {
    if !each(list, most, path, errors, check) {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in list.into_iter().flatten().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.duplicate(&path.index(index), &key);
        }
        seen.insert(key);
    }
}

/// Checks each key and value of a map that has a greatest size.
pub(super) fn each_entry<T>(
    map: &BTreeMap<String, T>,
    most: usize,
    path: &Path,
    errors: &mut Errors,
    check_key: impl Fn(&str, &Path, &mut Errors),
    mut check: impl FnMut(&T, &Path, &mut Errors),
) {
    if map.len() > most {
        return errors.too_many(path, map.len(), most);
    }
    for (key, value) in map {
        check_key(key, path, errors);
        check(value, &path.key(shortened(key)), errors);
    }
}

/// A key as a path shows it: cut in its middle where it is longer than any valid one.
fn shortened(key: &str) -> String {
    const MOST: usize = MAX_DOMAIN + 1 + MAX_IDENTIFIER;
    if key.len() <= MOST || !key.is_ascii() {
        return key.into();
    }
    let left = MOST - 3;
    let (head, tail) = (key.get(..left.div_ceil(2)), key.get(key.len() - left / 2..));
    format!("{}...{}", head.unwrap_or_default(), tail.unwrap_or_default())
}

/// Checks parameters that only a driver understands: an object, no longer than so many bytes.
pub(super) fn check_raw(raw: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 10 * 1024;
    match raw {
        Value::Null => errors.required(path, ""),
        raw if raw.to_string().len() > MOST => errors.too_long(path, MOST),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}
