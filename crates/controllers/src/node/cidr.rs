//! Cuts the pod network into one part for each node.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// At most so many parts are kept track of; a /64 out of a /48 has 65,536, which is upstream's limit, too.
const MOST_BITS: u8 = 16;

/// The parts of a network, each of which is free or some node's.
#[derive(Debug)]
pub(super) struct Cidrs {
    network: u128,
    v6: bool,
    mask: u8,
    count: u32,
    owners: BTreeMap<u32, String>,
}

impl Cidrs {
    /// The parts of `network/prefix` that are `/mask`. `None` if that is not possible.
    pub(super) fn new(network: IpAddr, prefix: u8, mask: u8) -> Option<Self> {
        let width = if network.is_ipv6() { 128 } else { 32 };
        if prefix > mask || mask > width || mask - prefix > MOST_BITS {
            return None;
        }
        let address = match network {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let host_bits = u32::from(width - prefix);
        let network_bits = address
            .checked_shr(host_bits)
            .unwrap_or(0)
            .checked_shl(host_bits)
            .unwrap_or(0);
        Some(Self {
            network: network_bits,
            v6: width == 128,
            mask,
            count: 1 << (mask - prefix),
            owners: BTreeMap::new(),
        })
    }

    fn width(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn text(&self, index: u32) -> String {
        let shift = u32::from(self.width() - self.mask);
        let bits = self.network | u128::from(index).checked_shl(shift).unwrap_or(0);
        let address = if self.v6 {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        } else {
            // An IPv4 network never has more than 32 bits.
            IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
        };
        format!("{address}/{}", self.mask)
    }

    /// The part that a text names; `None` if it is none of ours.
    fn index(&self, cidr: &str) -> Option<u32> {
        let (address, mask) = cidr.split_once('/')?;
        let address = match address.parse().ok()? {
            IpAddr::V4(address) if !self.v6 => u128::from(address.to_bits()),
            IpAddr::V6(address) if self.v6 => address.to_bits(),
            _ => return None,
        };
        let shift = u32::from(self.width() - self.mask);
        let offset = address.checked_sub(self.network)?.checked_shr(shift).unwrap_or(0);
        let index = u32::try_from(offset).ok().filter(|index| *index < self.count)?;
        (mask.parse() == Ok(self.mask)).then_some(index)
    }

    /// A node has this part already.
    pub(super) fn occupy(&mut self, cidr: &str, node: &str) {
        if let Some(index) = self.index(cidr) {
            self.owners.entry(index).or_insert_with(|| node.to_string());
        }
    }

    /// The part that is the node's: the one that was given to it before, or the first that is free.
    pub(super) fn allocate(&mut self, node: &str) -> Option<String> {
        if let Some((index, _)) = self.owners.iter().find(|(_, owner)| *owner == node) {
            return Some(self.text(*index));
        }
        // The owners are in order, so the first gap is where count and index part.
        let gap = self
            .owners
            .keys()
            .zip(0..)
            .find(|(taken, expected)| *taken != expected);
        let free = gap.map_or(u32::try_from(self.owners.len()).ok(), |(_, expected)| {
            Some(expected)
        });
        let index = free.filter(|index| *index < self.count)?;
        self.owners.insert(index, node.to_string());
        Some(self.text(index))
    }

    /// The node is gone.
    pub(super) fn release(&mut self, node: &str) {
        self.owners.retain(|_, owner| owner != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4() -> Cidrs {
        Cidrs::new("10.244.7.9".parse().unwrap(), 16, 24).unwrap()
    }

    #[test]
    fn parts_are_given_in_order_and_given_back() {
        let mut cidrs = v4();
        cidrs.occupy("10.244.1.0/24", "old");
        assert_eq!(cidrs.allocate("a").as_deref(), Some("10.244.0.0/24"));
        assert_eq!(cidrs.allocate("b").as_deref(), Some("10.244.2.0/24"));
        assert_eq!(
            cidrs.allocate("a").as_deref(),
            Some("10.244.0.0/24"),
            "the same again"
        );
        assert_eq!(cidrs.allocate("old").as_deref(), Some("10.244.1.0/24"));
        cidrs.release("old");
        assert_eq!(cidrs.allocate("c").as_deref(), Some("10.244.1.0/24"));
    }

    #[test]
    fn what_is_elsewhere_occupies_nothing() {
        let mut cidrs = v4();
        for other in [
            "10.245.0.0/24",
            "10.244.0.0/25",
            "fd00::/64",
            "nonsense",
            "10.244.0.0",
        ] {
            cidrs.occupy(other, "n");
        }
        assert!(cidrs.owners.is_empty());
    }

    #[test]
    fn a_full_network_says_so() {
        let mut cidrs = Cidrs::new("10.0.0.0".parse().unwrap(), 23, 24).unwrap();
        assert!(cidrs.allocate("a").is_some() && cidrs.allocate("b").is_some());
        assert_eq!(cidrs.allocate("c"), None);
    }

    #[test]
    fn impossible_cuts_are_refused() {
        let any = "10.0.0.0".parse().unwrap();
        for (prefix, mask) in [(24, 16), (16, 33), (8, 30)] {
            assert!(Cidrs::new(any, prefix, mask).is_none(), "{prefix} {mask}");
        }
        assert!(Cidrs::new(any, 0, 16).is_some());
        let v6 = Cidrs::new("fd00:1::".parse().unwrap(), 48, 64)
            .unwrap()
            .allocate("a");
        assert_eq!(v6.as_deref(), Some("fd00:1::/64"));
    }

    proptest! {
        #[test]
        fn no_two_nodes_share_a_part(steps in prop::collection::vec((0u8..40, any::<bool>()), 0..120)) {
            let mut cidrs = Cidrs::new("10.0.0.0".parse().unwrap(), 19, 24).unwrap();
            let mut given: BTreeMap<u8, String> = BTreeMap::new();
            for (node, add) in steps {
                if add {
                    match cidrs.allocate(&node.to_string()) {
                        Some(cidr) => {
                            prop_assert!(given.iter().all(|(n, c)| *n == node || *c != cidr));
                            given.insert(node, cidr);
                        }
                        None => prop_assert_eq!(given.len(), 32),
                    }
                } else {
                    cidrs.release(&node.to_string());
                    given.remove(&node);
                }
            }
        }
    }
}
