//! No object, however odd, makes a rule of any kind panic: objects are made up from the kinds' own shapes, with the values
//! that rules stumble over. And what is written of them reads as it was.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use skiff_api::schema::{Definition, Type, of_kind};
use skiff_api::{Errors, Object, Strategy, Target, catalogue, meta};

/// How many objects are made up of each kind.
const OBJECTS: u64 = 40;

/// Numbers that are the same in every run (splitmix64).
struct Source(u64);

impl Source {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "A/b",
    "/",
    "a.b/c",
    "a/b/c",
    "-",
    "é🦀",
    "a=b,c in (d)",
    "10.0.0.1",
    "::1",
    "fd00::/8",
    "10.0.0.0/8",
    "10.0.0.0/99",
    "1.2.3.4-5",
    "25%",
    "-1%",
    "99999999999999999999%",
    "%",
    "1Gi",
    "1e400",
    "* * * * *",
    "*/0 * * * *",
    "0-99999999999 * * * 7",
    "@every 5s",
    "TZ=Etc/UTC * * * * *",
    "Etc/UTC",
    "In",
    "NotIn",
    "Exists",
    "Gt",
    "TCP",
    "Always",
    "Never",
    "OnFailure",
    "RollingUpdate",
    "Recreate",
    "OnDelete",
    "NodePort",
    "LoadBalancer",
    "ExternalName",
    "ClusterIP",
    "None",
    "ClientIP",
    "Indexed",
    "NonIndexed",
    "0-3,5,7-",
    "3-1",
    "Static",
    "Dynamic",
    "Bound",
    "kubernetes.io/tls",
    "kubernetes.io/dockerconfigjson",
    "system-node-critical",
    "requests.cpu",
    "count/x.y",
    "hugepages-2Mi",
    "hugepages-",
    "cpu",
    "memory",
    "example.com/gpu",
    "metadata.labels['a']",
    "metadata.annotations['",
    "spec.nodeName",
    "{\"a\":",
    "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "$(A)",
    "../..",
    "9223372036854775808",
];

const AMOUNTS: &[&str] = &[
    "0",
    "1",
    "-1",
    "1m",
    "0.0000000001",
    "1Ei",
    "8Ei",
    "-9E",
    "1e999999999",
    "-1e999999999",
    "99999999999999999999999999999",
    "1.5Ki",
];

fn text(source: &mut Source) -> String {
    match source.below(20) {
        0 => "x".repeat(300),
        1 => "a.".repeat(200),
        _ => source.one(TEXTS).to_string(),
    }
}

fn value(type_: Type, depth: usize, source: &mut Source) -> Value {
    match type_ {
        Type::String => text(source).into(),
        Type::Integer => (*source.one(&[0, 1, -1, 5, 80, 65_536, i32::MAX, i32::MIN])).into(),
        Type::Long => (*source.one(&[0, 1, -1, 60, i64::MAX, i64::MIN])).into(),
        Type::Number => (*source.one(&[0.0, -1.0, 0.5, 1e308])).into(),
        Type::Boolean => (source.below(2) == 0).into(),
        Type::Bytes => (*source.one(&["", "AAAA", "LS0tLS1CRUdJTg=="])).into(),
        Type::Time => (*source.one(&[
            "2026-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "9999-12-30T22:00:00Z",
        ]))
        .into(),
        Type::MicroTime => {
            (*source.one(&["2026-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"])).into()
        }
        Type::Quantity => (*source.one(AMOUNTS)).into(),
        Type::IntOrString => match source.below(2) {
            0 => (*source.one(&[0, 1, -1, i32::MAX, i32::MIN])).into(),
            _ => text(source).into(),
        },
        Type::Any => source
            .one(&[
                json!({}),
                json!({"a": [1]}),
                json!({"f:metadata": {}}),
                json!({"type": "object"}),
            ])
            .clone(),
        Type::Object(id) => object(id.get(), depth, source),
        Type::List(item) => {
            let count = source.below(4);
            let mut items: Vec<Value> = (0..count).map(|_| value(*item, depth + 1, source)).collect();
            // The same thing twice is what lists are often asked for.
            if let Some(first) = items.first().cloned().filter(|_| source.below(4) == 0) {
                items.push(first);
            }
            items.into()
        }
        Type::Map(item) => {
            let entries = (0..source.below(4)).map(|_| (text(source), value(*item, depth + 1, source)));
            Value::Object(entries.collect())
        }
    }
}

fn object(definition: &'static Definition, depth: usize, source: &mut Source) -> Value {
    let mut map = Map::new();
    for field in definition.fields {
        // The deeper, the fewer, so that objects end.
        if field.required || source.below(2 + depth / 2) == 0 && depth < 12 {
            map.insert(field.name.into(), value(field.type_, depth + 1, source));
        }
    }
    Value::Object(map)
}

