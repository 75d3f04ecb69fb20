//! The shape of every built-in type, condensed at build time from the types' own schemas, with the facts of how lists
//! merge. Static data: a look-up is a binary search and allocates nothing.

mod check;
mod openapi;

pub use check::{Findings, check};
pub use openapi::openapi_schema;

/// A type of the API: `io.k8s.api.core.v1.Pod`.
#[derive(Debug)]
pub struct Definition {
    /// Its name in the OpenAPI documents.
    pub name: &'static str,
    /// Its fields, by name.
    pub fields: &'static [Field],
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

/// How strategic merge patch and server-side apply treat a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Nothing particular: a scalar or a list is replaced, an object or a map is merged.
    None,
    /// A list, a map or an object that server-side apply replaces as a whole. Strategic merge patch replaces the list
    /// too, but still merges a map or an object.
    Atomic,
    /// A list of unique scalars, united by both.
    Set,
    /// A list of objects told apart by keys.
    Map {
        /// The key of strategic merge patch; empty where that patch replaces the list.
        patch_key: &'static str,
        /// The keys of server-side apply; empty where apply replaces the list.
        keys: &'static [&'static str],
    },
    /// An object which a strategic merge patch may reduce to the keys that it names (`$retainKeys`).
    RetainKeys,
}

static NOTHING: Definition = Definition {
    name: "",
    fields: &[],
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
