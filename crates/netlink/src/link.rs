//! This host's interfaces, by rtnetlink: of the network namespace that asks, which `/sys` isn't.

use crate::attribute::Malformed;
use crate::error::Error;
use crate::message::{self, Message};
use crate::socket::{Consistency, Socket};
use crate::uapi::*;

/// The length of `struct ifinfomsg`: family, padding, type, index, flags, change mask.
const HEADER: usize = 16;
/// How often a list is asked for that changes while it is read.
const ATTEMPTS: usize = 4;
const WHAT: &str = "this host's interfaces";

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The kernel's word for what it is (`bridge`, `veth`, `wireguard`, `vlan`, …); none for
    /// hardware.
    pub kind: Option<String>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
}

/// The interfaces of this network namespace, in the kernel's order.
///
/// # Errors
/// When the kernel can't be asked. It needs no rights.
pub fn links() -> Result<Vec<Link>, Error> {
    let mut socket = Socket::open(mnl::Bus::Route)?;
    for _ in 0..ATTEMPTS {
        let mut bytes = Vec::new();
        let sequence = socket.next_sequence();
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let start = message::open(&mut bytes, RTM_GETLINK, flags, sequence, (0, 0));
        bytes.extend_from_slice(&[0; HEADER - message::FAMILY_HEADER]);
        message::close(&mut bytes, start);
        let mut links = Vec::new();
        let consistency = socket.ask(WHAT, &bytes, |message| {
            links.extend(decode(message)?);
            Ok(())
        })?;
        if consistency == Consistency::Consistent {
            return Ok(links);
        }
    }
    Err(Error::Unsteady { what: WHAT, attempts: ATTEMPTS })
}

fn decode(message: Message<'_>) -> Result<Option<Link>, Malformed> {
    if message.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *message.payload else {
        return Err(Malformed);
    };
    let index = u32::from_ne_bytes([i0, i1, i2, i3]);
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let (mut name, mut kind) = (None, None);
    for attribute in message.attributes(HEADER)? {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => name = Some(attribute.text()),
            IFLA_LINKINFO => {
                let fields = attribute.table::<4>()?;
                kind = fields.get(IFLA_INFO_KIND).map(|kind| kind.text());
            }
            _ => {}
        }
    }
    let (up, loopback) = (flags & IFF_UP != 0, flags & IFF_LOOPBACK != 0);
    Ok(Some(Link { index, name: name.ok_or(Malformed)?, kind, up, loopback }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{close, open, put_text};
    use proptest::prelude::*;

    fn message(payload: &[u8]) -> Message<'_> {
        Message { kind: RTM_NEWLINK, flags: 0, sequence: 1, port: 0, payload }
    }

    #[test]
    fn reads_name_kind_and_flags() {
        let mut payload = vec![0; HEADER];
        payload[4] = 7;
        payload[8..12].copy_from_slice(&(IFF_UP | 0x1000).to_ne_bytes());
        put_text(&mut payload, IFLA_IFNAME, "docker0");
        let nest = open(&mut payload, IFLA_LINKINFO);
        put_text(&mut payload, IFLA_INFO_KIND, "bridge");
        close(&mut payload, nest);
        let link = decode(message(&payload)).expect("well-formed").expect("one");
        let expected = ("docker0", Some("bridge"), true, false);
        assert_eq!(link.index.to_le(), 7);
        assert_eq!((link.name.as_str(), link.kind.as_deref(), link.up, link.loopback), expected);
        assert_eq!(decode(message(&[0; HEADER])), Err(Malformed), "without a name");
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(message(&bytes));
        }
    }
}
