//! What each kind of object is: its names, scope, columns, selectable fields, defaults, validation, and what an update
//! may change.
//!
//! Built-in kinds are the `k8s-openapi` structs. A kind's whole peculiarity is one file: an implementation of
//! [`Kind`], registered in [`catalogue::builtin`]. Everyone else sees it type-erased, as a [`Strategy`] over
//! [`Object`]s.
//!
//! *Architecture invariants:* nothing here does I/O or is async. No code outside a kind's own file asks which kind it
//! has in hand.

mod admissionregistration;
mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod catalogue;
pub mod cell;
pub mod certificates;
mod conditions;
pub mod coordination;
pub mod core;
pub mod discovery;
mod encode;
mod events;
mod expression;
pub mod field;
mod flowcontrol;
mod halves;
mod internal;
pub mod kind;
pub mod meta;
pub mod names;
mod networking;
pub mod node;
pub mod object;
pub mod owners;
pub mod pod;
pub mod policy;
pub mod quantity;
pub mod quota;
mod rbac;
mod regexp;
mod resource;
mod same;
pub mod scheduling;
pub mod schema;
pub mod selector;
mod sent;
pub mod storage;
mod storagemigration;
pub mod syntax;
pub mod toleration;
pub mod version;
mod webhook;
mod workload;

pub use catalogue::Catalogue;
pub use encode::to_json;
pub use field::{Errors, FieldError, Path};
pub use kind::{Column, Dependents, Kind, KindInfo, Scope, Strategy, Subresource, Target};
pub use object::Object;
pub use version::Conversion;
