//! Values as upstream's internal types hold them, which errors show: under the names of Go's fields and in their order,
//! with all that is not set; and how two of them differ.

mod difference;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::field::Internal;
use crate::schema::{self, Definition, Type};

/// The fields of internal types, in order: a type a line. `*` marks pointers; `=name` what JSON calls a field whose name
/// is not the same; `@metadata` the metadata, whose fields stand among the others.
const TYPES: &str = include_str!("types.txt");

/// What a pod's spec says of the host, and its internal type in the security context.
const OF_HOST: [&str; 5] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "hostUsers",
];

/// A value as its internal type: the core group's `Toleration`, another one's `batch.v1.PodFailurePolicy`.
pub(crate) fn of(type_: &str, value: &impl Serialize) -> Internal {
    let value = serde_json::to_value(value).unwrap_or_default();
    whole(type_, value)
}

/// A list of such values.
pub(crate) fn list(type_: &str, values: &[impl Serialize]) -> Internal {
    Internal::Items(values.iter().map(|value| of(type_, value)).collect())
}

/// How a value that was differs from one that is wanted: as `diff -u` would tell of their JSON.
pub(crate) fn difference(type_: &str, was: &impl Serialize, wanted: &impl Serialize) -> String {
    difference::unified(&text(&of(type_, was)), &text(&of(type_, wanted)))
}

/// As Go's `json.MarshalIndent` with an indent of one blank.
fn text(value: &Internal) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b" "));
    if value.serialize(&mut serializer).is_err() {
        return String::new();
    }
    let text = String::from_utf8(bytes).unwrap_or_default();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn whole(type_: &str, mut value: Value) -> Internal {
    if type_ == "PodSpec"
        && let Some(spec) = value.as_object_mut()
    {
        let host: Map<String, Value> = OF_HOST
            .iter()
            .filter_map(|name| Some(((*name).to_string(), spec.remove(*name)?)))
            .collect();
        let context = spec.entry("securityContext").or_insert_with(|| Map::new().into());
        if let Some(context) = context.as_object_mut() {
            context.extend(host);
        }
    }
    // The published type has the fields of this one among its own.
    let (group, type_) = type_.rsplit_once('.').unwrap_or(("core.v1", type_));
    let published = match type_ {
        "PersistentVolumeSource" => "PersistentVolumeSpec",
        other => other,
    };
    let definition = schema::definition(&format!("io.k8s.api.{group}.{published}"));
    object(type_, definition, value)
}

/// One field of an internal type.
struct Field {
    name: &'static str,
    in_json: &'static str,
    is_pointer: bool,
}

fn fields(type_: &str) -> Option<impl Iterator<Item = Field>> {
    let line = TYPES.lines().find(|line| line.split(' ').next() == Some(type_))?;
    Some(line.split(' ').skip(1).map(|word| {
        let (word, is_pointer) = match word.strip_suffix('*') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let (name, in_json) = word.split_once('=').unwrap_or((word, word));
        Field {
            name,
            in_json,
            is_pointer,
        }
    }))
}

fn object(type_: &str, definition: Option<&Definition>, mut value: Value) -> Internal {
    let Some(fields) = fields(type_) else {
        return Internal::Plain(value);
    };
    let mut take = |name: &str| -> Value {
        let Some(all) = value.as_object_mut() else {
            return Value::Null;
        };
        let key = all.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        key.and_then(|key| all.remove(&key)).unwrap_or_default()
    };
    let mut shown = Vec::new();
    for field in fields {
        if field.name == "@metadata" {
            shown.extend(metadata(take("metadata")));
            continue;
        }
        let given = take(field.in_json);
        let known = definition.and_then(|definition| {
            let mut all = definition.fields.iter();
            all.find(|known| known.name.eq_ignore_ascii_case(field.in_json))
        });
        let value = match known {
            // What the published type does not have here are flags of the host.
            None if given.is_null() && !field.is_pointer => Internal::Plain(false.into()),
            None => Internal::Plain(given),
            Some(known) => of_type(known.type_, given, field.is_pointer),
        };
        shown.push((field.name, value));
    }
    Internal::Fields(shown)
}

/// What is set of the metadata of an object, as everyone sees it.
fn metadata(value: Value) -> impl Iterator<Item = (&'static str, Internal)> {
    let definition = schema::definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let known = definition.into_iter().flat_map(|definition| definition.fields);
    known.filter_map(move |field| Some((field.name, Internal::Plain(value.get(field.name)?.clone()))))
}

