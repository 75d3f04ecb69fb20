//! Field selectors.

use std::fmt;

use super::ParseSelectorError;

/// A field selector: `metadata.name=a,status.phase!=Running`. All of its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldTerm {
    /// The field's path, e.g. `spec.nodeName`.
    pub field: String,
    /// Whether it must differ.
    pub negated: bool,
    /// What it is compared with.
    pub value: String,
}

impl FieldSelector {
    /// Selects everything.
    pub const fn everything() -> Self {
        Self { terms: Vec::new() }
    }

    /// Selects the objects whose field has this value.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        let (field, value) = (field.into(), value.into());
        Self {
            terms: vec![FieldTerm {
                field,
                negated: false,
                value,
            }],
        }
    }

    /// Reads the text of a query or a flag. An empty text selects everything.
    ///
    /// # Errors
    /// When the text is not a selector.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut parts = split_unescaped(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, negated, value)) = split_term(part) else {
                return Err(ParseSelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            terms.push(FieldTerm {
                field: field.to_string(),
                negated,
                value: unescape(value)?,
            });
        }
        Ok(Self { terms })
    }

    /// The terms.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The same selector of fields that have other names.
    ///
    /// # Errors
    /// The first field for which there is no name.
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        for term in &mut self.terms {
            match name(&term.field) {
                Some(name) => term.field = name,
                None => return Err(std::mem::take(&mut term.field)),
            }
        }
        Ok(self)
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object whose fields have these values is selected; an absent field counts as an empty text.
    pub fn matches<V: AsRef<str>>(&self, field: impl Fn(&str) -> V) -> bool {
        self.terms
            .iter()
            .all(|term| (field(&term.field).as_ref() == term.value) != term.negated)
    }

    /// The one value that a field must have, if the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.field == field && !term.negated)
            .map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{}{operator}", term.field)?;
            for character in term.value.chars() {
                if matches!(character, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// The parts between commas that no backslash stands before.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.extend(text.get(start..index));
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

fn split_term(part: &str) -> Option<(&str, bool, &str)> {
    for (index, character) in part.char_indices() {
        let rest = part.get(index..).unwrap_or_default();
        let found = match character {
            '!' => rest.strip_prefix("!=").map(|value| (true, value)),
            '=' => Some((
                false,
                rest.strip_prefix("==")
                    .or(rest.strip_prefix('='))
                    .unwrap_or_default(),
            )),
            _ => None,
        };
        if let Some((negated, value)) = found {
            return Some((part.get(..index).unwrap_or_default(), negated, value));
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, ParseSelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => {
                    return Err(ParseSelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
                None => {
                    return Err(ParseSelectorError(
                        "invalid field selector: invalid escape sequence: \\".into(),
                    ));
                }
            },
            ',' | '=' => {
                return Err(ParseSelectorError(format!(
                    "invalid field selector: unescaped character in value: {character}"
                )));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}
