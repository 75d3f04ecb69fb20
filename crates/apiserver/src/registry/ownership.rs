//! Server-side apply, and who owns what after every other write.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use skiff_api::{Object, Target};

use super::decode::{Beside, Decoded};
use super::entry::Entry;
use super::options::{FieldValidation, WriteOptions, Written};
use super::resource::Resource;
use super::write::{Request, encode, ensure_name, ensure_namespace, now, single_owners};
use crate::error::{ApiError, ApiResult};
use crate::patch::Config;
use crate::patch::apply::{Managed, Refusal, Rules, same_but_times};
use crate::twice;

/// How often an apply is tried again because the object came and went meanwhile.
const ATTEMPTS: usize = 5;

/// An encoded object as a tree, without its owners: these are read from where they are decoded already.
fn tree(json: &[u8]) -> ApiResult<Value> {
    let mut json = serde_json::Deserializer::from_slice(json);
    Members { of: "" }
        .deserialize(&mut json)
        .map_err(ApiError::internal)
}

/// Reads the members of the whole object, or of one in it.
struct Members {
    of: &'static str,
}

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Value, D::Error> {
        object.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = match (self.of, name.as_str()) {
                ("", "metadata") => access.next_value_seed(Self { of: "metadata" })?,
                ("metadata", "managedFields") => {
                    access.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => access.next_value()?,
            };
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

impl Resource {
    /// An object as a tree, in the version that is served here, without its owners.
    fn tree_of(&self, object: &dyn Object) -> ApiResult<Value> {
        let mut tree = object.tree().map_err(ApiError::internal)?;
        if let Some(Value::Object(meta)) = tree.get_mut("metadata") {
            meta.remove("managedFields");
        }
        Ok(match self.strategy().conversion() {
            Some(conversion) => conversion.of_stored(tree),
            None => tree,
        })
    }

    fn rules(&self, target: Target, options: &WriteOptions) -> Rules {
        let rules =
            Rules::new(self.info(), self.decoder.definition(), target).with_versions(self.versions.clone());
        match options.tracked_as {
            Some(subresource) => rules.tracked_as(subresource),
            None => rules,
        }
    }

    /// Tells who owns a new object's fields.
    pub(super) fn track_create(&self, object: &mut dyn Object, options: &WriteOptions) -> ApiResult<()> {
        let Some(manager) = &options.field_manager else {
            return Ok(());
        };
        let nothing = Value::Object(Map::new());
        let new = self.tree_of(object)?;
        let managed =
            self.rules(Target::Main, options)
                .update(&nothing, &new, Managed::default(), manager, &now());
        object.metadata_mut().managed_fields = managed.write();
        Ok(())
    }

    /// Tells who owns an object's fields after an update.
    pub(super) fn track_update(
        &self,
        entry: &Entry,
        old: &dyn Object,
        new: &mut dyn Object,
        target: Target,
        options: &WriteOptions,
    ) -> ApiResult<()> {
        let Some(manager) = &options.field_manager else {
            let owners = old.metadata().managed_fields.clone();
            new.metadata_mut().managed_fields = owners;
            return Ok(());
        };
        let rules = self.rules(target, options);
        let owners = rules.owners(old.metadata(), new.metadata());
        new.metadata_mut().managed_fields = None;
        if !owners.is_empty() {
            let new_tree = self.tree_of(new)?;
            let managed = rules.update(&tree(&self.json(entry)?)?, &new_tree, owners, manager, &now());
            new.metadata_mut().managed_fields = managed.write();
        }
        Ok(())
    }

    /// The new state as the store keeps it. Where nothing changes but when somebody came to own fields, that does not
    /// change either.
    pub(super) fn encode_update(
        &self,
        entry: &Entry,
        old: &dyn Object,
        new: &mut dyn Object,
    ) -> ApiResult<Vec<u8>> {
        let before = old.metadata().managed_fields.as_deref();
        let after = new.metadata().managed_fields.as_deref();
        if before == after || !same_but_times(before, after) {
            return encode(new);
        }
        let before: Option<Vec<ManagedFieldsEntry>> = old.metadata().managed_fields.clone();
        let after = std::mem::replace(&mut new.metadata_mut().managed_fields, before);
        let value = encode(new)?;
        if entry.holds(&value) {
            return Ok(value);
        }
        new.metadata_mut().managed_fields = after;
        encode(new)
    }

    /// Applies a configuration: makes the object if it is not there.
    pub(super) async fn apply(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        body: &[u8],
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        let config = Config::parse(self.info(), body)?;
        let own = config.text("/metadata/name");
        if !own.is_empty() && own != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({own}) does not match the name on the URL ({name})"
            )));
        }
        let uid = config.text("/metadata/uid");
        let request = Request {
            namespace,
            name,
            key: self.cache.key(namespace, name),
            target,
            uid: (!uid.is_empty()).then(|| uid.to_string()),
            options,
            applied: true,
        };
        let produce = |entry: &Entry, old: &dyn Object| self.applied(&request, &config, Some((entry, old)));
        for _ in 0..ATTEMPTS {
            match self.write(&request, &produce).await {
                Err(error) if is_absent(&error, &request) && target == Target::Main => {}
                outcome => return outcome,
            }
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(ApiError::conflict(self.info(), name, &why));
            }
            let decoded = self.applied(&request, &config, None)?;
            match self.create_decoded(namespace, decoded, options, true).await {
                Err(error) if error.reason() == "AlreadyExists" => {}
                outcome => return outcome,
            }
        }
        Err(ApiError::modified(self.info(), name))
    }

    /// What a configuration makes of an object, its owners included.
    fn applied(
        &self,
        request: &Request<'_>,
        config: &Config,
        present: Option<(&Entry, &dyn Object)>,
    ) -> ApiResult<Decoded> {
        let options = request.options;
        let (live, managed) = match present {
            Some((entry, old)) => {
                let entries = old.metadata().managed_fields.as_deref().unwrap_or_default();
                let managed = Managed::read(entries)
                    .ok_or_else(|| ApiError::unclassified("failed to decode managed fields"))?;
                (tree(&self.json(entry)?)?, managed)
            }
            None => (Value::Object(Map::new()), Managed::default()),
        };
        let manager = options.field_manager.as_deref().unwrap_or_default();
        let applied = self
            .rules(request.target, options)
            .apply(&live, &config.wanted, managed, manager, options.force, &now())
            .map_err(|refusal| match refusal {
                // Upstream answers 500 without a reason here, which clients take for its own fault and try again (its issue
                // 139253).
                Refusal::Misfit(why) => ApiError::bad_request(format!(
                    "failed to create typed patch object ({}): {why}",
                    config.shown()
                )),
                Refusal::Conflicts(conflicts) => {
                    ApiError::apply_conflict(conflicts.message(), conflicts.causes())
                }
            })?;
        if options.field_validation == FieldValidation::Strict
            && let Some(error) = twice::yaml_error(&config.repeated)
        {
            return Err(ApiError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: {error}"
            )));
        }
        let json = serde_json::to_vec(&applied.object).map_err(ApiError::internal)?;
        let beside = Beside {
            errors: Vec::new(),
            warnings: twice::yaml_lines(&config.repeated),
        };
        let mut decoded = self
            .decoder
            .object(self.strategy().as_ref(), &json, options.field_validation, &beside)
            .map_err(|unfit| ApiError::bad_request(unfit.decoded))?;
        let meta = decoded.object.metadata_mut();
        ensure_namespace(self.info().scope, request.namespace, meta)?;
        ensure_name(request.name, meta)?;
        decoded.warnings.extend(single_owners(meta));
        meta.managed_fields = applied.managed.write();
        Ok(decoded)
    }
}

/// Whether a write failed because there is no such object, or none with this uid.
fn is_absent(error: &ApiError, request: &Request<'_>) -> bool {
    error.code() == 404 || request.uid.is_some() && error.to_string().ends_with("UID in object meta: ")
}
