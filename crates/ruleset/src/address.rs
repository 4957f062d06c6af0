//! Addresses as numbers, and ranges of them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cmp::Ordering;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 address, as a number.
pub trait Address:
    Copy + Ord + Hash + fmt::Debug + fmt::Display + FromStr + Serialize + DeserializeOwned + 'static
{
    /// Width in bits: 32 or 128.
    const BITS: u8;
    /// The lowest address of the family.
    const MIN: Self;
    /// The highest address of the family.
    const MAX: Self;
    /// The address as a number; the upper bits are zero for IPv4.
    fn to_number(self) -> u128;
    /// The address of a number; bits above [`Self::BITS`] are cut off.
    fn from_number(number: u128) -> Self;
    /// The next higher address, none after [`Self::MAX`].
    fn next(self) -> Option<Self>;
    /// The next lower address, none before [`Self::MIN`].
    fn previous(self) -> Option<Self>;
    /// The same address without its family in the type.
    fn to_ip(self) -> IpAddr;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    const MIN: Self = Self::UNSPECIFIED;
    const MAX: Self = Self::BROADCAST;
    fn to_number(self) -> u128 {
        u128::from(self.to_bits())
    }
    fn from_number(number: u128) -> Self {
        Self::from_bits(number as u32)
    }
    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }
    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
    fn to_ip(self) -> IpAddr {
        self.into()
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    const MIN: Self = Self::UNSPECIFIED;
    const MAX: Self = Self::from_bits(u128::MAX);
    fn to_number(self) -> u128 {
        self.to_bits()
    }
    fn from_number(number: u128) -> Self {
        Self::from_bits(number)
    }
    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }
    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
    fn to_ip(self) -> IpAddr {
        self.into()
    }
}

/// All addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange<A> {
    /// The lowest address.
    pub first: A,
    /// The highest address, never below `first`.
    pub last: A,
}

impl<A: Address> AddressRange<A> {
    /// Every address of the family.
    pub const ALL: Self = Self { first: A::MIN, last: A::MAX };

    /// The range from `first` to `last`, or none if they are inverted.
    pub fn new(first: A, last: A) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// One address.
    pub fn single(address: A) -> Self {
        Self { first: address, last: address }
    }

    /// The prefix `address/length`, with host bits cut off. None if `length` is over the width.
    pub fn prefix(address: A, length: u8) -> Option<Self> {
        let host_bits = A::BITS.checked_sub(length)?;
        let mask = if host_bits == 128 { u128::MAX } else { (1u128 << host_bits) - 1 };
        let number = address.to_number();
        Some(Self { first: A::from_number(number & !mask), last: A::from_number(number | mask) })
    }

    /// Whether this is one address only.
    pub fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: A) -> bool {
        self.first <= address && address <= self.last
    }

    /// The prefix length, where the range is exactly one prefix.
    pub fn prefix_length(&self) -> Option<u8> {
        let span = self.last.to_number() - self.first.to_number();
        let host_bits = span.trailing_ones();
        let aligned = self.first.to_number() & span == 0;
        let is_power = span.checked_add(1).is_none_or(|size| size.is_power_of_two());
        (aligned && is_power).then(|| A::BITS - host_bits as u8)
    }
}

/// By the first address, then by the last: as numbers, which is faster than octet by octet.
impl<A: Address> Ord for AddressRange<A> {
    fn cmp(&self, other: &Self) -> Ordering {
        let first = self.first.to_number().cmp(&other.first.to_number());
        first.then_with(|| self.last.to_number().cmp(&other.last.to_number()))
    }
}

impl<A: Address> PartialOrd for AddressRange<A> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As nftables writes it: an address, a prefix where it is one, else `first-last`.
impl<A: Address> fmt::Display for AddressRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_length() {
            Some(length) if length == A::BITS => write!(f, "{}", self.first),
            Some(length) => write!(f, "{}/{length}", self.first),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, last: u32) -> AddressRange<Ipv4Addr> {
        AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).expect("ordered")
    }

    #[test]
    fn prints_prefixes_only_where_they_are_exact() {
        assert_eq!(range(0x0a00_0000, 0x0a00_00ff).to_string(), "10.0.0.0/24");
        assert_eq!(range(0x0a00_0001, 0x0a00_0002).to_string(), "10.0.0.1-10.0.0.2");
        assert_eq!(range(0x0a00_0000, 0x0a00_00fe).to_string(), "10.0.0.0-10.0.0.254");
    }

    #[test]
    fn reaches_both_ends_of_the_address_space() {
        assert_eq!(AddressRange::<Ipv4Addr>::ALL.to_string(), "0.0.0.0/0");
        assert_eq!(AddressRange::<Ipv6Addr>::ALL.to_string(), "::/0");
        assert_eq!(AddressRange::prefix(Ipv6Addr::MIN, 0), Some(AddressRange::ALL));
    }
}
