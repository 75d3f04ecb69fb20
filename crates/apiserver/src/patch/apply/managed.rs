//! Who owns which fields: `metadata.managedFields`, read, changed and written.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::set::FieldSet;

/// How many managers an object has that update it, before the oldest are united.
const MOST_UPDATERS: usize = 10;
/// The manager of the united ones.
const ANCIENT: &str = "ancient-changes";
/// The manager of what an object had before anything of it was tracked.
pub(crate) const BEFORE_APPLY: &str = "before-first-apply";

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn of(name: &str) -> Option<Self> {
        [Self::Apply, Self::Update]
            .into_iter()
            .find(|operation| operation.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields. An applier is the same whatever version it applies.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl Manager {
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The text by which upstream sorts managers.
    pub(crate) fn sort_key(&self) -> String {
        let mut key = json!({"manager": self.name}).to_string();
        key.push_str(self.operation.name());
        if self.operation == Operation::Update {
            key.push_str(&self.api_version);
        }
        key.push_str(&self.subresource);
        key
    }

    /// As a conflict names it.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// A manager and what it owns.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) manager: Manager,
    pub(crate) set: FieldSet,
    pub(crate) time: Option<Time>,
}

/// All owners of an object's fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managed(pub(crate) Vec<Owner>);

impl Managed {
    /// Reads `managedFields` that a client wrote; `None` when an entry is malformed.
    pub(crate) fn read(entries: &[ManagedFieldsEntry]) -> Option<Self> {
        let mut managed = Self::default();
        for entry in entries {
            let owner = read_entry(entry)?;
            match managed
                .0
                .iter_mut()
                .find(|other| other.manager.is(&owner.manager))
            {
                Some(other) => *other = owner,
                None => managed.0.push(owner),
            }
        }
        Some(managed)
    }

    /// Reads the text of `managedFields` that this server wrote; `None` when it did not.
    pub(crate) fn parse(owners: &[u8]) -> Option<Self> {
        if owners.is_empty() {
            return Some(Self::default());
        }
        let entries: Vec<Entry<'_, FieldSet>> = serde_json::from_slice(owners).ok()?;
        entries
            .into_iter()
            .map(Entry::owner)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The owners before an update that the client wrote whole: those that the new object names if it names any, else
    /// those of the old one. Nobody when the client resets them.
    pub(crate) fn of_update(old: &[u8], new: &ObjectMeta, subresource: &str) -> Self {
        let of_old = || Self::parse(old).unwrap_or_default();
        if !subresource.is_empty() {
            return of_old();
        }
        match new.managed_fields.as_deref() {
            None => of_old(),
            Some([]) => Self::default(),
            Some([one]) if *one == ManagedFieldsEntry::default() => Self::default(),
            Some(entries) => Self::read(entries).unwrap_or_else(of_old),
        }
    }

    /// The owners in upstream's order, as the text of `managedFields`; empty when there are none.
    pub(crate) fn print(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let seconds = |owner: &Owner| owner.time.as_ref().map_or(0, |time| time.0.as_second());
        self.0.sort_by(|a, b| {
            let first = |owner: &Owner| (owner.manager.operation.name(), seconds(owner));
            let (one, other) = (&a.manager, &b.manager);
            first(a)
                .cmp(&first(b))
                .then_with(|| one.name.cmp(&other.name))
                .then_with(|| one.api_version.cmp(&other.api_version))
                .then_with(|| one.subresource.cmp(&other.subresource))
        });
        let entries: Vec<Entry<'_, &FieldSet>> = self.0.iter().map(Entry::of).collect();
        // What is written are strings and maps of them, which no writer to memory refuses.
        serde_json::to_vec(&entries).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&mut self, manager: &Manager) -> Option<&mut Owner> {
        self.0.iter_mut().find(|owner| owner.manager.is(manager))
    }

    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|owner| !owner.set.is_empty());
    }

    /// Unites the oldest of those that update, until there are not too many.
    pub(crate) fn cap(&mut self) {
        let updaters = self
            .0
            .iter()
            .filter(|owner| owner.manager.operation == Operation::Update);
        let mut excess = updaters.count().saturating_sub(MOST_UPDATERS);
        if excess == 0 {
            return;
        }
        let all = std::mem::take(&mut self.0);
        let (appliers, mut updaters): (Vec<Owner>, Vec<Owner>) = all
            .into_iter()
            .partition(|owner| owner.manager.operation == Operation::Apply);
        updaters.sort_by_cached_key(|owner| {
            let seconds = owner.time.as_ref().map_or(0, |time| time.0.as_second());
            (seconds, owner.manager.sort_key())
        });
        let mut kept: Vec<Owner> = Vec::with_capacity(updaters.len());
        let mut buckets: Vec<usize> = Vec::new();
        for owner in updaters {
            let of_version = |place: &&usize| {
                kept.get(**place)
                    .is_some_and(|bucket| bucket.manager.api_version == owner.manager.api_version)
            };
            let bucket = buckets.iter().find(of_version).copied();
            match bucket.and_then(|place| kept.get_mut(place)) {
                Some(bucket) if excess > 0 => {
                    bucket.manager.name = ANCIENT.into();
                    bucket.manager.subresource.clear();
                    bucket.set.unite(owner.set);
                    bucket.time = owner.time;
                    excess -= 1;
                }
                Some(_) => kept.push(owner),
                None => {
                    buckets.push(kept.len());
                    kept.push(owner);
                }
            }
        }
        self.0 = appliers;
        self.0.extend(kept);
    }
}

fn read_entry(entry: &ManagedFieldsEntry) -> Option<Owner> {
    let operation = Operation::of(entry.operation.as_deref()?)?;
    if entry.fields_type.as_deref() != Some(FIELDS_TYPE) {
        return None;
    }
    let set = match &entry.fields_v1 {
        Some(fields) => FieldSet::parse(&fields.0).ok()?,
        None => FieldSet::default(),
    };
    Some(Owner {
        manager: Manager {
            name: entry.manager.clone().unwrap_or_default(),
            operation,
            api_version: entry.api_version.clone().filter(|version| !version.is_empty())?,
            subresource: entry.subresource.clone().unwrap_or_default(),
        },
        set,
        time: entry.time.clone(),
    })
}

/// An entry of `managedFields` as this server writes it. The members are in the order of their names.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a, Fields> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    fields_type: Cow<'a, str>,
    #[serde(rename = "fieldsV1")]
    fields: Fields,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    manager: Cow<'a, str>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    subresource: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Time>,
}

