//! A TCP connection as connection tracking is told of it, and as it reports one.
//!
//! An entry has two tuples: the packets of who opened the connection, and the replies to them. Its
//! status says whether packets of the first kind are NEW or ESTABLISHED; replies always are
//! ESTABLISHED (`resolve_normal_ct`). So what keeps a connection alive under a table that accepts
//! established ones is an entry that has seen a reply.

use crate::attribute::{self, Attribute, Malformed, Table, put, put_u32};
use crate::message::Message;
use crate::uapi::*;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One of the two ends of a connection of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// This host.
    Local,
    /// The other one.
    Remote,
}

/// How far a connection is, as far as tracking it depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Asked for, and not answered.
    Asked,
    /// Asked for and answered, and not yet confirmed.
    Answered,
    /// Data may come, in at least one direction: also of a connection that one end has closed for
    /// its part, however long the other takes.
    Open,
    /// No program here has it any more; the rest is for the kernel to do.
    Closing,
}

impl Stage {
    /// The state that tracking takes up the connection in. What follows is up to its packets.
    pub(crate) fn state(self) -> u8 {
        match self {
            Self::Asked => TCP_CONNTRACK_SYN_SENT,
            Self::Answered => TCP_CONNTRACK_SYN_RECV,
            Self::Open => TCP_CONNTRACK_ESTABLISHED,
            Self::Closing => TCP_CONNTRACK_FIN_WAIT,
        }
    }

    /// The status bits. The kernel confirms what it is given, and refuses to be told otherwise
    /// (EBUSY, `nf_ct_change_status_common`).
    fn status(self) -> u32 {
        match self {
            Self::Asked => IPS_CONFIRMED,
            Self::Answered => IPS_CONFIRMED | IPS_SEEN_REPLY,
            Self::Open | Self::Closing => IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED,
        }
    }

    /// Whether an entry that is there already has to be brought to this stage. Before a connection
    /// is open such an entry is of its very packets, and knows better.
    pub(crate) fn overrides(self) -> bool {
        matches!(self, Self::Open | Self::Closing)
    }
}

/// A TCP connection of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The address and port at this host. IPv4-mapped addresses are to be in their IPv4 form.
    pub local: SocketAddr,
    /// The address and port at the peer, of the same family.
    pub remote: SocketAddr,
    /// Who opened it.
    pub opened_by: End,
    /// How far it is.
    pub stage: Stage,
}

impl Flow {
    /// The packets of who opened the connection.
    pub fn original(&self) -> Tuple {
        let sent = Tuple { source: self.local, destination: self.remote };
        match self.opened_by {
            End::Local => sent,
            End::Remote => sent.reversed(),
        }
    }

    pub(crate) fn family(&self) -> u8 {
        if self.local.is_ipv4() { NFPROTO_IPV4 } else { NFPROTO_IPV6 }
    }

    /// Writes all of a new entry, with the time in seconds after which it ends if no packet comes.
    pub(crate) fn put_entry(&self, buffer: &mut Vec<u8>, timeout: u32) {
        let original = self.original();
        original.put(buffer, CTA_TUPLE_ORIG);
        original.reversed().put(buffer, CTA_TUPLE_REPLY);
        put_u32(buffer, CTA_STATUS, self.stage.status());
        put_u32(buffer, CTA_TIMEOUT, timeout);
        put_protocol(buffer, Some(self.stage.state()));
    }

    /// Writes what finds the entry, whatever address translation it is subject to: connection
    /// tracking knows the packets this host sends as this host sends them.
    pub(crate) fn put_key(&self, buffer: &mut Vec<u8>) {
        let sent = Tuple { source: self.local, destination: self.remote };
        sent.put(buffer, CTA_TUPLE_ORIG);
    }

    /// Writes what an entry that is there lacks. Its own state and timeout follow its packets.
    pub(crate) fn put_update(&self, buffer: &mut Vec<u8>) {
        self.put_key(buffer);
        put_u32(buffer, CTA_STATUS, self.stage.status());
        put_protocol(buffer, None);
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original().fmt(f)
    }
}

