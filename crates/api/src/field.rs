//! Validation errors: the path of a field, what is wrong with it, and Kubernetes' wording of that.

use std::fmt::{self, Debug, Display, Write as _};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::expression;

/// The path of a field: `spec.containers[0].name`, `metadata.labels[a/b]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field, or of several (`Path::new("spec.template")`).
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The path of a field below this one.
    #[must_use]
    pub fn child(&self, name: impl Display) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        self.and([dot, ""], name)
    }

    /// The path of an element of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.and(["[", "]"], index)
    }

    /// The path of a value of this map.
    #[must_use]
    pub fn key(&self, key: impl Display) -> Self {
        self.and(["[", "]"], key)
    }

    /// Validation makes hundreds of paths for an object with nothing wrong, so each is one allocation.
    fn and(&self, [before, after]: [&str; 2], part: impl Display) -> Self {
        let mut path = String::with_capacity(self.0.len() + 32);
        path.push_str(&self.0);
        path.push_str(before);
        // A text takes whatever is written.
        let _ = write!(path, "{part}");
        path.push_str(after);
        Self(path)
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong; the reason of a `StatusCause` (apimachinery's `field.ErrorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// A reference to something that is not there.
    NotFound,
    /// A value that must be given.
    Required,
    /// A value that stands twice where it must be unique.
    Duplicate,
    /// A value that is malformed or out of range.
    Invalid,
    /// A value that is none of the allowed ones.
    NotSupported,
    /// A field that must not be set here.
    Forbidden,
    /// A text that is too long.
    TooLong,
    /// A list with too many elements.
    TooMany,
    /// The server's own failure.
    Internal,
    /// A value of the wrong type.
    TypeInvalid,
}

impl ErrorType {
    /// The `reason` of the status' cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub type_: ErrorType,
    /// Where.
    pub field: Path,
    /// The message without the field: `Invalid value: "x": must be …`.
    pub body: String,
}

impl Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

/// The errors found in an object so far. A check reports all that is wrong, not only the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// No errors.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, type_: ErrorType, field: &Path, body: String) {
        self.0.push(FieldError {
            type_,
            field: field.clone(),
            body,
        });
    }

    /// `Required value[: detail]`
    pub fn required(&mut self, field: &Path, detail: &str) {
        self.push(
            ErrorType::Required,
            field,
            with_detail("Required value".into(), detail),
        );
    }

    /// `Invalid value: <value>: <detail>`
    pub fn invalid(&mut self, field: &Path, value: impl Serialize, detail: impl AsRef<str>) {
        self.push(
            ErrorType::Invalid,
            field,
            with_detail(format!("Invalid value: {}", shown(value)), detail.as_ref()),
        );
    }

    /// `Invalid value: <value>: <detail>`, for a value of the wrong type.
    pub fn type_invalid(&mut self, field: &Path, value: impl Serialize, detail: &str) {
        let head = format!("Invalid value: {}", shown(value));
        self.push(ErrorType::TypeInvalid, field, with_detail(head, detail));
    }

    /// `Invalid value: <detail>`, for what is wrong as a whole.
    pub fn invalid_as_a_whole(&mut self, field: &Path, detail: &str) {
        self.push(
            ErrorType::Invalid,
            field,
            with_detail("Invalid value".into(), detail),
        );
    }

    /// Reports each message about a value.
    pub fn invalid_each(&mut self, field: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(field, value, message);
        }
    }

    /// Requires one of some texts.
    pub fn one_of(&mut self, field: &Path, value: Option<&str>, allowed: &[&str]) {
        match value.unwrap_or_default() {
            "" => self.required(field, ""),
            value if allowed.contains(&value) => {}
            value => self.not_supported(field, value, allowed),
        }
    }

    /// Checks that a number is not negative.
    pub fn non_negative(&mut self, field: &Path, number: Option<impl Into<i64>>) {
        if let Some(number) = number.map(Into::into).filter(|&number| number < 0) {
            self.invalid(field, number, "must be greater than or equal to 0");
        }
    }

    /// `Duplicate value: <value>`
    pub fn duplicate(&mut self, field: &Path, value: impl Serialize) {
        self.push(
            ErrorType::Duplicate,
            field,
            format!("Duplicate value: {}", shown(value)),
        );
    }

    /// `Duplicate value: <value>: <detail>`
    pub fn duplicate_saying(&mut self, field: &Path, value: impl Serialize, detail: &str) {
        self.push(
            ErrorType::Duplicate,
            field,
            with_detail(format!("Duplicate value: {}", shown(value)), detail),
        );
    }

    /// `Not found: <value>`
    pub fn not_found(&mut self, field: &Path, value: impl Serialize) {
        self.push(ErrorType::NotFound, field, format!("Not found: {}", shown(value)));
    }

    /// `Not found: <value>: <detail>`
    pub fn not_found_saying(&mut self, field: &Path, value: impl Serialize, detail: &str) {
        let head = format!("Not found: {}", shown(value));
        self.push(ErrorType::NotFound, field, with_detail(head, detail));
    }

    /// `Unsupported value: <value>: supported values: "a", "b"`; the supported ones are listed as they are given.
    pub fn not_supported(&mut self, field: &Path, value: impl Serialize, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(shown).collect();
        let detail = if list.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", list.join(", "))
        };
        self.push(
            ErrorType::NotSupported,
            field,
            with_detail(format!("Unsupported value: {}", shown(value)), &detail),
        );
    }

    /// `Forbidden: <detail>`
    pub fn forbidden(&mut self, field: &Path, detail: &str) {
        self.push(
            ErrorType::Forbidden,
            field,
            with_detail("Forbidden".into(), detail),
        );
    }

    /// `Too long: may not be more than <max> bytes`
    pub fn too_long(&mut self, field: &Path, max: usize) {
        self.push(
            ErrorType::TooLong,
            field,
            format!("Too long: may not be more than {max} bytes"),
        );
    }

    /// `Too many: <actual>: must have at most <max> items`
    pub fn too_many(&mut self, field: &Path, actual: usize, max: usize) {
        let items = if max == 1 { "item" } else { "items" };
        self.push(
            ErrorType::TooMany,
            field,
            format!("Too many: {actual}: must have at most {max} {items}"),
        );
    }

    /// Checks that a text is an expression.
    pub(crate) fn expression(&mut self, field: &Path, text: &str) {
        if let Err(why) = expression::check(text) {
            self.invalid(field, text, why);
        }
    }

    /// Takes over errors that were found elsewhere.
    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.0.extend(errors);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    /// All errors as one text, as a `Status` message has them: one as it is, several in brackets.
    pub fn aggregate(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        }
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A value as upstream's internal types show it: under the names of Go's fields, in their order.
#[derive(Clone, Debug)]
pub(crate) enum Internal {
    /// A value that looks the same everywhere; `null` where there is none.
    Plain(Value),
    /// A struct.
    Fields(Vec<(&'static str, Internal)>),
    /// A list of them.
    Items(Vec<Internal>),
    /// Some of them, by names that are the user's.
    Map(Vec<(String, Internal)>),
}

impl Internal {
    /// A value that looks the same everywhere.
    pub(crate) fn plain(value: &impl Serialize) -> Self {
        Self::Plain(serde_json::to_value(value).unwrap_or_default())
    }

    /// A struct.
    pub(crate) fn fields<const N: usize>(fields: [(&'static str, Self); N]) -> Self {
        Self::Fields(fields.into())
    }

    /// What may be absent.
    pub(crate) fn optional(value: Option<Self>) -> Self {
        value.unwrap_or(Self::Plain(Value::Null))
    }
}

impl Serialize for Internal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::Items(items) => items.serialize(serializer),
            Self::Map(values) => serializer.collect_map(values.iter().map(|(name, value)| (name, value))),
            Self::Fields(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
        }
    }
}

fn with_detail(head: String, detail: &str) -> String {
    if detail.is_empty() {
        head
    } else {
        format!("{head}: {detail}")
    }
}

/// A value as an error shows it: a text as Go quotes one, everything else as Go's JSON.
fn shown(value: impl Serialize) -> String {
    let json = serde_json::to_string(&value).unwrap_or_else(|_| "<unprintable>".into());
    match serde_json::from_str::<String>(&json) {
        Ok(text) => quoted(&text),
        Err(_) => in_html(&json),
    }
}

/// JSON as Go writes it: so that it could stand in a page.
pub fn in_html(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // A text takes whatever is written.
                let _ = write!(safe, "\\u{:04x}", u32::from(character));
            }
            other => safe.push(other),
        }
    }
    safe
}

