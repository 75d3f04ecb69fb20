//! What a kind is, typed ([`Kind`], which each kind's file implements) and type-erased ([`Strategy`], which the generic
//! registry uses).

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::field::Errors;
use crate::names;
use crate::object::Object;
use crate::schema;
use crate::version::Conversion;

/// Whether the objects of a kind live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/api/v1/namespaces/{namespace}/…`
    Namespaced,
    /// `/api/v1/…`
    Cluster,
}

/// A part of a resource with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `status`: only the status and some metadata can be changed through it.
    Status,
    /// `scale`: replicas as an autoscaling/v1 `Scale`.
    Scale,
    /// `binding`: the scheduler's choice of a node.
    Binding,
    /// `log`: a container's output, read from the node.
    Log,
    /// `eviction`: a deletion that respects disruption budgets.
    Eviction,
    /// `ephemeralcontainers`.
    EphemeralContainers,
    /// `resize`: a change of a running pod's resources.
    Resize,
    /// `exec`, tunnelled to the node.
    Exec,
    /// `attach`, tunnelled to the node.
    Attach,
    /// `portforward`, tunnelled to the node.
    PortForward,
    /// `proxy`: HTTP to the object itself.
    Proxy,
    /// `token`: a service account's token.
    Token,
    /// `finalize`: a namespace's finalizers.
    Finalize,
    /// `approval`: a certificate signing request's conditions.
    Approval,
}

impl Subresource {
    /// The last part of its path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Log => "log",
            Self::Eviction => "eviction",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Token => "token",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
        }
    }
}

/// A column of the server-side table (`meta.k8s.io/v1` `TableColumnDefinition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The title, as kubectl shows it in capitals.
    pub name: Cow<'static, str>,
    /// An OpenAPI type: `string`, `integer`, `date`, …
    pub type_: &'static str,
    /// An OpenAPI format; `name` for the column that identifies the object.
    pub format: &'static str,
    /// What the column says.
    pub description: Cow<'static, str>,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column that is always shown.
    pub const fn new(name: &'static str, type_: &'static str, description: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            type_,
            format: "",
            description: Cow::Borrowed(description),
            priority: 0,
        }
    }

    /// A column that only `-o wide` shows.
    pub const fn wide(name: &'static str, type_: &'static str, description: &'static str) -> Self {
        let mut column = Self::new(name, type_, description);
        column.priority = 1;
        column
    }

    /// A column that shows a field, and says of it what the documents say of `core.v1.PodSpec`, `nodeName`.
    pub(crate) fn of(
        name: &'static str,
        type_: &'static str,
        schema: &'static str,
        field: &'static str,
    ) -> Self {
        Self::new(name, type_, schema::described(schema, field).unwrap_or_default())
    }

    /// The same, shown only with `-o wide`.
    #[must_use]
    pub(crate) fn only_wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// The `Name` column, first in nearly every table.
    pub fn object_name() -> Self {
        let mut column = Self::of("Name", "string", OBJECT_META, "name");
        column.format = "name";
        column
    }

    /// The `Age` column. Its cell is a duration as `kubectl` writes it (`5m3s`), see [`crate::kind::age`].
    pub fn age() -> Self {
        Self::of("Age", "string", OBJECT_META, "creationTimestamp")
    }

    /// The `Created At` column of the kinds that have no table of their own. Its cell is the time.
    pub fn created_at() -> Self {
        Self::of("Created At", "date", OBJECT_META, "creationTimestamp")
    }
}

const OBJECT_META: &str = "meta.v1.ObjectMeta";

/// What becomes of the objects that an object owns when it is deleted and nobody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// They are deleted after it.
    Deleted,
    /// They stay, as in the days before there was garbage collection. The client is warned of it in these words, if any.
    Orphaned(&'static str),
    /// It owns nothing, whatever a client says.
    None,
}

