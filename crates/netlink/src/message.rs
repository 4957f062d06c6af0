//! Netlink messages: splitting what the kernel sends, and writing the headers of what we send.
//!
//! A message is `struct nlmsghdr` (length, type, flags, sequence number, port), then a payload;
//! nf_tables puts `struct nfgenmsg` (family, version, resource) before the attributes.

use crate::attribute::{Attributes, Malformed, Table};
use crate::uapi::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR, NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS,
};

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The length of `struct nfgenmsg`.
pub(crate) const FAMILY_HEADER: usize = 4;
/// Where in a message its flags are.
const FLAGS_AT: usize = 6;

/// A message as the kernel sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The type; nf_tables messages have their subsystem in the upper byte.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The port of the socket that it answers, or whose change it announces.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind a header of `length` bytes.
    pub(crate) fn attributes(&self, length: usize) -> Result<Attributes<'a>, Malformed> {
        self.payload.get(length..).map(Attributes::new).ok_or(Malformed)
    }

    /// The attributes of an nf_tables message by type.
    pub(crate) fn table<const N: usize>(&self) -> Result<Table<'a, N>, Malformed> {
        Table::new(self.payload.get(FAMILY_HEADER..).ok_or(Malformed)?)
    }

    /// The error in a [`NLMSG_ERROR`] or at the end of a dump; 0 is an acknowledgement.
    pub(crate) fn error(&self) -> Result<KernelError, Malformed> {
        let (code, after) = self.payload.split_first_chunk::<4>().ok_or(Malformed)?;
        let mut error = KernelError {
            errno: i32::from_ne_bytes(*code).checked_neg().ok_or(Malformed)?,
            offset: None,
            text: None,
        };
        if self.kind == NLMSG_ERROR && self.flags & NLM_F_ACK_TLVS != 0 {
            error.read_details(after, self.flags & NLM_F_CAPPED != 0)?;
        }
        Ok(error)
    }
}

/// What the kernel says about a message of ours (`struct nlmsgerr`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelError {
    /// The error number, positive; 0 for success.
    pub(crate) errno: i32,
    /// Where in our message the attribute stands that the kernel objects to.
    pub(crate) offset: Option<usize>,
    /// What it says in words.
    pub(crate) text: Option<String>,
}

impl KernelError {
    /// `after`: our message's header, or with NETLINK_CAP_ACK unset all of it, then attributes.
    fn read_details(&mut self, after: &[u8], capped: bool) -> Result<(), Malformed> {
        let echoed = if capped {
            HEADER
        } else {
            let length = after.first_chunk::<4>().ok_or(Malformed)?;
            (u32::from_ne_bytes(*length) as usize).checked_next_multiple_of(4).ok_or(Malformed)?
        };
        for attribute in Attributes::new(after.get(echoed..).ok_or(Malformed)?) {
            let attribute = attribute?;
            match attribute.kind {
                NLMSGERR_ATTR_MSG => self.text = Some(attribute.text()),
                NLMSGERR_ATTR_OFFS => self.offset = Some(attribute.host_u32()? as usize),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The messages in what one `recv` returned. After an error it ends.
#[derive(Debug)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn split(&mut self) -> Option<Message<'a>> {
        let (header, after) = self.rest.split_first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = (u32::from_ne_bytes([l0, l1, l2, l3]) as usize).checked_sub(HEADER)?;
        let payload = after.get(..length)?;
        self.rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = self.split();
        if message.is_none() {
            self.rest = &[];
        }
        Some(message.ok_or(Malformed))
    }
}

/// Opens a message with its header only; [`close`] takes what this returns.
pub(crate) fn begin(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&[0; 4]);
    start
}

/// Opens a message with its `nfgenmsg`; [`close`] takes what this returns. `kind` has the
/// subsystem in it, `resource` is in host byte order.
pub(crate) fn open(
    buffer: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
) -> usize {
    let start = begin(buffer, kind, flags, sequence);
    buffer.extend_from_slice(&[family, 0]);
    buffer.extend_from_slice(&resource.to_be_bytes());
    start
}

/// Writes the length of a message whose attributes are complete.
pub(crate) fn close(buffer: &mut [u8], start: usize) {
    let length = (buffer.len() - start) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Sets or clears flags of the message that starts at `start`.
pub(crate) fn set_flags(buffer: &mut [u8], start: usize, mask: u16, on: bool) {
    let at = start + FLAGS_AT;
    let flags = u16::from_ne_bytes([buffer[at], buffer[at + 1]]);
    let flags = if on { flags | mask } else { flags & !mask };
    buffer[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&7u32.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn splits_messages_and_takes_a_last_one_without_padding() {
        let mut bytes = message(0xa03, 0, &[1, 0, 0, 0]);
        bytes.extend(message(3, 2, &[1, 2, 3]));
        let messages: Vec<_> = Messages::new(&bytes).flatten().collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].sequence), (0xa03, 7));
        assert_eq!(messages[1].payload, [1, 2, 3]);
    }

    #[test]
    fn reads_the_details_of_an_error_capped_and_whole() {
        for capped in [true, false] {
            let mut payload = (-2i32).to_ne_bytes().to_vec();
            let echo = message(0xa06, 5, &[1, 0, 0, 0]);
            payload.extend_from_slice(if capped { &echo[..HEADER] } else { &echo });
            crate::attribute::put_text(&mut payload, NLMSGERR_ATTR_MSG, "no");
            crate::attribute::put(&mut payload, NLMSGERR_ATTR_OFFS, &44u32.to_ne_bytes());
            let flags = NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 };
            let bytes = message(NLMSG_ERROR, flags, &payload);
            let read = Messages::new(&bytes).next().expect("one").expect("well-formed");
            let expected = KernelError { errno: 2, offset: Some(44), text: Some("no".into()) };
            assert_eq!(read.error(), Ok(expected));
        }
    }

    #[test]
    fn refuses_the_one_error_number_without_a_positive_counterpart() {
        let bytes = message(NLMSG_ERROR, 0, &i32::MIN.to_ne_bytes());
        let read = Messages::new(&bytes).next().expect("one").expect("well-formed");
        assert_eq!(read.error(), Err(Malformed));
    }

    #[test]
    fn writes_headers() {
        let mut bytes = Vec::new();
        let start = open(&mut bytes, 0x10, 1, 9, (0, 10));
        close(&mut bytes, start);
        set_flags(&mut bytes, start, 4, true);
        let read = Messages::new(&bytes).next().expect("one").expect("well-formed");
        assert_eq!((read.kind, read.flags, read.sequence), (0x10, 5, 9));
        assert_eq!(read.payload, [0, 0, 0, 10]);
        set_flags(&mut bytes, start, 4, false);
        assert_eq!(Messages::new(&bytes).next().expect("one").expect("well-formed").flags, 1);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(
            length in 0u32..80,
            kind in prop::sample::select(vec![2u16, 3, 0xa03]),
            flags in any::<u16>(),
            rest in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&flags.to_ne_bytes());
            bytes.extend_from_slice(&rest);
            for message in Messages::new(&bytes).flatten() {
                let _ = message.error();
                let _ = message.table::<12>();
                let _ = message.attributes(8).map(Iterator::count);
            }
        }
    }
}
