//! create, update, patch: from a body to a durable write.
//!
//! The order is upstream's: decode, default, admit, prepare, validate, write. A write that changes nothing is not made.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use skiff_api::field::Path;
use skiff_api::{Errors, KindInfo, Object, Scope, Target, meta, names, owners};
use skiff_store::Expect;
use uuid::Uuid;

use super::admit::{AdmissionRequest, Operation};
use super::decode::{self, Decoded};
use super::entry::Entry;
use super::options::{PatchType, WriteOptions, Written};
use super::resource::{Live, Put, Resource};
use crate::error::{ApiError, ApiResult};
use crate::patch;

/// How many generated names are tried (upstream's `maxNameGenerationCreateAttempts`).
const NAME_ATTEMPTS: usize = 8;
/// How often a write that demands no version is tried again because another came between.
const ATTEMPTS: usize = 1000;

/// The present time as metadata has it.
pub(super) fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The object's JSON as the store keeps it: without a resource version, and with these owners.
pub(super) fn encode(object: &mut dyn Object, owners: &[u8]) -> ApiResult<Vec<u8>> {
    let meta = object.metadata_mut();
    meta.resource_version = None;
    meta.managed_fields = None;
    let json = object.encode().map_err(ApiError::internal)?;
    Ok(owners::join(json, owners))
}

pub(super) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// Takes over the request's namespace, or refuses the object's own.
pub(super) fn ensure_namespace(scope: Scope, namespace: &str, meta: &mut ObjectMeta) -> ApiResult<()> {
    match (scope, text(&meta.namespace)) {
        (Scope::Cluster, _) => meta.namespace = None,
        (Scope::Namespaced, "") => meta.namespace = Some(namespace.to_string()),
        (Scope::Namespaced, own) if own == namespace => {}
        (Scope::Namespaced, _) => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// Refuses an object that has another name than the path it is sent to.
pub(super) fn ensure_name(name: &str, meta: &ObjectMeta) -> ApiResult<()> {
    match text(&meta.name) {
        "" => Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        own if own != name => Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))),
        _ => Ok(()),
    }
}

/// Leaves one of several equal owner references; the warning of it, where there were several.
pub(super) fn single_owners(meta: &mut ObjectMeta) -> Option<String> {
    let owners = meta.owner_references.as_mut().filter(|owners| owners.len() > 1)?;
    let mut single: Vec<OwnerReference> = Vec::with_capacity(owners.len());
    let mut repeated = Vec::new();
    for owner in owners.drain(..) {
        if single.contains(&owner) {
            repeated.push(owner.uid);
        } else {
            single.push(owner);
        }
    }
    *owners = single;
    (!repeated.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may \
             reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}.",
            repeated.join(", ")
        )
    })
}

/// What upstream's store says when a request's uid is not the object's.
pub(super) fn uid_conflict(resource: &Resource, key: &str, name: &str, asked: &str, found: &str) -> ApiError {
    let detail = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: {asked}, UID in object meta: {found}"
    );
    ApiError::conflict(resource.info(), name, &detail)
}

/// A write to one object that may or may not be there.
pub(super) struct Request<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) key: String,
    pub(super) target: Target,
    /// The uid that the object must have.
    pub(super) uid: Option<String>,
    pub(super) options: &'a WriteOptions,
}

