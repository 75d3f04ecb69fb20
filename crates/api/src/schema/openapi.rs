//! The OpenAPI v3 schemas of the definitions, with descriptions; compressed in the binary.

use std::io::Read;

use serde_json::Value;

include!(concat!(env!("OUT_DIR"), "/openapi.rs"));
include!(concat!(env!("OUT_DIR"), "/described.rs"));

static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.bin"));

/// The schema of a definition, with its descriptions and `x-kubernetes-…` extensions; references are
/// `#/components/schemas/{name}`.
pub fn openapi_schema(name: &str) -> Option<Value> {
    let index = DOCUMENTS
        .binary_search_by(|(known, ..)| (*known).cmp(name))
        .ok()?;
    let (_, start, end) = DOCUMENTS.get(index)?;
    let compressed = BLOB.get(usize::try_from(*start).ok()?..usize::try_from(*end).ok()?)?;
    let mut text = Vec::new();
    flate2::read::DeflateDecoder::new(compressed)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}

/// What the documents say of a field that tables show; the fields that are known here stand in `described.txt`.
pub(crate) fn described(definition: &'static str, field: &'static str) -> Option<&'static str> {
    let index = DESCRIBED
        .binary_search_by_key(&(definition, field), |(known, _)| *known)
        .ok()?;
    DESCRIBED.get(index).map(|(_, text)| *text)
}

/// The names of all schemas, in order.
pub fn openapi_names() -> impl Iterator<Item = &'static str> {
    DOCUMENTS.iter().map(|(name, ..)| *name)
}
