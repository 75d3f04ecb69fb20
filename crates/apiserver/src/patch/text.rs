//! Values as JSON text, looked into only where somebody asks.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::apply::{Look, Sort};

/// A value: JSON that is known to be well-formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    pub(crate) const NULL: Self = Self("null");

    /// The text of a value that this server wrote; of anything else, `null`.
    pub(crate) fn of(json: &'a [u8]) -> Self {
        std::str::from_utf8(json).map_or(Self::NULL, |text| Self(text.trim_ascii()))
    }

    /// The members of an object, in the order of their names; none of anything else.
    pub(crate) fn members(self) -> Vec<(Cow<'a, str>, Self)> {
        let Ok(Members(mut members)) = serde_json::from_str(self.0) else {
            return Vec::new();
        };
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        members
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(self) -> Vec<Self> {
        let items: Vec<&RawValue> = serde_json::from_str(self.0).unwrap_or_default();
        items.into_iter().map(|item| Self(item.get())).collect()
    }

    /// Whether both are written in the same way. What is not may be equal all the same.
    pub(crate) fn is_same(self, other: Self) -> bool {
        self.0 == other.0
    }

    /// Whether both are the same value.
    pub(crate) fn equals(self, other: Self) -> bool {
        self.is_same(other) || self.tree() == other.tree()
    }

    /// Whether this is `null`, or an object or a list with nothing in it as this server writes those.
    pub(crate) fn is_nothing(self) -> bool {
        matches!(self.0, "null" | "{}" | "[]")
    }

    /// The text.
    pub(crate) fn json(self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// The value as a tree.
    pub(crate) fn tree(self) -> Value {
        serde_json::from_str(self.0).unwrap_or_default()
    }
}

impl<'a> Look for Text<'a> {
    fn sort(&self) -> Sort {
        match self.0.as_bytes().first() {
            Some(b'{') => Sort::Map,
            Some(b'[') => Sort::List,
            Some(b'n') | None => Sort::Null,
            _ => Sort::Scalar,
        }
    }

    fn print(&self) -> Cow<'_, str> {
        // One text can be written in many ways when characters are escaped in it.
        let is_plain = self.sort() == Sort::Scalar && !self.0.contains('\\');
        if is_plain {
            Cow::Borrowed(self.0)
        } else {
            Cow::Owned(self.tree().to_string())
        }
    }

    fn member(&self, name: &str) -> Option<Self> {
        let mut members = self.members().into_iter();
        members.find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

struct Members<'a>(Vec<(Cow<'a, str>, Text<'a>)>);

/// A name that stands in the text as it is, or has escaped characters.
#[derive(Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = access.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, Text(value.get())));
                }
                Ok(Members(members))
            }
        }
        value.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_text_looks_like_its_value(value in any_value(), spaced in any::<bool>()) {
            let json = if spaced { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let json = json.unwrap();
            let text = Text::of(json.as_bytes());
            prop_assert_eq!(text.tree(), value.clone());
            prop_assert_eq!(text.sort(), (&value).sort());
            prop_assert_eq!(text.print(), value.to_string());
            prop_assert!(text.equals(Text::of(value.to_string().as_bytes())));
            if let Some(map) = value.as_object() {
                let members: Vec<(String, Value)> =
                    text.members().into_iter().map(|(name, value)| (name.into(), value.tree())).collect();
                let expected: Vec<(String, Value)> =
                    map.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                prop_assert_eq!(members, expected);
            }
            if let Some(list) = value.as_array() {
                let items: Vec<Value> = text.items().into_iter().map(Text::tree).collect();
                prop_assert_eq!(&items, list);
            }
        }
    }

    #[test]
    fn one_string_written_in_two_ways_is_one_value() {
        let [one, other] = [r#""<a>""#, r#""\u003ca\u003e""#].map(|text| Text::of(text.as_bytes()));
        assert!(!one.is_same(other) && one.equals(other));
        assert_eq!(one.print(), other.print());
        assert_eq!(Text::of(b"\xff").sort(), Sort::Null);
    }
}
