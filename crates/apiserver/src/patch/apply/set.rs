//! Sets of fields, as `FieldsV1` writes them: a tree of path elements, some of which are members.
//!
//! An element is kept as the text that `FieldsV1` has for it: `f:spec`, `k:{"name":"a"}`, `v:"x"`, `i:0`.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use smol_str::{SmolStr, SmolStrBuilder, format_smolstr};

/// An element of a path, as the text that `FieldsV1` has for it.
pub(crate) type Element = SmolStr;

/// A set of paths below some place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// By element, in order; none is empty.
    nodes: Vec<(Element, Node)>,
}

/// What a set says of one element: whether it is a member itself, and which paths below it are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) member: bool,
    pub(crate) children: FieldSet,
}

impl Node {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    fn unite(&mut self, other: Self) {
        self.member |= other.member;
        self.children.unite(other.children);
    }
}

/// Why a text is not a set of fields.
#[derive(Debug, thiserror::Error)]
#[error("not a set of fields: {0}")]
pub(crate) struct Malformed(String);

/// The element of a field of an object or a key of a map.
pub(crate) fn field(name: &str) -> Element {
    let mut element = SmolStrBuilder::new();
    element.push_str("f:");
    element.push_str(name);
    element.finish()
}

/// The nodes of a set, looked up in order.
struct Along<'a>(&'a [(Element, Node)]);

impl<'a> Along<'a> {
    /// The node of an element that comes after all that were asked for before.
    fn find(&mut self, element: &str) -> Option<&'a Node> {
        while let Some(((next, node), rest)) = self.0.split_first() {
            match next.as_str().cmp(element) {
                Ordering::Less => self.0 = rest,
                Ordering::Equal => return Some(node),
                Ordering::Greater => return None,
            }
        }
        None
    }
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The elements at the top, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(element, node)| (element.as_str(), node))
    }

    fn along(&self) -> Along<'_> {
        Along(&self.nodes)
    }

    pub(crate) fn get(&self, element: &str) -> Option<&Node> {
        let place = self.place(element).ok()?;
        self.nodes.get(place).map(|(_, node)| node)
    }

    fn place(&self, element: &str) -> Result<usize, usize> {
        match self.nodes.last() {
            // Most sets are made in order.
            Some((last, _)) if last.as_str() < element => Err(self.nodes.len()),
            _ => self
                .nodes
                .binary_search_by(|(other, _)| other.as_str().cmp(element)),
        }
    }

    /// Adds what a set says of an element.
    pub(crate) fn add(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.place(&element) {
            Ok(place) => {
                if let Some((_, there)) = self.nodes.get_mut(place) {
                    there.unite(node);
                }
            }
            Err(place) => self.nodes.insert(place, (element, node)),
        }
    }

    /// Adds a path of fields.
    pub(crate) fn with_fields(mut self, path: &[&str]) -> Self {
        if let Some((first, rest)) = path.split_first() {
            let node = Node {
                member: rest.is_empty(),
                children: Self::default().with_fields(rest),
            };
            self.add(field(first), node);
        }
        self
    }

    /// Adds all of another set.
    pub(crate) fn unite(&mut self, other: Self) {
        let (Some((last, _)), Some((first, _))) = (self.nodes.last(), other.nodes.first()) else {
            self.nodes.extend(other.nodes);
            return;
        };
        if last < first {
            self.nodes.extend(other.nodes);
            return;
        }
        let length = self.nodes.len() + other.nodes.len();
        let mut mine = std::mem::replace(&mut self.nodes, Vec::with_capacity(length)).into_iter();
        let mut next = mine.next();
        for (element, node) in other.nodes {
            while let Some(before) = next.take_if(|(mine, _)| *mine < element) {
                self.nodes.push(before);
                next = mine.next();
            }
            match next.take_if(|(mine, _)| *mine == element) {
                Some((_, mut both)) => {
                    both.unite(node);
                    self.nodes.push((element, both));
                    next = mine.next();
                }
                None => self.nodes.push((element, node)),
            }
        }
        self.nodes.extend(next);
        self.nodes.extend(mine);
    }

    /// Removes the members of another set.
    pub(crate) fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        let mut other = other.along();
        self.nodes.retain_mut(|(element, node)| {
            if let Some(gone) = other.find(element) {
                node.member &= !gone.member;
                node.children.subtract(&gone.children);
            }
            !node.is_empty()
        });
    }

    /// Removes the members of another set with all that is below them.
    pub(crate) fn subtract_below(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        let mut other = other.along();
        self.nodes.retain_mut(|(element, node)| {
            let Some(gone) = other.find(element) else {
                return true;
            };
            node.children.subtract_below(&gone.children);
            !gone.member && !node.is_empty()
        });
    }

    /// The paths that are in both sets.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut other = other.along();
        let both = self.nodes.iter().filter_map(|(element, node)| {
            let its = other.find(element)?;
            let node = Node {
                member: node.member && its.member,
                children: node.children.intersection(&its.children),
            };
            (!node.is_empty()).then(|| (element.clone(), node))
        });
        Self {
            nodes: both.collect(),
        }
    }

    /// Whether every path is in the other set too.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let mut other = other.along();
        self.nodes.iter().all(|(element, node)| {
            other
                .find(element)
                .is_some_and(|its| (!node.member || its.member) && node.children.is_within(&its.children))
        })
    }

    /// The paths as upstream shows them, in upstream's order: the members of a level before those below it.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        let here = |element: &str| format!("{prefix}{}", Shown(element));
        let members = self.nodes.iter().filter(|(_, node)| node.member);
        paths.extend(members.map(|(element, _)| here(element)));
        for (element, node) in &self.nodes {
            if !node.children.is_empty() {
                node.children.collect(&here(element), paths);
            }
        }
    }

    /// Reads `FieldsV1` that a client wrote.
    ///
    /// # Errors
    /// When the value is none.
    pub(crate) fn parse(value: &Value) -> Result<Self, serde_json::Error> {
        let node = Reader { foreign: true }.deserialize(value)?;
        Ok(node.children)
    }
}

