//! List files: one member a line, or `none` in one that is meant to be empty; `#` starts a comment.
//!
//! These files are large (a million lines), and nearly every line is a plain address, prefix or
//! range, alone or with a comment behind it. Those are read straight from the bytes ([`scan`]);
//! every other line goes through [`Member`], which also finds the words for what is wrong. Both
//! ways agree on every line: a test says so.

use crate::member::{Member, MemberError};
use crate::scan;
use ruleset::{Address, AddressRange};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Ranges as they were read, neither sorted nor merged.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) v4: Vec<AddressRange<Ipv4Addr>>,
    pub(crate) v6: Vec<AddressRange<Ipv6Addr>>,
}

impl Members {
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(crate) fn push(&mut self, member: Member) {
        match member {
            Member::V4(range) => self.v4.push(range),
            Member::V6(range) => self.v6.push(range),
        }
    }
}

/// Adds a range, with `rest` bytes of the file still to come. Room is made at once for all that
/// may follow, so that the list isn't moved about as it grows. What stays unused costs nothing:
/// the system gives a page of so large a block only when it is first written to.
#[inline]
fn push<A: Address>(ranges: &mut Vec<AddressRange<A>>, range: AddressRange<A>, rest: usize) {
    if ranges.capacity() == 0 {
        // As many lines as are possible, `1.1.1.1`; hardly any of IPv6 is shorter than this.
        let shortest = if A::BITS == 32 { 8 } else { 16 };
        ranges.reserve_exact(rest / shortest + 1);
    }
    ranges.push(range);
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

/// The file holds a NUL byte or is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotText;

/// Reads a list file block by block.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    members: Members,
    /// Lines read so far.
    lines: usize,
    /// Bytes of the file that are still to come, as far as known.
    expected: usize,
    /// The first line that says that the list is meant to be empty.
    none: Option<(usize, String)>,
}

/// What a list says that is meant to be empty.
const NONE: &str = "none";

impl Parser {
    /// For a file of so many bytes; it may have other ones.
    pub(crate) fn new(size: usize) -> Self {
        Self { expected: size, ..Self::default() }
    }

    /// Reads the next block, which is of whole lines, and hands out every bad line in order.
    ///
    /// # Errors
    /// Where the file is no text. What was read before means nothing then.
    pub(crate) fn read<'t>(
        &mut self,
        block: &'t [u8],
        mut bad: impl FnMut(BadLine<'t>),
    ) -> Result<(), NotText> {
        let Self { members, lines, expected, none } = self;
        let behind = expected.saturating_sub(block.len());
        *expected = behind;
        let mut rest = if *lines == 0 { without_marks(block) } else { block };
        while !rest.is_empty() {
            *lines += 1;
            if let Some(length) = plain_line(rest, behind, members) {
                rest = &rest[length..];
                continue;
            }
            let line;
            (line, rest) = first_line(rest);
            let line = text(line)?.trim_end_matches('\r');
            let content = line.split('#').next().unwrap_or_default();
            let member = content.trim();
            if member.is_empty() {
                continue;
            }
            if member == NONE {
                none.get_or_insert_with(|| (*lines, line.to_owned()));
                continue;
            }
            match member.parse() {
                Ok(Member::V4(range)) => push(&mut members.v4, range, rest.len() + behind),
                Ok(Member::V6(range)) => push(&mut members.v6, range, rest.len() + behind),
                Err(error) => {
                    let start = content.len() - content.trim_start().len();
                    let error = with_list_hint(member, error);
                    let member = start..start + member.len();
                    bad(BadLine { number: *lines, text: line, member, error });
                }
            }
        }
        Ok(())
    }

    /// The number and the text of the first line `none`.
    pub(crate) fn none(&mut self) -> Option<(usize, String)> {
        self.none.take()
    }

    /// All members, in as much memory as they need.
    pub(crate) fn members(mut self) -> Members {
        self.members.v4.shrink_to_fit();
        self.members.v6.shrink_to_fit();
        self.members
    }
}

/// The bytes behind the byte order marks that some editors put in front.
fn without_marks(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix("\u{feff}".as_bytes()) {
        bytes = rest;
    }
    bytes
}

