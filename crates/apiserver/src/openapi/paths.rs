//! The paths of an OpenAPI document: one operation for each verb of each resource.

use serde_json::{Map, Value, json};
use skiff_api::{KindInfo, Scope, Subresource};

use crate::discovery::{served, subresource_facts};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Adds all paths of a kind. `name` is the name of its schema.
pub(super) fn add(paths: &mut Map<String, Value>, prefix: &str, info: &KindInfo, name: &str) {
    let plural = &info.plural;
    let namespaced = info.scope == Scope::Namespaced;
    let collection = if namespaced {
        format!("/{prefix}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("/{prefix}/{plural}")
    };
    let has = |verb: &str| info.verbs.contains(&verb);
    let resource = Subject {
        info,
        group: &info.group,
        version: &info.version,
        kind: &info.kind,
        suffix: "",
        schema: name.to_string(),
    };
    let list_schema = format!("{name}List");

    let mut at_collection = Map::new();
    if has("list") {
        at_collection.insert("get".into(), resource.operation("list", &list_schema, None, LIST));
        if namespaced {
            let everywhere = json!({ "get": resource.everywhere(&list_schema) });
            paths.insert(format!("/{prefix}/{plural}"), everywhere);
        }
    }
    if has("create") {
        let operation = resource.operation("post", name, Some(name), WRITE);
        at_collection.insert("post".into(), operation);
    }
    if has("deletecollection") {
        let operation = resource.operation("deletecollection", STATUS, Some(DELETE_OPTIONS), LIST);
        at_collection.insert("delete".into(), operation);
    }
    insert(
        paths,
        collection.clone(),
        at_collection,
        path_parameters(namespaced, false),
    );

    let item = format!("{collection}/{{name}}");
    let mut at_item = Map::new();
    let mut at = |verb: &str, method: &str, answer: &str, body: Option<&str>, parameters: &[Parameter]| {
        if has(verb) {
            at_item.insert(
                method.into(),
                resource.operation(method, answer, body, parameters),
            );
        }
    };
    at("get", "get", name, None, &[]);
    at("update", "put", name, Some(name), WRITE);
    at("patch", "patch", name, Some(PATCH), PATCH_PARAMETERS);
    let deleted = if info.returns_deleted { name } else { STATUS };
    at("delete", "delete", deleted, Some(DELETE_OPTIONS), DELETE);
    insert(paths, item.clone(), at_item, path_parameters(namespaced, true));

    for subresource in served(info) {
        let mut at_subresource = Map::new();
        let part = Subject::of(info, name, subresource);
        let schema = part.schema.as_str();
        for verb in subresource_facts(subresource).verbs {
            let (method, body, parameters): (&str, Option<&str>, &[Parameter]) = match *verb {
                "get" => ("get", None, &[]),
                "create" => ("post", Some(schema), WRITE),
                "update" => ("put", Some(schema), WRITE),
                "patch" => ("patch", Some(PATCH), PATCH_PARAMETERS),
                _ => continue,
            };
            at_subresource.insert(method.into(), part.operation(method, schema, body, parameters));
        }
        let path = format!("{item}/{}", subresource.name());
        insert(paths, path, at_subresource, path_parameters(namespaced, true));
    }
}

fn insert(
    paths: &mut Map<String, Value>,
    path: String,
    mut item: Map<String, Value>,
    parameters: Vec<Value>,
) {
    if !item.is_empty() {
        item.insert("parameters".into(), parameters.into());
        paths.insert(path, item.into());
    }
}

/// What operations are about: a kind, or what one of its subresources shows.
struct Subject<'a> {
    info: &'a KindInfo,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    /// The subresource's name, as operation ids end with it.
    suffix: &'a str,
    schema: String,
}

impl<'a> Subject<'a> {
    fn of(info: &'a KindInfo, name: &str, subresource: Subresource) -> Self {
        let facts = subresource_facts(subresource);
        let (group, version) = facts.group_version.unwrap_or((&info.group, &info.version));
        let schema = match subresource {
            Subresource::Scale => "io.k8s.api.autoscaling.v1.Scale",
            Subresource::Binding => "io.k8s.api.core.v1.Binding",
            Subresource::Eviction => "io.k8s.api.policy.v1.Eviction",
            Subresource::Token => "io.k8s.api.authentication.v1.TokenRequest",
            _ => name,
        };
        Self {
            info,
            group,
            version,
            kind: facts.kind.unwrap_or(&info.kind),
            suffix: subresource.name(),
            schema: schema.to_string(),
        }
    }

    fn operation(&self, action: &str, answer: &str, body: Option<&str>, parameters: &[Parameter]) -> Value {
        let scope = match self.info.scope {
            Scope::Namespaced => "Namespaced",
            Scope::Cluster => "",
        };
        self.operation_in(scope, action, answer, body, parameters)
    }

    /// The list over all namespaces.
    fn everywhere(&self, answer: &str) -> Value {
        self.operation_in("", "list", answer, None, LIST)
    }

