//! JSON and YAML texts as trees, and the keys that stand twice in one map: a tree keeps the last, strict field
//! validation asks for all.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use crate::go;
use crate::yaml::in_gos_words;

/// As many findings as upstream reports.
const MOST: usize = 100;

/// A key that its map has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Where it leads: `spec.containers[0].name`.
    path: String,
    key: String,
    /// The line that it stands in, where that is known.
    line: u64,
}

impl Repeated {
    /// As the strict decoder of JSON words it.
    pub(crate) fn field(&self) -> String {
        format!("duplicate field {:?}", self.path)
    }
}

/// What strict decoding of a YAML text says of the keys in it; `None` where none stands twice.
pub(crate) fn yaml_error(repeated: &[Repeated]) -> Option<String> {
    let lines = yaml_lines(repeated);
    (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:\n  {}", lines.join("\n  ")))
}

/// The same as single warnings.
pub(crate) fn yaml_lines(repeated: &[Repeated]) -> Vec<String> {
    let line = |found: &Repeated| format!("line {}: key {:?} already set in map", found.line, found.key);
    repeated.iter().map(line).collect()
}

/// A JSON text.
pub(crate) fn json(text: &[u8]) -> Result<(Value, Vec<Repeated>), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut pass = Pass::default();
    let value = Node::<String>::of(&mut pass).deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, pass.found))
}

/// The first document of a YAML text.
pub(crate) fn yaml(text: &[u8]) -> Result<(Value, Vec<Repeated>), String> {
    let text = first_document(std::str::from_utf8(text).map_err(|error| error.to_string())?);
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // What `0644` is to who writes the mode of a file.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let mut pass = Pass::default();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Node::<Spanned<YamlKey>>::of(&mut pass).deserialize(reader)
    });
    let value = read.map_err(|error| in_gos_words(&error.to_string(), text))?;
    Ok((value, pass.found))
}

/// A text up to where its second document begins. The lines keep their numbers.
fn first_document(text: &str) -> &str {
    let (mut begun, mut end) = (false, 0);
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        let marker = |marker: &str| {
            let rest = content.strip_prefix(marker);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        if begun && (marker("---") || marker("...")) {
            return text.get(..end).unwrap_or(text);
        }
        begun |= !content.is_empty() && !content.starts_with(['#', '%']);
        end += line.len();
    }
    text
}

/// A key of a map, with the line that it stands in.
trait Key: for<'de> serde::Deserialize<'de> {
    fn text(self) -> (String, u64);

