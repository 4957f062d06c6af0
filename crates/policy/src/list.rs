//! List files: one member a line, `#` starts a comment.
//!
//! These files are large (a million lines), and most lines are a plain IPv4 address or prefix.
//! Those are read straight from the bytes; every other line goes through [`Member`], which also
//! finds the words for what is wrong. Both ways agree on every line: a test says so.

use crate::member::{Member, MemberError};
use ruleset::AddressRange;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Ranges as they were read, neither sorted nor merged.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) v4: Vec<AddressRange<Ipv4Addr>>,
    pub(crate) v6: Vec<AddressRange<Ipv6Addr>>,
}

impl Members {
    pub(crate) fn push(&mut self, member: Member) {
        match member {
            Member::V4(range) => self.v4.push(range),
            Member::V6(range) => self.v6.push(range),
        }
    }
}

/// A line that holds no member.
#[derive(Debug)]
pub(crate) struct BadLine<'t> {
    /// Counted from 1.
    pub(crate) number: usize,
    /// The line without its end.
    pub(crate) text: &'t str,
    /// The bytes of the line that should have been a member.
    pub(crate) member: Range<usize>,
    pub(crate) error: MemberError,
}

/// Reads all members of a list file, and hands out every bad line in order.
pub(crate) fn parse<'t>(text: &'t str, members: &mut Members, mut bad: impl FnMut(BadLine<'t>)) {
    let bytes = text.as_bytes();
    // Most files are all IPv4: room for every line at once keeps a large file from being moved
    // about as the list grows.
    members.v4.reserve(bytes.iter().filter(|byte| **byte == b'\n').count().min(bytes.len() / 8));
    let (mut at, mut number) = (0, 0);
    while at < bytes.len() {
        number += 1;
        if let Some((range, length)) = plain_line(&bytes[at..]) {
            members.v4.push(range);
            at += length;
            continue;
        }
        let end = text[at..].find('\n').map_or(bytes.len(), |length| at + length);
        let line = text[at..end].trim_end_matches('\r');
        at = end + 1;
        let content = line.split('#').next().unwrap_or_default();
        let member = content.trim();
        if member.is_empty() {
            continue;
        }
        match member.parse() {
            Ok(member) => members.push(member),
            Err(error) => {
                let start = content.len() - content.trim_start().len();
                let error = with_list_hint(member, error);
                bad(BadLine { number, text: line, member: start..start + member.len(), error });
            }
        }
    }
}

/// In a file, several on a line are separated by line ends, and only `#` starts a comment.
fn with_list_hint(member: &str, error: MemberError) -> MemberError {
    let hint = if member.contains(';') || member.contains("//") {
        "comments start with `#`"
    } else if member.contains([',', '"', '\'']) || member.contains(char::is_whitespace) {
        "a list file holds one member a line, without quotes or commas"
    } else {
        return error;
    };
    match error {
        MemberError::NotAnAddress { .. } | MemberError::NotALength { .. } => {
            MemberError::NotAnAddress { text: member.into(), hint: Some(hint.into()) }
        }
        other => other,
    }
}

/// Reads a line that is nothing but an IPv4 address or a prefix without host bits. Returns it and
/// the length of the line with its end; none for any other line.
fn plain_line(bytes: &[u8]) -> Option<(AddressRange<Ipv4Addr>, usize)> {
    let (address, mut at) = dotted_quad(bytes)?;
    let mut range = AddressRange::single(Ipv4Addr::from_bits(address));
    if bytes.get(at) == Some(&b'/') {
        let (length, digits) = decimal(&bytes[at + 1..], 2)?;
        range = AddressRange::prefix(range.first, length as u8)?;
        if range.first.to_bits() != address {
            return None;
        }
        at += 1 + digits;
    }
    match bytes[at..] {
        [] => Some((range, at)),
        [b'\n', ..] => Some((range, at + 1)),
        [b'\r', b'\n', ..] => Some((range, at + 2)),
        _ => None,
    }
}

