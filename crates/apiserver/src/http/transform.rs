//! What a client sees of an object: the whole, its metadata, or a row of a table.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skiff_api::schema::protobuf;
use skiff_api::{KindInfo, Strategy};

use crate::error::{ApiError, ApiResult};
use crate::http::accept::{Encoding, MetaVersion, Transform};
use crate::http::query::Query;
use crate::http::respond;
use crate::registry::{Entry, EventType, Form, Frame, Framed, List, internal_type, serve};

/// What a row of a table holds besides its cells (`TableOptions.includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata.
    #[default]
    Metadata,
    /// The whole.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter, which only tables heed.
    pub(crate) fn read(query: &Query, transform: Transform) -> ApiResult<Self> {
        if transform != Transform::Table {
            return Ok(Self::default());
        }
        match query.get("includeObject").unwrap_or_default() {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            ))),
        }
    }
}

/// How the objects of a response are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) strategy: &'a dyn Strategy,
    pub(crate) transform: Transform,
    pub(crate) encoding: Encoding,
    pub(crate) meta: MetaVersion,
    pub(crate) include: IncludeObject,
}

/// The part of an object that every view needs.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// The place of an entry in its list, and the cells of its row where they depend on the list.
type Row = (usize, Option<Bytes>);

/// The length that stands before each frame of a protobuf watch, in bytes.
pub(crate) const FRAME_LENGTH: usize = 4;

