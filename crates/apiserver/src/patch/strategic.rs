//! Strategic merge patch: a merge patch that knows which lists are maps or sets, and obeys directives in the patch.
//!
//! The rules are upstream's (`k8s.io/apimachinery/pkg/util/strategicpatch`). The facts of lists come from
//! [`skiff_api::schema`].

use serde_json::{Map, Value};
use skiff_api::schema::{Definition, Merge, Type};

use crate::error::ApiError;
use crate::go;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Why a strategic merge patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    #[error("unknown patch type: {0} in map: {1}")]
    BadDirective(String, String),
    #[error("merging list cannot yet be specified in the patch")]
    MergeDirective,
    #[error("invalid patch format of retainKeys")]
    BadRetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    BadElementOrder,
    #[error("invalid patch format of primitive list")]
    BadPrimitiveList,
    #[error("The order in patch list:\n{0}\n doesn't match $setElementOrder list:\n{1}\n")]
    OrderMismatch(String, String),
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("list element types are not identical")]
    MixedList,
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::ListOfLists => Self::unprocessable(),
            PatchError::BadRetainKeys | PatchError::BadElementOrder | PatchError::BadPrimitiveList => {
                Self::bad_request(error.to_string())
            }
            other => Self::unclassified_input(other.to_string()),
        }
    }
}

type Result<T> = std::result::Result<T, PatchError>;

/// What is known of the fields of an object.
#[derive(Clone, Copy)]
enum Shape {
    Definition(&'static Definition),
    /// A map: every field has this type.
    Map(&'static Type),
    Unknown,
}

/// How a list merges.
enum ListMerge {
    Replace,
    /// Scalars, united.
    Set,
    /// Objects, told apart by this key.
    Map(&'static str),
}

impl Shape {
    fn of(type_: &'static Type) -> Self {
        match type_ {
            Type::Object(id) => Self::Definition(id.get()),
            Type::Map(value) => Self::Map(value),
            _ => Self::Unknown,
        }
    }

    /// The shape of an object in a field.
    fn field(self, name: &str) -> Self {
        match self {
            Self::Definition(definition) => definition
                .field(name)
                .map_or(Self::Unknown, |field| Self::of(&field.type_)),
            Self::Map(value) => Self::of(value),
            Self::Unknown => Self::Unknown,
        }
    }

    /// Whether the object in a field is replaced as a whole.
    fn replaces(self, name: &str) -> bool {
        let Self::Definition(definition) = self else {
            return false;
        };
        definition
            .field(name)
            .is_some_and(|field| field.merge == Merge::Replace)
    }

    /// The list in a field: how it merges, and the shape of its elements.
    fn list(self, name: &str) -> (ListMerge, Self) {
        let Self::Definition(definition) = self else {
            return (ListMerge::Replace, Self::Unknown);
        };
        let Some(field) = definition.field(name) else {
            return (ListMerge::Replace, Self::Unknown);
        };
        let element = match &field.type_ {
            Type::List(element) => Self::of(element),
            _ => Self::Unknown,
        };
        let merge = match field.merge {
            Merge::Set => ListMerge::Set,
            Merge::Map { patch_key, .. } if !patch_key.is_empty() => ListMerge::Map(patch_key),
            _ => ListMerge::Replace,
        };
        (merge, element)
    }
}

/// Applies a patch to an object of a type; of an unknown type all lists are replaced.
pub(super) fn merge(
    original: Object,
    patch: Object,
    definition: Option<&'static Definition>,
) -> Result<Object> {
    merge_object(
        original,
        patch,
        definition.map_or(Shape::Unknown, Shape::Definition),
    )
}

fn merge_object(mut original: Object, mut patch: Object, shape: Shape) -> Result<Object> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(clean_object(patch)),
            Some("delete") => Ok(Object::new()),
            _ => {
                let shown = go::print(&directive);
                patch.insert(PATCH.into(), directive);
                Err(PatchError::BadDirective(shown, go::print(&Value::Object(patch))))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, shape)?;
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
            delete_from(&mut original, list, &value)?;
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (_, Value::Null) => continue,
            (Some(Value::Object(_)), new @ Value::Object(_)) if shape.replaces(&key) => new,
            (Some(Value::Object(old)), Value::Object(new)) => {
                Value::Object(merge_object(old, new, shape.field(&key))?)
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let (merge, element) = shape.list(&key);
                Value::Array(merge_list(old, new, &merge, element)?)
            }
            (_, new) => match clean(new) {
                Some(new) => new,
                None => continue,
            },
        };
        original.insert(key, merged);
    }
    Ok(original)
}

