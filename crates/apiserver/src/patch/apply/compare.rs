//! What a change of an object added, modified and removed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::{FieldSet, Node, field};
use super::shape::Shape;

/// The fields in which two objects differ. Below something added or removed, all is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Change {
    /// From one object to another.
    pub(crate) fn between(old: &Value, new: &Value, shape: Shape) -> Self {
        let mut found = Found::default();
        found.compare(Some(old), Some(new), shape);
        Self {
            added: found.added.children,
            modified: found.modified.children,
            removed: found.removed.children,
        }
    }

    /// The change without some fields and all below them.
    pub(crate) fn ignore(&mut self, fields: &FieldSet) {
        self.added.subtract_below(fields);
        self.modified.subtract_below(fields);
        self.removed.subtract_below(fields);
    }

    /// What is there now and was not, or not so.
    pub(crate) fn set(&self) -> FieldSet {
        let mut set = self.modified.clone();
        set.unite(self.added.clone());
        set
    }

    /// The same of a change that nobody else asks.
    pub(crate) fn into_set(self) -> FieldSet {
        let mut set = self.modified;
        set.unite(self.added);
        set
    }
}

#[derive(Default)]
struct Found {
    added: Node,
    modified: Node,
    removed: Node,
}

static NULL: Value = Value::Null;

fn is_void(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

impl Found {
    fn compare(&mut self, old: Option<&Value>, new: Option<&Value>, shape: Shape) {
        // Most of an object stays as it is, and nothing need be made to see that.
        if old == new {
            return;
        }
        if shape.is_map([old, new]) {
            self.compare_maps(old, new, shape);
        } else if shape.is_list([old, new]) {
            self.compare_lists(old, new, shape);
        } else {
            self.compare_wholes(old, new);
        }
    }

    fn compare_wholes(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, Some(_)) => self.added.member = true,
            (Some(_), None) => self.removed.member = true,
            (old, new) => self.modified.member = old != new,
        }
    }

    fn part(&mut self, element: impl Fn() -> String, old: Option<&Value>, new: Option<&Value>, shape: Shape) {
        let mut part = Self::default();
        part.compare(old, new, shape);
        self.attach(element, part);
    }

    fn attach(&mut self, element: impl Fn() -> String, part: Self) {
        for (whole, part) in [
            (&mut self.added, part.added),
            (&mut self.modified, part.modified),
            (&mut self.removed, part.removed),
        ] {
            if !part.is_empty() {
                whole.children.add(element(), part);
            }
        }
    }

    fn compare_maps(&mut self, old: Option<&Value>, new: Option<&Value>, shape: Shape) {
        let nothing = Map::new();
        let old_map = old.and_then(Value::as_object).unwrap_or(&nothing);
        let new_map = new.and_then(Value::as_object).unwrap_or(&nothing);
        if old_map.is_empty() && new_map.is_empty() {
            return self.compare_wholes(old, new);
        }
        // What is there wherever the object around it is, is there on both sides.
        let there =
            |name: &str, around: Option<&Value>| (around.is_some() && shape.embeds(name)).then_some(&NULL);
        for (name, new_value) in new_map {
            let below = shape.field(name).unwrap_or(Shape::Deduced);
            let old_value = old_map.get(name).or_else(|| there(name, old));
            if old_value == Some(&NULL) && is_void(new_value) {
                continue;
            }
            self.part(|| field(name), old_value, Some(new_value), below);
        }
        for (name, old_value) in old_map.iter().filter(|(name, _)| !new_map.contains_key(*name)) {
            let below = shape.field(name).unwrap_or(Shape::Deduced);
            let new_value = there(name, new);
            if new_value.is_none() || !is_void(old_value) {
                self.part(|| field(name), Some(old_value), new_value, below);
            }
        }
        self.mark(old, new);
    }

    /// The thing itself came or went.
    fn mark(&mut self, old: Option<&Value>, new: Option<&Value>) {
        self.added.member |= old.is_none();
        self.removed.member |= new.is_none();
    }

    fn compare_lists(&mut self, old: Option<&Value>, new: Option<&Value>, shape: Shape) {
        let nothing = Vec::new();
        let old_list = old.and_then(Value::as_array).unwrap_or(&nothing);
        let new_list = new.and_then(Value::as_array).unwrap_or(&nothing);
        if old_list.is_empty() && new_list.is_empty() {
            return self.compare_wholes(old, new);
        }
        let (Some(old_items), Some(mut new_items)) =
            (by_element(old_list, shape), by_element(new_list, shape))
        else {
            return self.compare_wholes(old, new);
        };
        let below = shape.item();
        for (element, old_values) in old_items {
            let new_values = new_items.remove(&element).unwrap_or_default();
            match (old_values.as_slice(), new_values.as_slice()) {
                ([old], [new]) => self.part(|| element.clone(), Some(old), Some(new), below),
                ([old], []) => self.part(|| element.clone(), Some(old), None, below),
                // Items that stand twice, as upstream lets them from before it looked: they are one thing.
                (old, new) => {
                    let mut part = Self::default();
                    part.removed.member = new.is_empty();
                    part.modified.member = !new.is_empty() && old != new;
                    self.attach(|| element.clone(), part);
                }
            }
        }
        for (element, new_values) in new_items {
            match new_values.as_slice() {
                [new] => self.part(|| element.clone(), None, Some(new), below),
                _ => {
                    let mut part = Self::default();
                    part.added.member = true;
                    self.attach(|| element.clone(), part);
                }
            }
        }
        self.mark(old, new);
    }
}

/// The items of a list by their path elements; `None` when one cannot be told apart.
pub(super) fn by_element(list: &[Value], shape: Shape) -> Option<BTreeMap<String, Vec<&Value>>> {
    let mut items: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in list {
        items.entry(shape.element(item).ok()?).or_default().push(item);
    }
    Some(items)
}
