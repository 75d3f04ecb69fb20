//! One version of one object, encoded once: the bytes of its gets, its lists and its watch event.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use skiff_api::owners::Split;
use skiff_api::{KindInfo, Object, Strategy};

use super::forms::{Form, Forms, Framed};
use crate::error::{ApiError, ApiResult};

/// What a selector may ask of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The values of the kind's selectable fields, in the order of [`KindInfo::selectable_fields`].
    pub fields: Vec<(&'static str, String)>,
}

impl Facts {
    /// The facts of an object in hand.
    pub fn of(strategy: &dyn Strategy, object: &dyn Object) -> Self {
        let meta = object.metadata();
        let field = |name: &&'static str| (*name, strategy.field(object, name).unwrap_or_default());
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            fields: strategy.info().selectable_fields.iter().map(field).collect(),
        }
    }

    /// The facts in an encoded object.
    ///
    /// # Errors
    /// When it is not an object of this kind.
    pub fn read(strategy: &dyn Strategy, json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        struct Metadata {
            #[serde(default)]
            namespace: Option<String>,
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
        }
        if !strategy.info().selectable_fields.is_empty() {
            return Ok(Self::of(
                strategy,
                strategy.decode(&Split::of(json).rest)?.as_ref(),
            ));
        }
        // Skipping what nobody selects by is several times as fast as decoding it.
        let head: Head = serde_json::from_slice(json)?;
        Ok(Self {
            namespace: head.metadata.namespace.unwrap_or_default(),
            name: head.metadata.name.unwrap_or_default(),
            labels: head.metadata.labels.unwrap_or_default(),
            fields: Vec::new(),
        })
    }

    /// The value of a selectable field; `None` when it is not selectable.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => self
                .fields
                .iter()
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value.as_str()),
        }
    }
}

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// The object is new, or began to match.
    Added,
    /// The object changed.
    Modified,
    /// The object is gone, or no longer matches.
    Deleted,
}

impl EventType {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    fn line_head(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
        }
    }
}

/// How the metadata begins.
const METADATA: &str = r#""metadata":{"#;

const LINE_TAIL: &[u8] = b"}\n";

/// The text that every stored object of a kind begins with, up to its metadata's first field.
#[derive(Clone, Debug)]
pub(crate) struct Head(Bytes);

impl Head {
    pub(crate) fn of(info: &KindInfo) -> Self {
        let text = format!(
            r#"{{"apiVersion":"{}","kind":"{}",{METADATA}"#,
            info.api_version(),
            info.kind
        );
        Self(text.into())
    }
}

