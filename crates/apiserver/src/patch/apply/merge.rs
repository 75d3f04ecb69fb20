//! The trees of apply: what a configuration names, what it makes of an object, and what is left without some fields.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use skiff_api::schema::Type;

use super::set::{Element, FieldSet, Node, Shown, field};
use super::shape::Shape;
use crate::go;

/// The fields that a value names. Errors, each with its path, are of a value that does not fit its kind.
pub(crate) fn fields_of(value: &Value, shape: Shape, errors: &mut Vec<String>) -> FieldSet {
    let mut walk = Walk {
        path: String::new(),
        errors,
    };
    walk.fields(value, shape).children
}

struct Walk<'a> {
    path: String,
    errors: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn wrong(&mut self, why: impl std::fmt::Display) {
        self.errors.push(format!("{}: {why}", self.path));
    }

    fn below(&mut self, element: &str, value: &Value, shape: Shape) -> Node {
        let length = self.path.len();
        self.path.push_str(&Shown(element).to_string());
        let node = self.fields(value, shape);
        self.path.truncate(length);
        node
    }

    fn fields(&mut self, value: &Value, shape: Shape) -> Node {
        let mut node = Node::default();
        match (shape, value) {
            (Shape::Leaf(type_), value) => {
                self.check(type_, value);
                node.member = true;
            }
            (Shape::Deduced, Value::Object(map)) => self.map(map, shape, &mut node),
            (Shape::Deduced, _) => node.member = true,
            (_, Value::Null) => {}
            (Shape::Struct(_) | Shape::Map(_) | Shape::Unknown, Value::Object(map)) => {
                self.map(map, shape, &mut node);
            }
            (Shape::Struct(_) | Shape::Map(_) | Shape::Unknown, value) => {
                self.wrong(format_args!("expected map, got &{{{}}}", go::print(value)));
            }
            (Shape::Keyed(..) | Shape::Set, Value::Array(list)) => self.list(list, shape, &mut node),
            (Shape::Keyed(..) | Shape::Set, value) => {
                self.wrong(format_args!("expected list, got &{{{}}}", go::print(value)));
            }
        }
        node
    }

    fn map(&mut self, map: &Map<String, Value>, shape: Shape, node: &mut Node) {
        for (name, value) in map {
            let element = field(name);
            let Some(below) = shape.field(name) else {
                let length = self.path.len();
                self.path.push_str(&Shown(&element).to_string());
                self.wrong("field not declared in schema");
                self.path.truncate(length);
                continue;
            };
            let mut part = self.below(&element, value, below);
            let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            part.member |= is_empty || !matches!(shape, Shape::Struct(_));
            node.children.add(element, part);
        }
    }

    fn list(&mut self, list: &[Value], shape: Shape, node: &mut Node) {
        let mut seen = BTreeSet::new();
        for (index, item) in list.iter().enumerate() {
            let element = match shape.element(&item) {
                Ok(element) => element,
                Err(why) => {
                    self.wrong(format_args!("element {index}: {why}"));
                    continue;
                }
            };
            if !seen.insert(element.clone()) {
                self.wrong(format_args!("duplicate entries for key {}", Shown(&element)));
                continue;
            }
            let mut part = self.below(&element, item, shape.item());
            part.member = true;
            node.children.add(element, part);
        }
    }

    /// Checks the sort of a value that is owned as a whole.
    fn check(&mut self, type_: Option<Type>, value: &Value) {
        match (type_, value) {
            (_, Value::Null) | (None, _) => {}
            (Some(Type::Integer | Type::Long | Type::Number), value) if !value.is_number() => {
                let found = match value {
                    Value::Bool(_) => "bool",
                    Value::String(_) => "string",
                    Value::Array(_) => "[]interface {}",
                    _ => "map[string]interface {}",
                };
                self.wrong(format_args!("expected numeric (int or float), got {found}"));
            }
            (Some(Type::String | Type::Bytes | Type::Time | Type::MicroTime), value)
                if !value.is_string() =>
            {
                self.wrong(format_args!(
                    "expected string, got &value.valueUnstructured{{Value:{}}}",
                    go::print(value)
                ));
            }
            (Some(Type::Boolean), value) if !value.is_boolean() => {
                self.wrong(format_args!("expected boolean, got &{{{}}}", go::print(value)));
            }
            (Some(Type::List(_)), value) if !value.is_array() => {
                self.wrong(format_args!("expected list, got &{{{}}}", go::print(value)));
            }
            (Some(Type::Map(_)), value) if !value.is_object() => {
                self.wrong(format_args!("expected map, got &{{{}}}", go::print(value)));
            }
            (Some(Type::Object(id)), Value::Object(map)) => self.check_whole(id.get(), map),
            (Some(Type::Object(_)), value) => {
                self.wrong(format_args!("expected map, got &{{{}}}", go::print(value)));
            }
            (Some(Type::List(item)), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.check(Some(*item), value);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn check_whole(&mut self, definition: &'static skiff_api::schema::Definition, map: &Map<String, Value>) {
        for (name, value) in map {
            let length = self.path.len();
            self.path.push('.');
            self.path.push_str(name);
            match definition.field(name) {
                Some(field) => self.check(Some(field.type_), value),
                None => self.wrong("field not declared in schema"),
            }
            self.path.truncate(length);
        }
    }
}

/// Brings what a configuration names into an object.
pub(crate) fn merge(object: &mut Value, config: &Value, shape: Shape) {
    if shape.is_map([Some(&*object), Some(config)]) {
        let Value::Object(fields) = config else {
            if object.as_object().is_none_or(Map::is_empty) {
                *object = config.clone();
            }
            return;
        };
        if object.is_null() {
            *object = Value::Object(Map::new());
        }
        let Value::Object(there) = object else { return };
        for (name, value) in fields {
            match there.get_mut(name) {
                Some(present) => merge(present, value, shape.field(name).unwrap_or(Shape::Deduced)),
                None => {
                    there.insert(name.clone(), value.clone());
                }
            }
        }
    } else if shape.is_list([Some(&*object), Some(config)]) {
        if config.as_array().is_none_or(Vec::is_empty) {
            if object.as_array().is_none_or(Vec::is_empty) {
                *object = config.clone();
            }
            return;
        }
        let present = match object.take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        let wanted = config.as_array().map(Vec::as_slice).unwrap_or_default();
        *object = Value::Array(merge_lists(present, wanted, shape));
    } else {
        *object = config.clone();
    }
}

/// The items of both, in the order of the configuration; items that only the object has keep their places among the
/// others as well as that allows.
fn merge_lists(present: Vec<Value>, wanted: &[Value], shape: Shape) -> Vec<Value> {
    // What cannot be told apart is nobody's, and stays.
    let name = |item: &Value| shape.element(&item).unwrap_or_default();
    let wanted: Vec<(Element, &Value)> = wanted.iter().map(|item| (name(item), item)).collect();
    let is_wanted: BTreeSet<&str> = wanted.iter().map(|(element, _)| element.as_str()).collect();
    let mut shared = std::collections::BTreeMap::new();
    let order: Vec<(Element, Option<Value>)> = present
        .into_iter()
        .map(|item| {
            let element = name(&item);
            if is_wanted.contains(element.as_str()) {
                shared.entry(element.clone()).or_insert(item);
                (element, None)
            } else {
                (element, Some(item))
            }
        })
        .collect();
    let mut merged = Vec::with_capacity(order.len() + wanted.len());
    let mut wanted = wanted.iter();
    let mut take = |element: &str, item: &Value, merged: &mut Vec<Value>| {
        merged.push(match shared.remove(element) {
            Some(mut present) => {
                merge(&mut present, item, shape.item());
                present
            }
            None => item.clone(),
        });
    };
    for (element, own) in order {
        match own {
            Some(item) => merged.push(item),
            // Everything that the configuration has before this item goes before it, if it has not been placed yet.
            None => {
                let mut rest = wanted.clone();
                if rest.any(|(next, _)| *next == element) {
                    for (next, item) in wanted.by_ref() {
                        take(next, item, &mut merged);
                        if *next == element {
                            break;
                        }
                    }
                }
            }
        }
    }
    for (element, item) in wanted {
        take(element, item, &mut merged);
    }
    merged
}

/// Removes the members of a set from a value. What becomes empty goes as well.
pub(crate) fn remove(value: &mut Value, gone: &FieldSet, shape: Shape) {
    match value {
        Value::Object(map) if shape.is_map::<&Value>([None, None]) => {
            for (element, node) in gone.iter() {
                let Some(name) = element.strip_prefix("f:") else {
                    continue;
                };
                if node.member {
                    map.remove(name);
                } else if let Some(below) = map.get_mut(name) {
                    remove(below, &node.children, shape.field(name).unwrap_or(Shape::Deduced));
                    if is_void(below) {
                        map.remove(name);
                    }
                }
            }
        }
        Value::Array(list) if shape.is_list::<&Value>([None, None]) => list.retain_mut(|item| {
            let Ok(element) = shape.element(&&*item) else {
                return true;
            };
            match gone.get(&element) {
                Some(node) if node.member => false,
                Some(node) => {
                    remove(item, &node.children, shape.item());
                    true
                }
                None => true,
            }
        }),
        _ => {}
    }
}

fn is_void(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The set with the known fields on the way to a member as members too (upstream's `EnsureNamedFieldsAreMembers`).
pub(crate) fn with_parents(set: &FieldSet, shape: Shape) -> FieldSet {
    let mut all = FieldSet::default();
    for (element, node) in set.iter() {
        let below = match element.strip_prefix("f:") {
            Some(name) => shape.field(name).unwrap_or(Shape::Deduced),
            None => shape.item(),
        };
        let is_named = matches!(shape, Shape::Struct(_) | Shape::Unknown) && element.starts_with("f:");
        let node = Node {
            member: node.member || is_named && !node.children.is_empty(),
            children: with_parents(&node.children, below),
        };
        all.add(element.into(), node);
    }
    all
}
