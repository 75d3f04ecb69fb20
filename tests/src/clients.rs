//! Where the real clients are that `tools/clients` installs.

use std::path::PathBuf;

/// `$SKIFF_CLIENT_CACHE`, else below the user's cache directory.
///
/// # Panics
/// When neither is known, or the clients are not there.
pub fn client_cache() -> PathBuf {
    let cache = match std::env::var_os("SKIFF_CLIENT_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").expect("$HOME is set")).join(".cache/skiff-test-clients")
        }
    };
    assert!(cache.is_dir(), "the clients are missing: run tools/clients");
    cache
}