impl View<'_> {
    fn info(&self) -> &KindInfo {
        self.strategy.info()
    }

    fn is_protobuf(&self) -> bool {
        self.encoding == Encoding::Protobuf
    }

    /// One object.
    pub(crate) fn object(&self, entry: &Entry) -> ApiResult<Bytes> {
        match self.transform {
            Transform::Whole if self.is_shared() => self.encoded(entry.json().clone()),
            Transform::Whole => match self.encoding {
                Encoding::Yaml => self.encoded(serve(self.strategy, entry.json())?),
                _ => Ok(self.form(entry)?.object),
            },
            Transform::PartialList => Err(ApiError::not_transformable(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{})",
                internal_type(self.info())
            ))),
            Transform::Partial if self.is_protobuf() => Ok(self.form(entry)?.object),
            Transform::Partial => self.encoded(partial(entry, self.meta.api_version())?),
            Transform::Table => {
                let mut table = self.table_head(entry.revision(), None, None, true)?;
                self.row(&mut table, entry, &self.cells(entry, Timestamp::now())?)?;
                table.put_slice(b"]}");
                self.encoded(table.freeze())
            }
        }
    }

    /// JSON in the encoding that is wanted.
    fn encoded(&self, json: Bytes) -> ApiResult<Bytes> {
        match self.encoding {
            Encoding::Json => Ok(json),
            encoding => respond::transcoded(encoding, &json),
        }
    }

    /// The segments of a list.
    pub(crate) fn list(&self, list: &List) -> ApiResult<Vec<Bytes>> {
        if self.transform == Transform::Partial {
            return Err(ApiError::not_transformable(format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{}List)",
                internal_type(self.info())
            )));
        }
        // The lists of v1beta1 are numbered in their own way.
        let as_one = self.transform == Transform::PartialList && self.meta == MetaVersion::V1beta1;
        if self.is_protobuf() && !as_one {
            return self.protobuf_list(list);
        }
        let segments = match self.transform {
            Transform::Whole => self.whole_list(list)?,
            // Go writes a list to which nothing was added like that.
            Transform::Partial | Transform::PartialList if list.items.is_empty() => {
                let meta = list_meta(list.resource_version, list.continue_.as_deref(), list.remaining);
                let text = format!(
                    r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{}","metadata":{meta},"items":null}}"#,
                    self.meta.api_version()
                );
                vec![text.into()]
            }
            Transform::Partial | Transform::PartialList => {
                let meta = self.meta.api_version();
                let mut segments = list_frame("PartialObjectMetadataList", meta, list);
                for (index, entry) in list.items.iter().enumerate() {
                    if index > 0 {
                        segments.push(Bytes::from_static(b","));
                    }
                    segments.push(partial(entry, meta)?);
                }
                segments.push(Bytes::from_static(b"]}"));
                segments
            }
            Transform::Table => {
                let (continue_, remaining) = (list.continue_.as_deref(), list.remaining);
                let mut table = self.table_head(list.resource_version, continue_, remaining, true)?;
                let now = Timestamp::now();
                let arranged = self.arranged(list, now)?;
                let in_order = || (0..list.items.len()).map(|place| (place, None)).collect();
                for (index, (place, cells)) in arranged.unwrap_or_else(in_order).into_iter().enumerate() {
                    let Some(entry) = list.items.get(place) else {
                        continue;
                    };
                    if index > 0 {
                        table.put_u8(b',');
                    }
                    let cells = match cells {
                        Some(cells) => cells,
                        None => self.cells(entry, now)?,
                    };
                    self.row(&mut table, entry, &cells)?;
                }
                table.put_slice(b"]}");
                vec![table.freeze()]
            }
        };
        match self.encoding {
            Encoding::Json => Ok(segments),
            _ => Ok(vec![self.encoded(segments.concat().into())?]),
        }
    }

    /// A walk over the messages that the entries share.
    fn protobuf_list(&self, list: &List) -> ApiResult<Vec<Bytes>> {
        let (kind, api_version) = match self.transform {
            Transform::PartialList => (
                "PartialObjectMetadataList".to_string(),
                self.meta.api_version().to_string(),
            ),
            _ => (format!("{}List", self.info().kind), self.info().api_version()),
        };
        let mut head = list_frame(&kind, &api_version, list);
        head.push(Bytes::from_static(b"]}"));
        let items: Vec<Bytes> = list
            .items
            .iter()
            .map(|entry| Ok(self.form(entry)?.item))
            .collect::<ApiResult<_>>()?;
        protobuf::list_from_messages(&head.concat(), items.into_iter()).map_err(respond::untranscodable)
    }

    /// A walk over the cache's bytes: each item without the `apiVersion` and `kind` that it begins with, which the
    /// list's own imply.
    fn whole_list(&self, list: &List) -> ApiResult<Vec<Bytes>> {
        let info = self.info();
        let api_version = info.api_version();
        let implied = format!(r#"{{"apiVersion":"{api_version}","kind":"{}","#, info.kind);
        let mut segments = list_frame(&format!("{}List", info.kind), &api_version, list);
        segments.reserve(list.items.len() * 2 + 1);
        for (index, entry) in list.items.iter().enumerate() {
            segments.push(Bytes::from_static(if index > 0 { b",{" } else { b"{" }));
            if self.is_shared() {
                segments.push(entry.untyped());
                continue;
            }
            let json = self.version(entry, false)?.object;
            let from = if json.starts_with(implied.as_bytes()) {
                implied.len()
            } else {
                1
            };
            segments.push(json.slice(from..));
        }
        segments.push(Bytes::from_static(b"]}"));
        Ok(segments)
    }

    /// The form that this view shows of an entry: of all that is not its JSON as it stands, made once for everyone.
    fn form(&self, entry: &Entry) -> ApiResult<Framed> {
        let form = match (self.transform, self.is_protobuf()) {
            (Transform::Partial | Transform::PartialList, is_protobuf) => {
                Form::Partial(self.meta.api_version(), is_protobuf)
            }
            (_, is_protobuf) if self.strategy.conversion().is_some() => {
                return self.version(entry, is_protobuf);
            }
            _ => Form::Protobuf,
        };
        self.made(entry, form)
    }

    /// The whole in a version that is not the stored one.
    fn version(&self, entry: &Entry, is_protobuf: bool) -> ApiResult<Framed> {
        self.made(entry, Form::Version(self.info().version.clone(), is_protobuf))
    }

    /// Whether what this view shows as a whole in JSON is the entry's own bytes.
    fn is_shared(&self) -> bool {
        self.strategy.conversion().is_none() && !self.is_protobuf()
    }

    fn made(&self, entry: &Entry, form: Form) -> ApiResult<Framed> {
        let as_json = matches!(form, Form::Partial(_, false) | Form::Version(_, false));
        let of_metadata = matches!(form, Form::Partial(..));
        entry.form(form, || {
            let json = match of_metadata {
                true => partial(entry, self.meta.api_version())?,
                false => serve(self.strategy, entry.json())?,
            };
            let type_ = entry.announced().name();
            if as_json {
                let frame = line(type_, &json);
                let from = frame.len() - json.len() - LINE_END.len();
                let object = frame.slice(from..from + json.len());
                let item = object.clone();
                return Ok(Framed { frame, object, item });
            }
            let made = protobuf::enveloped_from_json(&json).map_err(respond::untranscodable)?;
            let frame = packed(type_, &made.encoded);
            let object = frame.slice(frame.len() - made.encoded.len()..);
            let item = object.slice(made.message);
            Ok(Framed { frame, object, item })
        })
    }

    /// The frame of a watch event: a line of JSON, or a message behind its length. `first`: no frame of this watch came
    /// before.
    pub(crate) fn event(&self, frame: &Frame, first: bool) -> ApiResult<Bytes> {
        let (type_, entry) = match frame {
            Frame::Added(entry) => (EventType::Added, entry),
            Frame::Modified(entry) => (EventType::Modified, entry),
            Frame::Deleted(entry) => (EventType::Deleted, entry),
            Frame::Bookmark {
                revision,
                initial_events_end,
            } => {
                let object = self.bookmark(*revision, *initial_events_end, first)?;
                return self.framed("BOOKMARK", object);
            }
            Frame::Error(error) => {
                let status = respond::status_json(&error.0);
                return self.framed("ERROR", status.into());
            }
        };
        match (self.transform, self.is_protobuf()) {
            (Transform::Whole, false) if self.is_shared() => Ok(entry.line(type_)),
            (Transform::Table, _) => {
                let now = Timestamp::now();
                let cells = || Ok(Framed::from(self.cells(entry, now)?));
                let cells = entry.form(Form::Cells(now.as_second()), cells)?.object;
                let mut table = self.table_head(entry.revision(), None, None, first)?;
                self.row(&mut table, entry, &cells)?;
                table.put_slice(b"]}");
                Ok(line(type_.name(), &table))
            }
            (_, is_protobuf) => {
                let form = self.form(entry)?;
                Ok(if type_ == entry.announced() {
                    form.frame
                } else if is_protobuf {
                    packed(type_.name(), &form.object)
                } else {
                    line(type_.name(), &form.object)
                })
            }
        }
    }

    /// The frame of an event that only this watch has, its object in JSON.
    fn framed(&self, type_: &str, object: Bytes) -> ApiResult<Bytes> {
        if !self.is_protobuf() {
            return Ok(line(type_, &object));
        }
        let object = protobuf::from_json(&object).map_err(respond::untranscodable)?;
        Ok(packed(type_, &object))
    }

    fn bookmark(&self, revision: i64, initial_events_end: bool, first: bool) -> ApiResult<Bytes> {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_events_end && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(
                "annotations".into(),
                json!({ "k8s.io/initial-events-end": "true" }),
            );
        }
        let info = self.info();
        let (kind, api_version) = match self.transform {
            Transform::Whole => (info.kind.as_ref(), info.api_version()),
            _ => ("PartialObjectMetadata", self.meta.api_version().to_string()),
        };
        let object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        if self.transform != Transform::Table {
            return Ok(object.to_string().into());
        }
        let cells: Vec<Value> = info.columns.iter().map(|_| Value::Null).collect();
        let row = json!({ "cells": cells, "object": object });
        let mut table = self.table_head(revision, None, None, first)?;
        table.put_slice(row.to_string().as_bytes());
        table.put_slice(b"]}");
        Ok(table.freeze())
    }

    /// A table up to its first row.
    fn table_head(
        &self,
        revision: i64,
        continue_: Option<&str>,
        remaining: Option<i64>,
        with_columns: bool,
    ) -> ApiResult<BytesMut> {
        let columns: Vec<Value> = self
            .info()
            .columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name,
                    "type": column.type_,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                })
            })
            .collect();
        let columns = if with_columns {
            Value::Array(columns)
        } else {
            Value::Null
        };
        let head = format!(
            r#"{{"kind":"Table","apiVersion":"{}","metadata":{},"columnDefinitions":{columns},"rows":["#,
            self.meta.api_version(),
            list_meta(revision, continue_, remaining),
        );
        Ok(BytesMut::from(head.as_bytes()))
    }

    /// What an object's row shows: its cells as a list in JSON, and its conditions, if any.
    fn cells(&self, entry: &Entry, now: Timestamp) -> ApiResult<Bytes> {
        let stored = self.strategy.stored();
        let object = stored.decode(entry.json()).map_err(ApiError::internal)?;
        let cells = Value::Array(self.strategy.cells(object.as_ref(), now));
        Ok(match self.strategy.row_conditions(object.as_ref()) {
            conditions if conditions.is_empty() => cells.to_string(),
            conditions => format!(r#"{cells},"conditions":{}"#, Value::Array(conditions)),
        }
        .into())
    }

    /// The rows of a list whose kind has something to say of the list as a whole: which entry each shows, and its cells.
    fn arranged(&self, list: &List, now: Timestamp) -> ApiResult<Option<Vec<Row>>> {
        let stored = self.strategy.stored();
        let mut failed = None;
        let mut objects = list.items.iter().map_while(|entry| {
            stored
                .decode(entry.json())
                .map_err(|error| failed = Some(ApiError::internal(error)))
                .ok()
        });
        let rows = self.strategy.list_rows(&mut objects, now);
        if let Some(error) = failed {
            return Err(error);
        }
        let shown =
            |(place, cells): (usize, Vec<Value>)| (place, Some(Value::Array(cells).to_string().into()));
        Ok(rows.map(|rows| rows.into_iter().map(shown).collect()))
    }

    fn row(&self, table: &mut BytesMut, entry: &Entry, cells: &[u8]) -> ApiResult<()> {
        table.put_slice(br#"{"cells":"#);
        table.put_slice(cells);
        table.put_slice(br#","object":"#);
        match self.include {
            IncludeObject::None => table.put_slice(b"null"),
            IncludeObject::Metadata => table.put_slice(&partial(entry, self.meta.api_version())?),
            IncludeObject::Object => table.put_slice(&serve(self.strategy, entry.json())?),
        }
        table.put_u8(b'}');
        Ok(())
    }
}

/// An object's `PartialObjectMetadata`.
fn partial(entry: &Entry, api_version: &str) -> ApiResult<Bytes> {
    let Metadata { metadata } = serde_json::from_slice(entry.json()).map_err(ApiError::internal)?;
    Ok(format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"{api_version}","metadata":{}}}"#,
        metadata.get()
    )
    .into())
}

