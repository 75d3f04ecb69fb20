//! The range that cluster IPs come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range that an address and the length of its prefix name.
    pub(crate) fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = Self::bits_of(address);
        let host = u32::from(bits).checked_sub(u32::from(prefix))?;
        let number = number(address);
        let first = if host >= 128 { 0 } else { number >> host << host };
        Some(Self {
            first: address_like(address, first),
            prefix,
        })
    }

    fn bits_of(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// How many addresses can be given out: neither the first, which names the network, nor an IPv4 broadcast address.
    /// Of a very large range only a part is used.
    pub(super) fn size(&self) -> u128 {
        let host = u32::from(Self::bits_of(self.first) - self.prefix);
        let all = 1_u128 << host.min(20);
        let ends = if self.first.is_ipv4() { 2 } else { 1 };
        all.saturating_sub(ends)
    }

    /// The address at a place, from 0.
    pub(crate) fn nth(&self, place: u128) -> Option<IpAddr> {
        (place < self.size()).then(|| address_like(self.first, number(self.first) + 1 + place))
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        if address.is_ipv4() != self.first.is_ipv4() {
            return false;
        }
        let place = number(address).wrapping_sub(number(self.first));
        place >= 1 && place - 1 < self.size()
    }

    pub(super) fn family(&self) -> &'static str {
        if self.first.is_ipv4() { "IPv4" } else { "IPv6" }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address_like(like: IpAddr, number: u128) -> IpAddr {
    match like {
        // Only ever called with numbers of the like's own range.
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(address: &str, prefix: u8) -> Cidr {
        Cidr::new(address.parse().unwrap(), prefix).unwrap()
    }

    #[test]
    fn a_range_knows_what_can_be_given_out() {
        let small = cidr("10.1.2.77", 29);
        assert_eq!(small.to_string(), "10.1.2.72/29");
        assert_eq!(small.size(), 6);
        assert_eq!(small.nth(0), Some("10.1.2.73".parse().unwrap()));
        assert_eq!(
            (small.nth(5), small.nth(6)),
            (Some("10.1.2.78".parse().unwrap()), None)
        );
        for (address, expected) in [
            ("10.1.2.72", false),
            ("10.1.2.73", true),
            ("10.1.2.79", false),
            ("::1", false),
        ] {
            assert_eq!(small.contains(address.parse().unwrap()), expected, "{address}");
        }
        let six = cidr("fd00::5", 108);
        assert_eq!(six.nth(0), Some("fd00::1".parse().unwrap()));
        assert_eq!(six.family(), "IPv6");
        assert_eq!(cidr("10.0.0.1", 32).size(), 0);
        assert_eq!(Cidr::new("10.0.0.1".parse().unwrap(), 33), None);
    }
}