/// The plain facts of a kind.
#[derive(Clone, Debug)]
pub struct KindInfo {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version, e.g. `v1`.
    pub version: Cow<'static, str>,
    /// `Pod`.
    pub kind: Cow<'static, str>,
    /// `pods`: the resource's name in paths.
    pub plural: Cow<'static, str>,
    /// `pod`.
    pub singular: Cow<'static, str>,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// The paths below an object.
    pub subresources: &'static [Subresource],
    /// The verbs of the resource itself, when they are not all eight.
    pub verbs: &'static [&'static str],
    /// The columns of the table, in order; [`Kind::cells`] gives as many cells.
    pub columns: Vec<Column>,
    /// The fields that a field selector may name, besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: &'static [&'static str],
    /// Those of them by which objects can be found without asking each: the ones that many clients select by.
    pub indexed_fields: &'static [&'static str],
    /// Whether a delete leaves the object for a grace period (pods), instead of removing it at once.
    pub graceful: bool,
    /// Whether a delete that removes the object answers with it, instead of a `Status` (upstream's `ReturnDeletedObject`).
    pub returns_deleted: bool,
    /// Below `/registry` in the store, where that is not `{plural}` (core) or `{plural}` with its group's own rule:
    /// upstream keeps e.g. `services/specs` and `services/endpoints`, `minions` for nodes.
    pub store_prefix: Cow<'static, str>,
    /// How long an object stays in the store after it was written last; `None` for ever.
    pub ttl: Option<Duration>,
    /// Whether an update of an object that is not there makes it.
    pub create_on_update: bool,
    /// Whether an update may leave out `metadata.resourceVersion`.
    pub unconditional_update: bool,
    /// What everyone who uses the kind is warned of: since when it is deprecated, and what takes its place.
    pub deprecation: Option<&'static str>,
    /// What becomes of what an object owns.
    pub dependents: Dependents,
}

