//! What a change of an object added, modified and removed.

use super::gather;
use super::set::{Element, FieldSet, Node, field};
use super::shape::Shape;
use crate::patch::text::Text;

/// The fields in which two objects differ. Below something added or removed, all is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Change {
    /// From one object to another.
    pub(crate) fn between(old: Text<'_>, new: Text<'_>, shape: Shape) -> Self {
        let mut found = Found::default();
        found.compare(old, new, shape);
        Self {
            added: found.added.children,
            modified: found.modified.children,
            removed: found.removed.children,
        }
    }

    /// Whether nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
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

impl Found {
    fn compare(&mut self, old: Text<'_>, new: Text<'_>, shape: Shape) {
        // Most of an object stays as it is, and nothing need be looked into to see that.
        if old.is_same(new) {
            return;
        }
        let is_map = shape.is_map([Some(old), Some(new)]);
        if !is_map && !shape.is_list([Some(old), Some(new)]) {
            self.modified.member = !old.equals(new);
        } else if old.is_nothing() && !new.is_nothing() {
            self.fill(new, shape, |found| &mut found.added);
        } else if new.is_nothing() && !old.is_nothing() {
            self.fill(old, shape, |found| &mut found.removed);
        } else if is_map {
            self.compare_maps(old, new, shape);
        } else {
            self.compare_lists(old, new, shape);
        }
    }

    /// What was nothing has something now, or the other way round.
    fn fill(&mut self, value: Text<'_>, shape: Shape, side: impl Fn(&mut Self) -> &mut Node) {
        let node = gather::fields(value, shape, Some("{}"));
        if node.member {
            self.modified.member = true;
        } else {
            *side(self) = node;
        }
    }

    fn part(
        &mut self,
        element: impl FnOnce() -> Element,
        old: Option<Text<'_>>,
        new: Option<Text<'_>>,
        shape: Shape,
    ) {
        let mut part = Self::default();
        match (old, new) {
            (Some(old), Some(new)) => part.compare(old, new, shape),
            (None, Some(new)) => part.added = gather::fields(new, shape, None),
            (Some(old), None) => part.removed = gather::fields(old, shape, None),
            (None, None) => {}
        }
        self.attach(element, part);
    }

    fn attach(&mut self, element: impl FnOnce() -> Element, part: Self) {
        let parts = [
            (&mut self.added, part.added),
            (&mut self.modified, part.modified),
            (&mut self.removed, part.removed),
        ];
        if parts.iter().all(|(_, part)| part.is_empty()) {
            return;
        }
        let element = element();
        for (whole, part) in parts {
            whole.children.add(element.clone(), part);
        }
    }

    fn compare_maps(&mut self, old: Text<'_>, new: Text<'_>, shape: Shape) {
        let (old_members, new_members) = (old.members(), new.members());
        for (old_member, new_member) in side_by_side(&old_members, &new_members, |(name, _)| name) {
            let (old_member, new_member) = (old_member.first(), new_member.first());
            let Some((name, _)) = new_member.or(old_member) else {
                continue;
            };
            // What is there wherever the object around it is, is there on both sides.
            let there = || shape.there(name).map(|empty| Text::of(empty.as_bytes()));
            let old_value = old_member.map(|(_, value)| *value).or_else(there);
            let new_value = new_member.map(|(_, value)| *value).or_else(there);
            let below = shape.field(name).unwrap_or(Shape::Deduced);
            self.part(|| field(name), old_value, new_value, below);
        }
    }

    fn compare_lists(&mut self, old: Text<'_>, new: Text<'_>, shape: Shape) {
        let items = (by_element(old.items(), shape), by_element(new.items(), shape));
        let (Some(old_items), Some(new_items)) = items else {
            self.modified.member = !old.equals(new);
            return;
        };
        let below = shape.item();
        for (old, new) in side_by_side(&old_items, &new_items, |(element, _)| element.as_str()) {
            let Some((element, _)) = new.first().or(old.first()) else {
                continue;
            };
            let element = || element.clone();
            match (old, new) {
                ([(_, old)], [(_, new)]) => self.part(element, Some(*old), Some(*new), below),
                ([(_, old)], []) => self.part(element, Some(*old), None, below),
                ([], [(_, new)]) => self.part(element, None, Some(*new), below),
                // Items that stand twice, as upstream lets them from before it looked: they are one thing.
                (old, new) => {
                    let equal = old.len() == new.len()
                        && old.iter().zip(new).all(|((_, old), (_, new))| old.equals(*new));
                    let mut part = Self::default();
                    part.added.member = old.is_empty();
                    part.removed.member = new.is_empty();
                    part.modified.member = !old.is_empty() && !new.is_empty() && !equal;
                    self.attach(element, part);
                }
            }
        }
    }
}

/// The items of a list with their path elements, in the order of those; `None` when one cannot be told apart.
fn by_element(list: Vec<Text<'_>>, shape: Shape) -> Option<Vec<(Element, Text<'_>)>> {
    let mut items = Vec::with_capacity(list.len());
    for item in list {
        items.push((shape.element(&item).ok()?, item));
    }
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Some(items)
}

/// What two lists that are in the order of a key have of each key.
fn side_by_side<'a, T>(
    mut one: &'a [T],
    mut other: &'a [T],
    key: impl Fn(&T) -> &str,
) -> impl Iterator<Item = (&'a [T], &'a [T])> {
    std::iter::from_fn(move || {
        let next = [one.first(), other.first()]
            .into_iter()
            .flatten()
            .map(&key)
            .min()?;
        let run = |side: &'a [T]| side.split_at(side.iter().take_while(|item| key(item) == next).count());
        let ((of_one, one_left), (of_other, other_left)) = (run(one), run(other));
        (one, other) = (one_left, other_left);
        Some((of_one, of_other))
    })
}