/// The only form in which fields are written.
const FIELDS_TYPE: &str = "FieldsV1";

impl Entry<'_, FieldSet> {
    fn owner(self) -> Option<Owner> {
        Some(Owner {
            manager: Manager {
                name: self.manager.into_owned(),
                operation: Operation::of(&self.operation)?,
                api_version: self.api_version.into_owned(),
                subresource: self.subresource.into_owned(),
            },
            set: self.fields,
            time: self.time,
        })
    }
}

impl<'a> Entry<'a, &'a FieldSet> {
    fn of(owner: &'a Owner) -> Self {
        let manager = &owner.manager;
        Self {
            api_version: manager.api_version.as_str().into(),
            fields_type: FIELDS_TYPE.into(),
            fields: &owner.set,
            manager: manager.name.as_str().into(),
            operation: manager.operation.name().into(),
            subresource: manager.subresource.as_str().into(),
            time: owner.time.clone(),
        }
    }
}

/// Whether two texts of `managedFields` differ in nothing but the times.
pub(crate) fn same_but_times(one: &[u8], other: &[u8]) -> bool {
    fn entries(owners: &[u8]) -> Option<Vec<Entry<'_, &RawValue>>> {
        if owners.is_empty() {
            return Some(Vec::new());
        }
        serde_json::from_slice(owners).ok()
    }
    let (Some(one), Some(other)) = (entries(one), entries(other)) else {
        return false;
    };
    one.len() == other.len()
        && one.iter().zip(&other).all(|(one, other)| {
            one.manager == other.manager
                && one.operation == other.operation
                && one.api_version == other.api_version
                && one.subresource == other.subresource
                && one.fields.get() == other.fields.get()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updater(name: &str, second: i64) -> Owner {
        Owner {
            manager: Manager {
                name: name.into(),
                operation: Operation::Update,
                api_version: "v1".into(),
                subresource: String::new(),
            },
            set: FieldSet::default().with_fields(&["data", name]),
            time: jiff::Timestamp::from_second(second).ok().map(Time),
        }
    }

    #[test]
    fn the_oldest_of_too_many_updaters_are_united() {
        let mut managed = Managed((0..12).map(|n| updater(&format!("m{n:02}"), n)).collect());
        managed.cap();
        assert_eq!(managed.0.len(), MOST_UPDATERS);
        let ancient = managed
            .0
            .iter()
            .find(|owner| owner.manager.name == ANCIENT)
            .unwrap();
        assert_eq!(ancient.set.paths(), [".data.m00", ".data.m01", ".data.m02"]);
        assert_eq!(ancient.time.as_ref().unwrap().0.as_second(), 2);
    }

    #[test]
    fn what_a_client_does_not_understand_stays_and_what_it_resets_goes() {
        let old = Managed(vec![updater("a", 1)]).print();
        let with = |managed_fields| ObjectMeta {
            managed_fields,
            ..ObjectMeta::default()
        };
        let bad = ManagedFieldsEntry {
            operation: Some("Guess".into()),
            ..ManagedFieldsEntry::default()
        };
        for (new, subresource, left) in [
            (None, "", 1),
            (Some(vec![]), "", 0),
            (Some(vec![ManagedFieldsEntry::default()]), "", 0),
            (Some(vec![ManagedFieldsEntry::default()]), "status", 1),
            (Some(vec![bad]), "", 1),
        ] {
            assert_eq!(Managed::of_update(&old, &with(new), subresource).0.len(), left);
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let mut second = updater("b", 2);
        second.manager.operation = Operation::Apply;
        second.manager.subresource = "status".into();
        second.time = None;
        let text = Managed(vec![updater("a", 1), second]).print();
        let expected = r#"[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:b":{}}},"manager":"b","operation":"Apply","subresource":"status"},{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:a":{}}},"manager":"a","operation":"Update","time":"1970-01-01T00:00:01Z"}]"#;
        assert_eq!(String::from_utf8_lossy(&text), expected);
        assert_eq!(Managed::parse(&text).unwrap().print(), text);
        assert!(Managed::default().print().is_empty() && Managed::parse(b"").unwrap().is_empty());
        // The same as entries of an object.
        let entries: Vec<ManagedFieldsEntry> = serde_json::from_slice(&text).unwrap();
        assert_eq!(Managed::read(&entries).unwrap().print(), text);
        assert_eq!(
            serde_json::to_value(&entries).unwrap(),
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()
        );
    }

    #[test]
    fn owners_differ_in_more_than_the_time_or_not() {
        let text = |name: &str, second| Managed(vec![updater(name, second)]).print();
        assert!(same_but_times(&text("a", 1), &text("a", 2)));
        assert!(!same_but_times(&text("a", 1), &text("b", 1)));
        assert!(!same_but_times(b"", &text("b", 1)));
        assert!(same_but_times(b"", b""));
    }
}
