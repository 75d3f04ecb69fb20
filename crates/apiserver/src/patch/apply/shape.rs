//! How a value of the API is owned: as a whole, field by field, or item by item.

use std::borrow::Cow;

use serde_json::Value;
use skiff_api::schema::{self, Definition, Empty, Merge, Type};
use smol_str::{SmolStrBuilder, format_smolstr};

use super::set::Element;

/// How the parts of a value are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// A scalar, or something that is owned as a whole.
    Leaf(Option<Type>),
    /// An object with known fields.
    Struct(&'static Definition),
    /// A map from text.
    Map(Type),
    /// A list of objects told apart by keys.
    Keyed(&'static [&'static str], Type),
    /// A list of unique scalars.
    Set,
    /// An object of a kind without a definition: of its fields only the metadata are known.
    Unknown,
    /// Nothing is known: maps are owned field by field, lists as a whole.
    Deduced,
}

/// The elements of keyed lists that are owned as a whole.
const ATOMIC_ITEMS: [&str; 3] = [
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// What an item has for a key that it leaves out, as JSON: what Go's type has, unless it leaves the field out itself.
fn default_key(item: Type, key: &str) -> Option<&'static str> {
    let name = match item {
        Type::Object(id) => id.get().name,
        _ => "",
    };
    match (name.rsplit('.').next().unwrap_or_default(), key) {
        (_, "protocol") => Some("\"TCP\""),
        (_, "containerPort" | "port") => Some("0"),
        (_, "shareID" | "apiServerID")
        | ("ObjectReference", "name")
        | ("FlowSchemaCondition" | "PriorityLevelConfigurationCondition", "type") => None,
        _ => Some("\"\""),
    }
}

impl Shape {
    /// The shape of a kind's objects.
    pub(crate) fn of_kind(definition: Option<&'static Definition>) -> Self {
        definition.map_or(Self::Unknown, Self::Struct)
    }

    fn of_type(type_: Type) -> Self {
        match type_ {
            Type::Object(id) if ATOMIC_ITEMS.contains(&id.get().name) => Self::Leaf(Some(type_)),
            Type::Object(id) => Self::Struct(id.get()),
            Type::Map(value) => Self::Map(*value),
            Type::Any => Self::Deduced,
            _ => Self::Leaf(Some(type_)),
        }
    }

