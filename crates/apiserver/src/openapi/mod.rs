//! The OpenAPI documents: version 3, one for each group version, and version 2, one for all; made from the catalogue and
//! the types' own schemas when the first client asks.

mod enums;
mod gnostic;
mod paths;
mod roots;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use skiff_api::{Catalogue, KindInfo, schema};
use tokio::sync::OnceCell;

use crate::discovery::group_versions;
use crate::error::{ApiError, ApiResult};
use crate::http::Content;

/// The subtypes (of `application`) that the version 2 document's protobuf form is asked for as.
pub(crate) const GNOSTIC: [&str; 2] = [
    "com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// The same of version 3's.
pub(crate) const GNOSTIC_V3: [&str; 2] = [
    "com.github.proto-openapi.spec.v3.v1.0+protobuf",
    "com.github.proto-openapi.spec.v3@v1.0+protobuf",
];

/// A document as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) content: Bytes,
    /// Changes when the document does.
    pub(crate) hash: String,
    /// When it was made.
    made: Timestamp,
}

impl Document {
    fn of(value: &Value) -> Self {
        Self::of_bytes(value.to_string().into())
    }

    fn of_bytes(content: Bytes) -> Self {
        let mut hash = String::new();
        for byte in Sha512::digest(&content) {
            // Writing into a String cannot fail.
            let _ = write!(hash, "{byte:02X}");
        }
        Self {
            content,
            hash,
            made: Timestamp::now(),
        }
    }

    /// What is sent of it, as this type.
    pub(crate) fn into_content(self, type_: &'static str) -> Content {
        Content {
            type_,
            bytes: self.content,
            tag: Some(format!("\"{}\"", self.hash)),
            modified: self.made,
        }
    }
}

/// All documents of a server.
#[derive(Debug)]
struct All {
    /// `api/v1` or `apis/apps/v1` to its document.
    v3: BTreeMap<String, Document>,
    index: Document,
    v2: Document,
    /// The same in gnostic's protobuf form.
    v2_protobuf: Document,
}

/// The documents, made once.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    all: OnceCell<Arc<All>>,
}

impl Documents {
    async fn all(&self, catalogue: &Catalogue, version: &str) -> ApiResult<&Arc<All>> {
        self.all
            .get_or_try_init(|| async {
                let (catalogue, version) = (catalogue.clone(), version.to_string());
                // Unpacking and writing all schemas is too long a work for a thread that serves other requests.
                tokio::task::spawn_blocking(move || Arc::new(make(&catalogue, &version)))
                    .await
                    .map_err(ApiError::internal)
            })
            .await
    }

    /// `/openapi/v3`
    pub(crate) async fn index(&self, catalogue: &Catalogue, version: &str) -> ApiResult<Document> {
        Ok(self.all(catalogue, version).await?.index.clone())
    }

    /// `/openapi/v3/{path}`
    pub(crate) async fn v3(
        &self,
        catalogue: &Catalogue,
        version: &str,
        path: &str,
    ) -> ApiResult<Option<Document>> {
        Ok(self.all(catalogue, version).await?.v3.get(path).cloned())
    }

    /// A document of version 3 in [`GNOSTIC_V3`]. Few ask for it, so it is not kept; its hash is that of the JSON.
    pub(crate) async fn v3_protobuf(&self, document: Document) -> ApiResult<Document> {
        let made = tokio::task::spawn_blocking(move || {
            let value: Value = serde_json::from_slice(&document.content).map_err(ApiError::internal)?;
            Ok(Document {
                content: gnostic::encode_v3(&value).into(),
                ..document
            })
        });
        made.await.map_err(ApiError::internal)?
    }

    /// `/openapi/v2`
    pub(crate) async fn v2(&self, catalogue: &Catalogue, version: &str) -> ApiResult<Document> {
        Ok(self.all(catalogue, version).await?.v2.clone())
    }

    /// `/openapi/v2` in [`GNOSTIC`].
    pub(crate) async fn v2_protobuf(&self, catalogue: &Catalogue, version: &str) -> ApiResult<Document> {
        Ok(self.all(catalogue, version).await?.v2_protobuf.clone())
    }
}

