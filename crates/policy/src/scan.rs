//! Addresses read straight from bytes, many digits in one step.
//!
//! The plain forms only, which nearly every line of a large list has. What is read here means the
//! same to `std`'s parser; whatever is not read may still be an address, and goes to
//! [`Member`](crate::member::Member). Eight bytes lie in one word, and arithmetic on the word
//! judges all of them at once: a branch for each byte would be guessed wrong too often.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A byte in every byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// What makes letters lower case.
const LOWER: u64 = 0x20 * ONES;
/// The highest bit of every byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// What the last 4 bits of up to three characters, and [`FILL`] in place of those that aren't
/// there, say as a number of an IPv4 address; [`BAD`] where they are none. A leading zero is octal
/// to some, and an error to us.
static OCTETS: [u16; 4096] = octets();
/// Stands for a number that is too large, too long, or not there.
const BAD: u16 = 0x8000;
/// By the number of characters, 0 to 15.
const FILL: [u16; 16] = {
    let mut fill = [0xfff; 16];
    (fill[1], fill[2], fill[3]) = (0xff0, 0xf00, 0);
    fill
};

const fn octets() -> [u16; 4096] {
    let mut octets = [BAD; 4096];
    let mut number = 0;
    while number < 256 {
        let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
        let index = match number {
            0..=9 => ones | FILL[1] as usize,
            10..=99 => tens | ones << 4 | FILL[2] as usize,
            _ => hundreds | tens << 4 | ones << 8,
        };
        octets[index] = number as u16;
        number += 1;
    }
    octets
}

/// An IPv4 address at the start of `bytes`, and its length: four numbers without leading zeros. What
/// may follow one is the caller's to judge.
/// None without the 20 bytes that are looked at.
#[inline(always)]
pub(crate) fn v4(bytes: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let window: &[u8; 20] = bytes.first_chunk()?;
    let first = bits(!between(word(window, 0)?, b'0', b'9'));
    // One bit for each byte that is no digit; the lowest four are the ends of the numbers.
    let first = first | bits(!between(word(window, 8)?, b'0', b'9')) << 8;
    let second = first & first.wrapping_sub(1);
    let third = second & second.wrapping_sub(1);
    let fourth = third & third.wrapping_sub(1);
    if fourth == 0 {
        return None;
    }
    // All are below 16 anyway; this shows the compiler that no index is out of bounds.
    let ends = [first, second, third, fourth].map(|bits| bits.trailing_zeros() as usize & 15);
    let dots = [window[ends[0]], window[ends[1]], window[ends[2]]];
    if dots != [b'.'; 3] {
        return None;
    }
    let starts = [0, ends[0] + 1, ends[1] + 1, ends[2] + 1];
    let (mut octets, mut all) = ([0; 4], 0);
    for ((octet, start), end) in octets.iter_mut().zip(starts).zip(ends) {
        let text = u32::from_le_bytes(*window[start..].first_chunk()?);
        let digits = text & 0xf | text >> 4 & 0xf0 | text >> 8 & 0xf00;
        let length = end.wrapping_sub(start);
        let number = OCTETS[(digits as usize & 0xfff) | usize::from(FILL[length & 15])];
        all |= number;
        *octet = number as u8;
    }
    (all & BAD == 0).then_some((Ipv4Addr::from(octets), ends[3]))
}

/// An IPv6 address at the start of `bytes`, and its length: groups of hex digits, with one `::` or
/// none. None without the 48 bytes that may be looked at.
#[inline(always)]
pub(crate) fn v6(bytes: &[u8]) -> Option<(Ipv6Addr, usize)> {
    let window: &[u8; 48] = bytes.first_chunk()?;
    let (mut number, mut groups, mut at) = (0u128, 0, 0);
    let mut gap = None;
    if window.starts_with(b"::") {
        (gap, at) = (Some(0), 2);
    }
    loop {
        let (group, digits) = hex(word(window, at)?)?;
        if digits == 0 {
            // Nothing need follow `::`, something must follow `:`.
            if gap != Some(groups) {
                return None;
            }
            break;
        }
        number = number << 16 | u128::from(group);
        groups += 1;
        at += digits;
        if groups == 8 || window[at] != b':' {
            break;
        }
        at += 1;
        if window[at] == b':' {
            at += 1;
            if gap.replace(groups).is_some() {
                return None;
            }
        }
    }
    let number = match gap {
        None if groups == 8 => number,
        Some(before) if groups < 8 => {
            let behind = 16 * (groups - before);
            let head = (number >> behind).checked_shl(128 - 16 * before).unwrap_or(0);
            head | number & ((1 << behind) - 1)
        }
        _ => return None,
    };
    let address = Ipv6Addr::from_bits(number);
    // With an IPv4 address in it, written either way, it is for those who explain that.
    let is_plain = !matches!(window[at], b'.' | b':') && address.to_ipv4_mapped().is_none();
    is_plain.then_some((address, at))
}

