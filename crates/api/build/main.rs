//! Condenses the schemas of the built-in kinds into static data: the shape of every type as Rust source, and the OpenAPI
//! schemas with their descriptions as compressed text.

mod documents;
mod facts;
#[allow(unreachable_pub)]
#[path = "../src/schema/merge.rs"]
mod merge;
mod wire;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use k8s_openapi::Resource;
use merge::Merge;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// Collects the definitions, and which kind each of them is.
struct Collector {
    generator: SchemaGenerator,
    /// By group, version and kind: the name of the definition.
    kinds: BTreeMap<(String, String, String), String>,
    /// The definitions of lists, which the types do not have.
    lists: BTreeMap<String, Value>,
}

impl Collector {
    fn body<K: Resource + JsonSchema>(&mut self) {
        let name = self.plain::<K>();
        self.kinds
            .insert((K::GROUP.into(), K::VERSION.into(), K::KIND.into()), name);
    }

    fn kind<K: Resource + JsonSchema>(&mut self) {
        self.body::<K>();
        let (item, kind) = (K::schema_name(), format!("{}List", K::KIND));
        let name = format!("{item}List");
        let list = json!({
            "description": format!("{kind} is a list of {} objects.", K::KIND),
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"},
                "items": {"type": "array", "description": format!("The {}.", K::URL_PATH_SEGMENT), "items": {"$ref": format!("#/$defs/{item}")}},
                "kind": {"type": "string", "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
                "metadata": {"$ref": format!("#/$defs/{META}ListMeta"), "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"},
            },
            "required": ["items"],
        });
        self.lists.insert(name.clone(), list);
        self.kinds
            .insert((K::GROUP.into(), K::VERSION.into(), kind), name);
    }