/// `$retainKeys`: of the original, only these fields stay; the patch may set no others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<()> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(retained) = directive else {
        return Err(PatchError::BadRetainKeys);
    };
    let is_retained = |key: &str| retained.iter().any(|retained| retained.as_str() == Some(key));
    for (key, value) in patch.iter() {
        if !value.is_null() && !is_list_directive(key) && !is_retained(key) {
            return Err(PatchError::BadRetainKeys);
        }
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

fn is_list_directive(key: &str) -> bool {
    key.starts_with(SET_ELEMENT_ORDER) || key.starts_with(DELETE_FROM_PRIMITIVE_LIST)
}

/// `$deleteFromPrimitiveList/x`: these values leave the list.
fn delete_from(original: &mut Object, list: &str, values: &Value) -> Result<()> {
    let Value::Array(values) = values else {
        return Err(PatchError::BadPrimitiveList);
    };
    if let Some(Value::Array(items)) = original.get_mut(list) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// `$setElementOrder/x`: the lists that have one are merged first, and put in this order.
fn merge_ordered_lists(original: &mut Object, patch: &mut Object, shape: Shape) -> Result<()> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(PatchError::BadElementOrder);
        };
        let key = directive.strip_prefix(SET_ELEMENT_ORDER).unwrap_or_default();
        let as_list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(PatchError::BadElementOrder),
        };
        // A null is no list; it is dealt with as any other field's.
        if patch.get(key).is_some_and(Value::is_null) {
            continue;
        }
        let (merge, element) = shape.list(key);
        let identity = match merge {
            ListMerge::Map(key) => Some(key),
            ListMerge::Replace | ListMerge::Set => None,
        };
        let old = as_list(original.remove(key))?;
        let new = as_list(patch.remove(key))?;
        check_order(new.as_deref().unwrap_or_default(), &order, identity)?;
        let live = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => clean_list(new),
            (Some(old), Some(new)) => merge_list(old, new, &merge, element)?,
        };
        let ordered = normalize_order(merged, &order, &live, identity);
        original.insert(key.to_string(), Value::Array(ordered));
    }
    Ok(())
}

/// The elements of a patch's list must stand in its order list, in the same order.
fn check_order(patch: &[Value], order: &[Value], identity: Option<&str>) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        if !rest.any(|other| same(item, other, identity)) {
            return Err(PatchError::OrderMismatch(
                go::print(&Value::Array(patch.to_vec())),
                go::print(&Value::Array(order.to_vec())),
            ));
        }
    }
    Ok(())
}

fn merge_list(old: Vec<Value>, new: Vec<Value>, merge: &ListMerge, element: Shape) -> Result<Vec<Value>> {
    let identity = match merge {
        ListMerge::Replace => return Ok(clean_list(new)),
        ListMerge::Set => None,
        ListMerge::Map(key) => Some(*key),
    };
    check_elements(&old, &new)?;
    let live = old.clone();
    let (merged, order) = match identity {
        None => {
            let mut united: Vec<Value> = Vec::new();
            for item in old.into_iter().chain(new.iter().cloned()) {
                if !united.contains(&item) {
                    united.push(item);
                }
            }
            (united, new)
        }
        Some(key) => {
            let (kept, changes) = obey_elements(old, new, key)?;
            // A replaced list has its own order.
            let Some(changes) = changes else {
                return Ok(kept);
            };
            let order = changes.clone();
            (merge_elements(kept, changes, key, element)?, order)
        }
    };
    Ok(normalize_order(merged, &order, &live, identity))
}

