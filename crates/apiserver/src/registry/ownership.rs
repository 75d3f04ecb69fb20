//! Server-side apply, and who owns what after every other write.

use std::borrow::Cow;

use serde_json::Value;
use skiff_api::{Object, Target, owners};

use super::decode::{Beside, Decoded};
use super::options::{FieldValidation, WriteOptions, Written};
use super::resource::{Live, Resource};
use super::write::{Request, encode, ensure_name, ensure_namespace, now, single_owners};
use crate::error::{ApiError, ApiResult};
use crate::patch::apply::{Applying, Managed, Refusal, Rules, same_but_times};
use crate::patch::{Config, Text};
use crate::twice;

/// How often an apply is tried again because the object came and went meanwhile.
const ATTEMPTS: usize = 5;

impl Resource {
    /// An encoded object in the version that is served here.
    pub(super) fn served_text<'a>(&self, json: &'a [u8]) -> ApiResult<Cow<'a, [u8]>> {
        if self.strategy().conversion().is_none() {
            return Ok(Cow::Borrowed(json));
        }
        let text = serde_json::to_vec(&self.tree(json)?);
        text.map(Cow::Owned).map_err(ApiError::internal)
    }

    /// An encoded object as a tree, in the version that is served here.
    fn tree(&self, json: &[u8]) -> ApiResult<Value> {
        let tree = serde_json::from_slice(json).map_err(ApiError::internal)?;
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

    /// Who owns a new object's fields.
    pub(super) fn track_create(&self, object: &mut dyn Object, options: &WriteOptions) -> ApiResult<Vec<u8>> {
        // What cannot be read is as good as not said.
        let given = Managed::of_update(&[], object.metadata(), "");
        object.metadata_mut().managed_fields = None;
        let Some(manager) = &options.field_manager else {
            return Ok(Vec::new());
        };
        let json = object.encode().map_err(ApiError::internal)?;
        let (nothing, new) = (Text::of(b"{}"), self.served_text(&json)?);
        let rules = self.rules(Target::Main, options);
        Ok(rules
            .update(nothing, Text::of(&new), given, manager, &now())
            .print())
    }

    /// Who owns an object's fields after an update. Those that the new object names are taken from it.
    pub(super) fn track_update(
        &self,
        live: &Live<'_>,
        new: &mut dyn Object,
        target: Target,
        options: &WriteOptions,
    ) -> ApiResult<Vec<u8>> {
        let Some(manager) = &options.field_manager else {
            new.metadata_mut().managed_fields = None;
            return Ok(live.owners.to_vec());
        };
        let rules = self.rules(target, options);
        let owners = rules.owners(live.owners, new.metadata());
        new.metadata_mut().managed_fields = None;
        if owners.is_empty() {
            return Ok(Vec::new());
        }
        let json = new.encode().map_err(ApiError::internal)?;
        let (old, new) = (self.served_text(&live.json)?, self.served_text(&json)?);
        Ok(rules
            .update(Text::of(&old), Text::of(&new), owners, manager, &now())
            .print())
    }

    /// The new state as the store keeps it. Where nothing changes but when somebody came to own fields, that does not
    /// change either.
    pub(super) fn encode_update(
        &self,
        live: &Live<'_>,
        new: &mut dyn Object,
        owners: &[u8],
    ) -> ApiResult<Vec<u8>> {
        let json = encode(new, b"")?;
        if live.owners != owners && same_but_times(live.owners, owners) {
            let value = owners::join(json.clone(), live.owners);
            if live.entry.holds(&value) {
                return Ok(value);
            }
        }
        Ok(owners::join(json, owners))
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
            uid: None,
            options,
        };
        let produce = |live: &Live<'_>| self.applied(&request, &config, Some(live));
        for _ in 0..ATTEMPTS {
            match self.write(&request, &produce).await {
                Err(error) if error.code() == 404 && target == Target::Main => {}
                outcome => return outcome,
            }
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(ApiError::conflict(self.info(), name, &why));
            }
            let mut decoded = self.applied(&request, &config, None)?;
            // Whichever version the configuration names, there is none.
            decoded.object.metadata_mut().resource_version = None;
            match self.create_decoded(namespace, decoded, options).await {
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
        present: Option<&Live<'_>>,
    ) -> ApiResult<Decoded> {
        let options = request.options;
        let (live, managed) = match present {
            Some(live) => {
                let managed = Managed::parse(live.owners)
                    .ok_or_else(|| ApiError::unclassified("failed to decode managed fields"))?;
                (self.served_text(&live.json)?, managed)
            }
            None => (Cow::Borrowed(&b"{}"[..]), Managed::default()),
        };
        let applying = Applying {
            config: &config.wanted,
            name: options.field_manager.as_deref().unwrap_or_default(),
            now: &now(),
        };
        let applied = self
            .rules(request.target, options)
            .apply(Text::of(&live), applying, managed, options.force)
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
        let beside = Beside {
            errors: Vec::new(),
            warnings: twice::yaml_lines(&config.repeated),
        };
        let mut decoded = self
            .decoder
            .object(
                self.strategy().as_ref(),
                applied.json.as_bytes(),
                options,
                &beside,
            )
            .map_err(|unfit| ApiError::bad_request(unfit.decoded))?;
        let meta = decoded.object.metadata_mut();
        ensure_namespace(self.info().scope, request.namespace, meta)?;
        ensure_name(request.name, meta)?;
        options.warnings.extend(single_owners(meta));
        decoded.owners = Some(applied.managed.print());
        Ok(decoded)
    }
}
