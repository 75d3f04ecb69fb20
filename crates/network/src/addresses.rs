//! Which pod has which address: one file an address, named by it, holding the owner's id.
//!
//! Creating the file is the allocation, so it needs no lock against another process and is there after a restart.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use parking_lot::Mutex;

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Every address of the node's range is in use.
    #[error("no IP addresses available in range {0}")]
    Exhausted(Ipv4Net),
    /// The directory cannot be read or written.
    #[error("address directory {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The addresses of one node.
#[derive(Debug)]
pub(crate) struct Addresses {
    directory: PathBuf,
    range: Ipv4Net,
    /// Where the next search begins, so that an address rests as long as possible before it is used again.
    next: Mutex<u32>,
}

impl Addresses {
    /// The addresses of `range` as `directory` has them; the directory is made if need be.
    pub(crate) fn open(directory: PathBuf, range: Ipv4Net) -> Result<Self, AddressError> {
        let addresses = Self {
            directory,
            range,
            next: Mutex::new(0),
        };
        fs::create_dir_all(&addresses.directory).map_err(|source| addresses.io(source))?;
        let newest = addresses
            .entries()?
            .into_iter()
            .max_by_key(|(_, _, written)| *written);
        if let Some((address, ..)) = newest {
            *addresses.next.lock() = addresses.offset(address).wrapping_add(1);
        }
        Ok(addresses)
    }

    /// The range that pods get addresses from.
    pub(crate) fn range(&self) -> Ipv4Net {
        self.range
    }

    /// The node's own address on the pod network: the first of the range.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        nth(self.range, 1)
    }

    /// The owner's address; a new one if it has none.
    pub(crate) fn allocate(&self, owner: &str) -> Result<Ipv4Addr, AddressError> {
        let entries = self.entries()?;
        if let Some((address, ..)) = entries.iter().find(|(_, holder, _)| holder == owner) {
            return Ok(*address);
        }
        // Not the network's own address, the gateway or the broadcast address.
        let size = 2u32.saturating_pow(u32::from(32 - self.range.prefix_len()));
        let (first, count) = (2, size.saturating_sub(3));
        if count == 0 {
            return Err(AddressError::Exhausted(self.range));
        }
        let mut next = self.next.lock();
        let start = next.saturating_sub(first) % count;
        for step in 0..count {
            let offset = first + (start + step) % count;
            let address = nth(self.range, offset);
            if self.claim(address, owner)? {
                *next = offset + 1;
                return Ok(address);
            }
        }
        Err(AddressError::Exhausted(self.range))
    }

    /// Frees the owner's address, if it has one.
    pub(crate) fn release(&self, owner: &str) -> Result<(), AddressError> {
        for (address, holder, _) in self.entries()? {
            if holder == owner {
                match fs::remove_file(self.directory.join(address.to_string())) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn claim(&self, address: Ipv4Addr, owner: &str) -> Result<bool, AddressError> {
        let path = self.directory.join(address.to_string());
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(mut file) => match file.write_all(owner.as_bytes()) {
                Ok(()) => Ok(true),
                Err(error) => {
                    // A full disk must not leave an address that nobody owns.
                    let _ = fs::remove_file(&path);
                    Err(self.io(error))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.io(error)),
        }
    }

    fn entries(&self) -> Result<Vec<(Ipv4Addr, String, std::time::SystemTime)>, AddressError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(|source| self.io(source))? {
            let entry = entry.map_err(|source| self.io(source))?;
            let name = entry.file_name();
            let Some(address) = name.to_str().and_then(|name| name.parse::<Ipv4Addr>().ok()) else {
                continue;
            };
            // A file may go away between the listing and the reading.
            let Ok(owner) = fs::read_to_string(entry.path()) else {
                continue;
            };
            let written = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .unwrap_or(std::time::UNIX_EPOCH);
            entries.push((address, owner, written));
        }
        Ok(entries)
    }

    fn offset(&self, address: Ipv4Addr) -> u32 {
        u32::from(address).wrapping_sub(u32::from(self.range.network()))
    }

    fn io(&self, source: io::Error) -> AddressError {
        AddressError::Io {
            path: self.directory.clone(),
            source,
        }
    }
}

fn nth(range: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).wrapping_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn open(directory: &tempfile::TempDir, range: &str) -> Addresses {
        Addresses::open(directory.path().join("addresses"), range.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_first_pod_gets_the_address_after_the_gateway() {
        let directory = tempfile::tempdir().unwrap();
        let addresses = open(&directory, "10.244.0.0/24");
        assert_eq!(addresses.gateway().to_string(), "10.244.0.1");
        assert_eq!(addresses.allocate("a").unwrap().to_string(), "10.244.0.2");
    }

    #[test]
    fn asking_twice_gives_the_same_address() {
        let directory = tempfile::tempdir().unwrap();
        let addresses = open(&directory, "10.244.0.0/24");
        assert_eq!(addresses.allocate("a").unwrap(), addresses.allocate("a").unwrap());
    }

    #[test]
    fn a_freed_address_is_used_again_last() {
        let directory = tempfile::tempdir().unwrap();
        let addresses = open(&directory, "10.244.0.0/29");
        let first = addresses.allocate("a").unwrap();
        addresses.release("a").unwrap();
        let rest: Vec<_> = ["b", "c", "d", "e"]
            .map(|owner| addresses.allocate(owner).unwrap())
            .to_vec();
        assert!(!rest.contains(&first));
        assert_eq!(addresses.allocate("f").unwrap(), first);
        assert!(matches!(addresses.allocate("g"), Err(AddressError::Exhausted(_))));
    }

    #[test]
    fn allocations_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let address = open(&directory, "10.244.0.0/24").allocate("a").unwrap();
        let reopened = open(&directory, "10.244.0.0/24");
        assert_eq!(reopened.allocate("a").unwrap(), address);
        assert_ne!(reopened.allocate("b").unwrap(), address);
    }

    proptest! {
        #[test]
        fn no_address_has_two_owners(operations in proptest::collection::vec((0u8..8, any::<bool>()), 0..60)) {
            let directory = tempfile::tempdir().unwrap();
            let addresses = open(&directory, "10.0.0.0/28");
            let mut held: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
            for (owner, take) in operations {
                let owner = owner.to_string();
                if take {
                    let address = addresses.allocate(&owner).unwrap();
                    prop_assert!(addresses.range().contains(&address));
                    prop_assert_ne!(address, addresses.gateway());
                    held.insert(owner, address);
                } else {
                    addresses.release(&owner).unwrap();
                    held.remove(&owner);
                }
                let distinct: std::collections::BTreeSet<_> = held.values().collect();
                prop_assert_eq!(distinct.len(), held.len());
            }
        }
    }
}
