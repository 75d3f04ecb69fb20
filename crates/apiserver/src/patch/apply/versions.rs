//! The versions of a kind: what a manager owns is told in the version that it wrote, so it is compared in that one.

use std::sync::Arc;

use serde_json::Value;
use skiff_api::{Catalogue, Strategy, schema};

use super::compare::Change;
use super::managed::Owner;
use super::set::FieldSet;
use super::shape::Shape;
use crate::patch::text::Text;

/// The versions of a kind; none where there is but one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(Vec<Served>);

#[derive(Clone, Debug)]
struct Served {
    api_version: String,
    shape: Shape,
    strategy: Arc<dyn Strategy>,
}

impl Versions {
    /// The versions of the kind of which this is one.
    pub(crate) fn of(catalogue: &Catalogue, strategy: &dyn Strategy) -> Self {
        let served: Vec<Served> = catalogue
            .versions(strategy)
            .map(|strategy| {
                let info = strategy.info();
                let definition = schema::of_kind(&info.group, &info.version, &info.kind);
                Served {
                    api_version: info.api_version(),
                    shape: Shape::of_kind(definition),
                    strategy: strategy.clone(),
                }
            })
            .collect();
        Self(if served.len() > 1 { served } else { Vec::new() })
    }

    fn find(&self, api_version: &str) -> Option<&Served> {
        self.0.iter().find(|served| served.api_version == api_version)
    }

    pub(super) fn shape(&self, api_version: &str) -> Option<Shape> {
        self.find(api_version).map(|served| served.shape)
    }

    /// An object in another version; `None` where one of the two is not served.
    pub(super) fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        if from == to {
            return Some(object.clone());
        }
        let (from, to) = (self.find(from)?, self.find(to)?);
        let stored = match from.strategy.conversion() {
            Some(conversion) => conversion.to_stored(object.clone()),
            None => object.clone(),
        };
        Some(match to.strategy.conversion() {
            Some(conversion) => conversion.of_stored(stored),
            None => stored,
        })
    }
}

/// What changed from one state to another, in every version in which somebody owns fields.
pub(super) struct Changes<'a> {
    versions: &'a Versions,
    /// Both states in the version of the request.
    states: (Text<'a>, Text<'a>),
    own: &'a str,
    ignored: &'a FieldSet,
    known: Vec<(String, Option<Change>)>,
}

impl<'a> Changes<'a> {
    /// `change`: what changed in the version of the request.
    pub(super) fn new(
        versions: &'a Versions,
        states: (Text<'a>, Text<'a>),
        own: &'a str,
        ignored: &'a FieldSet,
        change: Change,
    ) -> Self {
        Self {
            versions,
            states,
            own,
            ignored,
            known: vec![(own.to_string(), Some(change))],
        }
    }

    /// What changed in a version; `None` where it is not served.
    pub(super) fn in_version(&mut self, api_version: &str) -> Option<&Change> {
        if !self.known.iter().any(|(version, _)| version == api_version) {
            let change = self.compare(api_version);
            self.known.push((api_version.to_string(), change));
        }
        let known = self.known.iter().find(|(version, _)| version == api_version);
        known.and_then(|(_, change)| change.as_ref())
    }

    fn compare(&self, api_version: &str) -> Option<Change> {
        let shape = self.versions.shape(api_version)?;
        let convert = |state: Text<'_>| {
            let converted = self.versions.convert(&state.tree(), self.own, api_version)?;
            Some(converted.to_string())
        };
        let (old, new) = (convert(self.states.0)?, convert(self.states.1)?);
        let (old, new) = (Text::of(old.as_bytes()), Text::of(new.as_bytes()));
        let mut change = Change::between(old, new, shape);
        change.ignore(self.ignored);
        Some(change)
    }

    /// Takes from owners what was changed or removed under them; those of versions that are not served are dropped.
    pub(super) fn take_from(&mut self, owners: &mut Vec<Owner>) {
        owners.retain_mut(|owner| match self.in_version(&owner.manager.api_version) {
            Some(change) => {
                owner.set.subtract(&change.added);
                owner.set.subtract(&change.modified);
                owner.set.subtract(&change.removed);
                true
            }
            None => false,
        });
    }
}
