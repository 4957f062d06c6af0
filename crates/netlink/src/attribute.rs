//! Netlink attributes: the checked reader of everything the kernel sends, and the writer of what
//! libnftnl doesn't write.
//!
//! An attribute is a length and a type of 16 bits each in host byte order, then the payload, then
//! padding to four bytes (`linux/netlink.h`, `struct nlattr`). nf_tables has its numbers in network
//! byte order. No function here panics, whatever the bytes are.

use crate::uapi::{NLA_F_NESTED, NLA_TYPE_MASK};

/// Bytes that are no netlink attributes, or attributes of another length than their type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

const HEADER: usize = 4;

/// An attribute: its type, without the flags, and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number in host byte order, as all but nf_tables have them.
    pub(crate) fn host_u32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed)
    }

    /// A string up to its terminator. The kernel's names are bytes: what isn't UTF-8 is replaced.
    pub(crate) fn text(self) -> String {
        let length = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        String::from_utf8_lossy(&self.payload[..length]).into_owned()
    }

    /// Whether the string is `text`, without copying it.
    pub(crate) fn is_text(self, text: &str) -> bool {
        let length = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        &self.payload[..length] == text.as_bytes()
    }

    pub(crate) fn nested(self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// The nested attributes by type.
    pub(crate) fn table<const N: usize>(self) -> Result<Table<'a, N>, Malformed> {
        Table::new(self.payload)
    }
}

/// An iterator over attributes. After an error it ends.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number of bytes not yet read.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn split(&mut self) -> Option<Attribute<'a>> {
        let (&[l0, l1, t0, t1], after) = self.rest.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1])).checked_sub(HEADER)?;
        let payload = after.get(..length)?;
        // The padding of the last attribute may be missing.
        self.rest = after.get(padded(length)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes([t0, t1]) & NLA_TYPE_MASK, payload })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let attribute = self.split();
        if attribute.is_none() {
            self.rest = &[];
        }
        Some(attribute.ok_or(Malformed))
    }
}

/// Attributes by type, of types below `N`. Of a repeated type the last counts, as in the kernel.
#[derive(Debug)]
pub(crate) struct Table<'a, const N: usize> {
    slots: [Option<&'a [u8]>; N],
    unknown: bool,
}

impl<'a, const N: usize> Table<'a, N> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut table = Self { slots: [None; N], unknown: false };
        for attribute in Attributes::new(bytes) {
            let Attribute { kind, payload } = attribute?;
            match table.slots.get_mut(usize::from(kind)) {
                Some(slot) => *slot = Some(payload),
                None => table.unknown = true,
            }
        }
        Ok(table)
    }

    pub(crate) fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        let payload = (*self.slots.get(usize::from(kind))?)?;
        Some(Attribute { kind, payload })
    }

    pub(crate) fn require(&self, kind: u16) -> Result<Attribute<'a>, Malformed> {
        self.get(kind).ok_or(Malformed)
    }

    /// The number, 0 where the attribute is missing.
    pub(crate) fn u32_or_zero(&self, kind: u16) -> Result<u32, Malformed> {
        self.get(kind).map_or(Ok(0), Attribute::u32)
    }

    /// Whether there are no attributes but of these types.
    pub(crate) fn only(&self, kinds: &[u16]) -> bool {
        let foreign = |(kind, slot): (usize, &Option<_>)| {
            slot.is_some() && !kinds.iter().any(|known| usize::from(*known) == kind)
        };
        !self.unknown && !self.slots.iter().enumerate().any(foreign)
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Appends an attribute. `payload` is one of our own names or numbers, far below 64 KiB.
pub(crate) fn put(buffer: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = HEADER + payload.len();
    debug_assert!(length <= usize::from(u16::MAX));
    buffer.extend_from_slice(&(length as u16).to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(payload);
    buffer.resize(buffer.len() + padded(length) - length, 0);
}

/// Appends a number in network byte order.
pub(crate) fn put_u32(buffer: &mut Vec<u8>, kind: u16, number: u32) {
    put(buffer, kind, &number.to_be_bytes());
}

/// Appends a string with its terminator.
pub(crate) fn put_text(buffer: &mut Vec<u8>, kind: u16, text: &str) {
    let start = buffer.len();
    let length = HEADER + text.len() + 1;
    buffer.extend_from_slice(&(length as u16).to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(text.as_bytes());
    buffer.resize(start + padded(length), 0);
}

/// Opens a nested attribute; [`close`] takes what this returns.
pub(crate) fn open(buffer: &mut Vec<u8>, kind: u16) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0, 0]);
    buffer.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
    start
}

