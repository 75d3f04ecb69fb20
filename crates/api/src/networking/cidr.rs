//! Ranges of addresses: `10.9.8.0/24`, `2001:db8::/64`.

use std::net::IpAddr;

use crate::field::{Errors, Path};

const INVALID: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A range: its first address and how many leading bits all its addresses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    address: IpAddr,
    length: u32,
}

impl Cidr {
    /// Reads a range; the bits behind the shared ones may be set.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length: u32 = length.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (length <= most).then_some(Self { address, length })
    }

    /// Whether its addresses are of IPv4.
    pub(super) fn is_v4(self) -> bool {
        self.address.is_ipv4()
    }

    /// The bits of an address, in front.
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    fn mask(self) -> u128 {
        match self.length {
            0 => 0,
            length => u128::MAX << (128 - length.min(128)),
        }
    }

    /// Whether all addresses of another range are addresses of this one, and this one has more.
    pub(super) fn strictly_contains(self, other: Self) -> bool {
        self.is_v4() == other.is_v4()
            && self.length < other.length
            && Self::bits(self.address) & self.mask() == Self::bits(other.address) & self.mask()
    }

    fn is_masked(self) -> bool {
        Self::bits(self.address) & !self.mask() == 0
    }
}

/// Checks that a text is a range, written without needless parts.
pub(super) fn check(text: &str, path: &Path, errors: &mut Errors) -> Option<Cidr> {
    let Some(cidr) = Cidr::parse(text) else {
        errors.invalid(path, text, INVALID);
        return None;
    };
    if text
        .split_once('/')
        .is_some_and(|(_, length)| length.len() > 1 && length.starts_with('0'))
    {
        errors.invalid(path, text, "must not have leading 0s in IP or prefix length");
    } else if matches!(cidr.address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        errors.invalid(path, text, "must not have an IPv4-mapped IPv6 address");
    } else if !cidr.is_masked() {
        errors.invalid(path, text, "must not have bits set beyond the prefix length");
    }
    Some(cidr)
}

/// What is said of a valid range that is not written the way everyone writes it.
pub(super) fn unusual_form(path: &Path, text: &str) -> Option<String> {
    let cidr = Cidr::parse(text).filter(|cidr| !cidr.is_v4())?;
    let canonical = format!("{}/{}", cidr.address, cidr.length);
    (canonical != text).then(|| {
        format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_within_ranges() {
        let cases = [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "11.1.0.0/16", false),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("2001:db8::/32", "2001:db8:1::/48", true),
            ("2001:db8::/32", "10.0.0.0/8", false),
        ];
        for (outer, inner, expected) in cases {
            let (outer_range, inner_range) = (Cidr::parse(outer).unwrap(), Cidr::parse(inner).unwrap());
            assert_eq!(
                outer_range.strictly_contains(inner_range),
                expected,
                "{inner} in {outer}"
            );
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "::/129"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }
}
