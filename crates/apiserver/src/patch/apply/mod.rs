//! Server-side apply and the ownership of fields: pure decisions on JSON.
//!
//! [`Rules::update`] tells who owns what after a write; [`Rules::apply`] brings what an applier names into an object,
//! unless others own it. What changed is told from the texts of both states, into which nobody looks where they are
//! equal. The rules are those of upstream's `structured-merge-diff`.

mod compare;
mod gather;
mod managed;
mod merge;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod versions;

use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;
use skiff_api::schema::Definition;
use skiff_api::{KindInfo, Subresource, Target};

use compare::Change;
use managed::{BEFORE_APPLY, Operation, Owner};
use set::FieldSet;
use shape::Shape;
use versions::Changes;

use super::text::Text;

pub(crate) use managed::{Managed, Manager, same_but_times};
pub(crate) use shape::{Look, Sort};
pub(crate) use versions::Versions;

/// The annotation in which `kubectl apply` keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The longest value that upstream's annotations take, in bytes.
const LONGEST_ANNOTATION: usize = 256 * 1024;
/// The manager as which `kubectl apply --server-side` applies: the one for which the annotation counts.
const KUBECTL: &str = "kubectl";

/// The metadata that are the server's, so nobody comes to own them.
static STRIPPED: LazyLock<FieldSet> = LazyLock::new(|| {
    let names = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let whole = ["apiVersion", "kind", "metadata"];
    let set = whole
        .iter()
        .fold(FieldSet::default(), |set, name| set.with_fields(&[name]));
    names
        .iter()
        .fold(set, |set, name| set.with_fields(&["metadata", name]))
});

/// What the rules depend on beside the objects.
#[derive(Debug)]
pub(crate) struct Rules {
    shape: Shape,
    api_version: String,
    versions: Versions,
    subresource: &'static str,
    /// What a write to this target does not change, so nobody comes to own it.
    reset: FieldSet,
}

impl Rules {
    pub(crate) fn new(info: &KindInfo, definition: Option<&'static Definition>, target: Target) -> Self {
        let (subresource, reset): (_, &[&[&str]]) = match target {
            Target::Main if info.has(Subresource::Status) => ("", &[&["status"]]),
            Target::Main => ("", &[]),
            Target::Subresource(Subresource::Status) => match info.kind.as_ref() {
                "Deployment" => ("status", &[&["spec"], &["metadata", "labels"]]),
                "Pod" => (
                    "status",
                    &[
                        &["spec"],
                        &["metadata", "deletionTimestamp"],
                        &["metadata", "ownerReferences"],
                    ],
                ),
                _ => ("status", &[&["spec"]]),
            },
            Target::Subresource(other) => (other.name(), &[]),
        };
        let reset = reset
            .iter()
            .fold(FieldSet::default(), |set, path| set.with_fields(path));
        Self {
            shape: Shape::of_kind(definition),
            api_version: info.api_version(),
            versions: Versions::default(),
            subresource,
            reset,
        }
    }

    /// The same rules for a kind of which others write other versions.
    pub(crate) fn with_versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// The same rules for fields that are tracked as another subresource's than the one written to (`scale`).
    pub(crate) fn tracked_as(mut self, subresource: Subresource) -> Self {
        self.subresource = subresource.name();
        self
    }

