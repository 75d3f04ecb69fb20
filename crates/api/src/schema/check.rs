//! Unknown fields, duplicate fields and wrong types, found in one pass over the JSON text.
//!
//! Nothing of the text is kept but the path to where the pass is. What it reports is what Kubernetes' strict decoder
//! reports (`sigs.k8s.io/json`), word for word.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Definition, Type};
use crate::quantity::Quantity;

/// As many findings as upstream reports.
const MAX_FINDINGS: usize = 100;

/// What is wrong with a body before it is decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// `unknown field "spec.foo"`, as strict decoding words it.
    pub unknown: Vec<String>,
    /// `duplicate field "spec.replicas"`.
    pub duplicate: Vec<String>,
    /// The first value of a wrong type.
    pub wrong_type: Option<WrongType>,
}

/// A value of a wrong type, in the words of both that may find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongType {
    /// Go's JSON decoder:
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    pub decoded: String,
    /// Upstream's converter of trees, by which strategic merge patches come to be objects: `unrecognized type: int32`.
    pub converted: String,
}

/// Checks a body against the shape of its kind.
///
/// # Errors
/// When the text is not JSON.
pub fn check(definition: &'static Definition, json: &[u8]) -> Result<Findings, serde_json::Error> {
    let mut pass = Pass {
        findings: Findings::default(),
        path: Vec::new(),
        owners: Vec::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let root = Shape::Definition(definition);
    Seed {
        pass: &mut pass,
        shape: root,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(pass.findings)
}

/// What is expected at some place.
#[derive(Clone, Copy)]
enum Shape {
    Definition(&'static Definition),
    Type(Type),
}

impl Shape {
    fn of(type_: Type) -> Self {
        match type_ {
            Type::Object(id) => Self::Definition(id.get()),
            other => Self::Type(other),
        }
    }

    /// As Go names it.
    fn go_type(self) -> String {
        match self {
            Self::Definition(definition) => {
                let mut parts = definition.name.rsplit('.');
                let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{version}.{name}")
            }
            Self::Type(type_) => match type_ {
                Type::String => "string".into(),
                Type::Integer => "int32".into(),
                Type::Long => "int64".into(),
                Type::Number => "float64".into(),
                Type::Boolean => "bool".into(),
                Type::Bytes => "[]uint8".into(),
                Type::Time => "v1.Time".into(),
                Type::MicroTime => "v1.MicroTime".into(),
                Type::Quantity => "resource.Quantity".into(),
                Type::IntOrString => "intstr.IntOrString".into(),
                Type::Any | Type::Object(_) => "interface {}".into(),
                Type::List(item) => format!("[]{}", Self::of(*item).go_type()),
                Type::Map(Type::Quantity) => "v1.ResourceList".into(),
                Type::Map(value) => format!("map[string]{}", Self::of(*value).go_type()),
            },
        }
    }
}

/// Fields whose text is of a type of its own in Go: the definition, the field, the type.
const NAMED_TEXTS: &[(&str, &str, &str)] = &[
    ("Container", "imagePullPolicy", "v1.PullPolicy"),
    (
        "Container",
        "terminationMessagePolicy",
        "v1.TerminationMessagePolicy",
    ),
    ("ContainerPort", "protocol", "v1.Protocol"),
    ("DeploymentStrategy", "type", "v1.DeploymentStrategyType"),
    ("EndpointSlice", "addressType", "v1.AddressType"),
    ("HTTPGetAction", "scheme", "v1.URIScheme"),
    ("LabelSelectorRequirement", "operator", "v1.LabelSelectorOperator"),
    ("NodeSelectorRequirement", "operator", "v1.NodeSelectorOperator"),
    ("ObjectMeta", "uid", "types.UID"),
    ("OwnerReference", "uid", "types.UID"),
    ("PodSpec", "dnsPolicy", "v1.DNSPolicy"),
    ("PodSpec", "restartPolicy", "v1.RestartPolicy"),
    ("PodStatus", "phase", "v1.PodPhase"),
    ("Secret", "type", "v1.SecretType"),
    ("ServicePort", "protocol", "v1.Protocol"),
    ("ServiceSpec", "sessionAffinity", "v1.ServiceAffinity"),
    ("ServiceSpec", "type", "v1.ServiceType"),
    ("Taint", "effect", "v1.TaintEffect"),
    ("Toleration", "effect", "v1.TaintEffect"),
    ("Toleration", "operator", "v1.TolerationOperator"),
    (
        "TopologySpreadConstraint",
        "whenUnsatisfiable",
        "v1.UnsatisfiableConstraintAction",
    ),
];

enum Segment {
    Field(&'static str),
    Key(String),
    Index(usize),
}

struct Pass {
    findings: Findings,
    path: Vec<Segment>,
    /// The definitions whose fields are on the path, outermost first.
    owners: Vec<&'static Definition>,
}

impl Pass {
    /// `spec.containers[0].name`
    fn place(&self, last: &str) -> String {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Index(index) => text.push_str(&format!("[{index}]")),
                Segment::Field(name) => push(&mut text, name),
                Segment::Key(key) => push(&mut text, key),
            }
        }
        push(&mut text, last);
        text
    }

    fn unknown(&mut self, field: &str) {
        let text = format!("unknown field {:?}", self.place(field));
        add(&mut self.findings.unknown, text);
    }

    fn duplicate(&mut self, field: &str) {
        let text = format!("duplicate field {:?}", self.place(field));
        add(&mut self.findings.duplicate, text);
    }

    /// Only the first is reported, as Go does.
    fn wrong(&mut self, shape: Shape, found: impl fmt::Display, wanted: &str) {
        if self.findings.wrong_type.is_some() {
            return;
        }
        // Go's context is the innermost struct and the fields that lead there; indices and map keys are not in it.
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|segment| match segment {
                Segment::Field(name) => Some(*name),
                _ => None,
            })
            .collect();
        let owner = self.owners.last().and_then(|owner| owner.name.rsplit('.').next());
        let place = match owner {
            Some(owner) if !fields.is_empty() => format!("struct field {owner}.{}", fields.join(".")),
            _ => "value".into(),
        };
        let found = found.to_string();
        self.findings.wrong_type = Some(WrongType {
            converted: unconvertible(shape, &found, wanted),
            decoded: format!("json: cannot unmarshal {found} into Go {place} of type {wanted}"),
        });
    }

    fn wrong_value(&mut self, message: impl fmt::Display) {
        self.findings.wrong_type.get_or_insert_with(|| WrongType {
            decoded: message.to_string(),
            converted: message.to_string(),
        });
    }

    fn text(&mut self, shape: Shape, text: &str) {
        match shape {
            Shape::Type(Type::String | Type::IntOrString | Type::Any) => {}
            Shape::Type(Type::Quantity) => {
                if let Err(error) = text.trim().parse::<Quantity>() {
                    self.wrong_value(error);
                }
            }
            Shape::Type(Type::Time) => {
                if let Err(message) = check_time(text, "2006-01-02T15:04:05Z07:00") {
                    self.wrong_value(message);
                }
            }
            Shape::Type(Type::MicroTime) => {
                if let Err(message) = check_time(text, "2006-01-02T15:04:05.000000Z07:00") {
                    self.wrong_value(message);
                }
            }
            Shape::Type(Type::Bytes) => {
                if let Err(error) = base64::engine::general_purpose::STANDARD.decode(text) {
                    let at = match error {
                        base64::DecodeError::InvalidByte(at, _)
                        | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                        _ => text.len(),
                    };
                    self.wrong_value(format_args!("illegal base64 data at input byte {at}"));
                }
            }
            other => self.wrong(other, "string", &other.go_type()),
        }
    }

    /// What Go calls the type of the value at hand: some texts have types of their own.
    fn go_type(&self, shape: Shape) -> String {
        let owner = self.owners.last().and_then(|owner| owner.name.rsplit('.').next());
        match (shape, owner, self.path.last()) {
            (Shape::Type(Type::String), Some(owner), Some(Segment::Field(field))) => NAMED_TEXTS
                .iter()
                .find(|(of, name, _)| *of == owner && name == field)
                .map_or_else(|| shape.go_type(), |(_, _, type_)| (*type_).into()),
            _ => shape.go_type(),
        }
    }

    fn number(&mut self, shape: Shape, number: Number) {
        match shape {
            Shape::Type(Type::Number | Type::Any | Type::Quantity) => {}
            Shape::Type(Type::Long) if number.fits_long() => {}
            Shape::Type(Type::Integer | Type::IntOrString) if number.fits_integer() => {}
            Shape::Type(Type::Long) => self.wrong(shape, format_args!("number {number}"), "int64"),
            Shape::Type(Type::Integer | Type::IntOrString) => {
                self.wrong(shape, format_args!("number {number}"), "int32")
            }
            Shape::Type(Type::Time | Type::MicroTime) => self.wrong(shape, "number", "string"),
            other => self.wrong(other, "number", &self.go_type(other)),
        }
    }

    /// A value of some other sort than the shape is of.
    fn unfit(&mut self, shape: Shape, found: &str) {
        match shape {
            Shape::Type(Type::Any) => {}
            Shape::Type(Type::IntOrString) => self.wrong(shape, found, "int32"),
            Shape::Type(Type::Time | Type::MicroTime) => self.wrong(shape, found, "string"),
            Shape::Type(Type::Quantity) => self.wrong_value(crate::quantity::ParseQuantityError::Format),
            other => self.wrong(other, found, &self.go_type(other)),
        }
    }
}

/// What upstream's converter of trees says of a value that a place of this shape cannot hold.
fn unconvertible(shape: Shape, found: &str, wanted: &str) -> String {
    let kind = match found.split(' ').collect::<Vec<_>>().as_slice() {
        ["object"] => "map",
        ["array"] => "slice",
        ["number", number] if number.contains('.') => "float64",
        ["number", ..] => "int64",
        _ => found,
    };
    match shape {
        Shape::Definition(_) => format!("cannot restore struct from: {kind}"),
        Shape::Type(Type::List(_) | Type::Bytes) => format!("cannot restore slice from {kind}"),
        Shape::Type(Type::Map(_)) => format!("cannot restore map from {kind}"),
        // In Go an integer can be made a text, and a fraction an integer, but neither is wanted here.
        Shape::Type(Type::String) if kind == "int64" => format!("cannot convert int64 to {wanted}"),
        Shape::Type(Type::Integer | Type::Long) if kind == "float64" => {
            format!("cannot convert float64 to {wanted}")
        }
        Shape::Type(Type::String) => "unrecognized type: string".into(),
        Shape::Type(Type::Integer | Type::Long | Type::Number | Type::Boolean) => {
            format!("unrecognized type: {wanted}")
        }
        // These read their JSON themselves.
        _ => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
    }
}

fn push(text: &mut String, part: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(part);
}

fn add(list: &mut Vec<String>, text: String) {
    if list.len() < MAX_FINDINGS && !list.contains(&text) {
        list.push(text);
    }
}

enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    fn fits_long(&self) -> bool {
        matches!(self, Self::Signed(_))
            || matches!(self, Self::Unsigned(value) if i64::try_from(*value).is_ok())
    }

    fn fits_integer(&self) -> bool {
        match self {
            Self::Signed(value) => i32::try_from(*value).is_ok(),
            Self::Unsigned(value) => i32::try_from(*value).is_ok(),
            Self::Float(_) => false,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => write!(f, "{value:.1}"),
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

/// Go's complaint about a time that is not in RFC 3339: which part of the layout it could not read.
fn check_time(text: &str, layout: &str) -> Result<(), String> {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(());
    }
    const PARTS: [(&str, usize); 12] = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
        ("Z07:00", 0),
    ];
    let mut rest = text;
    for (part, digits) in PARTS {
        let (head, tail) = rest
            .split_at_checked(if digits == 0 { 1 } else { digits })
            .unwrap_or(("", rest));
        let fits = match (part, digits) {
            ("Z07:00", _) => return Err(complaint(text, layout, rest, part)),
            (literal, 0) => head == literal,
            _ => !head.is_empty() && head.bytes().all(|byte| byte.is_ascii_digit()),
        };
        if !fits {
            return Err(complaint(text, layout, rest, part));
        }
        rest = tail;
    }
    Ok(())
}

fn complaint(text: &str, layout: &str, rest: &str, part: &str) -> String {
    format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
}

struct Seed<'p> {
    pass: &'p mut Pass,
    shape: Shape,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if matches!(self.shape, Shape::Type(Type::Any)) {
            deserializer.deserialize_ignored_any(IgnoredAny)?;
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

/// A key of an object, borrowed from the text where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_string()))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        if !matches!(self.shape, Shape::Type(Type::Boolean)) {
            self.pass.unfit(self.shape, "bool");
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.pass.number(self.shape, Number::Signed(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.pass.number(self.shape, Number::Unsigned(value));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.pass.number(self.shape, Number::Float(value));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.pass.text(self.shape, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Shape::Type(Type::List(item)) = self.shape else {
            self.pass.unfit(self.shape, "array");
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        for index in 0.. {
            self.pass.path.push(Segment::Index(index));
            let element = list.next_element_seed(Seed {
                pass: self.pass,
                shape: Shape::of(*item),
            })?;
            self.pass.path.pop();
            if element.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self.shape {
            Shape::Definition(definition) => {
                let mut seen: u128 = 0;
                while let Some(key) = map.next_key_seed(Key)? {
                    let found = definition.fields.binary_search_by(|field| field.name.cmp(&key));
                    let Some((index, field)) = found
                        .ok()
                        .and_then(|index| Some((index, definition.fields.get(index)?)))
                    else {
                        self.pass.unknown(&key);
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let bit = 1u128 << (index & 127);
                    if seen & bit != 0 {
                        self.pass.duplicate(&key);
                    }
                    seen |= bit;
                    self.pass.path.push(Segment::Field(field.name));
                    self.pass.owners.push(definition);
                    map.next_value_seed(Seed {
                        pass: self.pass,
                        shape: Shape::of(field.type_),
                    })?;
                    self.pass.owners.pop();
                    self.pass.path.pop();
                }
            }
            Shape::Type(Type::Map(value)) => {
                let mut seen = HashSet::new();
                while let Some(key) = map.next_key_seed(Key)? {
                    if seen.contains(&key) {
                        self.pass.duplicate(&key);
                    }
                    self.pass.path.push(Segment::Key(key.to_string()));
                    map.next_value_seed(Seed {
                        pass: self.pass,
                        shape: Shape::of(*value),
                    })?;
                    self.pass.path.pop();
                    seen.insert(key);
                }
            }
            other => {
                self.pass.unfit(other, "object");
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::of_kind;

    fn deployment(json: &str) -> Findings {
        check(of_kind("apps", "v1", "Deployment").unwrap(), json.as_bytes()).unwrap()
    }

    fn pod(json: &str) -> Findings {
        check(of_kind("", "v1", "Pod").unwrap(), json.as_bytes()).unwrap()
    }

    #[test]
    fn unknown_and_duplicate_fields_are_named_with_their_paths() {
        let found = deployment(
            r#"{"apiVersion":"apps/v1","foo":1,"metadata":{"labels":{"a":"b","a":"c"},"name":"x"},
                "spec":{"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"name":"a"},{"nmae":"b","nmae":"c"}]}}}}"#,
        );
        assert_eq!(
            found.unknown,
            [
                r#"unknown field "foo""#,
                r#"unknown field "spec.template.spec.containers[1].nmae""#
            ]
        );
        assert_eq!(
            found.duplicate,
            [
                r#"duplicate field "metadata.labels.a""#,
                r#"duplicate field "spec.replicas""#
            ]
        );
        assert_eq!(found.wrong_type, None);
    }

    #[test]
    fn wrong_types_are_worded_as_go_does() {
        let cases = [
            (
                r#"{"spec":{"replicas":"3"}}"#,
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"spec":{"replicas":1.5}}"#,
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"spec":{"replicas":3000000000}}"#,
                "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"metadata":{"labels":{"a":1}}}"#,
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                r#"{"metadata":{"labels":[]}}"#,
                "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":[{"name":true}]}}}}"#,
                "json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.name of type string",
            ),
            (
                r#"{"spec":"x"}"#,
                "json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec",
            ),
            (
                r#"[]"#,
                "json: cannot unmarshal array into Go value of type v1.Deployment",
            ),
            (
                r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#,
                "json: cannot unmarshal bool into Go struct field \
                 RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
            ),
            (
                r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
                r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
            ),
            (
                r#"{"spec":{"template":{"spec":{"overhead":{"cpu":"lots"}}}}}"#,
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        ];
        for (json, expected) in cases {
            let found = deployment(json).wrong_type.map(|wrong| wrong.decoded);
            assert_eq!(found.as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn wrong_types_are_worded_as_the_converter_of_trees_does() {
        let cases = [
            (r#"{"spec":{"replicas":"3"}}"#, "unrecognized type: int32"),
            (r#"{"spec":{"replicas":1.5}}"#, "cannot convert float64 to int32"),
            (r#"{"spec":{"paused":"true"}}"#, "unrecognized type: bool"),
            (
                r#"{"metadata":{"labels":{"a":1}}}"#,
                "cannot convert int64 to string",
            ),
            (
                r#"{"metadata":{"labels":{"a":true}}}"#,
                "unrecognized type: string",
            ),
            (r#"{"metadata":{"labels":[]}}"#, "cannot restore map from slice"),
            (r#"{"spec":"x"}"#, "cannot restore struct from: string"),
            (
                r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
                "cannot restore slice from map",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":[{"imagePullPolicy":1}]}}}}"#,
                "cannot convert int64 to v1.PullPolicy",
            ),
            (
                r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#,
                "json: cannot unmarshal bool into Go value of type int32",
            ),
        ];
        for (json, expected) in cases {
            let found = deployment(json).wrong_type.map(|wrong| wrong.converted);
            assert_eq!(found.as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn what_is_right_is_not_reported() {
        let found = pod(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","creationTimestamp":null,
                "managedFields":[{"fieldsV1":{"f:metadata":{"f:labels":{".":{}}}}}]},
                "spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":1,"memory":"1Gi"}},
                "livenessProbe":{"httpGet":{"port":"http"}},"ports":[{"containerPort":80}]}],"overhead":null},
                "status":{"startTime":"2025-01-01T00:00:00Z"}}"#,
        );
        assert_eq!(found, Findings::default());
        let pod = of_kind("", "v1", "Pod").unwrap();
        assert!(check(pod, b"{").is_err());
        assert!(check(pod, b"{} {}").is_err());
    }

    #[test]
    fn findings_are_bounded() {
        let fields: Vec<String> = (0..500).map(|n| format!("\"x{n}\":{n}")).collect();
        let found = pod(&format!("{{{}}}", fields.join(",")));
        assert_eq!(found.unknown.len(), MAX_FINDINGS);
    }
}
