//! The pod network of one node: a bridge, a veth pair and an address per pod, masquerading and host ports.
//!
//! Pods of a node hang on one bridge that has the first address of the node's pod CIDR. A pod reaches the host and
//! other pods without NAT; what leaves the cluster's pod range is masqueraded.
//!
//! *Architecture invariants:* the kernel's tables are written only in whole transactions (`nft -f`). What is in the
//! kernel and in the address directory is the state; nothing has to be remembered across a restart.

mod addresses;
mod bridge;
mod link;
mod nft;

pub use addresses::AddressError;
pub use bridge::{Attachment, Bridge, Config, HostPort, NetworkError, Protocol};
pub use nft::{NftError, check_available};