    fn manager(&self, name: &str, operation: Operation) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown" } else { name }.into(),
            operation,
            api_version: self.api_version.clone(),
            subresource: self.subresource.into(),
        }
    }

    /// The owners before an update that the client wrote whole; `old` is the text of the old object's.
    pub(crate) fn owners(&self, old: &[u8], new: &ObjectMeta) -> Managed {
        Managed::of_update(old, new, self.subresource)
    }

    /// Who owns what after a create (`old` is an empty object) or an update.
    pub(crate) fn update(
        &self,
        old: Text<'_>,
        new: Text<'_>,
        managed: Managed,
        name: &str,
        now: &Time,
    ) -> Managed {
        // What was never tracked, or is no longer, is not tracked until it is applied.
        let is_new = || {
            old.member("metadata")
                .and_then(|meta| meta.member("uid"))
                .is_none()
        };
        if managed.0.is_empty() && !is_new() {
            return managed;
        }
        self.track(old, new, managed, name, now)
    }

    fn track(&self, old: Text<'_>, new: Text<'_>, mut managed: Managed, name: &str, now: &Time) -> Managed {
        let mut change = Change::between(old, new, self.shape);
        change.ignore(&self.reset);
        let mut own = if managed.0.is_empty() {
            change.into_set()
        } else {
            let own = change.set();
            Changes::new(&self.versions, (old, new), &self.api_version, &self.reset, change)
                .take_from(&mut managed.0);
            own
        };
        own.subtract(&STRIPPED);
        if !own.is_empty() {
            let manager = self.manager(name, Operation::Update);
            match managed.find(&manager) {
                Some(owner) => {
                    owner.set.unite(own);
                    owner.time = Some(now.clone());
                }
                None => managed.0.push(Owner {
                    manager,
                    set: own,
                    time: Some(now.clone()),
                }),
            }
        }
        managed.drop_empty();
        managed.cap();
        managed
    }

    /// Applies a configuration to an object; to an empty one if it is not there.
    ///
    /// # Errors
    /// The conflicts, or what does not fit the kind.
    pub(crate) fn apply(
        &self,
        live: Text<'_>,
        applying: Applying<'_>,
        managed: Managed,
        force: bool,
    ) -> Result<Applied, Refusal> {
        let Applying { config, name, now } = applying;
        let mut errors = Vec::new();
        let wanted = merge::fields_of(config, self.shape, &mut errors);
        if !errors.is_empty() {
            return Err(Refusal::Misfit(joined(&errors)));
        }
        let managed = if managed.0.is_empty() {
            self.track(Text::of(b"{}"), live, managed, BEFORE_APPLY, now)
        } else {
            managed
        };
        let attempt = |managed, force| self.apply_fields(live, applying, &wanted, managed, force);
        if name != KUBECTL {
            return attempt(managed, force);
        }
        let mut applied = match attempt(managed.clone(), force) {
            Err(Refusal::Conflicts(conflicts)) => {
                let allowed = self.last_applied_unchanged(live).unwrap_or_default();
                let conflicts = conflicts.without(&allowed);
                if !conflicts.0.is_empty() {
                    return Err(Refusal::Conflicts(conflicts));
                }
                attempt(managed, true)?
            }
            outcome => outcome?,
        };
        if refresh_last_applied(&mut applied.object, config) {
            applied.json = applied.object.to_string();
        }
        Ok(applied)
    }

    /// `wanted`: the fields of the configuration.
    fn apply_fields(
        &self,
        live: Text<'_>,
        Applying { config, name, now }: Applying<'_>,
        wanted: &FieldSet,
        mut managed: Managed,
        force: bool,
    ) -> Result<Applied, Refusal> {
        let manager = self.manager(name, Operation::Apply);
        // What was owned in a version that is not served cannot be told.
        managed
            .0
            .retain(|owner| self.shape_in(&owner.manager.api_version).is_some());
        let mut object = live.tree();
        merge::merge(&mut object, config, self.shape);
        let mut own = wanted.clone();
        own.subtract_below(&self.reset);
        let last = managed
            .0
            .iter()
            .position(|owner| owner.manager.is(&manager))
            .map(|place| managed.0.swap_remove(place));
        if let Some(last) = &last {
            self.prune(&mut object, last, &own, &managed);
        }
        own.subtract(&STRIPPED);
        let json = object.to_string();
        let states = (live, Text::of(json.as_bytes()));
        let mut change = Change::between(states.0, states.1, self.shape);
        let unchanged = change.is_empty();
        change.ignore(&self.reset);
        let mut changes = Changes::new(&self.versions, states, &self.api_version, &self.reset, change);
        let conflicts: Vec<(Manager, FieldSet)> = managed
            .0
            .iter()
            .filter_map(|owner| {
                let changed = changes.in_version(&owner.manager.api_version)?;
                let mut set = owner.set.intersection(&changed.modified);
                set.unite(owner.set.intersection(&changed.added));
                (!set.is_empty()).then(|| (owner.manager.clone(), set))
            })
            .collect();
        if !force && !conflicts.is_empty() {
            return Err(Refusal::Conflicts(Conflicts(conflicts)));
        }
        changes.take_from(&mut managed.0);
        // Who only comes to own what is there already has not written at any time.
        let time = match unchanged {
            true => last.and_then(|last| last.time),
            false => Some(now.clone()),
        };
        managed.0.push(Owner {
            manager,
            set: own,
            time,
        });
        managed.drop_empty();
        managed.cap();
        Ok(Applied {
            object,
            json,
            managed,
        })
    }

    /// The shape of the kind in a version; `None` where it is not served.
    fn shape_in(&self, api_version: &str) -> Option<Shape> {
        if api_version == self.api_version {
            Some(self.shape)
        } else {
            self.versions.shape(api_version)
        }
    }

    /// Removes what the applier applied last, does not apply now, and nobody else owns.
    fn prune(&self, object: &mut Value, last: &Owner, own: &FieldSet, others: &Managed) {
        let version = last.manager.api_version.as_str();
        if version == self.api_version && last.set.is_within(own) {
            return;
        }
        // What each version's owners own. The version that was applied last comes first: what others own in it may be
        // needed for there to be anything to convert.
        let mut owned: Vec<(&str, FieldSet)> = vec![(version, FieldSet::default())];
        let sets = others
            .0
            .iter()
            .map(|owner| (owner.manager.api_version.as_str(), &owner.set));
        for (version, set) in sets.chain([(self.api_version.as_str(), own)]) {
            match owned.iter_mut().find(|(known, _)| *known == version) {
                Some((_, known)) => known.unite(set.clone()),
                None => owned.push((version, set.clone())),
            }
        }
        if let Some(pruned) = self.pruned(object, last, &owned) {
            *object = pruned;
        }
    }

    /// `None` where a version is not served.
    fn pruned(&self, object: &Value, last: &Owner, owned: &[(&str, FieldSet)]) -> Option<Value> {
        let version = last.manager.api_version.as_str();
        let convert = |object: &Value, from: &str, to: &str| {
            if from == to {
                Some(object.clone())
            } else {
                self.versions.convert(object, from, to)
            }
        };
        let all_of = |value: &Value, shape| {
            merge::with_parents(&merge::fields_of(value, shape, &mut Vec::new()), shape)
        };
        let shape = self.shape_in(version)?;
        let last = merge::with_parents(&last.set, shape);
        let merged = convert(object, &self.api_version, version)?;
        // Without everything applied last; then with all of that which somebody owns; then with what was never applied.
        let mut pruned = (version, merged.clone());
        merge::remove(&mut pruned.1, &last, shape);
        for (version, set) in owned {
            let shape = self.shape_in(version)?;
            let merged = convert(object, &self.api_version, version)?;
            let without = convert(&pruned.1, pruned.0, version)?;
            let mut gone = all_of(&merged, shape);
            gone.subtract(&all_of(&without, shape));
            gone.subtract(&merge::with_parents(set, shape));
            pruned = (version, merged);
            merge::remove(&mut pruned.1, &gone, shape);
        }
        let without = convert(&pruned.1, pruned.0, version)?;
        let mut gone = all_of(&merged, shape);
        gone.subtract(&all_of(&without, shape));
        let mut left = merged;
        merge::remove(&mut left, &gone.intersection(&last), shape);
        convert(&left, version, &self.api_version)
    }

    /// The fields that `kubectl apply` applied last and that still are as it applied them: a conflict about them is
    /// with kubectl's own former self.
    fn last_applied_unchanged(&self, live: Text<'_>) -> Option<FieldSet> {
        let annotations = live.member("metadata")?.member("annotations")?;
        let text: String = serde_json::from_slice(annotations.member(LAST_APPLIED)?.json()).ok()?;
        let last: Value = serde_json::from_str(&text).ok()?;
        if last.get("apiVersion")?.as_str()? != self.api_version {
            return None;
        }
        let mut errors = Vec::new();
        let mut fields = merge::fields_of(&last, self.shape, &mut errors);
        if !errors.is_empty() {
            return None;
        }
        let change = Change::between(Text::of(text.as_bytes()), live, self.shape);
        fields.subtract(&change.set());
        fields.subtract(&change.removed);
        Some(fields)
    }
}

