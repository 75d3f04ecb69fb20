//! The protobuf numbers of every field, as Rust source: what `schema::protobuf` reads and writes by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A message's fields: their names as `src/schema/protobuf_fields.txt` has them, their numbers, and the messages that
/// they hold.
type Messages<'a> = BTreeMap<String, Vec<(&'a str, u32, Option<&'a str>)>>;

/// The versions that a stable type may have had before, the latest first.
const EARLIER: [&str; 6] = [
    ".v1beta2.",
    ".v1beta1.",
    ".v1alpha4.",
    ".v1alpha3.",
    ".v1alpha2.",
    ".v1alpha1.",
];

/// The numbers of all messages, from `protobuf_fields.txt` (written by `tools/protobuf-fields`) and from
/// `protobuf_fields_later.txt`: what is newer than the source of the former, read off the `generated.proto` files.
pub(crate) struct Numbers<'a> {
    messages: Messages<'a>,
}

impl<'a> Numbers<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut messages = Messages::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let Some(name) = words.next() else { continue };
            let fields = words.filter_map(|word| {
                let (field, rest) = word.split_once('=')?;
                let (number, message) = match rest.split_once('@') {
                    Some((number, message)) => (number, Some(message)),
                    None => (rest, None),
                };
                Some((field, number.parse().ok()?, message))
            });
            // The source writes `HttpGetAction` where the API says `HTTPGetAction`.
            messages.entry(name.to_lowercase()).or_default().extend(fields);
        }
        Self { messages }
    }

    /// Whether a message is a list of texts with a name of its own (`Verbs`, `ExtraValue`).
    fn is_list(&self, message: &str) -> bool {
        self.messages
            .get(&message.to_lowercase())
            .is_some_and(|fields| fields.as_slice() == [("items", 1, None)])
    }

    /// The fields of a message. One that the source has in an earlier version only has the numbers that it had there: a
    /// type that is promoted is copied as it is.
    fn fields(&self, message: &str) -> Option<&Vec<(&'a str, u32, Option<&'a str>)>> {
        let name = message.to_lowercase().replace('-', "_");
        let earlier = EARLIER.iter().map(|version| name.replace(".v1.", version));
        std::iter::once(name.clone())
            .chain(earlier)
            .find_map(|name| self.messages.get(&name))
    }

    /// The number of a field, as JSON names it.
    pub(crate) fn of(&self, message: &str, field: &str) -> Option<u32> {
        let field = plain(field);
        self.fields(message)?
            .iter()
            .find(|(name, ..)| *name == field)
            .map(|(_, number, _)| *number)
    }

    /// The wire table of a definition, whose fields are given by name and place.
    ///
    /// JSON inlines some messages (a volume's source, a probe's handler) that protobuf nests: such a message is a branch
    /// whose leaves are fields of the definition too.
    pub(crate) fn table(&self, message: &str, fields: &BTreeMap<String, usize>) -> String {
        let mut rows: Vec<(u32, String)> = Vec::new();
        for (name, number, inner) in self.fields(message).into_iter().flatten() {
            if let Some(index) = fields.get(*name) {
                let wrapped = inner.is_some_and(|inner| self.is_list(inner));
                let wire = if wrapped { "Wrapped" } else { "Field" };
                rows.push((*number, format!("Wire::{wire}({index})")));
            } else if let Some(inner) = inner {
                let branch = self.table(inner, fields);
                if !branch.is_empty() {
                    rows.push((*number, format!("Wire::Inlined(&[{branch}])")));
                }
            }
        }
        rows.sort();
        let mut text = String::new();
        for (number, wire) in rows {
            // Writing to a String cannot fail.
            let _ = write!(text, "({number}, {wire}), ");
        }
        text
    }
}

/// A field's name as `protobuf_fields.txt` writes it.
pub(crate) fn plain(name: &str) -> String {
    name.replace(['_', '$', '-'], "").to_lowercase()
}