    /// A number that is written with a point or an exponent.
    fn number(value: f64) -> Value {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

impl Key for String {
    fn text(self) -> (String, u64) {
        (self, 0)
    }
}

impl Key for Spanned<YamlKey> {
    fn text(self) -> (String, u64) {
        (self.value.0, self.referenced.line())
    }

    /// Between YAML and JSON Go drops the point of a whole number: `1.0` is `1`, which fits an integer.
    fn number(value: f64) -> Value {
        // Up to here every whole number has a double of its own.
        const MOST: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= MOST {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
            return Value::from(value as i64);
        }
        <String as Key>::number(value)
    }
}

/// The key of a map in YAML, as the key of an object: what is not a text is written as JSON writes it, so that `yes` is
/// `true`.
struct YamlKey(String);

impl<'de> serde::Deserialize<'de> for YamlKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = YamlKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a boolean")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<YamlKey, E> {
                Ok(YamlKey(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<YamlKey, E> {
                Ok(YamlKey(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<YamlKey, E> {
                Ok(YamlKey(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<YamlKey, E> {
                Ok(YamlKey(value.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<YamlKey, E> {
                Ok(YamlKey(text.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<YamlKey, A::Error> {
                let value = Node::<Spanned<YamlKey>>::of(&mut Pass::default()).visit_seq(list)?;
                Err(A::Error::custom(no_key(&value)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<YamlKey, A::Error> {
                let value = Node::<Spanned<YamlKey>>::of(&mut Pass::default()).visit_map(map)?;
                Err(A::Error::custom(no_key(&value)))
            }

            fn visit_unit<E: Error>(self) -> Result<YamlKey, E> {
                Err(E::custom("unsupported map key of type: %!s(<nil>), key: <nil>"))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// What Go's reader says of a list or a map that is a key; templates that nobody filled in (`{{ .Values.x }}`) are such.
fn no_key(value: &Value) -> String {
    format!("invalid map key: {}", go::syntax(value))
}

enum Step {
    Key(String),
    Index(usize),
}

#[derive(Default)]
struct Pass {
    path: Vec<Step>,
    found: Vec<Repeated>,
}

impl Pass {
    fn repeated(&mut self, key: &str, line: u64) {
        if self.found.len() >= MOST {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) => push(&mut path, key),
            }
        }
        push(&mut path, key);
        let key = key.to_string();
        self.found.push(Repeated { path, key, line });
    }
}

fn push(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

struct Node<'p, K> {
    pass: &'p mut Pass,
    key: std::marker::PhantomData<K>,
}

impl<'p, K> Node<'p, K> {
    fn of(pass: &'p mut Pass) -> Self {
        let key = std::marker::PhantomData;
        Self { pass, key }
    }
}

impl<'de, K: Key> DeserializeSeed<'de> for Node<'_, K> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, K: Key> Visitor<'de> for Node<'_, K> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(K::number(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.pass.path.push(Step::Index(items.len()));
            let item = list.next_element_seed(Node::<K>::of(self.pass))?;
            self.pass.path.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<K>()? {
            let (key, line) = key.text();
            if fields.contains_key(&key) {
                self.pass.repeated(&key, line);
            }
            self.pass.path.push(Step::Key(key));
            let value = map.next_value_seed(Node::<K>::of(self.pass))?;
            if let Some(Step::Key(key)) = self.pass.path.pop() {
                fields.insert(key, value);
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_documents_the_first_is_read() {
        for (text, first) in [
            ("a: 1\n---\nb: 2\n", "a: 1\n"),
            ("# c\n--- \na: 1\n---\nb: [\n", "# c\n--- \na: 1\n"),
            ("%YAML 1.1\n---\na: 1\n...\nrest", "%YAML 1.1\n---\na: 1\n"),
            ("a: |\n  ---\n  b\n", "a: |\n  ---\n  b\n"),
            ("---\n---\na: 1\n", "---\n"),
            ("---a: 1\n", "---a: 1\n"),
        ] {
            assert_eq!(first_document(text), first, "{text:?}");
        }
        let (value, _) = yaml(b"a: 1\n---\nb: [\n").unwrap();
        assert_eq!(value, serde_json::json!({ "a": 1 }));
    }
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_json_text_keeps_the_last_and_tells_of_all() {
        let text = br#"{"a":1,"b":[{"c":2,"c":3}],"a":{"d":null,"d":1.5}}"#;
        let (value, found) = json(text).unwrap();
        assert_eq!(value, json!({ "a": { "d": 1.5 }, "b": [{ "c": 3 }] }));
        let fields: Vec<String> = found.iter().map(Repeated::field).collect();
        assert_eq!(
            fields,
            [
                r#"duplicate field "b[0].c""#,
                r#"duplicate field "a""#,
                r#"duplicate field "a.d""#
            ]
        );
        assert!(json(b"{} {}").is_err());
    }

    #[test]
    fn a_yaml_text_keeps_the_last_and_tells_of_all_by_their_lines() {
        let text = "kind: ConfigMap\ndata: {a: \"1\", a: \"2\"}\nmode: 0644\non: 1\nbar: 1\nbar:\n  x: y\n";
        let (value, found) = yaml(text.as_bytes()).unwrap();
        assert_eq!(
            value,
            json!({ "kind": "ConfigMap", "data": { "a": "2" }, "mode": 420, "true": 1, "bar": { "x": true } })
        );
        assert_eq!(
            yaml_error(&found).unwrap(),
            "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map\n  line 6: key \"bar\" already set in map"
        );
        assert_eq!(yaml_error(&[]), None);
        let error = yaml(b"a: [\n").unwrap_err();
        assert!(!error.contains('\n'), "{error}");
    }

    proptest! {
        /// A text without such keys is read as any other reader reads it.
        #[test]
        fn what_is_single_is_read_as_it_is(keys in prop::collection::btree_map("[a-c]{1,2}", any::<i32>(), 0..5)) {
            let tree = json!({ "l": [keys.clone(), keys] });
            let text = tree.to_string();
            prop_assert_eq!(json(text.as_bytes()).unwrap(), (tree.clone(), Vec::new()));
            prop_assert_eq!(yaml(text.as_bytes()).unwrap(), (tree, Vec::new()));
        }
    }
}