    /// The shape of a field or of a map's value. `None`: there is no such field.
    pub(crate) fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::Struct(definition) => {
                let field = definition.field(name)?;
                Some(match (field.merge, field.type_) {
                    (Merge::Atomic | Merge::Replace, type_) => Self::Leaf(Some(type_)),
                    (Merge::Map { keys, .. }, Type::List(item)) if !keys.is_empty() => {
                        Self::Keyed(keys, *item)
                    }
                    (Merge::Set | Merge::ApplySet, Type::List(_)) => Self::Set,
                    (_, Type::Object(id)) => Self::Struct(id.get()),
                    (_, type_) => Self::of_type(type_),
                })
            }
            Self::Map(value) => Some(Self::of_type(value)),
            Self::Unknown if name == "metadata" => Some(
                schema::definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
                    .map_or(Self::Deduced, Self::Struct),
            ),
            Self::Unknown | Self::Deduced => Some(Self::Deduced),
            Self::Leaf(_) | Self::Keyed(..) | Self::Set => None,
        }
    }

    /// The shape of an element of a list that is owned item by item.
    pub(crate) fn item(self) -> Self {
        match self {
            Self::Keyed(_, item) => Self::of_type(item),
            _ => Self::Leaf(None),
        }
    }

    /// What a field is, as JSON, where nothing was put in it, if it is there all the same. Nobody comes to own that.
    pub(crate) fn there(self, name: &str) -> Option<&'static str> {
        match self {
            Self::Struct(definition) => match definition.field(name)?.empty {
                Empty::Written(empty) => Some(empty),
                Empty::Omitted | Empty::Kept => None,
            },
            Self::Unknown if name == "metadata" => Some("{}"),
            _ => None,
        }
    }

    /// Whether the value's parts have owners of their own, given what stands there.
    pub(crate) fn is_map<L: Look>(self, values: [Option<L>; 2]) -> bool {
        let fits = |value: &Option<L>| {
            value
                .as_ref()
                .is_none_or(|value| matches!(value.sort(), Sort::Map | Sort::Null))
        };
        match self {
            Self::Struct(_) | Self::Map(_) | Self::Unknown | Self::Deduced => values.iter().all(fits),
            _ => false,
        }
    }

    /// Whether the value's items have owners of their own, given what stands there.
    pub(crate) fn is_list<L: Look>(self, values: [Option<L>; 2]) -> bool {
        let fits = |value: &Option<L>| {
            value
                .as_ref()
                .is_none_or(|value| matches!(value.sort(), Sort::List | Sort::Null))
        };
        matches!(self, Self::Keyed(..) | Self::Set) && values.iter().all(fits)
    }

    /// The path element of an item of a list.
    ///
    /// # Errors
    /// What upstream says of an item that cannot be told apart.
    pub(crate) fn element<L: Look>(self, item: &L) -> Result<Element, String> {
        let Self::Keyed(..) = self else {
            return match item.sort() {
                Sort::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                Sort::Map => self.keyed_element(|_| None),
                Sort::List => Err("not supported: associative list with lists as elements".into()),
                Sort::Scalar => Ok(format_smolstr!("v:{}", item.print())),
            };
        };
        match item.sort() {
            Sort::Map => {}
            Sort::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        }
        self.keyed_element(|key| Some(item.member(key)?.print().into_owned()))
    }

    /// The keys by which the items of a list are told apart; none where those are not objects.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Keyed(keys, _) => keys,
            _ => &[],
        }
    }

    /// The path element of an object in a list, of which the values of the keys are known as JSON.
    ///
    /// # Errors
    /// As [`Shape::element`].
    pub(crate) fn keyed_element(self, value: impl Fn(&str) -> Option<String>) -> Result<Element, String> {
        let Self::Keyed(keys, item) = self else {
            return Err("associative list without keys has an element that's a map type".into());
        };
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            match value(key) {
                Some(value) => found.push((*key, Cow::Owned(value))),
                None => found.extend(default_key(item, key).map(|value| (*key, Cow::Borrowed(value)))),
            }
        }
        if found.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                keys.join(" ")
            ));
        }
        found.sort_unstable();
        let mut element = SmolStrBuilder::new();
        element.push_str("k:{");
        for (place, (key, value)) in found.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            [comma, "\"", key, "\":", value]
                .into_iter()
                .for_each(|part| element.push_str(part));
        }
        element.push('}');
        Ok(element.finish())
    }
}

/// What sort of thing a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Null,
    Map,
    List,
    /// A text, a number, a truth value.
    Scalar,
}

/// A value, looked at without regard to the form in which it is kept.
pub(crate) trait Look: Copy {
    fn sort(&self) -> Sort;
    /// The value as compact JSON.
    fn print(&self) -> Cow<'_, str>;
    /// A member of an object.
    fn member(&self, name: &str) -> Option<Self>;
}

impl Look for &Value {
    fn sort(&self) -> Sort {
        match self {
            Value::Null => Sort::Null,
            Value::Object(_) => Sort::Map,
            Value::Array(_) => Sort::List,
            _ => Sort::Scalar,
        }
    }

    fn print(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn member(&self, name: &str) -> Option<Self> {
        self.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_are_told_apart_by_their_keys_and_the_keys_defaults() {
        let container = Shape::of_kind(schema::definition("io.k8s.api.core.v1.Container"));
        let ports = container.field("ports").unwrap();
        assert_eq!(
            ports
                .element(&&json!({"containerPort": 80, "name": "http"}))
                .unwrap(),
            r#"k:{"containerPort":80,"protocol":"TCP"}"#
        );
        assert_eq!(
            ports.element(&&json!({})).unwrap(),
            r#"k:{"containerPort":0,"protocol":"TCP"}"#
        );
        let account = Shape::of_kind(schema::definition("io.k8s.api.core.v1.ServiceAccount"));
        assert_eq!(
            account
                .field("secrets")
                .unwrap()
                .element(&&json!({"namespace": "a"}))
                .unwrap_err(),
            "associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default \
             values for any key fields)"
        );
    }
}
