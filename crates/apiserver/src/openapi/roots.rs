//! The documents of the paths above the group versions (which groups and versions there are), of the version, and of the
//! keys of service accounts; and in the group versions' documents the path that lists their resources.

use serde_json::{Map, Value, json};
use skiff_api::Catalogue;

use super::paths::{group_word, reference};
use crate::discovery::group_versions;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

/// What discovery is written in.
const ENCODINGS: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// A path with one operation.
struct Root {
    path: String,
    id: String,
    tag: String,
    description: &'static str,
    media: &'static [&'static str],
    schema: Value,
}

impl Root {
    fn meta(path: String, id: String, tag: String, description: &'static str, kind: &str) -> Self {
        Self {
            path,
            id,
            tag,
            description,
            media: &ENCODINGS,
            schema: reference(&format!("{META}{kind}")),
        }
    }

    fn item(&self) -> Value {
        let content: Map<String, Value> = self
            .media
            .iter()
            .map(|media| (media.to_string(), json!({ "schema": self.schema })))
            .collect();
        json!({ "get": {
            "description": self.description,
            "operationId": self.id,
            "tags": [self.tag],
            "responses": {
                "200": { "description": "OK", "content": content },
                "401": { "description": "Unauthorized" },
            },
        } })
    }
}

fn lower_first(word: &str) -> String {
    let mut characters = word.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// The names of the documents, and the paths in each.
pub(super) fn all(catalogue: &Catalogue) -> Vec<(String, Map<String, Value>)> {
    let mut roots = vec![
        Root::meta(
            "/api/".into(),
            "getCoreAPIVersions".into(),
            "core".into(),
            "get available API versions",
            "APIVersions",
        ),
        Root::meta(
            "/apis/".into(),
            "getAPIVersions".into(),
            "apis".into(),
            "get available API versions",
            "APIGroupList",
        ),
        Root {
            path: "/version/".into(),
            id: "getCodeVersion".into(),
            tag: "version".into(),
            description: "get the version information for this server",
            media: &["application/json"],
            schema: reference(VERSION_INFO),
        },
        Root {
            path: "/.well-known/openid-configuration/".into(),
            id: "getServiceAccountIssuerOpenIDConfiguration".into(),
            tag: "WellKnown".into(),
            description: "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            media: &["application/json"],
            schema: json!({ "type": "string" }),
        },
        Root {
            path: "/openid/v1/jwks/".into(),
            id: "getServiceAccountIssuerOpenIDKeyset".into(),
            tag: "openid".into(),
            description: "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            media: &["application/jwk-set+json"],
            schema: json!({ "type": "string" }),
        },
    ];
    let mut groups: Vec<String> = group_versions(catalogue)
        .into_iter()
        .map(|(group, _)| group)
        .collect();
    groups.dedup();
    roots.extend(groups.iter().filter(|group| !group.is_empty()).map(|group| {
        let word = group_word(group);
        Root::meta(
            format!("/apis/{group}/"),
            format!("get{word}APIGroup"),
            lower_first(&word),
            "get information of a group",
            "APIGroup",
        )
    }));
    roots
        .into_iter()
        .map(|root| {
            let name = root.path.trim_matches('/').to_string();
            (name, [(root.path.clone(), root.item())].into_iter().collect())
        })
        .collect()
}

/// The path that lists the resources of a group version.
pub(super) fn resources(prefix: &str, group: &str, version: &str) -> (String, Value) {
    let word = group_word(group);
    let mut characters = version.chars();
    let capital: String = characters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(characters)
        .collect();
    let root = Root::meta(
        format!("/{prefix}/"),
        format!("get{word}{capital}APIResources"),
        format!("{}_{version}", lower_first(&word)),
        "get available resources",
        "APIResourceList",
    );
    (root.path.clone(), root.item())
}

/// The schema of what no kind is.
pub(super) fn schema(name: &str) -> Option<Value> {
    (name == VERSION_INFO).then(|| {
        // Of its compatibility a server tells only if it knows.
        let optional = [
            ("emulationMajor", "EmulationMajor is the major version of the emulation version"),
            ("emulationMinor", "EmulationMinor is the minor version of the emulation version"),
            (
                "minCompatibilityMajor",
                "MinCompatibilityMajor is the major version of the minimum compatibility version",
            ),
            (
                "minCompatibilityMinor",
                "MinCompatibilityMinor is the minor version of the minimum compatibility version",
            ),
        ];
        let required = [
            ("major", "Major is the major version of the binary version"),
            ("minor", "Minor is the minor version of the binary version"),
            ("gitVersion", ""),
            ("gitCommit", ""),
            ("gitTreeState", ""),
            ("buildDate", ""),
            ("goVersion", ""),
            ("compiler", ""),
            ("platform", ""),
        ];
        let mut properties: Map<String, Value> = required
            .iter()
            .map(|(field, _)| (field.to_string(), json!({ "type": "string", "default": "" })))
            .chain(optional.iter().map(|(field, _)| (field.to_string(), json!({ "type": "string" }))))
            .collect();
        for (field, description) in required.iter().chain(&optional).filter(|(_, text)| !text.is_empty()) {
            if let Some(Value::Object(property)) = properties.get_mut(*field) {
                property.insert("description".into(), json!(description));
            }
        }
        let fields = required.map(|(field, _)| field);
        json!({
            "description": "Info contains versioning information. how we'll want to distribute that information.",
            "type": "object",
            "required": fields,
            "properties": properties,
        })
    })
}