    fn plain<T: JsonSchema>(&mut self) -> String {
        self.generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/kinds.rs");
    println!("cargo::rerun-if-changed=src/schema/merge.rs");
    println!("cargo::rerun-if-changed=src/schema/protobuf_fields.txt");
    println!("cargo::rerun-if-changed=src/schema/protobuf_fields_later.txt");
    println!("cargo::rerun-if-changed=src/schema/described.txt");
    println!("cargo::rerun-if-changed=src/schema/empty.txt");
    println!("cargo::rerun-if-changed=src/schema/defaults.txt");
    let mut collector = Collector {
        generator: SchemaSettings::draft2020_12().into_generator(),
        kinds: BTreeMap::new(),
        lists: BTreeMap::new(),
    };
    macro_rules! add {
        ($($kind:ty,)*) => {{ $(collector.kind::<$kind>();)* }};
    }
    macro_rules! serve {
        ($($version:ty,)*) => {{ $(collector.kind::<$version>();)* }};
    }
    include!("../src/kinds.rs");
    // What is never stored.
    collector.kind::<k8s_openapi::api::core::v1::ComponentStatus>();
    collector.body::<k8s_openapi::api::authentication::v1::SelfSubjectReview>();
    collector.body::<k8s_openapi::api::authentication::v1::TokenRequest>();
    collector.body::<k8s_openapi::api::authentication::v1::TokenReview>();
    collector.body::<k8s_openapi::api::authorization::v1::LocalSubjectAccessReview>();
    collector.body::<k8s_openapi::api::authorization::v1::SelfSubjectAccessReview>();
    collector.body::<k8s_openapi::api::authorization::v1::SelfSubjectRulesReview>();
    collector.body::<k8s_openapi::api::authorization::v1::SubjectAccessReview>();
    collector.body::<k8s_openapi::api::autoscaling::v1::Scale>();
    collector.body::<k8s_openapi::api::core::v1::Binding>();
    collector.body::<k8s_openapi::api::policy::v1::Eviction>();
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>();
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta>();
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>();

    // What discovery answers.
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup>();
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroupList>();
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList>();
    collector.plain::<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIVersions>();

    let Collector {
        mut generator,
        mut kinds,
        lists,
    } = collector;
    let mut definitions: BTreeMap<String, Value> = generator.take_definitions(false).into_iter().collect();
    definitions.extend(lists);

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let numbers = wire::Numbers::parse(concat!(
        include_str!("../src/schema/protobuf_fields.txt"),
        include_str!("../src/schema/protobuf_fields_later.txt"),
    ));
    let (table, blob) = documents::packed(&definitions, &kinds, &numbers)?;
    std::fs::write(out.join("openapi.rs"), table)?;
    std::fs::write(out.join("described.rs"), descriptions(&definitions)?)?;
    std::fs::write(out.join("openapi.bin"), blob)?;
    // What no document tells of: the metadata alone, of whatever kind.
    for (kind, inner) in [
        (
            "PartialObjectMetadata",
            json!({"metadata": {"$ref": format!("#/$defs/{META}ObjectMeta")}}),
        ),
        (
            "PartialObjectMetadataList",
            json!({
                "metadata": {"$ref": format!("#/$defs/{META}ListMeta")},
                "items": {"type": "array", "items": {"$ref": format!("#/$defs/{META}PartialObjectMetadata")}},
            }),
        ),
    ] {
        let name = format!("{META}{kind}");
        definitions.insert(name.clone(), json!({"properties": inner}));
        kinds.insert(("meta.k8s.io".into(), "v1".into(), kind.into()), name.clone());
        // Of the older version only the list is another message.
        let older = name.replace(".v1.", ".v1beta1.");
        if kind.ends_with("List") {
            definitions.insert(older.clone(), json!({"properties": inner}));
            kinds.insert(("meta.k8s.io".into(), "v1beta1".into(), kind.into()), older);
        }
    }
    discovery(&mut definitions, &mut kinds);
    std::fs::write(out.join("schema.rs"), shapes(&definitions, &kinds, &numbers)?)?;
    Ok(())
}

/// The aggregated documents of discovery, which no document tells of either.
fn discovery(
    definitions: &mut BTreeMap<String, Value>,
    kinds: &mut BTreeMap<(String, String, String), String>,
) {
    const DISCOVERY: &str = "io.k8s.api.apidiscovery.v2.";
    let text = || json!({"type": "string"});
    let list = |items: Value| json!({"type": "array", "items": items});
    let of = |name: &str| json!({"$ref": format!("#/$defs/{DISCOVERY}{name}")});
    let meta = |name: &str| json!({"$ref": format!("#/$defs/{META}{name}")});
    for (name, properties) in [
        (
            "APIGroupDiscoveryList",
            json!({"metadata": meta("ListMeta"), "items": list(of("APIGroupDiscovery"))}),
        ),
        (
            "APIGroupDiscovery",
            json!({"metadata": meta("ObjectMeta"), "versions": list(of("APIVersionDiscovery"))}),
        ),
        (
            "APIVersionDiscovery",
            json!({"version": text(), "resources": list(of("APIResourceDiscovery")), "freshness": text()}),
        ),
        (
            "APIResourceDiscovery",
            json!({
                "resource": text(),
                "responseKind": meta("GroupVersionKind"),
                "scope": text(),
                "singularResource": text(),
                "verbs": list(text()),
                "shortNames": list(text()),
                "categories": list(text()),
                "subresources": list(of("APISubresourceDiscovery")),
            }),
        ),
        (
            "APISubresourceDiscovery",
            json!({"subresource": text(), "responseKind": meta("GroupVersionKind"), "verbs": list(text())}),
        ),
    ] {
        definitions.insert(format!("{DISCOVERY}{name}"), json!({"properties": properties}));
    }
    definitions.insert(
        format!("{META}GroupVersionKind"),
        json!({"properties": {"group": text(), "version": text(), "kind": text()}}),
    );
    kinds.insert(
        (
            "apidiscovery.k8s.io".into(),
            "v2".into(),
            "APIGroupDiscoveryList".into(),
        ),
        format!("{DISCOVERY}APIGroupDiscoveryList"),
    );
}

/// The definitions that have fields, and those of them that are kinds, as Rust source.
fn shapes(
    definitions: &BTreeMap<String, Value>,
    kinds: &BTreeMap<(String, String, String), String>,
    numbers: &wire::Numbers<'_>,
) -> Result<String, Box<dyn Error>> {
    let ids: BTreeMap<&str, usize> = definitions
        .iter()
        .filter(|(_, schema)| schema.get("properties").is_some())
        .enumerate()
        .map(|(id, (name, _))| (name.as_str(), id))
        .collect();
    let empties: BTreeMap<&str, BTreeMap<&str, String>> = include_str!("../src/schema/empty.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, fields)| (name, fields.split(' ').map(empty_of).collect()))
        .collect();
    let mut text = String::new();
    writeln!(text, "static DEFINITIONS: [Definition; {}] = [", ids.len())?;
    for name in ids.keys() {
        let schema = definitions.get(*name).unwrap_or(&Value::Null);
        writeln!(text, "Definition {{ name: {name:?}, fields: &[")?;
        for (field, schema_of_field) in sorted(properties(schema)) {
            let required = schema
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|required| required.iter().any(|name| name == field));
            let type_ = type_of(schema_of_field, &ids);
            let told = empties.get(*name).and_then(|fields| fields.get(field.as_str()));
            writeln!(
                text,
                "Field {{ name: {field:?}, type_: {type_}, merge: {}, required: {required}, empty: {} }},",
                source_of(merge_of(name, field, schema_of_field)),
                told.cloned()
                    .unwrap_or_else(|| usual_empty(&type_, required).into()),
            )?;
        }
        let places = sorted(properties(schema)).into_iter().enumerate();
        let places = places
            .map(|(place, (field, _))| (wire::plain(field), place))
            .collect();
        writeln!(text, "], wire: &[{}] }},", numbers.table(name, &places))?;
    }
    writeln!(
        text,
        "];\nstatic KINDS: [((&str, &str, &str), DefinitionId); {}] = [",
        kinds.len()
    )?;
    for ((group, version, kind), name) in kinds {
        let id = ids
            .get(name.as_str())
            .ok_or_else(|| format!("{name} has no fields"))?;
        writeln!(text, "(({group:?}, {version:?}, {kind:?}), DefinitionId({id})),")?;
    }
    writeln!(text, "];")?;
    Ok(text)
}

/// A field of `empty.txt`, and what Go does with it when it is empty, as Rust source.
fn empty_of(field: &str) -> (&str, String) {
    match field.split_once('=') {
        Some((field, json)) => (field, format!("Empty::Written({json:?})")),
        None if field.ends_with('-') => (field.trim_end_matches('-'), "Empty::Omitted".into()),
        None => (field.trim_end_matches('&'), "Empty::Kept".into()),
    }
}

/// What Go does with an empty field of which `empty.txt` says nothing: required ones have no `omitempty`, the others do.
fn usual_empty(type_: &str, required: bool) -> &'static str {
    let zero = match type_.split('(').next().unwrap_or_default() {
        "Type::String" => r#"Empty::Written("\"\"")"#,
        "Type::Integer" | "Type::Long" | "Type::Number" => r#"Empty::Written("0")"#,
        "Type::Boolean" => r#"Empty::Written("false")"#,
        "Type::Bytes" | "Type::List" | "Type::Map" => r#"Empty::Written("null")"#,
        _ => return "Empty::Kept",
    };
    if required { zero } else { "Empty::Omitted" }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// By the fields' names as bytes, which is what a binary search compares.
fn sorted<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>) -> BTreeMap<&'a String, &'a Value> {
    fields.collect()
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

fn type_of(schema: &Value, ids: &BTreeMap<&str, usize>) -> String {
    if let Some(name) = reference(schema) {
        return match (name, ids.get(name)) {
            (QUANTITY, _) => "Type::Quantity".into(),
            (INT_OR_STRING, _) => "Type::IntOrString".into(),
            (name, _) if name == format!("{META}Time") => "Type::Time".into(),
            (name, _) if name == format!("{META}MicroTime") => "Type::MicroTime".into(),
            (_, Some(id)) => format!("Type::Object(DefinitionId({id}))"),
            (_, None) => "Type::Any".into(),
        };
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let inner = |key: &str| schema.get(key).map(|inner| type_of(inner, ids));
    match (text("type"), text("format")) {
        (Some("string"), Some("byte")) => "Type::Bytes".into(),
        (Some("string"), _) => "Type::String".into(),
        (Some("integer"), Some("int64")) => "Type::Long".into(),
        (Some("integer"), _) => "Type::Integer".into(),
        (Some("number"), _) => "Type::Number".into(),
        (Some("boolean"), _) => "Type::Boolean".into(),
        (Some("array"), _) => {
            inner("items").map_or("Type::Any".into(), |item| format!("Type::List(&{item})"))
        }
        (Some("object"), _) => {
            inner("additionalProperties").map_or("Type::Any".into(), |value| format!("Type::Map(&{value})"))
        }
        _ => "Type::Any".into(),
    }
}

fn merge_of(definition: &str, field: &str, schema: &Value) -> Merge {
    let is_list = schema.get("type").and_then(Value::as_str) == Some("array");
    let is_atomic = reference(schema).is_some_and(is_atomic);
    let short = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    let is_atomic = is_atomic && !facts::GRANULAR.contains(&(short, field));
    match facts::of(definition, field) {
        Merge::None if is_list || is_atomic => Merge::Atomic,
        merge => merge,
    }
}

fn is_atomic(definition: &str) -> bool {
    facts::ATOMIC.contains(&definition.strip_prefix("io.k8s.").unwrap_or(definition))
}

fn source_of(merge: Merge) -> String {
    match merge {
        Merge::Map { patch_key, keys } => {
            format!("Merge::Map {{ patch_key: {patch_key:?}, keys: &{keys:?} }}")
        }
        other => format!("Merge::{other:?}"),
    }
}

/// The descriptions of the fields that tables show (`src/schema/described.txt`), as Rust source.
fn descriptions(definitions: &BTreeMap<String, Value>) -> Result<String, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for line in include_str!("../src/schema/described.txt").lines() {
        let mut words = line.split(' ');
        let definition = words.next().unwrap_or_default();
        for field in words {
            let text = ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis."]
                .iter()
                .find_map(|group| definitions.get(&format!("{group}{definition}")))
                .and_then(|schema| schema.pointer(&format!("/properties/{field}/description")))
                .and_then(Value::as_str)
                .ok_or_else(|| format!("described.txt: {definition}.{field} is not described"))?;
            found.insert((definition, field), text);
        }
    }
    Ok(format!(
        "static DESCRIBED: [((&str, &str), &str); {}] = {:?};",
        found.len(),
        found.into_iter().collect::<Vec<_>>()
    ))
}