fn annotations(object: &Value) -> Option<&serde_json::Map<String, Value>> {
    object.pointer("/metadata/annotations")?.as_object()
}

/// Keeps the annotation in step, where there is one, so that `kubectl apply` without the server can go on from here.
/// Whether there is one.
fn refresh_last_applied(object: &mut Value, config: &Value) -> bool {
    let has = annotations(object)
        .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
        .is_some_and(|text| !text.is_empty());
    if !has {
        return false;
    }
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(LAST_APPLIED);
    }
    let mut text = format!("{config}\n");
    if text.len() > LONGEST_ANNOTATION {
        text.clear();
    }
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations.insert(LAST_APPLIED.into(), text.into());
    }
    true
}

/// A configuration on its way into an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applying<'a> {
    pub(crate) config: &'a Value,
    /// Who applies it.
    pub(crate) name: &'a str,
    pub(crate) now: &'a Time,
}

/// What an apply makes of an object.
#[derive(Debug)]
pub(crate) struct Applied {
    object: Value,
    /// The same as JSON.
    pub(crate) json: String,
    pub(crate) managed: Managed,
}

/// Why nothing was applied.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The configuration does not fit the kind.
    Misfit(String),
    /// Others own what it would change.
    Conflicts(Conflicts),
}

/// Fields that others own, by owner.
#[derive(Debug)]
pub(crate) struct Conflicts(Vec<(Manager, FieldSet)>);

