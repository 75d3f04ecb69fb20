//! The present objects of a kind in the order of their keys, each at a place of its own that it keeps while it is there: an
//! index of places need not follow an object's changes, and leads to it without a search.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::Entry;
use super::past::{KeyRange, Keyed, borrowed};

/// Where an object is, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    #[cfg(test)]
    pub(super) fn numbered(number: u32) -> Self {
        Self(number)
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// The objects.
#[derive(Debug, Default)]
pub(super) struct Present {
    places: BTreeMap<Arc<str>, Place>,
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<Place>,
}

impl Present {
    /// The object with a key.
    pub(super) fn get(&self, key: &str) -> Option<Keyed<'_>> {
        let (key, place) = self.places.get_key_value(key)?;
        Some((key, self.at(*place)?))
    }

    /// The object at a place.
    pub(super) fn at(&self, place: Place) -> Option<&Arc<Entry>> {
        self.entries.get(place.index())?.as_ref()
    }

    /// The objects of a range, which is not empty, in order.
    pub(super) fn range(&self, range: &KeyRange) -> impl Iterator<Item = Keyed<'_>> {
        let places = self.places.range::<str, _>(borrowed(range));
        places.filter_map(|(key, place)| Some((&**key, self.at(*place)?)))
    }

    /// Puts an object in: where it is then, and what was there.
    pub(super) fn insert(&mut self, key: &Arc<str>, entry: Arc<Entry>) -> (Place, Option<Arc<Entry>>) {
        if let Some(place) = self.places.get(key).copied() {
            let slot = self.entries.get_mut(place.index());
            return (place, slot.and_then(|slot| slot.replace(entry)));
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let next = self.entries.len();
                self.entries.push(None);
                // Four thousand million objects do not fit into memory.
                Place(u32::try_from(next).unwrap_or(u32::MAX))
            }
        };
        if let Some(slot) = self.entries.get_mut(place.index()) {
            *slot = Some(entry);
        }
        self.places.insert(key.clone(), place);
        (place, None)
    }

    /// Takes an object out: where it was, and what it was.
    pub(super) fn remove(&mut self, key: &str) -> Option<(Place, Arc<Entry>)> {
        let place = self.places.remove(key)?;
        let entry = self.entries.get_mut(place.index())?.take()?;
        self.free.push(place);
        if self.places.is_empty() {
            *self = Self::default();
        }
        Some((place, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::entry_of;
    use proptest::prelude::*;
    use skiff_api::catalogue;
    use std::ops::Bound;

    proptest! {
        #[test]
        fn objects_stay_where_they_are_and_come_in_the_order_of_their_keys(
            steps in proptest::collection::vec((0_u8..12, any::<bool>()), 0..60)
        ) {
            let catalogue = catalogue::builtin();
            let strategy = catalogue.resource("", "v1", "configmaps").unwrap();
            let mut present = Present::default();
            let mut model: BTreeMap<String, (Place, Arc<Entry>)> = BTreeMap::new();
            for (key, put) in steps {
                let key = format!("k{key}");
                if put {
                    let object = serde_json::json!({ "metadata": { "name": key } });
                    let entry = Arc::new(entry_of(strategy.as_ref(), object));
                    let (place, old) = present.insert(&Arc::from(key.as_str()), entry.clone());
                    let before = model.insert(key, (place, entry));
                    prop_assert_eq!(before.is_some(), old.is_some());
                    if let (Some((was, before)), Some(old)) = (before, old) {
                        prop_assert_eq!(was, place);
                        prop_assert!(Arc::ptr_eq(&before, &old));
                    }
                } else {
                    let (gone, removed) = (model.remove(&key), present.remove(&key));
                    prop_assert_eq!(gone.as_ref().map(|(place, _)| *place), removed.map(|(place, _)| place));
                    prop_assert!(present.get(&key).is_none());
                }
                let all: Vec<&str> = present.range(&(Bound::Unbounded, Bound::Unbounded)).map(|(key, _)| key).collect();
                prop_assert_eq!(all, model.keys().map(String::as_str).collect::<Vec<_>>());
                for (key, (place, entry)) in &model {
                    prop_assert!(Arc::ptr_eq(present.at(*place).unwrap(), entry));
                    prop_assert!(Arc::ptr_eq(present.get(key).unwrap().1, entry));
                }
            }
            prop_assert!(present.entries.len() <= 12, "places are used again");
        }
    }
}