pub(super) type Produce<'a> = &'a (dyn Fn(&Live<'_>) -> ApiResult<Decoded> + Send + Sync);

/// What came of one attempt.
enum Attempt {
    Done(Written),
    /// Nothing is to be written. Holds only if the state it was decided by is the present one.
    Unwritten(Written),
    /// Another write came between; this is what it left.
    Again(Option<Arc<Entry>>),
}

impl Resource {
    /// Makes an object from its JSON.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn create(&self, namespace: &str, body: &[u8], options: &WriteOptions) -> ApiResult<Written> {
        let decoded = self.decode_body(body, options)?;
        self.create_decoded(namespace, decoded, options).await
    }

    /// Makes an object. For the server's own housekeeping.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn create_object(
        &self,
        namespace: &str,
        object: Box<dyn Object>,
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        self.create_decoded(namespace, Decoded::of(object), options).await
    }

    fn decode_body(&self, body: &[u8], options: &WriteOptions) -> ApiResult<Decoded> {
        self.decoder
            .body(self.strategy().as_ref(), &self.catalogue, body, options)
    }

    /// Makes an object that was read from somewhere.
    pub(super) async fn create_decoded(
        &self,
        namespace: &str,
        decoded: Decoded,
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        let Decoded { mut object, owners } = decoded;
        let info = self.info();
        let meta = object.metadata_mut();
        ensure_namespace(info.scope, namespace, meta)?;
        wipe(meta);
        options.warnings.extend(single_owners(meta));
        let (name, generate) = (
            text(&meta.name).to_string(),
            text(&meta.generate_name).to_string(),
        );
        self.strategy().default(object.as_mut());
        let owners = match owners {
            Some(known) => known,
            None => self.track_create(object.as_mut(), options)?,
        };
        let admission = AdmissionRequest {
            info,
            namespace,
            name: &name,
            operation: Operation::Create,
            subresource: None,
            old: None,
            user: &options.user,
            dry_run: options.dry_run,
            warnings: &options.warnings,
        };
        self.admission.admit(&admission, object.as_mut()).await?;
        let made = self
            .create_admitted(&admission, object.as_mut(), &owners, &generate, options)
            .await;
        let entry = match made {
            Ok(entry) => entry,
            Err(error) => {
                if !options.dry_run {
                    self.admission.released(info, object.as_ref()).await;
                }
                return Err(error);
            }
        };
        Ok(Written { entry, created: true })
    }

    async fn create_admitted(
        &self,
        admission: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        owners: &[u8],
        generate: &str,
        options: &WriteOptions,
    ) -> ApiResult<Arc<Entry>> {
        let (info, strategy, namespace) = (self.info(), self.strategy(), admission.namespace);
        let meta = object.metadata_mut();
        // Only the store finds it wrong, which a dry run does not get to; what is no version is ignored.
        let names_version = text(&meta.resource_version)
            .parse::<u64>()
            .is_ok_and(|version| version > 0);
        if names_version && !options.dry_run {
            return Err(ApiError::unclassified_input(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        meta.creation_timestamp = Some(now());
        meta.uid = Some(Uuid::new_v4().to_string());
        let generated = text(&meta.name).is_empty() && !generate.is_empty();
        if generated {
            meta.name = Some(names::generate(generate));
        }
        options.warnings.extend(strategy.warnings_as_sent(object));
        strategy.prepare_for_create(object);
        let mut errors = Errors::new();
        self.admission.examine(admission, object, &mut errors).await?;
        meta::validate(
            info,
            |name, prefix| strategy.check_name(name, prefix),
            object.metadata(),
            &mut errors,
        );
        strategy.validate_create(object, &mut errors);
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                self.cache.info(),
                text(&object.metadata().name),
                &errors,
            ));
        }
        options.warnings.extend(strategy.warnings(object, None));
        self.admission.validate(admission, object).await?;
        for _ in 0..NAME_ATTEMPTS {
            let name = text(&object.metadata().name).to_string();
            let key = self.cache.key(namespace, &name);
            let facts = self.facts(object);
            let value = encode(object, owners)?;
            let there = if options.dry_run {
                match self.stored(&key).await? {
                    None => return self.unwritten(facts, &value, 0),
                    there => there,
                }
            } else {
                match self.put(&key, facts, value, Expect::Absent).await? {
                    Put::Done(entry) => return Ok(entry),
                    Put::Conflict(there) => there,
                }
            };
            if !generated {
                let mut error = ApiError::already_exists(info, &name);
                if there.is_some_and(|entry| self.is_deleting(&entry)) {
                    let message = format!("object is being deleted: {error}");
                    error.0.message = Some(message);
                }
                return Err(error);
            }
            object.metadata_mut().name = Some(names::generate(generate));
        }
        Err(ApiError::generated_name_taken(
            info,
            text(&object.metadata().name),
        ))
    }

    fn is_deleting(&self, entry: &Entry) -> bool {
        let live = self.live(entry);
        live.is_ok_and(|live| live.object.metadata().deletion_timestamp.is_some())
    }

    /// Replaces an object, or the part of it that a subresource stands for.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn update(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        body: &[u8],
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        let mut decoded = self.decode_body(body, options)?;
        let meta = decoded.object.metadata_mut();
        ensure_namespace(self.info().scope, namespace, meta)?;
        ensure_name(name, meta)?;
        options.warnings.extend(single_owners(meta));
        let request = Request {
            namespace,
            name,
            key: self.cache.key(namespace, name),
            target,
            uid: meta.uid.clone().filter(|uid| !uid.is_empty()),
            options,
        };
        let create = self.info().create_on_update && target == Target::Main;
        let produce = |_: &Live<'_>| Ok(Decoded::of(decoded.object.clone_object()));
        match self.write(&request, &produce).await {
            Err(error) if create && error.code() == 404 => {
                drop(request);
                decoded.object.metadata_mut().resource_version = None;
                self.create_decoded(namespace, decoded, options).await
            }
            outcome => outcome,
        }
    }

    /// Patches an object, or the part of it that a subresource stands for.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        type_: PatchType,
        body: &[u8],
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        if type_ == PatchType::Apply {
            return self.apply(namespace, name, target, body, options).await;
        }
        let patch = patch::Patch::parse(type_, body)?;
        let request = Request {
            namespace,
            name,
            key: self.cache.key(namespace, name),
            target,
            uid: None,
            options,
        };
        let info = self.info();
        let whole = patch.reaches_owners();
        let produce = |live: &Live<'_>| {
            let json = if whole {
                live.entry.json()
            } else {
                live.json.as_ref()
            };
            let json = self.served_text(json)?;
            let mut patched = patch.apply(&json, self.decoder.definition())?;
            // Of what is merged as a tree it is known what it is to become.
            if type_ == PatchType::Strategic {
                patched.set_type(&info.api_version(), &info.kind);
            }
            let (version, kind) = (patched.type_meta("apiVersion"), patched.type_meta("kind"));
            let other = decode::other_kind(info, &self.catalogue, version, kind);
            let json = patched.json()?;
            if let Some(why) = other {
                return Err(ApiError::invalid_patch(&patch.shown(&json), &why));
            }
            let mut decoded = self
                .decoder
                .object(self.strategy().as_ref(), &json, options, &patch.beside)
                .map_err(|unfit| {
                    let why = match type_ {
                        PatchType::Strategic => unfit.converted(),
                        _ => unfit.decoded,
                    };
                    ApiError::invalid_patch(&patch.shown(&json), &why)
                })?;
            let meta = decoded.object.metadata_mut();
            ensure_namespace(info.scope, namespace, meta)?;
            ensure_name(name, meta)?;
            options.warnings.extend(single_owners(meta));
            Ok(decoded)
        };
        self.write(&request, &produce).await
    }

    /// Reads an object, lets `change` alter it, and writes it back; again when it was changed meanwhile. For
    /// subresources such as `binding` and `scale`, and for the server's own housekeeping.
    ///
    /// # Errors
    /// What `change` returns, or a `Status` for everything that can be wrong with the outcome.
    pub async fn modify(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        options: &WriteOptions,
        change: impl Fn(&mut dyn Object) -> ApiResult<()> + Send + Sync,
    ) -> ApiResult<Written> {
        let request = Request {
            namespace,
            name,
            key: self.cache.key(namespace, name),
            target,
            uid: None,
            options,
        };
        let produce = |live: &Live<'_>| {
            let mut object = live.object.clone_object();
            change(object.as_mut())?;
            Ok(Decoded::of(object))
        };
        self.write(&request, &produce).await
    }

    /// Writes until no other write comes between. The first attempt goes by the cache, which may be behind: what it
    /// refuses is asked of the store before it is refused to the client.
    pub(super) async fn write(&self, request: &Request<'_>, produce: Produce<'_>) -> ApiResult<Written> {
        let mut current = self.cached(&request.key);
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let outcome = match self.attempt(request, current.as_deref(), produce).await {
                Ok(Attempt::Done(written)) => return Ok(written),
                Ok(Attempt::Again(found)) => {
                    (current, fresh) = (found, true);
                    continue;
                }
                Ok(Attempt::Unwritten(written)) => Ok(written),
                Err(error) => Err(error),
            };
            if fresh || self.is_present(&request.key, &mut current).await? {
                return outcome;
            }
            fresh = true;
        }
        Err(ApiError::modified(self.info(), request.name))
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        current: Option<&Entry>,
        produce: Produce<'_>,
    ) -> ApiResult<Attempt> {
        let (info, strategy, options) = (self.info(), self.strategy(), request.options);
        let Some(entry) = current else {
            return Err(match &request.uid {
                // Only who may make it is asked whether it is the one that is meant.
                Some(asked) if info.create_on_update => {
                    uid_conflict(self, &request.key, request.name, asked, "")
                }
                _ => ApiError::not_found(info, request.name),
            });
        };
        let live = self.live(entry)?;
        let old = &live.object;
        if let Some(asked) = &request.uid
            && asked != text(&old.metadata().uid)
        {
            let found = text(&old.metadata().uid);
            return Err(uid_conflict(self, &request.key, request.name, asked, found));
        }
        let Decoded {
            object: mut new,
            owners,
        } = produce(&live)?;
        strategy.default(new.as_mut());
        let owners = match owners {
            Some(known) => known,
            None => self.track_update(&live, new.as_mut(), request.target, options)?,
        };
        let admission = AdmissionRequest {
            info,
            namespace: request.namespace,
            name: request.name,
            operation: Operation::Update,
            subresource: match request.target {
                Target::Main => None,
                Target::Subresource(subresource) => Some(subresource),
            },
            old: Some(old.as_ref()),
            user: &options.user,
            dry_run: options.dry_run,
            warnings: &options.warnings,
        };
        self.admission.admit(&admission, new.as_mut()).await?;
        self.check_version(request.name, new.metadata_mut(), entry.revision())?;
        carry_over(new.metadata_mut(), old.metadata());
        strategy.prepare_for_update(new.as_mut(), old.as_ref(), request.target);
        let mut errors = Errors::new();
        self.admission
            .examine(&admission, new.as_ref(), &mut errors)
            .await?;
        self.check_update(new.as_ref(), old.as_ref(), request, errors)?;
        options.warnings.extend(match request.target {
            Target::Main => strategy.warnings(new.as_ref(), Some(old.as_ref())),
            Target::Subresource(subresource) => strategy.subresource_warnings(new.as_ref(), subresource),
        });
        self.admission.validate(&admission, new.as_ref()).await?;

        let facts = self.facts(new.as_ref());
        let done = |entry| Written {
            entry,
            created: false,
        };
        if self.is_finished(new.as_ref(), old.as_ref()) {
            if options.dry_run {
                let value = encode(new.as_mut(), &owners)?;
                let entry = self.unwritten(facts, &value, entry.revision())?;
                return Ok(Attempt::Unwritten(done(entry)));
            }
            return match self.remove(&request.key, entry.revision()).await? {
                Err(found) => Ok(Attempt::Again(found)),
                Ok(revision) => {
                    self.admission.released(info, old.as_ref()).await;
                    let value = encode(new.as_mut(), &owners)?;
                    Ok(Attempt::Done(done(self.unwritten(facts, &value, revision)?)))
                }
            };
        }
        let value = self.encode_update(&live, new.as_mut(), &owners)?;
        if entry.holds(&value) || options.dry_run {
            let entry = self.unwritten(facts, &value, entry.revision())?;
            return Ok(Attempt::Unwritten(done(entry)));
        }
        match self
            .put(&request.key, facts, value, Expect::Revision(entry.revision()))
            .await?
        {
            Put::Done(entry) => Ok(Attempt::Done(done(entry))),
            Put::Conflict(found) => Ok(Attempt::Again(found)),
        }
    }

    /// Compares the version that the client has seen with the present one.
    fn check_version(&self, name: &str, meta: &mut ObjectMeta, present: i64) -> ApiResult<()> {
        match text(&meta.resource_version) {
            "" | "0" if self.info().unconditional_update => {
                meta.resource_version = Some(present.to_string());
            }
            "" | "0" => {
                let mut errors = Errors::new();
                let path = Path::new("metadata.resourceVersion");
                errors.invalid(&path, 0, "must be specified for an update");
                // Unlike other errors, this one says the resource for the kind.
                let info = KindInfo {
                    kind: self.info().plural.clone(),
                    ..self.info().clone()
                };
                return Err(ApiError::invalid(&info, name, &errors));
            }
            version if version.parse() == Ok(present) => {}
            version if version.parse::<u64>().is_ok() => return Err(ApiError::modified(self.info(), name)),
            version => {
                return Err(ApiError::unclassified_input(format!(
                    "strconv.ParseUint: parsing {version:?}: invalid syntax"
                )));
            }
        }
        Ok(())
    }

    /// Checks what an update makes of an object (upstream's `rest.BeforeUpdate`), beside the errors that are known already.
    fn check_update(
        &self,
        new: &dyn Object,
        old: &dyn Object,
        request: &Request<'_>,
        mut errors: Errors,
    ) -> ApiResult<()> {
        let strategy = self.strategy();
        let mut of_metadata = Errors::new();
        meta::validate_update(strategy.info(), new.metadata(), old.metadata(), &mut of_metadata);
        // Upstream checks the metadata twice: for all kinds, and then among the rules of each.
        errors.extend(of_metadata.iter().cloned());
        errors.extend(of_metadata.iter().cloned());
        if request.target == Target::Main {
            strategy.validate_changed(new, old, &mut errors);
        }
        strategy.validate_update(new, old, request.target, &mut errors);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(self.cache.info(), request.name, &errors))
        }
    }

    /// Whether the last thing that kept a deleted object is gone with this update.
    fn is_finished(&self, new: &dyn Object, old: &dyn Object) -> bool {
        let (new_meta, old_meta) = (new.metadata(), old.metadata());
        old_meta.deletion_timestamp.is_some()
            && old_meta.deletion_grace_period_seconds.unwrap_or(0) == 0
            && new_meta.finalizers.as_ref().is_none_or(Vec::is_empty)
            && !self.strategy().is_held(new)
    }

    /// Removes a key in a certain state: the revision of that, or the state in which it was found instead.
    pub(super) async fn remove(
        &self,
        key: &str,
        revision: i64,
    ) -> ApiResult<Result<i64, Option<Arc<Entry>>>> {
        match self.store.0.delete(key, Expect::Revision(revision)).await {
            Ok(written) => Ok(Ok(written.revision)),
            Err(skiff_store::Error::Conflict { current }) => Ok(Err(current
                .map(|stored| self.stored_entry(&stored))
                .transpose()?)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Clears what only the server sets (upstream's `WipeObjectMetaSystemFields`).
fn wipe(meta: &mut ObjectMeta) {
    meta.creation_timestamp = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.uid = None;
    meta.self_link = None;
}

/// Takes over what an update cannot change.
fn carry_over(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.generation = old.generation;
    new.self_link = None;
    if text(&new.uid).is_empty() {
        new.uid.clone_from(&old.uid);
    }
    if old.creation_timestamp.is_some() {
        new.creation_timestamp.clone_from(&old.creation_timestamp);
    }
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
}
