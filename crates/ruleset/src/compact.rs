//! Address sets in few bytes, for `#[serde(with = "ruleset::compact")]`: two numbers a range, how
//! many addresses were skipped before it and how many follow its first.
//!
//! A format that writes small numbers in few bytes needs three for an address among a million of
//! IPv4. What is read is judged like any other input: it leaves the address space or it is a set.

use crate::address::{Address, AddressRange};
use crate::address_set::AddressSet;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserializer, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// Ranges that are believed to follow before they are there.
const BELIEVED: usize = 4096;

/// Writes a set, range by range.
///
/// # Errors
/// Those of the format.
pub fn serialize<A: Address, S: Serializer>(
    set: &AddressSet<A>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(set.len()))?;
    // Where the next range may begin at the earliest.
    let mut from = 0;
    for range in set.ranges() {
        let (first, last) = (range.first.to_number(), range.last.to_number());
        sequence.serialize_element(&(first - from, last - first))?;
        // Nothing follows a range at the end of the address space.
        from = last.wrapping_add(1);
    }
    sequence.end()
}

/// Reads a set.
///
/// # Errors
/// Those of the format, and a range beyond the end of the address space.
pub fn deserialize<'de, A: Address, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<AddressSet<A>, D::Error> {
    struct Ranges<A>(PhantomData<A>);

    impl<'de, A: Address> Visitor<'de> for Ranges<A> {
        type Value = AddressSet<A>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the gaps and lengths of ranges")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Self::Value, S::Error> {
            let beyond = || S::Error::custom("a range beyond the end of the address space");
            let believed = sequence.size_hint().unwrap_or_default().min(BELIEVED);
            let mut ranges = Vec::with_capacity(believed);
            let mut from = Some(0u128);
            while let Some((gap, more)) = sequence.next_element::<(u128, u128)>()? {
                let first = from.and_then(|from| from.checked_add(gap)).ok_or_else(beyond)?;
                let last = first.checked_add(more).ok_or_else(beyond)?;
                if last > A::MAX.to_number() {
                    return Err(beyond());
                }
                ranges.extend(AddressRange::new(A::from_number(first), A::from_number(last)));
                from = last.checked_add(1);
            }
            Ok(AddressSet::new(ranges))
        }
    }

    deserializer.deserialize_seq(Ranges(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super")]
        v4: AddressSet<Ipv4Addr>,
        #[serde(with = "super")]
        v6: AddressSet<Ipv6Addr>,
    }

    fn set<A: Address>(pairs: &[(u128, u128)]) -> AddressSet<A> {
        let range = |(first, last): &(u128, u128)| {
            let (first, last) = (A::from_number(*first), A::from_number(*last));
            AddressRange { first: first.min(last), last: first.max(last) }
        };
        pairs.iter().map(range).collect()
    }

    fn read(v4: &str, v6: &str) -> Result<Both, serde_json::Error> {
        serde_json::from_str(&format!("{{\"v4\":{v4},\"v6\":{v6}}}"))
    }

    #[test]
    fn writes_gaps_and_lengths() {
        let both = Both { v4: set(&[(7, 9), (12, 12)]), v6: set(&[(0, u128::MAX)]) };
        let text = serde_json::to_string(&both).expect("JSON");
        assert_eq!(text, format!("{{\"v4\":[[7,2],[2,0]],\"v6\":[[0,{}]]}}", u128::MAX));
        assert_eq!(serde_json::from_str::<Both>(&text).expect("the same"), both);
    }

    #[test]
    fn what_leaves_the_address_space_is_refused() {
        assert!(read("[[4294967295,0]]", "[]").is_ok());
        assert!(read("[[4294967295,1]]", "[]").is_err());
        assert!(read("[[4294967295,0],[0,0]]", "[]").is_err());
        let all = u128::MAX;
        assert!(read("[]", &format!("[[{all},0]]")).is_ok());
        assert!(read("[]", &format!("[[{all},1]]")).is_err());
        assert!(read("[]", &format!("[[{all},0],[0,0]]")).is_err());
        assert!(read("[]", &format!("[[1,0],[{all},0]]")).is_err());
        // Adjacent ones were never written; they are one.
        assert_eq!(read("[[1,0],[0,4]]", "[]").expect("a set").v4, set(&[(1, 6)]));
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            v4 in prop::collection::vec(any::<(u32, u32)>(), 0..20),
            v6 in prop::collection::vec(any::<(u128, u128)>(), 0..20),
            near in prop::collection::vec((0u128..99, 0u128..99), 0..20),
        ) {
            let v4: Vec<_> = v4.iter().map(|(a, b)| (u128::from(*a), u128::from(*b))).collect();
            let both = Both { v4: set(&[v4, near.clone()].concat()), v6: set(&[v6, near].concat()) };
            let text = serde_json::to_string(&both).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Both>(&text).expect("the same"), both);
        }
    }
}
