//! How a field merges; the build script's table of facts has it too.

/// How strategic merge patch and server-side apply treat a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Nothing particular: a scalar is replaced, an object or a map is merged.
    None,
    /// A list, a map or an object that server-side apply replaces as a whole. Strategic merge patch replaces the list
    /// too, but still merges a map or an object.
    Atomic,
    /// A list of unique scalars, united by both.
    Set,
    /// A list of unique scalars, united by server-side apply and replaced by strategic merge patch.
    ApplySet,
    /// A list of objects told apart by keys.
    Map {
        /// The key of strategic merge patch; empty where that patch replaces the list.
        patch_key: &'static str,
        /// The keys of server-side apply; empty where apply replaces the list.
        keys: &'static [&'static str],
    },
    /// An object which a strategic merge patch may reduce to the keys that it names (`$retainKeys`).
    RetainKeys,
    /// An object that both replace as a whole.
    Replace,
}
