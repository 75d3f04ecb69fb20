//! `metadata.managedFields` in an object's JSON: found and left out without decoding it.
//!
//! Who owns which fields is half the text of a small object, and nobody needs it decoded but who changes it.

use std::borrow::Cow;
use std::ops::Range;

/// An encoded object, and apart from it who owns its fields.
#[derive(Debug)]
pub struct Split<'a> {
    /// The object's JSON without `metadata.managedFields`.
    pub rest: Cow<'a, [u8]>,
    /// The list that `metadata.managedFields` is, as JSON; empty when there is none.
    pub owners: &'a [u8],
}

impl<'a> Split<'a> {
    /// Splits an object's JSON as [`Object::encode`](crate::Object::encode) writes it. Any other JSON stays whole.
    pub fn of(json: &'a [u8]) -> Self {
        let whole = || Self {
            rest: Cow::Borrowed(json),
            owners: b"",
        };
        let Some((member, owners)) = find(json) else {
            return whole();
        };
        let parts = (json.get(..member.start), json.get(member.end..), json.get(owners));
        let (Some(before), Some(after), Some(owners)) = parts else {
            return whole();
        };
        Self {
            rest: Cow::Owned([before, after].concat()),
            owners,
        }
    }
}

/// Puts a list of owners, as JSON, into an object's that has none: what [`Split`] takes apart. The list may be empty.
pub fn join(json: Vec<u8>, owners: &[u8]) -> Vec<u8> {
    if owners.is_empty() {
        return json;
    }
    let mut text = Text { json: &json, at: 0 };
    let metadata = text.metadata().and_then(|()| text.value());
    let Some((before, after)) = metadata.and_then(|value| json.split_at_checked(value.end.checked_sub(1)?))
    else {
        return json;
    };
    let comma: &[u8] = if before.ends_with(b"{") { b"" } else { b"," };
    [before, comma, NAME, b":", owners, after].concat()
}

/// The name of the member, as it stands in JSON.
const NAME: &[u8] = br#""managedFields""#;

/// Where the member stands with the comma that goes with it, and where its value does.
fn find(json: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let mut text = Text { json, at: 0 };
    text.metadata()?;
    text.pass(b"{")?;
    loop {
        let start = text.at;
        let name = text.string()?;
        text.pass(b":")?;
        let value = text.value()?;
        let comma = text.peek()? == b',';
        if json.get(name)? == NAME {
            let member = match (json.get(start.checked_sub(1)?)?, comma) {
                (b',', _) => start - 1..value.end,
                (_, true) => start..value.end + 1,
                (_, false) => start..value.end,
            };
            return Some((member, value));
        }
        if !comma {
            return None;
        }
        text.at += 1;
    }
}

/// Compact JSON, read from front to back. Every step is `None` where the text goes on in another way.
struct Text<'a> {
    json: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    /// Passes what stands before an object's metadata.
    fn metadata(&mut self) -> Option<()> {
        self.pass(br#"{"apiVersion":"#)?;
        self.string()?;
        self.pass(br#","kind":"#)?;
        self.string()?;
        self.pass(br#","metadata":"#)
    }

    fn pass(&mut self, text: &[u8]) -> Option<()> {
        let rest = self.json.get(self.at..)?;
        rest.starts_with(text).then(|| self.at += text.len())
    }

    /// Passes a string: where it stands, with its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.pass(b"\"")?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(start..self.at)
    }

    /// Passes a value: where it stands.
    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    if open == 0 {
                        break;
                    }
                }
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' if open == 0 => break,
                b',' if open == 0 => break,
                b'}' | b']' => {
                    open -= 1;
                    self.at += 1;
                    if open == 0 {
                        break;
                    }
                }
                _ => self.at += 1,
            }
        }
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn owners_are_found_wherever_they_stand_in_the_metadata() {
        for (metadata, rest, owners) in [
            (
                r#""name":"a","managedFields":[{"a":"]"}]"#,
                r#""name":"a""#,
                r#"[{"a":"]"}]"#,
            ),
            (r#""managedFields":[],"name":"a""#, r#""name":"a""#, "[]"),
            (r#""managedFields":[1]"#, "", "[1]"),
            (
                r#""labels":{"managedFields":"x"},"managedFields":[1],"name":"\"managedFields\":[""#,
                r#""labels":{"managedFields":"x"},"name":"\"managedFields\":[""#,
                "[1]",
            ),
            (r#""labels":{"managedFields":"x"},"name":"a""#, "", ""),
            (
                r#""annotations":{"a":"\\\",\"managedFields\":["},"managedFields":[{"m":"{"}],"n":-1.5"#,
                r#""annotations":{"a":"\\\",\"managedFields\":["},"n":-1.5"#,
                r#"[{"m":"{"}]"#,
            ),
        ] {
            let whole = |metadata: &str| {
                format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{{metadata}}},"spec":{{}}}}"#)
            };
            let json = whole(metadata);
            let split = Split::of(json.as_bytes());
            let expected = if owners.is_empty() {
                json.clone()
            } else {
                whole(rest)
            };
            assert_eq!(String::from_utf8_lossy(&split.rest), expected);
            assert_eq!(String::from_utf8_lossy(split.owners), owners);
        }
    }

    #[test]
    fn what_is_not_encoded_so_stays_whole() {
        let owned = r#"{"managedFields":[1]}"#;
        for json in [
            String::new(),
            "[]".into(),
            "{\"apiVersion\":\"v1".into(),
            format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{owned}}}"#),
            format!(r#"{{"apiVersion":"v1","kind":"Pod","spec":{{"metadata":{owned}}}}}"#),
            format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"a":1}},"spec":{owned}}}"#),
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[1"#.into(),
        ] {
            let split = Split::of(json.as_bytes());
            assert_eq!((split.rest.as_ref(), split.owners), (json.as_bytes(), &b""[..]));
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart(
            labels in proptest::collection::btree_map(".*", ".*", 0..4),
            name in proptest::option::of(".*"),
            owners in proptest::option::of(proptest::collection::vec(".*", 1..4)),
        ) {
            let metadata = json!({ "labels": labels, "name": name });
            let object: ConfigMap = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
            let owners = owners.map(|owners| json!(owners).to_string()).unwrap_or_default();
            let json = join(object.encode().unwrap(), owners.as_bytes());
            let split = Split::of(&json);
            prop_assert_eq!(split.owners, owners.as_bytes());
            prop_assert_eq!(split.rest.as_ref(), object.encode().unwrap());
            prop_assert!(serde_json::from_slice::<Value>(&json).is_ok());
        }
    }
}
