//! All fields of a value that came or went as a whole, read from its text in one pass.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::set::{Element, FieldSet, Node, field};
use super::shape::Shape;
use crate::patch::text::{Name, Text};

/// The fields of a value. `there`: what is there in any case, so that it is no member.
pub(super) fn fields(value: Text<'_>, shape: Shape, there: Option<&'static str>) -> Node {
    let mut reader = serde_json::Deserializer::from_slice(value.json());
    // The text is well-formed, so nothing is lost here.
    Fields { shape, there }
        .deserialize(&mut reader)
        .unwrap_or_default()
}

/// A member, of which no part has an owner of its own.
fn whole() -> Node {
    Node {
        member: true,
        children: FieldSet::default(),
    }
}

#[derive(Clone, Copy)]
struct Fields {
    shape: Shape,
    there: Option<&'static str>,
}

impl Fields {
    fn of(self, children: FieldSet) -> Node {
        Node {
            member: self.there.is_none(),
            children,
        }
    }

    /// A value that is owned as a whole.
    fn leaf(self, value: impl Serialize) -> Node {
        match self.there {
            Some(there) if serde_json::to_string(&value).is_ok_and(|value| value == there) => Node::default(),
            _ => whole(),
        }
    }

    /// The fields of one member of this object; nothing when that is there in any case.
    fn member<'de, A: MapAccess<'de>>(
        self,
        name: &str,
        access: &mut A,
        children: &mut FieldSet,
    ) -> Result<(), A::Error> {
        let there = self.there.and_then(|_| self.shape.there(name));
        let shape = self.shape.field(name).unwrap_or(Shape::Deduced);
        children.add(field(name), access.next_value_seed(Fields { shape, there })?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Node, D::Error> {
        match self.shape {
            Shape::Leaf(_) if self.there.is_some() => {
                <&RawValue>::deserialize(value).map(|raw| self.leaf(raw))
            }
            Shape::Leaf(_) => value.deserialize_ignored_any(IgnoredAny).map(|_| whole()),
            _ => value.deserialize_any(self),
        }
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E>(self, value: $type) -> Result<Node, E> { Ok(self.leaf(value)) })*
    };
}

impl<'de> Visitor<'de> for Fields {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars! {
        visit_bool(bool);
        visit_i64(i64);
        visit_u64(u64);
        visit_f64(f64);
        visit_str(&str);
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(self.leaf(()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        if !self.shape.is_map::<Text<'_>>([None, None]) {
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(whole());
        }
        let mut children = FieldSet::default();
        while let Some(Name(name)) = access.next_key()? {
            self.member(&name, &mut access, &mut children)?;
        }
        Ok(self.of(children))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        if !self.shape.is_list::<Text<'_>>([None, None]) {
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(whole());
        }
        let mut items = Vec::new();
        let mut are_told_apart = true;
        while let Some(item) = access.next_element_seed(Item(self.shape))? {
            are_told_apart &= item.is_some();
            items.extend(item);
        }
        if !are_told_apart {
            return Ok(whole());
        }
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut children = FieldSet::default();
        let mut items = items.into_iter().peekable();
        while let Some((element, mut node)) = items.next() {
            // Items that stand twice are one thing.
            while items.next_if(|(other, _)| *other == element).is_some() {
                node = whole();
            }
            children.add(element, node);
        }
        Ok(self.of(children))
    }
}

/// An item of a list of this shape: its path element and its fields; nothing when it cannot be told apart.
struct Item(Shape);

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Option<(Element, Node)>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

macro_rules! set_items {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E>(self, item: $type) -> Result<Self::Value, E> {
            let element = self.0.element(&&Value::from(item));
            Ok(element.ok().map(|element| (element, whole())))
        })*
    };
}

impl<'de> Visitor<'de> for Item {
    type Value = Option<(Element, Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    set_items! {
        visit_bool(bool);
        visit_i64(i64);
        visit_u64(u64);
        visit_f64(f64);
        visit_str(&str);
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let of = Fields {
            shape: self.0.item(),
            there: None,
        };
        let keys = self.0.keys();
        let mut found: Vec<(&str, Value)> = Vec::with_capacity(keys.len());
        let mut children = FieldSet::default();
        while let Some(Name(name)) = access.next_key()? {
            match keys.iter().find(|key| **key == name) {
                Some(key) => {
                    found.push((key, access.next_value()?));
                    children.add(field(&name), whole());
                }
                None => of.member(&name, &mut access, &mut children)?,
            }
        }
        let value = |key: &str| {
            let (_, value) = found.iter().find(|(name, _)| *name == key)?;
            Some(value.to_string())
        };
        let element = self.0.keyed_element(value);
        let node = match of.shape {
            Shape::Leaf(_) => whole(),
            _ => of.of(children),
        };
        Ok(element.ok().map(|element| (element, node)))
    }
}