/// Every verb of a resource that has no restriction.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl KindInfo {
    /// The facts of a namespaced kind with no peculiarity; a kind's file changes what differs.
    pub fn of<K: k8s_openapi::Resource>(singular: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            kind: Cow::Borrowed(K::KIND),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
            singular: Cow::Borrowed(singular),
            short_names: &[],
            categories: &[],
            scope: Scope::Namespaced,
            subresources: &[],
            verbs: ALL_VERBS,
            columns: vec![Column::object_name(), Column::age()],
            selectable_fields: &[],
            indexed_fields: &[],
            graceful: false,
            returns_deleted: false,
            store_prefix: Cow::Borrowed(K::URL_PATH_SEGMENT),
            ttl: None,
            create_on_update: false,
            unconditional_update: true,
            deprecation: None,
            dependents: Dependents::Deleted,
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as errors name a resource.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Pod` or `Deployment.apps`, as validation errors name a kind.
    pub fn group_kind(&self) -> String {
        if self.group.is_empty() {
            self.kind.to_string()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// Whether the resource has this subresource.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

/// What an update is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The resource itself.
    Main,
    /// One of its subresources that is written as the object (status, ephemeralcontainers, resize, finalize, …).
    Subresource(Subresource),
}

/// What is particular about a kind. Each method has the meaning of upstream's registry strategy.
pub trait Kind:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + PartialEq
    + Send
    + Sync
    + 'static
{
    /// The plain facts.
    fn info() -> KindInfo;

    /// Fills in what the client left out. Must be idempotent.
    fn default(&mut self) {}

    /// Resets what a client may not set when it creates: usually the status.
    fn prepare_for_create(&mut self) {}

    /// Carries over what a client may not change: through the resource itself usually the status, through `status`
    /// everything but the status. Raises `metadata.generation` when the desired state changes.
    fn prepare_for_update(&mut self, _old: &Self, _target: Target) {}

    /// Checks a new object; the metadata has been checked already.
    fn validate(&self, _errors: &mut Errors) {}

    /// Checks a new object, beside [`Kind::validate`]: what holds of those that are made, and is not asked again.
    fn validate_create(&self, _errors: &mut Errors) {}

    /// Checks the whole of an object that is written anew through [`Target::Main`]: as [`Kind::validate`], but for what
    /// was allowed before and is kept.
    fn validate_changed(&self, _old: &Self, errors: &mut Errors) {
        self.validate(errors);
    }

    /// Checks a change; [`Kind::validate_changed`] is called before, for [`Target::Main`].
    fn validate_update(&self, _old: &Self, _target: Target, _errors: &mut Errors) {}

    /// For how many seconds a delete leaves the object, when the client asks for `requested` (`gracePeriodSeconds`);
    /// asked only of kinds that are [`KindInfo::graceful`]. 0 removes it at once, after it has been marked.
    fn grace_period(&self, requested: Option<i64>) -> i64 {
        requested.unwrap_or(0).max(0)
    }

    /// A delete is about to mark the object, whose `deletionTimestamp` is set: shows it in the object's own fields.
    fn begin_deletion(&mut self) {}

    /// Whether the object stays when it is deleted, though no `metadata.finalizers` hold it: a kind's own finalizers.
    fn is_held(&self) -> bool {
        false
    }

    /// The rule for `metadata.name`; the messages of what is wrong. `prefix` is true for a `generateName`.
    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::dns_subdomain(name, prefix)
    }

    /// Why an object that could be read is none all the same: what upstream finds when it makes its internal type of it.
    fn misfit(&self) -> Option<String> {
        None
    }

    /// Warnings for the client (`Warning: 299`), such as the use of a deprecated field.
    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a new object as it was sent, before [`Kind::prepare_for_create`].
    fn warnings_as_sent(&self) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a write through [`Target::Subresource`], which does not look at the desired state again.
    fn subresource_warnings(&self, _subresource: Subresource) -> Vec<String> {
        Vec::new()
    }

    /// A cell for each column of [`KindInfo::columns`].
    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let meta = k8s_openapi::Metadata::metadata(self);
        vec![meta.name.clone().into(), age(meta, now)]
    }

    /// The rows of a list, where they are not every object's own cells in the list's order: which object each shows, by
    /// its place in the list, and its cells. The objects are decoded as they are asked for.
    fn list_rows(
        _objects: &mut dyn Iterator<Item = Self>,
        _now: Timestamp,
    ) -> Option<Vec<(usize, Vec<Value>)>> {
        None
    }

    /// What else a row says of the object (`TableRow.conditions`).
    fn row_conditions(&self) -> Vec<Value> {
        Vec::new()
    }

    /// The value of a selectable field; an absent value is the empty string.
    fn field(&self, _name: &str) -> String {
        String::new()
    }
}

/// The cell of the `Age` column: `<unknown>` where there is no creation time.
pub fn age(meta: &ObjectMeta, now: Timestamp) -> Value {
    match &meta.creation_timestamp {
        Some(created) => human_duration(now.as_second() - created.0.as_second()).into(),
        None => "<unknown>".into(),
    }
}

/// A duration in seconds as kubectl shows ages (`duration.HumanDuration`): `59s`, `3m20s`, `15m`, `3h10m`, `2d`, `3y20d`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    if seconds < -1 {
        "<invalid>".into()
    } else if seconds < 0 {
        "0s".into()
    } else if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        two(days, 'd', hours % 24, 'h')
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        two(days / 365, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}

/// A kind with its type erased: what the generic registry works with. Methods mirror [`Kind`]'s.
///
/// Every method that takes an [`Object`] expects one that this strategy decoded; another kind's is left as it is.
pub trait Strategy: Debug + Send + Sync {
    /// The plain facts.
    fn info(&self) -> &KindInfo;
    /// How objects of this version are made of those in the store; `None` where the store has this very version.
    fn conversion(&self) -> Option<&dyn Conversion> {
        None
    }
    /// The strategy of the version that is in the store: this one, or the one that it is converted from.
    fn stored(&self) -> &dyn Strategy;
    /// Reads an object from JSON. Unknown fields are dropped; [`crate::schema`](crate) finds them beforehand.
    ///
    /// # Errors
    /// When the JSON is not an object of this kind.
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error>;
    /// Reads an object from a JSON tree.
    ///
    /// # Errors
    /// When the JSON is not an object of this kind.
    fn decode_value(&self, json: Value) -> Result<Box<dyn Object>, serde_json::Error>;
    /// See [`Kind::misfit`].
    fn misfit(&self, _object: &dyn Object) -> Option<String> {
        None
    }
    /// See [`Kind::default`].
    fn default(&self, object: &mut dyn Object);
    /// See [`Kind::prepare_for_create`].
    fn prepare_for_create(&self, object: &mut dyn Object);
    /// See [`Kind::prepare_for_update`].
    fn prepare_for_update(&self, object: &mut dyn Object, old: &dyn Object, target: Target);
    /// See [`Kind::validate`].
    fn validate(&self, object: &dyn Object, errors: &mut Errors);
    /// See [`Kind::validate_create`]; [`Kind::validate`] is part of it.
    fn validate_create(&self, object: &dyn Object, errors: &mut Errors);
    /// See [`Kind::validate_changed`].
    fn validate_changed(&self, object: &dyn Object, old: &dyn Object, errors: &mut Errors);
    /// See [`Kind::validate_update`].
    fn validate_update(&self, object: &dyn Object, old: &dyn Object, target: Target, errors: &mut Errors);
    /// See [`Kind::grace_period`].
    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> i64;
    /// See [`Kind::begin_deletion`].
    fn begin_deletion(&self, object: &mut dyn Object);
    /// See [`Kind::is_held`].
    fn is_held(&self, object: &dyn Object) -> bool;
    /// See [`Kind::check_name`].
    fn check_name(&self, name: &str, prefix: bool) -> Vec<String>;
    /// See [`Kind::warnings`].
    fn warnings(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<String>;
    /// See [`Kind::warnings_as_sent`].
    fn warnings_as_sent(&self, object: &dyn Object) -> Vec<String>;
    /// See [`Kind::subresource_warnings`].
    fn subresource_warnings(&self, object: &dyn Object, subresource: Subresource) -> Vec<String>;
    /// See [`Kind::cells`].
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value>;
    /// See [`Kind::list_rows`].
    fn list_rows(
        &self,
        _objects: &mut dyn Iterator<Item = Box<dyn Object>>,
        _now: Timestamp,
    ) -> Option<Vec<(usize, Vec<Value>)>> {
        None
    }
    /// See [`Kind::row_conditions`].
    fn row_conditions(&self, _object: &dyn Object) -> Vec<Value> {
        Vec::new()
    }
    /// The value of a selectable field, `metadata.name` and `metadata.namespace` included; `None`: not selectable.
    fn field(&self, object: &dyn Object, name: &str) -> Option<String>;
}

/// [`Strategy`] for a built-in kind.
#[derive(Debug)]
pub struct Typed<K> {
    info: KindInfo,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Typed<K> {
    /// The strategy of `K`.
    pub fn new() -> Self {
        Self {
            info: K::info(),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Typed<K> {
    fn settled(&self, mut json: Value) -> Result<Box<dyn Object>, serde_json::Error> {
        if let Some(definition) = schema::of_kind(&self.info.group, &self.info.version, &self.info.kind) {
            schema::settle(definition, &mut json);
        }
        Ok(Box::new(serde_json::from_value::<K>(json)?))
    }
}

impl<K: Kind> Default for Typed<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn typed<K: Kind>(object: &dyn Object) -> Option<&K> {
    let typed = object.as_any().downcast_ref();
    debug_assert!(typed.is_some(), "a strategy was given another kind's object");
    typed
}

impl<K: Kind> Strategy for Typed<K> {
    fn info(&self) -> &KindInfo {
        &self.info
    }

    fn stored(&self) -> &dyn Strategy {
        self
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        match serde_json::from_slice::<K>(json) {
            Ok(object) => Ok(Box::new(object)),
            // Perhaps for a null where Go sees an empty value; the text is read again only then.
            Err(error) => match serde_json::from_slice(json) {
                Ok(tree) => self.settled(tree).map_err(|_| error),
                Err(_) => Err(error),
            },
        }
    }

    fn decode_value(&self, json: Value) -> Result<Box<dyn Object>, serde_json::Error> {
        self.settled(json)
    }

    fn misfit(&self, object: &dyn Object) -> Option<String> {
        typed::<K>(object)?.misfit()
    }

    fn default(&self, object: &mut dyn Object) {
        if let Some(object) = object.as_any_mut().downcast_mut::<K>() {
            Kind::default(object);
        }
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        if let Some(object) = object.as_any_mut().downcast_mut::<K>() {
            object.prepare_for_create();
        }
    }

    fn prepare_for_update(&self, object: &mut dyn Object, old: &dyn Object, target: Target) {
        if let (Some(object), Some(old)) = (object.as_any_mut().downcast_mut::<K>(), typed::<K>(old)) {
            object.prepare_for_update(old, target);
        }
    }

    fn validate(&self, object: &dyn Object, errors: &mut Errors) {
        if let Some(object) = typed::<K>(object) {
            object.validate(errors);
        }
    }

    fn validate_create(&self, object: &dyn Object, errors: &mut Errors) {
        if let Some(object) = typed::<K>(object) {
            object.validate(errors);
            object.validate_create(errors);
        }
    }

    fn validate_changed(&self, object: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        if let (Some(object), Some(old)) = (typed::<K>(object), typed::<K>(old)) {
            object.validate_changed(old, errors);
        }
    }

    fn validate_update(&self, object: &dyn Object, old: &dyn Object, target: Target, errors: &mut Errors) {
        if let (Some(object), Some(old)) = (typed::<K>(object), typed::<K>(old)) {
            object.validate_update(old, target, errors);
        }
    }

    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> i64 {
        typed::<K>(object).map_or(0, |object| object.grace_period(requested))
    }

    fn begin_deletion(&self, object: &mut dyn Object) {
        if let Some(object) = object.as_any_mut().downcast_mut::<K>() {
            object.begin_deletion();
        }
    }

    fn is_held(&self, object: &dyn Object) -> bool {
        typed::<K>(object).is_some_and(Kind::is_held)
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        K::check_name(name, prefix)
    }

    fn warnings(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
        typed::<K>(object)
            .map(|object| object.warnings(old.and_then(typed::<K>)))
            .unwrap_or_default()
    }

    fn warnings_as_sent(&self, object: &dyn Object) -> Vec<String> {
        typed::<K>(object).map(Kind::warnings_as_sent).unwrap_or_default()
    }

    fn subresource_warnings(&self, object: &dyn Object, subresource: Subresource) -> Vec<String> {
        typed::<K>(object)
            .map(|object| object.subresource_warnings(subresource))
            .unwrap_or_default()
    }

    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        typed::<K>(object)
            .map(|object| object.cells(now))
            .unwrap_or_default()
    }

    fn list_rows(
        &self,
        objects: &mut dyn Iterator<Item = Box<dyn Object>>,
        now: Timestamp,
    ) -> Option<Vec<(usize, Vec<Value>)>> {
        K::list_rows(
            &mut objects.filter_map(|object| typed::<K>(object.as_ref()).cloned()),
            now,
        )
    }

    fn row_conditions(&self, object: &dyn Object) -> Vec<Value> {
        typed::<K>(object).map(Kind::row_conditions).unwrap_or_default()
    }

    fn field(&self, object: &dyn Object, name: &str) -> Option<String> {
        match name {
            "metadata.name" => Some(object.metadata().name.clone().unwrap_or_default()),
            "metadata.namespace" => Some(object.metadata().namespace.clone().unwrap_or_default()),
            name if self.info.selectable_fields.contains(&name) => {
                typed::<K>(object).map(|object| object.field(name))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (203, "3m23s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 600, "3h10m"),
            (8 * 3600 + 600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (51 * 3600, "2d3h"),
            (8 * 86_400, "8d"),
            (800 * 86_400, "2y70d"),
            (3000 * 86_400, "8y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(human_duration(seconds), expected, "{seconds} s");
        }
    }
}
