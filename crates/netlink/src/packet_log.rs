//! Packets that log rules hand over: an NFLOG group (kernel `nfnetlink_log.c`).
//!
//! The kernel collects packets and sends many at once, when enough have come or a moment has
//! passed. Each has a number in its group, so a gap tells exactly how many were lost because nobody
//! read in time. One socket in a network namespace can have a group.

use crate::attribute::{Attribute, Malformed, Table, put, put_u32};
use crate::error::Error;
use crate::headers::Headers;
use crate::message::{self, FAMILY_HEADER, Message, Messages};
use crate::socket::Socket;
use crate::uapi::*;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

const WHAT: &str = "packets that rules log";

/// Bytes of each packet that are copied: enough for the headers, extension headers included.
const COPIED: u32 = 128;

/// Packets that the kernel collects before it wakes the reader, and how long it waits for them, in
/// hundredths of a second.
const THRESHOLD: u32 = 100;
const PATIENCE: u32 = 10;

/// What the kernel collects them in, in bytes: more than [`THRESHOLD`] of them take, and with what
/// it adds itself still a block of 32 KiB. It is charged whole, however little is in it.
const COLLECTED: u32 = 30 << 10;

/// What may wait to be read, in bytes, which the kernel doubles: about 40,000 packets.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Datagrams read before the caller gets its turn.
const AT_ONCE: usize = 16;

/// A group of packets, read as they come.
pub struct PacketLog {
    socket: Socket,
    sequence: Sequence,
    /// Messages that couldn't be understood.
    malformed: u64,
}

/// A packet that a rule logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedPacket<'a> {
    /// The prefix that the rule gave it, as bytes.
    pub prefix: &'a [u8],
    /// The index of the interface it came in by; 0 on output.
    pub input: u32,
    /// The index of the interface it goes out by; 0 on input.
    pub output: u32,
    /// The user whose socket sent it; none on input, and where no socket did.
    pub user: Option<u32>,
    /// The group of that user.
    pub group: Option<u32>,
    /// When it came in, since 1970 (UTC); none on output.
    pub time: Option<Duration>,
    /// What its first bytes say; none where they are too few.
    pub headers: Option<Headers>,
    /// Its number in the group.
    number: Option<u32>,
}

/// Why packets can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PacketLogError {
    /// Another program reads the group, or the right is missing: the kernel says the same of both.
    #[error("another program reads the NFLOG group {0}, or CAP_NET_ADMIN is missing")]
    Taken(u16),
    /// The group can't be had.
    #[error(transparent)]
    Open(#[from] Error),
    /// Receiving failed.
    #[error("can't receive packets that rules log")]
    Receive(#[source] io::Error),
}

/// Counts what is missing in a row of numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    next: u32,
    lost: u64,
}

impl Sequence {
    fn take(&mut self, number: u32) {
        let missing = number.wrapping_sub(self.next);
        // They come in order; what lies half the numbers ahead is behind.
        if missing < 1 << 31 {
            self.lost += u64::from(missing);
            self.next = number.wrapping_add(1);
        }
    }
}

impl fmt::Debug for PacketLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketLog").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl AsFd for PacketLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PacketLog {
    /// Begins to read a group, in the network namespace in which this is called.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, where another socket reads the group, and where the kernel has no
    /// NFLOG.
    pub fn open(group: u16) -> Result<Self, PacketLogError> {
        let mut socket = Socket::open(mnl::Bus::Netfilter)?;
        socket.make_room_to_receive(RECEIVE_BUFFER);
        let request = bind(socket.next_sequence(), group);
        match socket.ask(WHAT, &request, |_| Ok(())) {
            Ok(_) => {}
            // `nfulnl_recv_config`, of a group that another socket has.
            Err(Error::NotPermitted | Error::Refused { errno: Errno::EBUSY, .. }) => {
                return Err(PacketLogError::Taken(group));
            }
            Err(error) => return Err(error.into()),
        }
        // A group that is made anew counts from 0.
        Ok(Self { socket, sequence: Sequence::default(), malformed: 0 })
    }

    /// Waits until there is something to read, at most `patience`. Returns whether there is.
    ///
    /// # Errors
    /// When the socket can't be polled.
    pub fn wait(&self, patience: Option<Duration>) -> Result<bool, PacketLogError> {
        let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let limit = |patience| PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let patience = patience.map_or(PollTimeout::NONE, limit);
        match poll(&mut sockets, patience) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(PacketLogError::Receive(errno.into())),
        }
    }

    /// Hands out what has come, up to some thousands of packets. Returns whether that was
    /// all.
    ///
    /// # Errors
    /// When receiving fails for good. Losses are no error: see [`lost`](Self::lost).
    pub fn read(
        &mut self,
        mut take: impl FnMut(&LoggedPacket<'_>),
    ) -> Result<bool, PacketLogError> {
        for _ in 0..AT_ONCE {
            let datagram = match self.socket.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(true),
                // Reported once; the gap says how much it was.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => continue,
                Err(error) => return Err(PacketLogError::Receive(error)),
            };
            for message in Messages::new(datagram) {
                match message.and_then(|message| LoggedPacket::decode(&message)) {
                    Ok(Some(packet)) => {
                        packet.number.into_iter().for_each(|number| self.sequence.take(number));
                        take(&packet);
                    }
                    Ok(None) => {}
                    Err(Malformed) => self.malformed += 1,
                }
            }
        }
        Ok(false)
    }

    /// How many packets were lost since the group was opened, because they weren't read in time or
    /// couldn't be understood. The last ones show only when another one comes.
    pub fn lost(&self) -> u64 {
        self.sequence.lost + self.malformed
    }
}

