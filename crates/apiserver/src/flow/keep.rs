//! Keeping the objects: those that every server has are there and as they should be, schemas say whether their level is
//! there, and the server divides its seats by what the objects say now.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::Resource as _;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaCondition, FlowSchemaStatus, PriorityLevelConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use parking_lot::Mutex;
use skiff_api::kind::Subresource;
use skiff_api::{Kind, Target};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Flow;
use super::builtin::{self, AUTOUPDATE};
use crate::error::ApiResult;
use crate::follow::{Follower, follow};
use crate::registry::{Entry, Registry};
use crate::startup::{Wanted, options};

fn keep_level(wanted: &PriorityLevelConfiguration, found: &mut PriorityLevelConfiguration) {
    if builtin::is_mandatory_level(found) || is_kept(&mut found.metadata) {
        found.spec.clone_from(&wanted.spec);
    }
}

fn keep_schema(wanted: &FlowSchema, found: &mut FlowSchema) {
    if builtin::is_mandatory_schema(found) || is_kept(&mut found.metadata) {
        found.spec.clone_from(&wanted.spec);
    }
}

/// Makes what is missing of the objects, and brings back what was changed of them and is not the user's to change.
///
/// # Errors
/// The first that could not be made.
pub(crate) async fn bootstrap(registry: &Registry) -> ApiResult<()> {
    let levels = builtin::levels().into_iter().map(|object| Wanted {
        object,
        repair: keep_level,
    });
    let schemas = builtin::schemas().into_iter().map(|object| Wanted {
        object,
        repair: keep_schema,
    });
    let (levels, schemas) = tokio::join!(
        join_all(levels.map(|wanted| async move { wanted.ensure(registry).await })),
        join_all(schemas.map(|wanted| async move { wanted.ensure(registry).await })),
    );
    levels.into_iter().chain(schemas).collect()
}

/// Whether the server keeps an object's specification; says so in the object where it does not say it yet.
fn is_kept(meta: &mut ObjectMeta) -> bool {
    let said = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(AUTOUPDATE));
    match said.map(String::as_str) {
        Some("true") => true,
        Some("false") => false,
        // Whoever changed the specification wants it so.
        _ => {
            let untouched = meta.generation == Some(1);
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(AUTOUPDATE.into(), untouched.to_string());
            untouched
        }
    }
}

/// The objects as they are now.
#[derive(Debug, Default)]
struct Known {
    schemas: BTreeMap<String, FlowSchema>,
    levels: BTreeMap<String, PriorityLevelConfiguration>,
}

impl Known {
    /// Whether every object is there that a server has, and as the server keeps it.
    fn is_whole(&self) -> bool {
        fn is_kept<K: Kept>(known: &BTreeMap<String, K>, wanted: &K, keep: fn(&K, &mut K)) -> bool {
            let name = wanted.metadata().name.as_deref().unwrap_or_default();
            known.get(name).is_some_and(|found| {
                let mut kept = found.clone();
                keep(wanted, &mut kept);
                kept == *found
            })
        }
        let levels = builtin::levels();
        let schemas = builtin::schemas();
        levels
            .iter()
            .all(|wanted| is_kept(&self.levels, wanted, keep_level))
            && schemas
                .iter()
                .all(|wanted| is_kept(&self.schemas, wanted, keep_schema))
    }
}

/// Keeps the seats divided as the objects say, and the objects as they should be; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    flow: Flow,
    known: Arc<Mutex<Known>>,
    changed: Arc<Notify>,
}

/// A kind that is kept.
trait Kept: Kind + Clone + PartialEq {
    fn of(known: &mut Known) -> &mut BTreeMap<String, Self>;
}

impl Kept for FlowSchema {
    fn of(known: &mut Known) -> &mut BTreeMap<String, Self> {
        &mut known.schemas
    }
}

impl Kept for PriorityLevelConfiguration {
    fn of(known: &mut Known) -> &mut BTreeMap<String, Self> {
        &mut known.levels
    }
}

/// Brings the objects of one kind to the keeper.
struct Of<K>(Keeper, std::marker::PhantomData<fn() -> K>);

impl<K: Kept> Of<K> {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, K>)) {
        let mut known = self.0.known.lock();
        change(K::of(&mut known));
        self.0.divide(&known);
        self.0.changed.notify_one();
    }
}

fn decoded<K: Kept>(entry: &Entry) -> Option<K> {
    serde_json::from_slice(entry.json())
        .inspect_err(
            |error| tracing::error!(name = entry.name(), %error, "a stored {} cannot be read", K::KIND),
        )
        .ok()
}

impl<K: Kept> Follower for Of<K> {
    fn replace(&self, entries: &[Arc<Entry>]) {
        let all = entries
            .iter()
            .filter_map(|entry| Some((entry.name().to_string(), decoded(entry)?)))
            .collect();
        self.change(|known| *known = all);
    }

    fn put(&self, entry: &Entry) {
        if let Some(object) = decoded(entry) {
            self.change(|known| drop(known.insert(entry.name().to_string(), object)));
        }
    }

    fn remove(&self, entry: &Entry) {
        self.change(|known| drop(known.remove(entry.name())));
    }
}

impl Keeper {
    /// A keeper of the seats.
    pub(crate) fn new(flow: Flow) -> Self {
        Self {
            flow,
            known: Arc::default(),
            changed: Arc::default(),
        }
    }