fn made_up(strategy: &dyn Strategy, source: &mut Source) -> Option<(Value, Box<dyn Object>)> {
    let info = strategy.info();
    let definition = of_kind(&info.group, &info.version, &info.kind)?;
    let mut json = object(definition, 0, source);
    json["apiVersion"] = info.api_version().into();
    json["kind"] = info.kind.to_string().into();
    if !json["metadata"].is_object() {
        json["metadata"] = json!({ "name": "a" });
    }
    match strategy.decode_value(json.clone()) {
        Ok(object) => Some((json, object)),
        Err(error) => {
            eprintln!("{}: {error}", info.kind);
            None
        }
    }
}

/// Takes an object, and another one after it, through all rules of its kind.
fn try_all(strategy: &dyn Strategy, first: &dyn Object, second: &dyn Object) {
    let info = strategy.info();
    let mut old = first.clone_object();
    strategy.default(old.as_mut());
    strategy.prepare_for_create(old.as_mut());
    let mut errors = Errors::new();
    meta::validate(
        info,
        |name, prefix| strategy.check_name(name, prefix),
        old.metadata(),
        &mut errors,
    );
    strategy.validate(old.as_ref(), &mut errors);
    let _ = errors.aggregate();
    strategy.warnings(old.as_ref(), None);
    strategy.cells(old.as_ref(), Timestamp::now());
    old.encode().unwrap();
    let targets = info
        .subresources
        .iter()
        .map(|subresource| Target::Subresource(*subresource));
    for target in std::iter::once(Target::Main).chain(targets) {
        // What is stored may be as odd as what comes.
        for before in [old.as_ref(), first] {
            let mut new = second.clone_object();
            strategy.default(new.as_mut());
            strategy.prepare_for_update(new.as_mut(), before, target);
            let mut errors = Errors::new();
            meta::validate_update(strategy.info(), new.metadata(), before.metadata(), &mut errors);
            strategy.validate(new.as_ref(), &mut errors);
            strategy.validate_update(new.as_ref(), before, target, &mut errors);
            let _ = errors.aggregate();
            strategy.warnings(new.as_ref(), Some(before));
            strategy.cells(new.as_ref(), Timestamp::now());
            new.encode().unwrap();
        }
    }
    let mut going = first.clone_object();
    strategy.grace_period(going.as_ref(), None);
    strategy.begin_deletion(going.as_mut());
    strategy.is_held(going.as_ref());
}

#[test]
fn no_rule_panics_whatever_the_object() {
    let mut failures = Vec::new();
    for strategy in catalogue::builtin().iter() {
        let mut source = Source(7);
        let mut made = 0;
        let mut before: Option<(Value, Box<dyn Object>)> = None;
        for _ in 0..OBJECTS {
            let Some((json, object)) = made_up(strategy.as_ref(), &mut source) else {
                continue;
            };
            made += 1;
            if let Some((first_json, first)) = &before {
                let tried = catch_unwind(AssertUnwindSafe(|| {
                    try_all(strategy.as_ref(), first.as_ref(), object.as_ref());
                }));
                if tried.is_err() {
                    failures.push(format!("{}: {first_json}, then {json}", strategy.info().kind));
                }
            }
            before = Some((json, object));
        }
        assert!(made > 10, "{}: the objects do not decode", strategy.info().kind);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A state that is read again must be equal to the one that was written, or rules would see changes where there are none;
/// and its text the same, or every write would be a change.
#[test]
fn what_is_written_reads_as_it_was() {
    let mut differ = Vec::new();
    for strategy in catalogue::builtin().iter() {
        let mut source = Source(11);
        for _ in 0..OBJECTS {
            let Some((mut json, _)) = made_up(strategy.as_ref(), &mut source) else {
                continue;
            };
            if let Some(fields) = json.as_object_mut() {
                // What has happened is the controllers', and no rule compares it.
                fields.remove("status");
            }
            let mut object = strategy.decode_value(json.clone()).unwrap();
            strategy.default(object.as_mut());
            if json.to_string().contains("\"policies\":[]") {
                // Refused, so never written.
                continue;
            }
            let text = object.encode().unwrap();
            let again = strategy.stored().decode(&text).unwrap();
            let kind = &strategy.info().kind;
            if again.encode().unwrap() != text {
                differ.push(format!("text: {kind}: {json}"));
            }
            if format!("{again:?}") != format!("{object:?}") {
                differ.push(format!("state: {kind}: {json}\n{object:?}\n{again:?}"));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
}