/// The message that makes the group ours, with all that is to be said of it.
fn bind(sequence: u32, group: u16) -> Vec<u8> {
    let mut request = Vec::new();
    let kind = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let start = message::open(&mut request, kind, flags, sequence, (NFPROTO_UNSPEC, group));
    put(&mut request, NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]);
    // `struct nfulnl_msg_config_mode`
    let [a, b, c, d] = COPIED.to_be_bytes();
    put(&mut request, NFULA_CFG_MODE, &[a, b, c, d, NFULNL_COPY_PACKET, 0]);
    put_u32(&mut request, NFULA_CFG_NLBUFSIZ, COLLECTED);
    put_u32(&mut request, NFULA_CFG_TIMEOUT, PATIENCE);
    put_u32(&mut request, NFULA_CFG_QTHRESH, THRESHOLD);
    put(&mut request, NFULA_CFG_FLAGS, &NFULNL_CFG_F_SEQ.to_be_bytes());
    message::close(&mut request, start);
    request
}

impl<'a> LoggedPacket<'a> {
    /// Reads a message of the group; none if it is no packet.
    fn decode(message: &Message<'a>) -> Result<Option<Self>, Malformed> {
        if message.kind != NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET {
            return Ok(None);
        }
        let fields: Table<'a, 22> =
            Table::new(message.payload.get(FAMILY_HEADER..).ok_or(Malformed)?)?;
        let number = |kind| fields.get(kind).map(Attribute::u32).transpose();
        let bytes = |kind| fields.get(kind).map_or(&[][..], |attribute| attribute.payload);
        let prefix = bytes(NFULA_PREFIX);
        let end = prefix.iter().position(|byte| *byte == 0).unwrap_or(prefix.len());
        Ok(Some(Self {
            prefix: &prefix[..end],
            input: number(NFULA_IFINDEX_INDEV)?.unwrap_or(0),
            output: number(NFULA_IFINDEX_OUTDEV)?.unwrap_or(0),
            user: number(NFULA_UID)?,
            group: number(NFULA_GID)?,
            time: time(bytes(NFULA_TIMESTAMP)),
            headers: Headers::read(bytes(NFULA_PAYLOAD)),
            number: number(NFULA_SEQ)?,
        }))
    }
}

/// `struct nfulnl_msg_packet_timestamp`: seconds and microseconds.
fn time(bytes: &[u8]) -> Option<Duration> {
    let (seconds, rest) = bytes.split_first_chunk::<8>()?;
    let microseconds = u64::from_be_bytes(*rest.first_chunk::<8>()?);
    let whole = Duration::from_secs(u64::from_be_bytes(*seconds));
    whole.checked_add(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let kind = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET;
        let start = message::open(&mut bytes, kind, 0, 0, (2, 7));
        parts.iter().for_each(|(kind, payload)| put(&mut bytes, *kind, payload));
        message::close(&mut bytes, start);
        bytes
    }

    #[test]
    fn a_packet_is_read() {
        let mut payload = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        payload.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
        let time = [1_700_000_000u64.to_be_bytes(), 250_000u64.to_be_bytes()].concat();
        let bytes = packet(&[
            (NFULA_PREFIX, b"tierwall output denied\0"),
            (NFULA_IFINDEX_OUTDEV, &[0, 0, 0, 2]),
            (NFULA_UID, &1000u32.to_be_bytes()),
            (NFULA_TIMESTAMP, &time),
            (NFULA_SEQ, &[0, 0, 0, 9]),
            (NFULA_PAYLOAD, &payload),
        ]);
        let message = Messages::new(&bytes).next().expect("one").expect("well-formed");
        let read = LoggedPacket::decode(&message).expect("well-formed").expect("a packet");
        assert_eq!(read.prefix, b"tierwall output denied");
        assert_eq!((read.input, read.output, read.user, read.number), (0, 2, Some(1000), Some(9)));
        assert_eq!(read.time, Some(Duration::from_millis(1_700_000_000_250)));
        assert_eq!(read.headers.expect("headers").ports, Some((40_000, 53)));
    }

    #[test]
    fn gaps_are_counted_from_the_first_number_on() {
        let mut sequence = Sequence::default();
        [2, 3, 7].into_iter().for_each(|number| sequence.take(number));
        assert_eq!(sequence.lost, 2 + 3);
        // One that came before is none, and the numbers go on where they end.
        sequence.take(5);
        let mut end = Sequence { next: u32::MAX, lost: 0 };
        [u32::MAX, 0, 2].into_iter().for_each(|number| end.take(number));
        assert_eq!((sequence.lost, end.lost), (5, 1));
    }

    #[test]
    fn other_messages_are_no_packets() {
        let bytes = bind(1, 7);
        let message = Messages::new(&bytes).next().expect("one").expect("well-formed");
        assert_eq!(LoggedPacket::decode(&message), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            parts in prop::collection::vec(
                (0u16..24, prop::collection::vec(any::<u8>(), 0..150)), 0..8),
            damages in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
            cut in 0usize..30,
        ) {
            let parts: Vec<_> = parts.iter().map(|(kind, bytes)| (*kind, &bytes[..])).collect();
            let mut bytes = packet(&parts);
            for (index, value) in damages {
                let index = index.index(bytes.len() - 16) + 16;
                bytes[index] = value;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            for message in Messages::new(&bytes).flatten() {
                let _ = LoggedPacket::decode(&message);
            }
        }
    }
}
