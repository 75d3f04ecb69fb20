//! Which objects of a kind have a given label or field value, so that a selector need not ask each of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use skiff_api::selector::Operator;

use super::Facts;
use super::past::{KeyRange, borrowed};
use super::present::Place;
use super::selection::Selection;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Term {
    Label(String, String),
    Field(&'static str, String),
}

/// Keys of objects by label and by indexed field, and where the objects are.
#[derive(Debug)]
pub(super) struct Index {
    fields: &'static [&'static str],
    keys: HashMap<Term, BTreeMap<Arc<str>, Place>>,
}

/// Who may match a selector.
pub(super) struct Candidates<I> {
    /// Keys and places, in the order of their keys.
    pub(super) found: I,
    /// Whether the selector says no more than what they were found by, so that it need not be asked.
    pub(super) all_match: bool,
}

impl Index {
    /// An index by labels and by these fields.
    pub(super) fn new(fields: &'static [&'static str]) -> Self {
        let keys = HashMap::new();
        Self { fields, keys }
    }

    /// Follows a change of the object at a place. An update that leaves labels and fields alone costs a comparison.
    pub(super) fn replace(&mut self, key: &Arc<str>, place: Place, old: Option<&Facts>, new: Option<&Facts>) {
        if old == new {
            return;
        }
        for term in old.into_iter().flat_map(|old| terms(old, self.fields)) {
            if let Some(keys) = self.keys.get_mut(&term) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&term);
                }
            }
        }
        for term in new.into_iter().flat_map(|new| terms(new, self.fields)) {
            self.keys.entry(term).or_default().insert(key.clone(), place);
        }
    }

    /// The objects in a range, which is not empty and within the selection's namespace, that may match; `None` when any
    /// object may.
    pub(super) fn candidates(
        &self,
        selection: &Selection,
        range: &KeyRange,
    ) -> Option<Candidates<impl Iterator<Item = (&str, Place)>>> {
        let labels =
            selection
                .labels
                .requirements()
                .iter()
                .filter_map(|requirement| match requirement.operator() {
                    Operator::Equals | Operator::DoubleEquals | Operator::In => match requirement.values() {
                        [value] => Some(Term::Label(requirement.key().to_string(), value.clone())),
                        _ => None,
                    },
                    _ => None,
                });
        // Fields are few and known by name; one that is not a kind's own (metadata.name) is not indexed.
        let fields = selection
            .indexed_fields
            .iter()
            .map(|(field, value)| Term::Field(field, value.clone()));
        let fewest = labels
            .chain(fields)
            .map(|term| self.keys.get(&term))
            .min_by_key(|keys| keys.map_or(0, BTreeMap::len))?;
        let within = fewest.map(|keys| keys.range::<str, _>(borrowed(range)));
        let terms = selection.labels.requirements().len() + selection.fields.terms().len();
        Some(Candidates {
            found: within.into_iter().flatten().map(|(key, place)| (&**key, *place)),
            all_match: terms == 1,
        })
    }
}

fn terms(facts: &Facts, indexed: &'static [&'static str]) -> impl Iterator<Item = Term> {
    let labels = facts
        .labels
        .iter()
        .map(|(key, value)| Term::Label(key.clone(), value.clone()));
    let fields = facts
        .fields
        .iter()
        .filter(|(field, _)| indexed.contains(field))
        .map(|(field, value)| Term::Field(field, value.clone()));
    labels.chain(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_api::KindInfo;
    use std::collections::BTreeMap;
    use std::ops::Bound;

    fn facts(app: &str, node: &str) -> Facts {
        Facts {
            labels: BTreeMap::from([("app".into(), app.into())]),
            fields: vec![("spec.nodeName", node.into()), ("status.phase", "Running".into())],
            ..Facts::default()
        }
    }

    fn candidates(index: &Index, labels: &str, fields: &str) -> Option<Vec<String>> {
        let info = KindInfo {
            selectable_fields: &["spec.nodeName", "status.phase"],
            indexed_fields: &["spec.nodeName"],
            ..KindInfo::of::<k8s_openapi::api::core::v1::Pod>("pod")
        };
        let selection = Selection::parse(&info, None, labels, fields).unwrap();
        let keys = index.candidates(&selection, &(Bound::Unbounded, Bound::Unbounded))?;
        let term = labels.is_empty() || fields.is_empty();
        assert_eq!(keys.all_match, term, "{labels} {fields}");
        Some(keys.found.map(|(key, _)| key.to_string()).collect())
    }

    #[test]
    fn candidates_follow_labels_and_indexed_fields() {
        let mut index = Index::new(&["spec.nodeName"]);
        let keys: Vec<Arc<str>> = ["a/x", "a/y", "b/x"].map(Arc::from).to_vec();
        let places = [0, 1, 2].map(Place::numbered);
        index.replace(&keys[0], places[0], None, Some(&facts("web", "n1")));
        index.replace(&keys[1], places[1], None, Some(&facts("web", "n2")));
        index.replace(&keys[2], places[2], None, Some(&facts("db", "n1")));
        let found = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());

        assert_eq!(candidates(&index, "app=web", ""), found(&["a/x", "a/y"]));
        assert_eq!(candidates(&index, "app in (web)", ""), found(&["a/x", "a/y"]));
        assert_eq!(candidates(&index, "app=nobody", ""), found(&[]));
        assert_eq!(candidates(&index, "", "spec.nodeName=n1"), found(&["a/x", "b/x"]));
        // The shorter of two.
        assert_eq!(candidates(&index, "app=db", "spec.nodeName=n1"), found(&["b/x"]));
        // Nothing to go by.
        for (labels, fields) in [
            ("", ""),
            ("app!=web", ""),
            ("app", ""),
            ("", "status.phase=Running"),
        ] {
            assert_eq!(candidates(&index, labels, fields), None, "{labels} {fields}");
        }

        index.replace(
            &keys[0],
            places[0],
            Some(&facts("web", "n1")),
            Some(&facts("db", "n1")),
        );
        index.replace(&keys[1], places[1], Some(&facts("web", "n2")), None);
        assert_eq!(candidates(&index, "app=web", ""), found(&[]));
        assert_eq!(candidates(&index, "app=db", ""), found(&["a/x", "b/x"]));
        index.replace(&keys[0], places[0], Some(&facts("db", "n1")), None);
        index.replace(&keys[2], places[2], Some(&facts("db", "n1")), None);
        assert!(index.keys.is_empty(), "nothing is left behind");
    }
}