/// Whether a character can be seen (Go's `unicode.IsPrint`): of the blanks only the plain one.
pub fn is_printable(character: char) -> bool {
    match character {
        // The second are accents, which only look like nothing.
        ' '..='~' | '\u{300}'..='\u{36f}' => true,
        other => !other.is_whitespace() && other.escape_debug().len() == 1,
    }
}

/// A text as Go quotes it (`strconv.Quote`).
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        let code = u32::from(character);
        // A text takes whatever is written.
        let _ = match character {
            '"' | '\\' => write!(quoted, "\\{character}"),
            '\x07' => write!(quoted, "\\a"),
            '\x08' => write!(quoted, "\\b"),
            '\x0c' => write!(quoted, "\\f"),
            '\n' => write!(quoted, "\\n"),
            '\r' => write!(quoted, "\\r"),
            '\t' => write!(quoted, "\\t"),
            '\x0b' => write!(quoted, "\\v"),
            printable if is_printable(printable) => write!(quoted, "{printable}"),
            _ if code < 0x80 => write!(quoted, "\\x{code:02x}"),
            _ if code < 0x1_0000 => write!(quoted, "\\u{code:04x}"),
            _ => write!(quoted, "\\U{code:08x}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_go_shows_them() {
        for (text, expected) in [
            ("a b<c>&", r#""a b<c>&""#),
            ("q\"\\", r#""q\"\\""#),
            ("\n\t\0\u{1f}\x7f", r#""\n\t\x00\x1f\x7f""#),
            (
                "\u{e9}\u{301}\u{4e16}\u{1f600}",
                "\"\u{e9}\u{301}\u{4e16}\u{1f600}\"",
            ),
            (
                "\u{a0}\u{200b}\u{feff}\u{e0001}",
                r#""\u00a0\u200b\ufeff\U000e0001""#,
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(["<a>", "b&c"]), r#"["\u003ca\u003e","b\u0026c"]"#);
        assert_eq!(shown(1.5), "1.5");
        assert_eq!(shown(None::<String>), "null");
    }

    #[test]
    fn errors_read_as_kubernetes_writes_them() {
        let mut errors = Errors::new();
        let path = Path::new("spec").child("containers").index(0).child("name");
        errors.required(&path, "");
        assert_eq!(errors.aggregate(), "spec.containers[0].name: Required value");
        errors.not_supported(
            &Path::new("spec.restartPolicy"),
            "Sometimes",
            &["Always", "OnFailure", "Never"],
        );
        assert_eq!(
            errors.aggregate(),
            "[spec.containers[0].name: Required value, spec.restartPolicy: Unsupported value: \"Sometimes\": \
             supported values: \"Always\", \"OnFailure\", \"Never\"]"
        );
    }
}