/// Reads `FieldsV1` as this server writes it.
impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let node = Reader { foreign: false }.deserialize(value)?;
        Ok(node.children)
    }
}

/// Writes `FieldsV1`.
impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.member && !self.children.is_empty() {
            map.serialize_entry(SELF, &FieldSet::default())?;
        }
        for (element, node) in self.children.iter() {
            map.serialize_entry(element, node)?;
        }
        map.end()
    }
}

/// What stands beside the elements below one, when that is a member itself.
const SELF: &str = ".";

/// Reads what a set says of one element.
#[derive(Clone, Copy)]
struct Reader {
    /// Whether the elements' keys and values may be written otherwise than this server does.
    foreign: bool,
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Node, D::Error> {
        value.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut node = Node::default();
        while let Some(element) = access.next_key::<Element>()? {
            if element == SELF {
                access.next_value::<IgnoredAny>()?;
                node.member = true;
                continue;
            }
            let mut child = access.next_value_seed(self)?;
            child.member |= child.children.is_empty();
            let element = if self.foreign {
                canonical(&element).map_err(A::Error::custom)?
            } else {
                element
            };
            node.children.add(element, child);
        }
        Ok(node)
    }
}

/// An element with its JSON as this server writes it.
fn canonical(element: &str) -> Result<Element, Malformed> {
    let malformed = || Malformed(format!("bad path element {element:?}"));
    let (kind, rest) = element.split_at_checked(2).ok_or_else(malformed)?;
    match kind {
        "f:" => Ok(element.into()),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|_| malformed())?;
            Ok(format_smolstr!("k:{}", Value::Object(keys)))
        }
        "v:" => {
            let value: Value = serde_json::from_str(rest).map_err(|_| malformed())?;
            Ok(format_smolstr!("v:{value}"))
        }
        "i:" => {
            let index: i64 = rest.parse().map_err(|_| malformed())?;
            Ok(format_smolstr!("i:{index}"))
        }
        _ => Err(malformed()),
    }
}

/// An element as paths show it: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.split_at_checked(2).unwrap_or(("", self.0));
        match kind {
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let pairs: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(f, "[{}]", pairs.join(","))
            }
            "v:" => write!(f, "[={rest}]"),
            "i:" => write!(f, "[{rest}]"),
            _ => write!(f, ".{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::parse(&value).unwrap()
    }

    fn print(set: &FieldSet) -> Value {
        serde_json::to_value(set).unwrap()
    }

    #[test]
    fn what_is_read_is_written_again() {
        let value = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
            "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}, "f:finalizers": {"v:\"x\"": {}}}});
        assert_eq!(print(&set(value.clone())), value);
        assert_eq!(
            set(value).paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.finalizers[=\"x\"]",
            ]
        );
    }

    #[test]
    fn keys_are_written_in_one_way() {
        let value = json!({"k:{ \"protocol\":\"TCP\", \"containerPort\":80}": {}});
        let printed = json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}});
        assert_eq!(print(&set(value)), printed);
    }

    #[test]
    fn other_texts_are_refused() {
        for value in [
            json!([]),
            json!({"spec": {}}),
            json!({"x:a": {}}),
            json!({"k:{": {}}),
            json!({"f:a": 1}),
            json!({"é": {}}),
        ] {
            assert!(FieldSet::parse(&value).is_err(), "{value}");
        }
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let leaf = Just(FieldSet::default());
        leaf.prop_recursive(3, 24, 3, |inner| {
            let element = prop_oneof![
                "f:[a-c]",
                Just("k:{\"n\":1}".to_string()),
                Just("v:2".to_string())
            ];
            proptest::collection::btree_map(element, (any::<bool>(), inner), 0..4).prop_map(|nodes| {
                let mut set = FieldSet::default();
                for (element, (member, children)) in nodes {
                    set.add(element.into(), Node { member, children });
                }
                set
            })
        })
    }

    proptest! {
        #[test]
        fn sets_obey_the_laws_of_sets(a in any_set(), b in any_set()) {
            let union = { let mut set = a.clone(); set.unite(b.clone()); set };
            let other = { let mut set = b.clone(); set.unite(a.clone()); set };
            prop_assert_eq!(&union, &other);
            prop_assert!(a.is_within(&union) && b.is_within(&union));
            let both = a.intersection(&b);
            prop_assert_eq!(&both, &b.intersection(&a));
            prop_assert!(both.is_within(&a) && both.is_within(&b));
            let only = { let mut set = a.clone(); set.subtract(&b); set };
            prop_assert!(only.intersection(&b).is_empty());
            let again = { let mut set = only.clone(); set.unite(both); set };
            prop_assert_eq!(&again, &a);
            let below = { let mut set = a.clone(); set.subtract_below(&b); set };
            prop_assert!(below.is_within(&only));
            let printed = serde_json::to_string(&union).unwrap();
            prop_assert_eq!(serde_json::from_str::<FieldSet>(&printed).unwrap(), union.clone());
            prop_assert_eq!(set(serde_json::from_str(&printed).unwrap()), union);
        }
    }
}
