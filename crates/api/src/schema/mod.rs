//! The shape of every built-in type, condensed at build time from the types' own schemas, with the facts of how lists
//! merge. Static data: a look-up is a binary search and allocates nothing.

mod check;
mod empty;
mod merge;
mod openapi;
pub mod protobuf;

pub use check::{Findings, WrongType, check};
pub use empty::Empty;
pub(crate) use empty::{Shown, settle, show};
pub use merge::Merge;
pub(crate) use openapi::described;
pub use openapi::{openapi_names, openapi_schema};

/// A type of the API: `io.k8s.api.core.v1.Pod`.
#[derive(Debug)]
pub struct Definition {
    /// Its name in the OpenAPI documents.
    pub name: &'static str,
    /// Its fields, by name.
    pub fields: &'static [Field],
    /// Its fields by their numbers in Kubernetes' protobuf encoding, in order.
    wire: &'static [(u32, Wire)],
}

/// Where a field of a protobuf message belongs in JSON.
#[derive(Debug, Clone, Copy)]
enum Wire {
    /// The field in this place of [`Definition::fields`].
    Field(u16),
    /// The same, of a list that the wire has inside a message of its own, or of a map of such lists.
    Wrapped(u16),
    /// A message whose fields JSON has among those of the message around it.
    Inlined(&'static [(u32, Wire)]),
}

/// A field of a [`Definition`].
#[derive(Debug)]
pub struct Field {
    /// As JSON has it.
    pub name: &'static str,
    /// What it holds.
    pub type_: Type,
    /// How a patch or an apply treats it.
    pub merge: Merge,
    /// Whether the schema calls it required.
    pub required: bool,
    /// What Go does with it when nothing is in it.
    pub empty: Empty,
}

/// What a field, an element of a list or a value of a map holds.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// A text.
    String,
    /// A 32-bit integer.
    Integer,
    /// A 64-bit integer.
    Long,
    /// A floating-point number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Bytes, in base64.
    Bytes,
    /// A time of whole seconds (RFC 3339).
    Time,
    /// A time with microseconds.
    MicroTime,
    /// An amount (`resource.Quantity`).
    Quantity,
    /// An integer or a text (`intstr.IntOrString`).
    IntOrString,
    /// Anything (raw extensions, `FieldsV1`, JSON schemas).
    Any,
    /// An object of a definition.
    Object(DefinitionId),
    /// A list.
    List(&'static Type),
    /// A map from text.
    Map(&'static Type),
}

/// A definition, by its place in the table of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefinitionId(u16);

impl DefinitionId {
    /// The definition.
    pub fn get(self) -> &'static Definition {
        DEFINITIONS.get(usize::from(self.0)).unwrap_or(&NOTHING)
    }
}

/// What has no fields that are known.
pub(crate) static NOTHING: Definition = Definition {
    name: "",
    fields: &[],
    wire: &[],
};

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// The definition with this name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .and_then(|index| DEFINITIONS.get(index))
}

/// The definition of a kind.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    KINDS
        .binary_search_by(|(key, _)| key.cmp(&(group, version, kind)))
        .ok()
        .and_then(|index| KINDS.get(index))
        .map(|(_, id)| id.get())
}

impl Definition {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields
            .binary_search_by(|field| field.name.cmp(name))
            .ok()
            .and_then(|index| self.fields.get(index))
    }
}
