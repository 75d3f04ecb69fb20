//! placeholder
/// x
#[derive(Debug)]
pub struct SqliteStore;
