//! The description of a kind that has no story of its own: its fields, titled.

use serde_json::{Map, Value};

use super::Told;
use super::page::Page;
use crate::fields::map;

/// What stands at the head of the page, or says nothing to a reader.
const SKIPPED: [&str; 5] = [
    "/metadata/managedFields",
    "/metadata/name",
    "/metadata/namespace",
    "/metadata/labels",
    "/metadata/annotations",
];
const ACRONYMS: [&str; 5] = ["API", "URL", "UID", "OSB", "GUID"];

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    page.field(0, "Name", crate::fields::name(told.object));
    page.field(
        0,
        "Namespace",
        crate::fields::text(told.object, "/metadata/namespace"),
    );
    page.labels(0, "Labels", map(told.object, "/metadata/labels"));
    page.annotations(0, "Annotations", map(told.object, "/metadata/annotations"));
    content(page, 0, map(told.object, ""), "");
    page.events(told.events.as_deref());
}

fn content(page: &mut Page, level: usize, fields: &Map<String, Value>, path: &str) {
    for (field, value) in fields {
        let path = format!("{path}/{field}");
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        let label = label(field);
        match value {
            Value::Object(fields) => {
                page.line(level, format!("{label}:"));
                content(page, level.saturating_add(1), fields, &path);
            }
            Value::Array(items) => {
                page.line(level, format!("{label}:"));
                for item in items {
                    match item {
                        Value::Object(fields) => content(page, level.saturating_add(1), fields, &path),
                        other => page.line(level.saturating_add(1), shown(other)),
                    }
                }
            }
            other => page.field(level, &label, shown(other)),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `apiVersion` → `API Version`. A name that is not made of letters alone stays.
fn label(field: &str) -> String {
    if !field
        .chars()
        .all(|letter| letter.is_alphabetic() || letter == '-')
    {
        return field.to_string();
    }
    let words = words(field);
    let titled: Vec<String> = words
        .iter()
        .map(|word| {
            let upper = word.to_uppercase();
            if ACRONYMS.contains(&upper.as_str()) {
                return upper;
            }
            let mut letters = word.chars();
            let first: String = letters
                .next()
                .map(|letter| letter.to_uppercase().collect())
                .unwrap_or_default();
            first + letters.as_str()
        })
        .collect();
    titled.join(" ")
}

/// The words of a name in camel case; capitals in a row are one word, but for the last when small letters follow.
fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(index.saturating_add(1));
        let begins = match before {
            None => true,
            Some(before) if letter.is_uppercase() => {
                !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase())
            }
            Some(before) => letter.is_alphabetic() != before.is_alphabetic(),
        };
        match words.last_mut() {
            Some(word) if !begins => word.push(*letter),
            _ => words.push(letter.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words_with_capitals() {
        let cases = [
            ("apiVersion", "API Version"),
            ("kind", "Kind"),
            ("uid", "UID"),
            ("holderIdentity", "Holder Identity"),
            ("clusterIPs", "Cluster I Ps"),
            ("v1alpha", "v1alpha"),
            ("app.kubernetes.io/name", "app.kubernetes.io/name"),
        ];
        for (field, expected) in cases {
            assert_eq!(label(field), expected);
        }
    }
}