    fn operation_in(
        &self,
        scope: &str,
        action: &str,
        answer: &str,
        body: Option<&str>,
        parameters: &[Parameter],
    ) -> Value {
        let verb = match action {
            "get" => "read",
            "post" => "create",
            "put" => "replace",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let group = group_word(&self.info.group);
        let mut tag = format!("{group}_{}", self.info.version);
        if let Some(first) = tag.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        let across = if scope.is_empty() && self.info.scope == Scope::Namespaced {
            "ForAllNamespaces"
        } else {
            ""
        };
        let id = format!(
            "{verb}{group}{}{scope}{}{}{across}",
            capitalized(&self.info.version),
            self.info.kind,
            capitalized(self.suffix)
        );
        let code = if action == "post" { "201" } else { "200" };
        let answer = json!({
            "description": if code == "201" { "Created" } else { "OK" },
            "content": {
                "application/json": { "schema": reference(answer) },
                "application/yaml": { "schema": reference(answer) },
            },
        });
        let mut operation = json!({
            "description": format!("{verb} {}", described(self.info, self.suffix)),
            "operationId": id,
            "tags": [tag],
            "parameters": parameters.iter().map(Parameter::json).collect::<Vec<_>>(),
            "responses": { code: answer, "401": { "description": "Unauthorized" } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": self.group,
                "version": self.version,
                "kind": self.kind,
            },
        });
        if let (Some(body), Some(operation)) = (body, operation.as_object_mut()) {
            let media: &[&str] = if body == PATCH {
                &[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ]
            } else {
                &["*/*"]
            };
            let content: Map<String, Value> = media
                .iter()
                .map(|media| (media.to_string(), json!({ "schema": reference(body) })))
                .collect();
            operation.insert("requestBody".into(), json!({ "content": content }));
        }
        operation
    }
}

/// A group's name as a word of operation ids: `RbacAuthorization`.
pub(super) fn group_word(group: &str) -> String {
    if group.is_empty() {
        return "Core".into();
    }
    let own = group.strip_suffix(".k8s.io").unwrap_or(group);
    own.split('.').map(capitalized).collect()
}

fn described(info: &KindInfo, suffix: &str) -> String {
    if suffix.is_empty() {
        format!("the {} resource", info.kind)
    } else {
        format!("{suffix} of the {} resource", info.kind)
    }
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

fn path_parameters(namespaced: bool, named: bool) -> Vec<Value> {
    let parameter = |name: &str, description: &str| {
        json!({
            "name": name,
            "in": "path",
            "description": description,
            "required": true,
            "schema": { "type": "string", "uniqueItems": true },
        })
    };
    let mut parameters = Vec::new();
    if named {
        parameters.push(parameter("name", "name of the object"));
    }
    if namespaced {
        parameters.push(parameter(
            "namespace",
            "object name and auth scope, such as for teams and projects",
        ));
    }
    parameters.push(PRETTY.json());
    parameters
}

/// A query parameter.
pub(super) struct Parameter {
    name: &'static str,
    type_: &'static str,
    description: &'static str,
}

impl Parameter {
    const fn new(name: &'static str, type_: &'static str, description: &'static str) -> Self {
        Self {
            name,
            type_,
            description,
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "in": "query",
            "description": self.description,
            "schema": { "type": self.type_, "uniqueItems": true },
        })
    }
}

const PRETTY: Parameter = Parameter::new(
    "pretty",
    "string",
    "If 'true', then the output is pretty printed.",
);
const DRY_RUN: Parameter = Parameter::new(
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. The only valid value is All.",
);
const FIELD_MANAGER: Parameter = Parameter::new(
    "fieldManager",
    "string",
    "A name associated with the actor or entity that is making these changes; at most 128 characters.",
);
const FIELD_VALIDATION: Parameter = Parameter::new(
    "fieldValidation",
    "string",
    "What the server does with unknown or duplicate fields: Ignore drops them, Warn drops them with a warning, Strict refuses the request.",
);
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH_PARAMETERS: &[Parameter] = &[
    DRY_RUN,
    FIELD_MANAGER,
    FIELD_VALIDATION,
    Parameter::new("force", "boolean", "Force is going to \"force\" Apply requests."),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    Parameter::new(
        "gracePeriodSeconds",
        "integer",
        "The duration in seconds before the object should be deleted; zero is at once.",
    ),
    Parameter::new(
        "orphanDependents",
        "boolean",
        "Deprecated: use propagationPolicy.",
    ),
    Parameter::new(
        "propagationPolicy",
        "string",
        "Whether and how garbage collection is performed: Orphan, Background or Foreground.",
    ),
];
const LIST: &[Parameter] = &[
    Parameter::new(
        "allowWatchBookmarks",
        "boolean",
        "Requests watch events with type BOOKMARK.",
    ),
    Parameter::new("continue", "string", "Where the page before this one ended."),
    Parameter::new(
        "fieldSelector",
        "string",
        "Restricts the objects to those whose fields match; defaults to everything.",
    ),
    Parameter::new(
        "labelSelector",
        "string",
        "Restricts the objects to those whose labels match; defaults to everything.",
    ),
    Parameter::new("limit", "integer", "The largest number of objects to return."),
    Parameter::new(
        "resourceVersion",
        "string",
        "A constraint on what resource versions a request may be served from.",
    ),
    Parameter::new(
        "resourceVersionMatch",
        "string",
        "How resourceVersion is applied: Exact or NotOlderThan.",
    ),
    Parameter::new(
        "sendInitialEvents",
        "boolean",
        "Begins a watch with the objects that are there, and a bookmark when they are complete.",
    ),
    Parameter::new("timeoutSeconds", "integer", "How long the call may last."),
    Parameter::new(
        "watch",
        "boolean",
        "Watch for changes to the described resources.",
    ),
];