/// Writes the TCP part. Sequence numbers, windows and their scaling are unknown, so no packet may
/// be called invalid for them: both directions are marked liberal.
fn put_protocol(buffer: &mut Vec<u8>, state: Option<u8>) {
    let info = attribute::open(buffer, CTA_PROTOINFO);
    let tcp = attribute::open(buffer, CTA_PROTOINFO_TCP);
    if let Some(state) = state {
        put(buffer, CTA_PROTOINFO_TCP_STATE, &[state]);
    }
    // `struct nf_ct_tcp_flags`: the flags, and which of them are meant.
    let liberal = [IP_CT_TCP_FLAG_BE_LIBERAL; 2];
    put(buffer, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &liberal);
    put(buffer, CTA_PROTOINFO_TCP_FLAGS_REPLY, &liberal);
    attribute::close(buffer, tcp);
    attribute::close(buffer, info);
}

/// Where packets of one direction come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Whence.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

impl Tuple {
    /// The other direction, where no addresses are translated.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    fn put(self, buffer: &mut Vec<u8>, kind: u16) {
        let tuple = attribute::open(buffer, kind);
        let ip = attribute::open(buffer, CTA_TUPLE_IP);
        put_address(buffer, self.source.ip(), (CTA_IP_V4_SRC, CTA_IP_V6_SRC));
        put_address(buffer, self.destination.ip(), (CTA_IP_V4_DST, CTA_IP_V6_DST));
        attribute::close(buffer, ip);
        let protocol = attribute::open(buffer, CTA_TUPLE_PROTO);
        put(buffer, CTA_PROTO_NUM, &[IPPROTO_TCP]);
        put(buffer, CTA_PROTO_SRC_PORT, &self.source.port().to_be_bytes());
        put(buffer, CTA_PROTO_DST_PORT, &self.destination.port().to_be_bytes());
        attribute::close(buffer, protocol);
        attribute::close(buffer, tuple);
    }

    fn read(attribute: Attribute<'_>) -> Result<Self, Malformed> {
        let fields = attribute.table::<4>()?;
        let ip = fields.require(CTA_TUPLE_IP)?.table::<5>()?;
        let protocol = fields.require(CTA_TUPLE_PROTO)?.table::<4>()?;
        let end = |v4, v6, port| -> Result<SocketAddr, Malformed> {
            let address = match (ip.get(v4), ip.get(v6)) {
                (Some(address), _) => Ipv4Addr::from(address.u32()?).into(),
                (None, Some(address)) => {
                    let bytes = <[u8; 16]>::try_from(address.payload).map_err(|_| Malformed)?;
                    Ipv6Addr::from(bytes).into()
                }
                (None, None) => return Err(Malformed),
            };
            Ok(SocketAddr::new(address, protocol.require(port)?.u16()?))
        };
        Ok(Self {
            source: end(CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_PROTO_SRC_PORT)?,
            destination: end(CTA_IP_V4_DST, CTA_IP_V6_DST, CTA_PROTO_DST_PORT)?,
        })
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.source, self.destination)
    }
}

fn put_address(buffer: &mut Vec<u8>, address: IpAddr, (v4, v6): (u16, u16)) {
    match address {
        IpAddr::V4(address) => put(buffer, v4, &address.octets()),
        IpAddr::V6(address) => put(buffer, v6, &address.octets()),
    }
}

/// A TCP connection as it is tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The packets of who opened it, or of who was seen first.
    pub original: Tuple,
    /// The other direction.
    pub reply: Tuple,
    /// Whether packets of both directions are taken for established.
    pub seen_reply: bool,
    /// Whether it is spared when room is needed.
    pub assured: bool,
    /// Whether sequence numbers and windows are left unchecked in both directions.
    pub liberal: bool,
    /// The state, as `enum tcp_conntrack` numbers it; 3 is established.
    pub state: u8,
    /// In how many seconds it ends if no packet comes.
    pub timeout: u32,
}