impl Conflicts {
    fn without(self, allowed: &FieldSet) -> Self {
        let left = self.0.into_iter().map(|(manager, mut set)| {
            set.subtract(allowed);
            (manager, set)
        });
        Self(left.filter(|(_, set)| !set.is_empty()).collect())
    }

    /// Each conflict: the other manager and the field.
    pub(crate) fn causes(&self) -> Vec<(String, String)> {
        let mut managers: Vec<&(Manager, FieldSet)> = self.0.iter().collect();
        managers.sort_by_cached_key(|(manager, _)| manager.sort_key());
        managers
            .into_iter()
            .flat_map(|(manager, set)| {
                let shown = manager.shown();
                set.paths().into_iter().map(move |path| (shown.clone(), path))
            })
            .collect()
    }

    /// The message of them all.
    pub(crate) fn message(&self) -> String {
        let causes = self.causes();
        if let [(manager, path)] = causes.as_slice() {
            return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut lines: Vec<String> = Vec::new();
        let mut last = None;
        for (manager, path) in &causes {
            if last != Some(manager) {
                lines.push(format!("conflicts with {manager}:"));
                last = Some(manager);
            }
            lines.push(format!("- {path}"));
        }
        format!(
            "Apply failed with {} conflicts: {}",
            causes.len(),
            lines.join("\n")
        )
    }
}

/// Errors as upstream's `ValidationErrors` prints them.
fn joined(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => {
            let mut lines = vec!["errors:".to_string()];
            lines.extend(many.iter().map(|error| format!("  {error}")));
            lines.join("\n")
        }
    }
}