fn list_frame(kind: &str, api_version: &str, list: &List) -> Vec<Bytes> {
    let meta = list_meta(list.resource_version, list.continue_.as_deref(), list.remaining);
    vec![format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{meta},"items":["#).into()]
}

fn list_meta(revision: i64, continue_: Option<&str>, remaining: Option<i64>) -> Value {
    let mut meta = json!({});
    if let Some(meta) = meta.as_object_mut() {
        // What was only tried has none.
        if revision > 0 {
            meta.insert("resourceVersion".into(), revision.to_string().into());
        }
        if let Some(continue_) = continue_ {
            meta.insert("continue".into(), continue_.into());
        }
        if let Some(remaining) = remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
    }
    meta
}

/// What follows the object in a line.
const LINE_END: &[u8] = b"}\n";

fn line(type_: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(format!(r#"{{"type":"{type_}","object":"#).as_bytes());
    line.put_slice(object);
    line.put_slice(LINE_END);
    line.freeze()
}

/// The event of an object in protobuf, behind its length.
fn packed(type_: &str, object: &[u8]) -> Bytes {
    let mut frame = protobuf::watch_event(type_, object, FRAME_LENGTH);
    // Nothing that the store takes is as long as 4 GiB.
    let length = u32::try_from(frame.len() - FRAME_LENGTH).unwrap_or(u32::MAX);
    if let Some(place) = frame.first_chunk_mut::<FRAME_LENGTH>() {
        *place = length.to_be_bytes();
    }
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry_of;
    use skiff_api::catalogue;
    use std::sync::Arc;

    #[test]
    fn a_watch_event_is_encoded_once_for_all_watchers_of_an_encoding() {
        let catalogue = catalogue::builtin();
        let strategy = catalogue.resource("", "v1", "configmaps").unwrap().as_ref();
        let entry = Arc::new(entry_of(
            strategy,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}),
        ));
        for (transform, encoding) in [
            (Transform::Whole, Encoding::Json),
            (Transform::Whole, Encoding::Protobuf),
            (Transform::Partial, Encoding::Json),
            (Transform::Partial, Encoding::Protobuf),
        ] {
            let include = IncludeObject::default();
            let view = View {
                strategy,
                transform,
                encoding,
                meta: MetaVersion::V1,
                include,
            };
            let [one, other] =
                [true, false].map(|first| view.event(&Frame::Added(entry.clone()), first).unwrap());
            assert_eq!(one.as_ptr(), other.as_ptr(), "{transform:?} {encoding:?}");
            // Another type is written around the same object.
            let modified = view.event(&Frame::Modified(entry.clone()), false).unwrap();
            let object = view.object(&entry).unwrap();
            let holds = |frame: &[u8]| frame.windows(object.len()).any(|part| part == object);
            assert!(holds(&one) && holds(&modified) && one != modified);
        }
    }

    #[test]
    fn what_a_watch_fails_with_comes_in_its_encoding() {
        let catalogue = catalogue::builtin();
        let view = View {
            strategy: catalogue.resource("", "v1", "configmaps").unwrap().as_ref(),
            transform: Transform::Whole,
            encoding: Encoding::Protobuf,
            meta: MetaVersion::V1,
            include: IncludeObject::default(),
        };
        let frame = view
            .event(&Frame::Error(ApiError::gone("too old")), false)
            .unwrap();
        let status = frame.windows(4).position(|part| part == protobuf::MAGIC).unwrap();
        let status: Value = serde_json::from_slice(&protobuf::to_json(&frame[status..]).unwrap()).unwrap();
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&json!("Status"), &json!(410))
        );
    }

    #[test]
    fn a_frame_of_a_protobuf_watch_says_how_long_it_is() {
        let frame = packed("ADDED", b"k8s\0x");
        let (length, event) = frame.split_at(FRAME_LENGTH);
        assert_eq!(length, u32::try_from(event.len()).unwrap().to_be_bytes());
        assert_eq!(event, b"\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x");
    }
}