impl Entry {
    pub(crate) fn read(message: Message<'_>) -> Result<Self, Malformed> {
        let fields: Table<'_, 28> = message.table()?;
        let status = fields.require(CTA_STATUS)?.u32()?;
        let tcp = fields.require(CTA_PROTOINFO)?.table::<4>()?;
        let tcp = tcp.require(CTA_PROTOINFO_TCP)?.table::<6>()?;
        let liberal = |kind| -> Result<bool, Malformed> {
            let [flags, _mask] = *tcp.require(kind)?.payload else { return Err(Malformed) };
            Ok(flags & IP_CT_TCP_FLAG_BE_LIBERAL != 0)
        };
        Ok(Self {
            original: Tuple::read(fields.require(CTA_TUPLE_ORIG)?)?,
            reply: Tuple::read(fields.require(CTA_TUPLE_REPLY)?)?,
            seen_reply: status & IPS_SEEN_REPLY != 0,
            assured: status & IPS_ASSURED != 0,
            liberal: liberal(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL)?
                && liberal(CTA_PROTOINFO_TCP_FLAGS_REPLY)?,
            state: tcp.require(CTA_PROTOINFO_TCP_STATE)?.u8()?,
            timeout: fields.get(CTA_TIMEOUT).map_or(Ok(0), Attribute::u32)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow(local: &str, remote: &str, opened_by: End, stage: Stage) -> Flow {
        let end = |text: &str| text.parse().expect("an address and a port");
        Flow { local: end(local), remote: end(remote), opened_by, stage }
    }

    fn read(attributes: &[u8]) -> Result<Entry, Malformed> {
        let payload = [&[0; 4], attributes].concat();
        Entry::read(Message { kind: 0x100, flags: 0, sequence: 1, payload: &payload, port: 0 })
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let ends = [("10.0.0.1:22", "10.0.0.2:4000"), ("[2001:db8::1]:5432", "[2001:db8::2]:4000")];
        for (local, remote) in ends {
            for opened_by in [End::Local, End::Remote] {
                for stage in [Stage::Asked, Stage::Answered, Stage::Open, Stage::Closing] {
                    let flow = flow(local, remote, opened_by, stage);
                    let mut bytes = Vec::new();
                    flow.put_entry(&mut bytes, 60);
                    let entry = read(&bytes).expect("well-formed");
                    assert_eq!(
                        (entry.original, entry.reply.reversed()),
                        (flow.original(), flow.original())
                    );
                    assert_eq!(entry.original.source == flow.local, opened_by == End::Local);
                    assert_eq!(
                        (entry.seen_reply, entry.assured),
                        (stage != Stage::Asked, stage.overrides())
                    );
                    assert_eq!(
                        (entry.state, entry.timeout, entry.liberal),
                        (stage.state(), 60, true)
                    );
                }
            }
        }
    }

    #[test]
    fn an_entry_is_looked_up_by_what_this_host_sends() {
        for opened_by in [End::Local, End::Remote] {
            let flow = flow("10.0.0.1:22", "10.0.0.2:4000", opened_by, Stage::Open);
            let mut bytes = Vec::new();
            flow.put_key(&mut bytes);
            let table = Table::<2>::new(&bytes).expect("well-formed");
            let key = Tuple::read(table.require(CTA_TUPLE_ORIG).expect("a tuple"));
            assert_eq!(key, Ok(Tuple { source: flow.local, destination: flow.remote }));
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let _ = read(&bytes);
            let mut entry = Vec::new();
            flow("10.0.0.1:22", "10.0.0.2:4000", End::Local, Stage::Open).put_entry(&mut entry, 60);
            let at = at.index(entry.len());
            entry[at] = byte;
            let _ = read(&entry);
        }
    }
}