/// The first line without its end, and what follows it.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// A line as text. A file is UTF-8 exactly where each of its lines is: no character holds a
/// line's end in its bytes.
fn text(line: &[u8]) -> Result<&str, NotText> {
    match memchr::memchr(0, line) {
        Some(_) => Err(NotText),
        None => std::str::from_utf8(line).map_err(|_| NotText),
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

/// Reads a line that is nothing but a member in plain form, or nothing at all, and perhaps a
/// comment. Returns its length with its end; none for any other line. `behind` bytes of the file
/// follow these.
#[inline]
fn plain_line(bytes: &[u8], behind: usize, members: &mut Members) -> Option<usize> {
    match bytes.first()? {
        b'0'..=b'9' => {
            let Some((first, at)) = scan::v4(bytes) else {
                return plain_v6_line(bytes, behind, members);
            };
            let (range, at) = plain(bytes, first, at, scan::v4)?;
            let length = at + plain_end(&bytes[at..])?;
            push(&mut members.v4, range, bytes.len() + behind);
            Some(length)
        }
        b'a'..=b'f' | b'A'..=b'F' | b':' => plain_v6_line(bytes, behind, members),
        _ => plain_end(bytes),
    }
}

fn plain_v6_line(bytes: &[u8], behind: usize, members: &mut Members) -> Option<usize> {
    let (first, at) = scan::v6(bytes)?;
    let (range, at) = plain(bytes, first, at, scan::v6)?;
    let length = at + plain_end(&bytes[at..])?;
    push(&mut members.v6, range, bytes.len() + behind);
    Some(length)
}

/// What the address at the start of `bytes` begins, which ends at `at`: itself, a prefix without
/// host bits or a range. Returns its length with it.
#[inline]
fn plain<A: Address>(
    bytes: &[u8],
    first: A,
    at: usize,
    address: impl Fn(&[u8]) -> Option<(A, usize)>,
) -> Option<(AddressRange<A>, usize)> {
    match bytes.get(at) {
        Some(b'/') => {
            let (length, digits) = scan::prefix_length(&bytes[at + 1..])?;
            let range = AddressRange::prefix(first, length)?;
            (range.first == first).then_some((range, at + 1 + digits))
        }
        Some(b'-') => {
            let (last, length) = address(&bytes[at + 1..])?;
            Some((AddressRange::new(first, last)?, at + 1 + length))
        }
        _ => Some((AddressRange::single(first), at)),
    }
}

/// The length of the end of a line: blanks, a comment, and the end itself. None where it is
/// anything else, or not plain ASCII.
#[inline]
fn plain_end(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => plain_comment(bytes),
    }
}

fn plain_comment(bytes: &[u8]) -> Option<usize> {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match bytes[blanks..].first() {
        None | Some(b'#' | b'\n') => {}
        Some(_) => return None,
    }
    let (line, rest) = first_line(bytes);
    let is_plain = line.is_ascii() && memchr::memchr(0, line).is_none();
    is_plain.then_some(bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All members, IPv4 first, and the bad lines: number, what should have been a member, error.
    type Content = (Vec<Member>, Vec<(usize, String, String)>);

    fn read(bytes: &[u8]) -> Result<Content, NotText> {
        read_in_blocks(bytes, usize::MAX)
    }

    /// The same, so many lines in a block.
    fn read_in_blocks(bytes: &[u8], lines: usize) -> Result<Content, NotText> {
        let (mut bad, mut parser) = (Vec::new(), Parser::new(bytes.len()));
        let all: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for block in all.chunks(lines) {
            parser.read(&block.concat(), |line| {
                bad.push((line.number, line.text[line.member].to_owned(), line.error.to_string()));
            })?;
        }
        let members = parser.members();
        let v6 = members.v6.into_iter().map(Member::V6);
        Ok((members.v4.into_iter().map(Member::V4).chain(v6).collect(), bad))
    }

    /// The same, every line in the slow way.
    fn read_slowly(text: &str) -> Content {
        let (mut members, mut bad) = (Vec::new(), Vec::new());
        for (index, line) in text.split('\n').enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.parse::<Member>() {
                Ok(member) => members.push(member),
                Err(_) if line.is_empty() => {}
                Err(error) => {
                    let error = with_list_hint(line, error).to_string();
                    bad.push((index + 1, line.to_owned(), error));
                }
            }
        }
        members.sort_by_key(|member| matches!(member, Member::V6(_)));
        (members, bad)
    }

    fn shown(text: &str) -> (Vec<String>, Vec<(usize, String)>) {
        let (members, bad) = read(text.as_bytes()).expect("text");
        let bad = bad.into_iter().map(|(line, member, _)| (line, member));
        (members.iter().map(ToString::to_string).collect(), bad.collect())
    }

    #[test]
    fn reads_members_comments_blank_lines_and_both_line_ends() {
        let text = "# head\r\n\r\n10.0.0.1\r\n  10.0.1.0/24 # net\n\t\n10.0.2.1-10.0.2.9\n\
                    2001:db8::/32\n10.0.0.2#x\n10.0.0.0/8";
        let (members, bad) = shown(text);
        let v4 = ["10.0.0.1", "10.0.1.0/24", "10.0.2.1-10.0.2.9", "10.0.0.2", "10.0.0.0/8"];
        assert_eq!(members, [&v4[..], &["2001:db8::/32"]].concat());
        assert_eq!(bad, []);
    }

    #[test]
    fn names_the_bad_lines() {
        let (members, bad) = shown("10.0.0.1\n\n 10.0.0.256 # x\nöö\n10.0.0.1/24\n1.2.3.4");
        assert_eq!(members, ["10.0.0.1", "1.2.3.4"]);
        let expected = [(3, "10.0.0.256"), (4, "öö"), (5, "10.0.0.1/24")];
        assert_eq!(bad, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn what_is_no_text_is_told_wherever_it_stands() {
        for bad in [&b"\xff"[..], b"\0", b"\xff\xfe", b"\xc3"] {
            for (before, after) in [("", ""), ("10.0.0.1 # ", "\n"), ("# ", " \n10.0.0.1\n")] {
                let file = [b"10.0.0.1\n", before.as_bytes(), bad, after.as_bytes()].concat();
                assert_eq!(read(&file), Err(NotText), "{file:?}");
            }
        }
        assert_eq!(read("\u{feff}\u{feff}10.0.0.1 # é\n".as_bytes()).expect("text").0.len(), 1);
    }

    #[test]
    fn plain_lines_are_read_in_the_fast_way() {
        let padding = "\n".repeat(64);
        for line in [
            "10.0.0.1",
            "10.0.0.1\r",
            "10.0.0.0/8",
            "10.0.0.1-10.0.0.9",
            "10.0.0.1\t# host",
            "10.0.0.1#",
            "2001:db8::1",
            "2001:db8::/32 ",
            "::1-::9",
            "FE80::/10",
            "",
            "# comment",
            "\t ",
        ] {
            let file = format!("{line}{padding}");
            let length = plain_line(file.as_bytes(), 0, &mut Members::default());
            assert_eq!(length, Some(line.len() + 1), "{line}");
        }
    }

    /// Lines near the border between the two ways of reading.
    fn line() -> impl Strategy<Value = String> {
        let v4 = || any::<u32>().prop_map(Ipv4Addr::from_bits);
        let v6 = || (any::<u128>(), any::<u128>()).prop_map(|(a, b)| Ipv6Addr::from_bits(a & b));
        prop_oneof![
            "[0-9]{1,4}(\\.[0-9]{1,4}){3}(/[0-9]{1,4})?\r?",
            "[0-2]?[0-9]{1,2}(\\.[0-2]?[0-9]{1,2}){3}",
            "(10\\.0\\.){1,2}[0-9.]{0,8}[/-]?[0-9.]{0,3}[ #\r]{0,2}",
            "(:{1,2}|[0-9a-fA-F]{1,5}){1,12}(/[0-9]{1,3})?",
            "[ \t]{0,2}#[ a-zé\u{0}]{0,9}\r?",
            v4().prop_map(|address| address.to_string()),
            v6().prop_map(|address| address.to_string()),
            (v4(), 0u8..=32).prop_filter_map("a prefix", |(address, length)| {
                Some(AddressRange::prefix(address, length)?.to_string())
            }),
            (v6(), 0u8..=128).prop_filter_map("a prefix", |(address, length)| {
                Some(AddressRange::prefix(address, length)?.to_string())
            }),
            (v4(), v4()).prop_map(|(a, b)| format!("{a}-{b}")),
            (v6(), v6()).prop_map(|(a, b)| format!("{a}-{b}")),
            (v4(), v6()).prop_map(|(a, b)| format!("{a}-{b} # both")),
        ]
    }

    proptest! {
        #[test]
        fn the_fast_way_agrees_with_the_slow_one(lines in prop::collection::vec(line(), 1..9)) {
            // The last lines have too little behind them for the fast way: so once more with more.
            for end in ["", "\n", "\r\n", "\n# the end is far enough away for everything above\n"] {
                let file = lines.join("\n") + end;
                let expected = match file.contains('\0') {
                    true => Err(NotText),
                    false => Ok(read_slowly(&file)),
                };
                prop_assert_eq!(read_in_blocks(file.as_bytes(), 2), expected.clone());
                prop_assert_eq!(read(file.as_bytes()), expected);
            }
        }

        #[test]
        fn any_text_is_read_as_in_the_slow_way(text in "[0-9a-f./#: \r\n\\-é]{0,200}") {
            prop_assert_eq!(read(text.as_bytes()), Ok(read_slowly(&text)));
        }

        #[test]
        fn any_bytes_are_read_or_no_text(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let is_text = std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0);
            prop_assert_eq!(read(&bytes).is_ok(), is_text);
        }
    }
}