    fn divide(&self, known: &Known) {
        let schemas: Vec<FlowSchema> = known.schemas.values().cloned().collect();
        let levels: Vec<PriorityLevelConfiguration> = known.levels.values().cloned().collect();
        self.flow.configure(&schemas, &levels);
    }

    /// Follows the objects until `shutdown`. When this returns, the seats are divided as those say that are there now.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) async fn follow(
        &self,
        registry: &Arc<Registry>,
        shutdown: &CancellationToken,
    ) -> ApiResult<()> {
        self.follow_kind::<PriorityLevelConfiguration>(registry, shutdown)
            .await?;
        self.follow_kind::<FlowSchema>(registry, shutdown).await?;
        let (keeper, registry, shutdown) = (self.clone(), registry.clone(), shutdown.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = keeper.changed.notified() => keeper.repair(&registry).await,
                    () = shutdown.cancelled() => return,
                }
            }
        });
        Ok(())
    }

    async fn follow_kind<K: Kept>(
        &self,
        registry: &Arc<Registry>,
        shutdown: &CancellationToken,
    ) -> ApiResult<()> {
        let Some(resource) = registry
            .resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
            .cloned()
        else {
            return Ok(());
        };
        let follower = Of::<K>(self.clone(), std::marker::PhantomData);
        follow(resource, follower, shutdown.clone()).await
    }

    /// Brings back what is not as it should be. What fails is tried again at the next change: somebody else's, which is
    /// why it failed.
    async fn repair(&self, registry: &Registry) {
        // Most changes are such that nothing is to be done about them.
        let whole = self.known.lock().is_whole();
        if !whole && let Err(error) = bootstrap(registry).await {
            tracing::warn!(%error, "keeping the flow control objects");
        }
        let Some(resource) = registry.resource(FlowSchema::GROUP, FlowSchema::VERSION, "flowschemas") else {
            return;
        };
        let dangling: Vec<(String, bool)> = {
            let known = self.known.lock();
            let schemas = known.schemas.iter();
            schemas
                .map(|(name, schema)| {
                    let level = &schema.spec.priority_level_configuration.name;
                    (name, schema, !known.levels.contains_key(level))
                })
                .filter(|(_, schema, missing)| !says(schema, *missing))
                .map(|(name, _, missing)| (name.clone(), missing))
                .collect()
        };
        for (name, missing) in dangling {
            let target = Target::Subresource(Subresource::Status);
            let told = resource
                .modify("", &name, target, &options(), |found| {
                    if let Some(schema) = found.as_any_mut().downcast_mut::<FlowSchema>() {
                        say(schema, missing);
                    }
                    Ok(())
                })
                .await;
            if let Err(error) = told {
                tracing::debug!(%error, name, "the state of a flow schema");
            }
        }
    }
}

const DANGLING: &str = "Dangling";

fn shown(missing: bool) -> &'static str {
    if missing { "True" } else { "False" }
}

/// Whether a schema says already that its level is missing or not.
fn says(schema: &FlowSchema, missing: bool) -> bool {
    let conditions = schema
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .flatten();
    conditions
        .filter(|condition| condition.type_ == DANGLING)
        .any(|condition| condition.status.as_deref() == Some(shown(missing)))
}

fn say(schema: &mut FlowSchema, missing: bool) {
    let level = &schema.spec.priority_level_configuration.name;
    let (reason, what) = if missing {
        ("NotFound", "there is no such object")
    } else {
        ("Found", "it exists")
    };
    let (link, level) = (if missing { "but" } else { "and" }, level.clone());
    let condition = FlowSchemaCondition {
        type_: DANGLING.into(),
        status: Some(shown(missing).into()),
        reason: Some(reason.into()),
        message: Some(format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {link} {what}"
        )),
        last_transition_time: Some(Time(jiff::Timestamp::now())),
    };
    let status = schema.status.get_or_insert_with(FlowSchemaStatus::default);
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != DANGLING);
    conditions.push(condition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_one_of_its_objects_is_not_whole() {
        let mut known = Known::default();
        for level in builtin::levels() {
            known.levels.insert(level.metadata.name.clone().unwrap(), level);
        }
        for schema in builtin::schemas() {
            known
                .schemas
                .insert(schema.metadata.name.clone().unwrap(), schema);
        }
        assert!(known.is_whole());
        let probes = known.schemas.remove("probes").unwrap();
        assert!(!known.is_whole());
        let mut changed = probes.clone();
        changed.spec.matching_precedence = Some(3);
        known.schemas.insert("probes".into(), changed.clone());
        assert!(!known.is_whole());
        let annotations = changed.metadata.annotations.as_mut().unwrap();
        annotations.insert(AUTOUPDATE.into(), "false".into());
        known.schemas.insert("probes".into(), changed);
        assert!(known.is_whole(), "it is the user's now");
    }

    #[test]
    fn what_a_user_changed_stays_theirs() {
        let cases = [
            (Some("true"), 2, true),
            (Some("false"), 1, false),
            (None, 1, true),
            (None, 2, false),
        ];
        for (said, generation, kept) in cases {
            let mut meta = ObjectMeta {
                generation: Some(generation),
                annotations: said.map(|said| BTreeMap::from([(AUTOUPDATE.to_string(), said.to_string())])),
                ..ObjectMeta::default()
            };
            assert_eq!(is_kept(&mut meta), kept, "{said:?} {generation}");
            assert_eq!(meta.annotations.unwrap()[AUTOUPDATE], kept.to_string());
        }
    }
}
