//! The kinds of the flowcontrol.apiserver.k8s.io group.

mod flow_schema;
mod priority_level;

use crate::field::{Errors, Path};

/// What a kind without a status column yet says of it.
const NONE: &str = crate::cell::NONE;

/// Checks the types of conditions: given, and each once.
fn check_conditions<'c>(types: impl Iterator<Item = &'c str>, path: &Path, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, type_) in types.enumerate() {
        let path = path.index(index).child("type");
        if !seen.insert(type_) {
            errors.duplicate(&path, type_);
        }
        if type_.is_empty() {
            errors.required(&path, "must not be empty");
        }
    }
}