fn of_type(type_: Type, value: Value, is_pointer: bool) -> Internal {
    match (type_, value) {
        (Type::Object(id), value) if !value.is_null() || !is_pointer => {
            let definition = id.get();
            let name = definition.name.rsplit('.').next().unwrap_or_default();
            object(name, Some(definition), value)
        }
        (Type::List(element), Value::Array(list)) => Internal::Items(
            list.into_iter()
                .map(|value| of_type(*element, value, false))
                .collect(),
        ),
        (Type::String, Value::Null) if !is_pointer => Internal::Plain("".into()),
        (Type::Integer | Type::Long | Type::Number | Type::IntOrString, Value::Null) if !is_pointer => {
            Internal::Plain(0.into())
        }
        (Type::Boolean, Value::Null) if !is_pointer => Internal::Plain(false.into()),
        (Type::Quantity, Value::Null) if !is_pointer => Internal::Plain("0".into()),
        (_, value) => Internal::Plain(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_of_the_types_is_one_of_the_published_types_or_of_the_host() {
        for line in TYPES.lines() {
            let type_ = line.split(' ').next().unwrap();
            if type_ == "PersistentVolumeSource" {
                continue;
            }
            let groups = [
                "core",
                "batch",
                "networking",
                "storage",
                "resource",
                "flowcontrol",
                "certificates",
            ];
            let definition = groups
                .iter()
                .find_map(|group| schema::definition(&format!("io.k8s.api.{group}.v1.{type_}")))
                .expect(type_);
            let named: Vec<&str> = fields(type_).unwrap().map(|field| field.in_json).collect();
            for name in &named {
                let is_known = definition
                    .fields
                    .iter()
                    .any(|field| field.name.eq_ignore_ascii_case(name));
                let is_of_host = OF_HOST.iter().any(|flag| flag.eq_ignore_ascii_case(name));
                // These two the beta has alone.
                let is_of_beta = ["PKIXPublicKey", "ProofOfPossession"].contains(name);
                let is_fine = is_known || is_of_host || is_of_beta || *name == "@metadata";
                assert!(is_fine, "{type_}.{name}");
            }
            for field in definition.fields {
                let is_shown = named.iter().any(|name| name.eq_ignore_ascii_case(field.name));
                let is_elsewhere =
                    OF_HOST.contains(&field.name) || ["serviceAccount", "metadata"].contains(&field.name);
                assert!(is_shown || is_elsewhere, "{type_} lacks {}", field.name);
            }
        }
    }

    #[test]
    fn a_value_has_gos_names_and_order_and_all_that_is_not_set() {
        let toleration = of("Toleration", &json!({"key": "a", "tolerationSeconds": 3}));
        assert_eq!(
            serde_json::to_string(&toleration).unwrap(),
            r#"{"Key":"a","Operator":"","Value":"","Effect":"","TolerationSeconds":3}"#
        );
        let port = of("Probe", &json!({"tcpSocket": {"port": "http"}}));
        assert_eq!(
            serde_json::to_string(&port).unwrap(),
            r#"{"Exec":null,"HTTPGet":null,"TCPSocket":{"Port":"http","Host":""},"GRPC":null,"InitialDelaySeconds":0,"TimeoutSeconds":0,"PeriodSeconds":0,"SuccessThreshold":0,"FailureThreshold":0,"TerminationGracePeriodSeconds":null}"#
        );
        let spec =
            serde_json::to_value(of("PodSpec", &json!({"hostNetwork": true, "containers": []}))).unwrap();
        assert_eq!(spec["SecurityContext"]["HostNetwork"], true);
        assert_eq!(spec["SecurityContext"]["HostPID"], false);
        assert_eq!(spec["Containers"], json!([]));
        assert_eq!(spec["Volumes"], Value::Null);
    }

    #[test]
    fn a_difference_is_told_as_diff_tells_it() {
        let was = json!({"key": "a", "operator": "Exists", "effect": "<x>"});
        let wanted = json!({"key": "b", "operator": "Exists", "effect": "<x>"});
        assert_eq!(
            difference("Toleration", &was, &wanted),
            "@@ -1,5 +1,5 @@\n {\n- \"Key\": \"a\",\n+ \"Key\": \"b\",\n  \"Operator\": \"Exists\",\n  \"Value\": \"\",\n  \
             \"Effect\": \"\\u003cx\\u003e\",\n"
        );
        assert_eq!(difference("Toleration", &was, &was), "");
    }
}