/// A prefix length at the start of `bytes`, and how many digits it has.
#[inline]
pub(crate) fn prefix_length(bytes: &[u8]) -> Option<(u8, usize)> {
    let digits = bytes.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    let number = bytes[..digits].iter().fold(0, |n, digit| 10 * n + u32::from(digit - b'0'));
    (1..=3).contains(&digits).then(|| Some((u8::try_from(number).ok()?, digits)))?
}

/// The number of up to four hex digits that `text` begins with, and how many they are. None where
/// there are more.
#[inline]
fn hex(text: u64) -> Option<(u16, usize)> {
    let digits = between(text, b'0', b'9') | between(text | LOWER, b'a', b'f');
    let length = (!digits & HIGH).trailing_zeros() / 8;
    if length > 4 {
        return None;
    }
    let text = text as u32;
    let values = (text & 0x0f0f_0f0f) + 9 * (text >> 6 & 0x0101_0101);
    let values = (u64::from(values) << (32 - 8 * length)) as u32;
    let values = values.swap_bytes();
    let pairs = (values | values >> 4) & 0x00ff_00ff;
    Some(((pairs | pairs >> 8) as u16, length as usize))
}

/// Eight bytes from `at` on, the first one lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The highest bit of each byte that lies between two ASCII characters, both included.
#[inline]
fn between(word: u64, first: u8, last: u8) -> u64 {
    // No sum leaves its byte: the highest bits are kept out of them.
    let low = word & !HIGH;
    let from_first = low + u64::from(0x80 - first) * ONES;
    let behind_last = low + u64::from(0x7f - last) * ONES;
    from_first & !behind_last & !word & HIGH
}

/// The highest bits of all bytes side by side, the first byte's lowest.
#[inline]
fn bits(word: u64) -> u32 {
    // Each product that lands in the highest byte stems from one bit: 8i + 56 - 7j differ.
    ((word >> 7 & ONES).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What lies behind the address in the file.
    const BEHIND: [u8; 48] = [b'\n'; 48];

    fn read<A>(read: fn(&[u8]) -> Option<(A, usize)>, text: &str) -> Option<(A, usize)> {
        read(&[text.as_bytes(), &BEHIND].concat())
    }

    #[test]
    fn reads_the_shortest_and_the_longest() {
        for text in ["0.0.0.0", "255.255.255.255", "1.22.133.4", "10.0.0.1"] {
            assert_eq!(read(v4, text), Some((text.parse().expect("one"), text.len())));
        }
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:FFFF";
        for text in ["::", "::1", "1::", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8", longest] {
            assert_eq!(read(v6, text), Some((text.parse().expect("one"), text.len())), "{text}");
        }
    }

    #[test]
    fn leaves_the_rest_to_others() {
        for text in ["", "1.2.3", "1.2.3.4444", "01.2.3.4", "1.2.3.256", "1..2.3", "1.2.3.", "é"] {
            assert_eq!(read(v4, text), None, "{text}");
        }
        let nine = "1:2:3:4:5:6:7:8:9";
        for text in ["1", ":", ":::", "1:::2", "1::2::3", nine, "::ffff:a00:1", "::1.2.3.4", "1:"] {
            assert_eq!(read(v6, text), None, "{text}");
        }
        // Too near to the end of the file.
        assert_eq!((v4(b"10.0.0.1\n"), v6(b"2001:db8::1\n")), (None, None));
    }

    proptest! {
        #[test]
        fn every_address_is_read(a in any::<u32>(), b in any::<u128>(), zeros in any::<u128>()) {
            let text = Ipv4Addr::from_bits(a).to_string();
            prop_assert_eq!(read(v4, &text), Some((Ipv4Addr::from_bits(a), text.len())));
            for address in [Ipv6Addr::from_bits(b), Ipv6Addr::from_bits(b & zeros & zeros >> 9)] {
                let text = address.to_string();
                let is_plain = !text.contains('.') && address.to_ipv4_mapped().is_none();
                let expected = is_plain.then_some((address, text.len()));
                prop_assert_eq!(read(v6, &text), expected);
                prop_assert_eq!(read(v6, &text.to_uppercase()), expected);
            }
        }

        #[test]
        fn what_is_read_means_the_same_to_std(
            dotted in "[0-9.]{1,17}",
            groups in "(:{1,2}|[0-9a-fA-F]{0,5}){1,17}",
            any in "[0-9a-g.:/\u{0}é ]{0,40}",
        ) {
            for text in [dotted, groups, any] {
                if let Some((address, length)) = read(v4, &text) {
                    prop_assert_eq!(text[..length].parse(), Ok(address));
                }
                if let Some((address, length)) = read(v6, &text) {
                    prop_assert_eq!(text[..length].parse(), Ok(address));
                }
            }
        }

        #[test]
        fn words_are_judged_byte_by_byte(bytes in any::<[u8; 8]>(), a in 0u8..0x7f, b in 0u8..0x7f) {
            let (first, last) = (a.min(b), a.max(b));
            let found = bits(between(u64::from_le_bytes(bytes), first, last));
            for (index, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(found >> index & 1 == 1, (first..=last).contains(byte));
            }
        }
    }
}
