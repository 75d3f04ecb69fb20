//! The OpenAPI v3 schemas of the definitions, with descriptions; compressed in the binary.

use serde_json::Value;

/// The schema of a definition, with its descriptions and `x-kubernetes-…` extensions; references are
/// `#/components/schemas/{name}`.
pub fn openapi_schema(_name: &str) -> Option<Value> {
    None
}