/// One version of one object. Shared, never copied.
///
/// The object's bytes lie inside the line of the watch event that announced this version, so that both are one
/// allocation.
#[derive(Debug)]
pub struct Entry {
    facts: Arc<Facts>,
    revision: i64,
    announced: EventType,
    line: Bytes,
    json: Bytes,
    /// Where `"resourceVersion":"…",` stands in `json`; empty in an entry that was never written.
    version: std::ops::Range<usize>,
    forms: Forms,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Entry {
    /// The entry of a stored value: the object's JSON without a resource version.
    pub(crate) fn new(
        head: &Head,
        facts: Arc<Facts>,
        value: &[u8],
        revision: i64,
        announced: EventType,
    ) -> Result<Self, ApiError> {
        let Some(rest) = value.strip_prefix(head.0.as_ref()) else {
            return Err(ApiError::internal("a stored object has not the form of its kind"));
        };
        let version = if revision > 0 {
            format!(r#""resourceVersion":"{revision}","#)
        } else {
            String::new()
        };
        let line_head = announced.line_head();
        let length = head.0.len() + version.len() + rest.len();
        let mut line = BytesMut::with_capacity(line_head.len() + length + LINE_TAIL.len());
        line.put_slice(line_head);
        line.put_slice(&head.0);
        line.put_slice(version.as_bytes());
        line.put_slice(rest);
        line.put_slice(LINE_TAIL);
        let line = line.freeze();
        Ok(Self {
            facts,
            revision,
            announced,
            json: line.slice(line_head.len()..line_head.len() + length),
            line,
            version: head.0.len()..head.0.len() + version.len(),
            forms: Forms::default(),
            decoded: OnceLock::new(),
        })
    }

    /// The entry of an object that is in no store; `revision` is 0 unless it was made of one that is.
    pub(crate) fn unstored(
        strategy: &dyn Strategy,
        object: &dyn Object,
        revision: i64,
    ) -> Result<Self, ApiError> {
        let facts = Facts::of(strategy, object);
        let value = object.encode().map_err(ApiError::internal)?;
        Self::new(
            &Head::of(strategy.info()),
            facts.into(),
            &value,
            revision,
            EventType::Added,
        )
    }

    /// The same object with another resource version: what a `DELETED` event shows.
    pub(crate) fn deleted_at(&self, revision: i64) -> Self {
        let (before, after) = self.around_version();
        let line_head = EventType::Deleted.line_head();
        let version = format!(r#""resourceVersion":"{revision}","#);
        let length = before.len() + version.len() + after.len();
        let mut line = BytesMut::with_capacity(line_head.len() + length + LINE_TAIL.len());
        line.put_slice(line_head);
        line.put_slice(before);
        line.put_slice(version.as_bytes());
        line.put_slice(after);
        line.put_slice(LINE_TAIL);
        let line = line.freeze();
        Self {
            facts: self.facts.clone(),
            revision,
            announced: EventType::Deleted,
            json: line.slice(line_head.len()..line_head.len() + length),
            line,
            version: before.len()..before.len() + version.len(),
            forms: Forms::default(),
            decoded: OnceLock::new(),
        }
    }

    fn around_version(&self) -> (&[u8], &[u8]) {
        let before = self.json.get(..self.version.start).unwrap_or_default();
        let after = self.json.get(self.version.end..).unwrap_or_default();
        (before, after)
    }

    /// Whether the stored value is this text.
    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        let (before, after) = self.around_version();
        value.strip_prefix(before) == Some(after)
    }

    /// The object's JSON with its resource version; begins `{"apiVersion":…,"kind":…,"metadata":{`.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// What of the object's JSON comes after the `apiVersion` and `kind` that it begins with: `"metadata":{…}…}`.
    pub(crate) fn untyped(&self) -> Bytes {
        self.json.slice(self.version.start - METADATA.len()..)
    }

    /// The line `{"type":…,"object":…}` with its newline. The one that announced this version is shared, not made.
    pub fn line(&self, type_: EventType) -> Bytes {
        if type_ == self.announced {
            return self.line.clone();
        }
        let head = type_.line_head();
        let mut line = BytesMut::with_capacity(head.len() + self.json.len() + LINE_TAIL.len());
        line.put_slice(head);
        line.put_slice(&self.json);
        line.put_slice(LINE_TAIL);
        line.freeze()
    }

    /// The entry in another form than its JSON: made for who asks first, and shared by who comes after.
    pub(crate) fn form(&self, form: Form, make: impl FnOnce() -> ApiResult<Framed>) -> ApiResult<Framed> {
        self.forms.get(form, make)
    }

    /// The object without its managed fields: decoded for who asks first, and shared by who comes after.
    pub(crate) fn decoded<K: DeserializeOwned + Send + Sync + 'static>(&self) -> ApiResult<Arc<K>> {
        let known = self
            .decoded
            .get()
            .and_then(|object| object.clone().downcast().ok());
        if let Some(object) = known {
            return Ok(object);
        }
        let object: K = serde_json::from_slice(&Split::of(&self.json).rest).map_err(ApiError::internal)?;
        let object = Arc::new(object);
        // Where somebody was faster, or decodes the kind as another type, this one is not kept.
        let _ = self.decoded.set(object.clone());
        Ok(object)
    }

    /// The type of the event that announced this version.
    pub(crate) fn announced(&self) -> EventType {
        self.announced
    }

    /// What a selector may ask of it.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        &self.facts.namespace
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// Its key below its kind's prefix: `namespace/name` or `name`.
    pub(crate) fn below(&self) -> String {
        match self.namespace() {
            "" => self.name().to_string(),
            namespace => format!("{namespace}/{}", self.name()),
        }
    }

    /// The revision that wrote it: its resource version. 0 in what a dry run did not write.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

/// An entry that was just added.
#[cfg(test)]
pub(crate) fn entry_of(strategy: &dyn Strategy, json: serde_json::Value) -> Entry {
    let object = strategy.decode_value(json).unwrap();
    let facts = Arc::new(Facts::of(strategy, object.as_ref()));
    let value = object.encode().unwrap();
    Entry::new(&Head::of(strategy.info()), facts, &value, 7, EventType::Added).unwrap()
}