fn check_elements(old: &[Value], new: &[Value]) -> Result<()> {
    let mut objects = None;
    for item in old.iter().chain(new) {
        if item.is_array() {
            return Err(PatchError::ListOfLists);
        }
        if *objects.get_or_insert(item.is_object()) != item.is_object() {
            return Err(PatchError::MixedList);
        }
    }
    Ok(())
}

/// Obeys the elements that are directives: the elements of the original that stay, and the elements of the patch that are
/// to be merged into them; `None` when the patch's elements have replaced all.
fn obey_elements(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Option<Vec<Value>>)> {
    let mut changes = Vec::new();
    let mut replace = false;
    for item in new {
        match item.get(PATCH).map(|directive| directive.as_str()) {
            None => changes.push(item),
            Some(Some("delete")) => {
                let Some(value) = item.get(key) else {
                    return Err(PatchError::NoMergeKey(go::print(&item), key.to_string()));
                };
                old.retain(|other| other.get(key) != Some(value));
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => return Err(PatchError::MergeDirective),
            Some(other) => {
                let directive = other.unwrap_or_default().to_string();
                return Err(PatchError::BadDirective(directive, go::print(&item)));
            }
        }
    }
    if replace {
        Ok((clean_list(changes), None))
    } else {
        Ok((old, Some(changes)))
    }
}

fn merge_elements(mut old: Vec<Value>, new: Vec<Value>, key: &str, element: Shape) -> Result<Vec<Value>> {
    for item in new {
        let Value::Object(item) = item else {
            return Err(PatchError::MixedList);
        };
        let Some(value) = item.get(key) else {
            return Err(PatchError::NoMergeKey(
                go::print(&Value::Object(item)),
                key.to_string(),
            ));
        };
        let found = old.iter_mut().find(|other| other.get(key) == Some(value));
        match found {
            Some(found) => {
                if let Value::Object(before) = found.take() {
                    *found = Value::Object(merge_object(before, item, element)?);
                }
            }
            None => old.push(Value::Object(clean_object(item))),
        }
    }
    Ok(old)
}

/// Whether two elements are the same one.
fn same(one: &Value, other: &Value, identity: Option<&str>) -> bool {
    match identity {
        Some(key) => one.get(key).is_some() && one.get(key) == other.get(key),
        None => one == other,
    }
}

/// Puts a merged list in order: the elements that `order` names in its order; between them the others, in the live list's
/// order, each before the first named one that follows it there.
fn normalize_order(
    merged: Vec<Value>,
    order: &[Value],
    live: &[Value],
    identity: Option<&str>,
) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(item, other, identity));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_cached_key(|item| place(order, item));
    others.sort_by_cached_key(|item| place(live, item).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let item_place = place(live, &item);
        while let Some(other) = others.next_if(|other| match (place(live, other), item_place) {
            (Some(other), Some(item)) => other < item,
            _ => false,
        }) {
            result.push(other);
        }
        result.push(item);
    }
    result.extend(others);
    result
}

/// A value of the patch that is taken as it is: without directives, and without nulls, which delete nothing here. `None`
/// for one that only asks to be deleted.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.get(PATCH).and_then(Value::as_str) == Some("delete") => None,
        Value::Object(map) => Some(Value::Object(clean_object(map))),
        Value::Array(items) => Some(Value::Array(clean_list(items))),
        other => Some(other),
    }
}

fn clean_object(map: Object) -> Object {
    map.into_iter()
        .filter(|(key, value)| {
            !value.is_null() && key != PATCH && key != RETAIN_KEYS && !is_list_directive(key)
        })
        .filter_map(|(key, value)| Some((key, clean(value)?)))
        .collect()
}

fn clean_list(items: Vec<Value>) -> Vec<Value> {
    let is_bare_directive = |item: &Value| {
        item.as_object()
            .is_some_and(|map| map.len() == 1 && map.contains_key(PATCH))
    };
    items
        .into_iter()
        .filter(|item| !is_bare_directive(item))
        .filter_map(clean)
        .collect()
}

#[cfg(test)]
mod tests;