fn make(catalogue: &Catalogue, version: &str) -> All {
    let mut v3 = BTreeMap::new();
    let mut all_paths = Map::new();
    let mut all_schemas = Map::new();
    let of_groups = group_versions(catalogue)
        .into_iter()
        .map(|(group, group_version)| group_version_document(catalogue, &group, &group_version, version));
    let of_roots = roots::all(catalogue)
        .into_iter()
        .map(|(name, paths)| (name, document_of(paths, Map::new(), version)));
    for (path, value) in of_groups.chain(of_roots) {
        for (from, to) in [
            (value.get("paths"), &mut all_paths),
            (value.pointer("/components/schemas"), &mut all_schemas),
        ] {
            to.extend(from.and_then(Value::as_object).cloned().unwrap_or_default());
        }
        v3.insert(path, Document::of(&value));
    }
    let index: Map<String, Value> = v3
        .iter()
        .map(|(path, document)| {
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            (path.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    let swagger = v2::swagger(all_paths, all_schemas, version);
    // What stands for the document stands for each of its forms: `Vary` tells them apart.
    let v2 = Document::of(&swagger);
    All {
        v3,
        index: Document::of(&json!({ "paths": index })),
        v2_protobuf: Document {
            content: gnostic::encode(&swagger).into(),
            ..v2.clone()
        },
        v2,
    }
}

/// `api/v1` and its document.
fn group_version_document(
    catalogue: &Catalogue,
    group: &str,
    group_version: &str,
    version: &str,
) -> (String, Value) {
    let prefix = if group.is_empty() {
        format!("api/{group_version}")
    } else {
        format!("apis/{group}/{group_version}")
    };
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for info in catalogue.infos() {
        if info.group != group || info.version != group_version {
            continue;
        }
        let Some(definition) = schema::of_kind(group, group_version, &info.kind) else {
            continue;
        };
        paths::add(&mut paths, &prefix, info, definition.name);
        if info.verbs.contains(&"list") {
            let list = format!("{}List", definition.name);
            add(&mut schemas, &list);
            name_kind(&mut schemas, &list, info, "List");
        }
        add(&mut schemas, definition.name);
        name_kind(&mut schemas, definition.name, info, "");
    }
    let (path, item) = roots::resources(&prefix, group, group_version);
    paths.insert(path, item);
    schemas.insert(
        paths::PATCH.into(),
        json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
            "type": "object",
        }),
    );
    (prefix, document_of(paths, schemas, version))
}

/// A document of these paths and schemas, with what they refer to.
fn document_of(paths: Map<String, Value>, mut schemas: Map<String, Value>, version: &str) -> Value {
    // What the paths refer to besides: scales, bindings, deletion options, patches, statuses.
    for name in references(&Value::Object(paths.clone())) {
        add(&mut schemas, &name);
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": version },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "authorization",
                    "description": "Bearer Token authentication",
                },
            },
        },
    })
}

/// Adds a schema and all that it refers to.
fn add(schemas: &mut Map<String, Value>, name: &str) {
    let mut wanted = vec![name.to_string()];
    while let Some(name) = wanted.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        if let Some(mut schema) = schema::openapi_schema(&name).or_else(|| roots::schema(&name)) {
            enums::complete(&name, &mut schema);
            wanted.extend(references(&schema));
            schemas.insert(name, schema);
        }
    }
}

/// Says of a schema which kind it is of.
fn name_kind(schemas: &mut Map<String, Value>, name: &str, info: &KindInfo, suffix: &str) {
    if let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) {
        let kind = format!("{}{suffix}", info.kind);
        schema.insert(
            "x-kubernetes-group-version-kind".into(),
            json!([{ "group": info.group, "version": info.version, "kind": kind }]),
        );
    }
}

/// The names of the schemas that a value refers to.
fn references(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(fields) => {
                if let Some(name) = fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|reference| reference.rsplit('/').next())
                {
                    found.insert(name.to_string());
                }
                rest.extend(fields.values());
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_is_resolved() {
        let catalogue = skiff_api::catalogue::builtin();
        let (path, document) = group_version_document(&catalogue, "", "v1", "v1.37.0");
        assert_eq!(path, "api/v1");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in references(&document) {
            assert!(schemas.contains_key(&name), "{name} is missing");
        }
        assert_eq!(
            schemas["io.k8s.api.core.v1.ConfigMap"]["x-kubernetes-group-version-kind"],
            json!([{ "group": "", "version": "v1", "kind": "ConfigMap" }])
        );
    }

    #[test]
    fn kubectl_finds_that_fields_are_validated() {
        let catalogue = skiff_api::catalogue::builtin();
        let (_, document) = group_version_document(&catalogue, "", "v1", "v1.37.0");
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({ "group": "", "version": "v1", "kind": "ConfigMap" })
        );
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
        );
    }

    #[tokio::test]
    async fn the_index_names_each_document_with_its_hash() {
        let catalogue = skiff_api::catalogue::builtin();
        let documents = Documents::default();
        let index = documents.index(&catalogue, "v1.37.0").await.unwrap();
        let index: Value = serde_json::from_slice(&index.content).unwrap();
        let core = documents
            .v3(&catalogue, "v1.37.0", "api/v1")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            index["paths"]["api/v1"]["serverRelativeURL"],
            format!("/openapi/v3/api/v1?hash={}", core.hash)
        );
        assert!(
            documents
                .v3(&catalogue, "v1.37.0", "apis/none/v1")
                .await
                .unwrap()
                .is_none()
        );
        let swagger = documents.v2(&catalogue, "v1.37.0").await.unwrap();
        assert!(!String::from_utf8_lossy(&swagger.content).contains("#/components/"));
    }
}