/// An IPv4 address at the start of `bytes`, and its length.
fn dotted_quad(bytes: &[u8]) -> Option<(u32, usize)> {
    let (mut address, mut at) = (0, 0);
    for octet in 0..4 {
        if octet > 0 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let (number, digits) = decimal(&bytes[at..], 3)?;
        // A leading zero is octal to some, and an error to us.
        if number > 255 || (digits > 1 && bytes[at] == b'0') {
            return None;
        }
        address = address << 8 | number;
        at += digits;
    }
    Some((address, at))
}

/// A number of at most `most` digits at the start of `bytes`, and how many digits it has.
fn decimal(bytes: &[u8], most: usize) -> Option<(u32, usize)> {
    let (mut number, mut digits) = (0, 0);
    while let Some(byte @ b'0'..=b'9') = bytes.get(digits) {
        number = number * 10 + u32::from(byte - b'0');
        digits += 1;
        if digits > most {
            return None;
        }
    }
    (digits > 0).then_some((number, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Vec<String>, Vec<(usize, String)>) {
        let (mut members, mut bad) = (Members::default(), Vec::new());
        parse(text, &mut members, |line| {
            bad.push((line.number, line.text[line.member].to_owned()))
        });
        let v4 = members.v4.iter().map(ToString::to_string);
        (v4.chain(members.v6.iter().map(ToString::to_string)).collect(), bad)
    }

    #[test]
    fn reads_members_comments_blank_lines_and_both_line_ends() {
        let text = "# head\r\n\r\n10.0.0.1\r\n  10.0.1.0/24 # net\n\t\n10.0.2.1-10.0.2.9\n\
                    2001:db8::/32\n10.0.0.2#x\n10.0.0.0/8";
        let (members, bad) = read(text);
        let v4 = ["10.0.0.1", "10.0.1.0/24", "10.0.2.1-10.0.2.9", "10.0.0.2", "10.0.0.0/8"];
        assert_eq!(members, [&v4[..], &["2001:db8::/32"]].concat());
        assert_eq!(bad, []);
    }

    #[test]
    fn names_the_bad_lines() {
        let (members, bad) = read("10.0.0.1\n\n 10.0.0.256 # x\nöö\n10.0.0.1/24\n1.2.3.4");
        assert_eq!(members, ["10.0.0.1", "1.2.3.4"]);
        let expected = [(3, "10.0.0.256"), (4, "öö"), (5, "10.0.0.1/24")];
        assert_eq!(bad, expected.map(|(line, text)| (line, text.to_owned())));
    }

    /// Lines near the border between the two ways of reading.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9]{1,4}(\\.[0-9]{1,4}){3}(/[0-9]{1,3})?\r?",
            "[0-2]?[0-9]{1,2}(\\.[0-2]?[0-9]{1,2}){3}",
            "(10\\.0\\.){1,2}[0-9.]{0,8}/?[0-9]{0,3}[ #\r]{0,2}",
            any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).to_string()),
            (any::<u32>(), 0u8..=32).prop_filter_map("a prefix", |(address, length)| {
                Some(AddressRange::prefix(Ipv4Addr::from_bits(address), length)?.to_string())
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_fast_way_agrees_with_the_slow_one(line in line()) {
            let slow = line.trim_end_matches('\r').parse::<Member>().ok();
            if let Some((range, length)) = plain_line(line.as_bytes()) {
                prop_assert_eq!(Some(Member::V4(range)), slow);
                prop_assert_eq!(length, line.len());
            }
            let (members, bad) = read(&line);
            let content = line.split('#').next().unwrap_or_default().trim();
            let member = content.parse::<Member>().ok();
            prop_assert_eq!(members, Vec::from_iter(member.map(|member| member.to_string())));
            prop_assert_eq!(bad.is_empty(), member.is_some() || content.is_empty());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[0-9./#: \r\n\\-é]{0,200}") {
            read(&text);
        }
    }
}