/// Writes the length of a nested attribute. The caller keeps it below 64 KiB.
pub(crate) fn close(buffer: &mut [u8], start: usize) {
    let length = buffer.len() - start;
    debug_assert!(length <= usize::from(u16::MAX));
    buffer[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_everything(bytes: &[u8], depth: usize) {
        for attribute in Attributes::new(bytes) {
            let Ok(attribute) = attribute else { continue };
            let _ = (attribute.u8(), attribute.u16(), attribute.u32(), attribute.u64());
            let _ = (attribute.text(), attribute.is_text("filter"));
            let _ = attribute.table::<8>().map(|table| (table.only(&[1, 2]), table.get(7)));
            if depth > 0 {
                read_everything(attribute.payload, depth - 1);
            }
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let mut buffer = Vec::new();
        put_u32(&mut buffer, 3, 0x0102_0304);
        let nest = open(&mut buffer, 4);
        put_text(&mut buffer, 1, "in.ssh");
        put(&mut buffer, 2, &[6]);
        close(&mut buffer, nest);

        let table = Table::<5>::new(&buffer).expect("well-formed");
        assert_eq!(table.require(3).and_then(Attribute::u32), Ok(0x0102_0304));
        assert!(table.get(1).is_none() && table.only(&[3, 4]) && !table.only(&[3]));
        let nested: Vec<_> = table.require(4).expect("present").nested().flatten().collect();
        assert_eq!(nested[0].text(), "in.ssh");
        assert!(nested[0].is_text("in.ssh") && !nested[0].is_text("in.ss"));
        assert_eq!(nested[1].u8(), Ok(6));
        assert_eq!(nested[1].u16(), Err(Malformed));
    }

    #[test]
    fn ends_at_a_length_that_is_too_small_or_too_large() {
        for header in [[3, 0, 1, 0], [0, 0, 1, 0], [9, 0, 1, 0]] {
            let mut bytes = header.to_vec();
            bytes.extend_from_slice(&[0; 4]);
            let mut attributes = Attributes::new(&bytes);
            assert_eq!(attributes.next(), Some(Err(Malformed)));
            assert_eq!(attributes.next(), None);
        }
        assert_eq!(Attributes::new(&[8, 0]).next(), Some(Err(Malformed)));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_everything(&bytes, 3);
        }

        #[test]
        fn never_panics_on_bytes_that_look_like_attributes(
            parts in prop::collection::vec((0u16..40, any::<u16>(), any::<[u8; 8]>()), 0..12),
            cut in 0usize..100,
        ) {
            let mut bytes = Vec::new();
            for (length, kind, payload) in parts {
                bytes.extend_from_slice(&length.to_ne_bytes());
                bytes.extend_from_slice(&kind.to_ne_bytes());
                bytes.extend_from_slice(&payload);
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            read_everything(&bytes, 4);
        }

        #[test]
        fn round_trips(
            written in prop::collection::vec(
                (0u16..NLA_TYPE_MASK, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let mut buffer = Vec::new();
            for (kind, payload) in &written {
                put(&mut buffer, *kind, payload);
            }
            let read: Vec<_> = Attributes::new(&buffer)
                .map(|attribute| attribute.map(|a| (a.kind, a.payload.to_vec())))
                .collect::<Result<_, _>>()
                .expect("well-formed");
            prop_assert_eq!(read, written);
        }
    }
}
