//! Who owns which fields: `metadata.managedFields`, read, changed and written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, Time};
use serde_json::json;

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
    /// Reads `managedFields`; `None` when an entry is malformed.
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

    /// The owners before an update that the client wrote whole: those that the new object names if it names any, else
    /// those of the old one. Nobody when the client resets them.
    pub(crate) fn of_update(old: &ObjectMeta, new: &ObjectMeta, subresource: &str) -> Self {
        let of_old = || Self::read(old.managed_fields.as_deref().unwrap_or_default()).unwrap_or_default();
        if !subresource.is_empty() {
            return of_old();
        }
        match new.managed_fields.as_deref() {
            None => of_old(),
            Some([]) => Self::default(),
            Some([one]) if *one == ManagedFieldsEntry::default() => Self::default(),
            Some(entries) if Some(entries) == old.managed_fields.as_deref() => of_old(),
            Some(entries) => Self::read(entries).unwrap_or_else(of_old),
        }
    }

    /// The owners in upstream's order, as `managedFields`.
    pub(crate) fn write(mut self) -> Option<Vec<ManagedFieldsEntry>> {
        if self.0.is_empty() {
            return None;
        }
        let seconds = |owner: &Owner| owner.time.as_ref().map_or(0, |time| time.0.as_second());
        self.0.sort_by(|a, b| {
            let rest = |owner: &Owner| {
                let Manager {
                    name,
                    api_version,
                    subresource,
                    ..
                } = &owner.manager;
                (name.clone(), api_version.clone(), subresource.clone())
            };
            let first = |owner: &Owner| (owner.manager.operation.name(), seconds(owner));
            first(a).cmp(&first(b)).then_with(|| rest(a).cmp(&rest(b)))
        });
        Some(self.0.into_iter().map(write_entry).collect())
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
    let operation = match entry.operation.as_deref()? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if entry.fields_type.as_deref() != Some("FieldsV1") {
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

fn write_entry(owner: Owner) -> ManagedFieldsEntry {
    let text = |text: String| (!text.is_empty()).then_some(text);
    ManagedFieldsEntry {
        manager: text(owner.manager.name),
        operation: Some(owner.manager.operation.name().into()),
        api_version: Some(owner.manager.api_version),
        time: owner.time,
        fields_type: Some("FieldsV1".into()),
        fields_v1: Some(FieldsV1(owner.set.print())),
        subresource: text(owner.manager.subresource),
    }
}

/// Whether two lists of owners differ in nothing but the times.
pub(crate) fn same_but_times(
    one: Option<&[ManagedFieldsEntry]>,
    other: Option<&[ManagedFieldsEntry]>,
) -> bool {
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            one.manager == other.manager
                && one.operation == other.operation
                && one.api_version == other.api_version
                && one.subresource == other.subresource
                && one.fields_type == other.fields_type
                && one.fields_v1 == other.fields_v1
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
        let entries = Managed(vec![updater("a", 1)]).write();
        let old = ObjectMeta {
            managed_fields: entries,
            ..ObjectMeta::default()
        };
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
}
