//! What a client sees of an object: the whole, its metadata, or a row of a table.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skiff_api::{KindInfo, Strategy};

use crate::error::{ApiError, ApiResult};
use crate::http::accept::Transform;
use crate::http::query::Query;
use crate::registry::{Entry, EventType, Frame, List};

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
    /// Reads the query parameter.
    pub(crate) fn read(query: &Query) -> ApiResult<Self> {
        match query.get("includeObject").unwrap_or_default() {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            ))),
        }
    }
}

/// How the objects of a response are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) strategy: &'a dyn Strategy,
    pub(crate) transform: Transform,
    pub(crate) include: IncludeObject,
}

/// The part of an object that every view needs.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl View<'_> {
    fn info(&self) -> &KindInfo {
        self.strategy.info()
    }

    /// One object.
    pub(crate) fn object(&self, entry: &Entry) -> ApiResult<Bytes> {
        match self.transform {
            Transform::Whole => Ok(entry.json().clone()),
            Transform::Partial => partial(entry),
            Transform::Table => {
                let mut table = self.table_head(entry.revision(), None, None, true)?;
                self.row(&mut table, entry, Timestamp::now())?;
                table.put_slice(b"]}");
                Ok(table.freeze())
            }
        }
    }

    /// The segments of a list.
    pub(crate) fn list(&self, list: &List) -> ApiResult<Vec<Bytes>> {
        match self.transform {
            Transform::Whole => Ok(self.whole_list(list)),
            Transform::Partial => {
                let mut segments = list_frame("PartialObjectMetadataList", "meta.k8s.io/v1", list);
                for (index, entry) in list.items.iter().enumerate() {
                    if index > 0 {
                        segments.push(Bytes::from_static(b","));
                    }
                    segments.push(partial(entry)?);
                }
                segments.push(Bytes::from_static(b"]}"));
                Ok(segments)
            }
            Transform::Table => {
                let (continue_, remaining) = (list.continue_.as_deref(), list.remaining);
                let mut table = self.table_head(list.resource_version, continue_, remaining, true)?;
                let now = Timestamp::now();
                for (index, entry) in list.items.iter().enumerate() {
                    if index > 0 {
                        table.put_u8(b',');
                    }
                    self.row(&mut table, entry, now)?;
                }
                table.put_slice(b"]}");
                Ok(vec![table.freeze()])
            }
        }
    }

    /// A walk over the cache's bytes: each item without the `apiVersion` and `kind` that it begins with, which the
    /// list's own imply.
    fn whole_list(&self, list: &List) -> Vec<Bytes> {
        let info = self.info();
        let api_version = info.api_version();
        let implied = format!(r#"{{"apiVersion":"{api_version}","kind":"{}","#, info.kind);
        let mut segments = list_frame(&format!("{}List", info.kind), &api_version, list);
        segments.reserve(list.items.len() * 2 + 1);
        for (index, entry) in list.items.iter().enumerate() {
            segments.push(Bytes::from_static(if index > 0 { b",{" } else { b"{" }));
            let json = entry.json();
            let from = if json.starts_with(implied.as_bytes()) {
                implied.len()
            } else {
                1
            };
            segments.push(json.slice(from..));
        }
        segments.push(Bytes::from_static(b"]}"));
        segments
    }

    /// The line of a watch event. `first`: no line of this watch came before.
    pub(crate) fn event(&self, frame: &Frame, first: bool) -> ApiResult<Bytes> {
        let (type_, entry) = match frame {
            Frame::Added(entry) => (EventType::Added, entry),
            Frame::Modified(entry) => (EventType::Modified, entry),
            Frame::Deleted(entry) => (EventType::Deleted, entry),
            Frame::Bookmark {
                revision,
                initial_events_end,
            } => return self.bookmark(*revision, *initial_events_end, first),
            Frame::Error(error) => {
                let status = serde_json::to_vec(error.0.as_ref()).map_err(ApiError::internal)?;
                return Ok(line("ERROR", &status));
            }
        };
        match self.transform {
            Transform::Whole => Ok(entry.line(type_)),
            Transform::Partial => Ok(line(type_.name(), &partial(entry)?)),
            Transform::Table => {
                let mut table = self.table_head(entry.revision(), None, None, first)?;
                self.row(&mut table, entry, Timestamp::now())?;
                table.put_slice(b"]}");
                Ok(line(type_.name(), &table))
            }
        }
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
        let object = match self.transform {
            Transform::Whole => {
                json!({ "kind": info.kind, "apiVersion": info.api_version(), "metadata": metadata })
            }
            Transform::Partial => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            Transform::Table => {
                let object = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
                let cells: Vec<Value> = info.columns.iter().map(|_| Value::Null).collect();
                let row = json!({ "cells": cells, "object": object });
                let mut table = self.table_head(revision, None, None, first)?;
                table.put_slice(row.to_string().as_bytes());
                table.put_slice(b"]}");
                return Ok(line("BOOKMARK", &table));
            }
        };
        Ok(line("BOOKMARK", object.to_string().as_bytes()))
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
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{},"columnDefinitions":{columns},"rows":["#,
            list_meta(revision, continue_, remaining),
        );
        Ok(BytesMut::from(head.as_bytes()))
    }

    fn row(&self, table: &mut BytesMut, entry: &Entry, now: Timestamp) -> ApiResult<()> {
        let object = self.strategy.decode(entry.json()).map_err(ApiError::internal)?;
        let cells = Value::Array(self.strategy.cells(object.as_ref(), now));
        table.put_slice(format!(r#"{{"cells":{cells},"object":"#).as_bytes());
        match self.include {
            IncludeObject::None => table.put_slice(b"null"),
            IncludeObject::Metadata => table.put_slice(&partial(entry)?),
            IncludeObject::Object => table.put_slice(entry.json()),
        }
        table.put_u8(b'}');
        Ok(())
    }
}

/// An object's `PartialObjectMetadata`.
fn partial(entry: &Entry) -> ApiResult<Bytes> {
    let Metadata { metadata } = serde_json::from_slice(entry.json()).map_err(ApiError::internal)?;
    Ok(format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{}}}"#,
        metadata.get()
    )
    .into())
}

fn list_frame(kind: &str, api_version: &str, list: &List) -> Vec<Bytes> {
    let meta = list_meta(list.resource_version, list.continue_.as_deref(), list.remaining);
    vec![format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{meta},"items":["#).into()]
}

fn list_meta(revision: i64, continue_: Option<&str>, remaining: Option<i64>) -> Value {
    let mut meta = json!({ "resourceVersion": revision.to_string() });
    if let Some(meta) = meta.as_object_mut() {
        if let Some(continue_) = continue_ {
            meta.insert("continue".into(), continue_.into());
        }
        if let Some(remaining) = remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
    }
    meta
}

fn line(type_: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(format!(r#"{{"type":"{type_}","object":"#).as_bytes());
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
