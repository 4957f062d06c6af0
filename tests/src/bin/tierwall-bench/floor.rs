//! The floor: a batch that was encoded before, sent straight to the kernel. What is measured is
//! one `sendto` and one `recv`.

use crate::generate::List;
use anyhow::{Context, Result, bail, ensure};
use netlink::{Batch, Handles, Terms};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use ruleset::{Elements, Family, KeyType, Ruleset, Set, SetSpec, Table};
use std::os::fd::AsRawFd;
use std::time::Instant;
use tierwall_tests::namespace::Namespace;

/// Lengths and fields of linux/netlink.h: a message's header, where its flags are, what an error
/// is, and the request for an acknowledgement.
const HEADER: usize = 16;
const FLAGS: usize = 6;
const NLMSG_ERROR: u16 = 2;
const NLM_F_ACK: u8 = 4;
/// The message that ends a batch: its header and a `struct nfgenmsg`.
const END: usize = HEADER + 4;

/// A batch as bytes.
#[derive(Debug, Clone)]
pub(crate) struct Prebuilt {
    bytes: Vec<u8>,
}

impl Prebuilt {
    /// What makes `to` of `from`.
    ///
    /// # Errors
    /// When it can't be encoded, also where it deletes single rules.
    pub(crate) fn between(from: &Ruleset, to: &Ruleset) -> Result<Self> {
        let batch = Batch::encode(&from.diff(to), &Handles::default(), None, &Terms::default())?;
        let mut bytes = batch.bytes().to_vec();
        // The kernel commits before `sendto` returns, so that it acknowledges or not (before 6.10
        // it doesn't acknowledge the end) makes no difference but to errors, which it always tells.
        let end = bytes.len().checked_sub(END).context("a batch has an end")?;
        bytes[end + FLAGS] |= NLM_F_ACK;
        Ok(Self { bytes })
    }

    /// A table with nothing in it but a set of `list`, of a declared size.
    pub(crate) fn set_of(list: &List) -> Result<Self> {
        let addresses = list.members.iter().map(|member| member.parse());
        let addresses: Vec<std::net::Ipv4Addr> = addresses.collect::<Result<_, _>>()?;
        let size = u32::try_from(2 * addresses.len())?;
        let ranges = addresses.into_iter().map(ruleset::AddressRange::single).collect();
        let mut table = Table::new();
        let spec = SetSpec::exact(KeyType::Address(Family::V4), Some(size));
        let elements = Elements::Ipv4(ruleset::AddressSet::new(ranges));
        table.sets.insert("large".into(), Set { spec, elements });
        Self::between(&Ruleset::default(), &Ruleset { table: Some(table) })
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Commits it; milliseconds.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(crate) fn commit(&self, namespace: &Namespace) -> Result<f64> {
        namespace.run(|| {
            let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            // The kernel doubles it.
            setsockopt(&socket, sockopt::SndBufForce, &self.bytes.len().max(1 << 16))?;
            let (fd, kernel) = (socket.as_raw_fd(), NetlinkAddr::new(0, 0));
            let mut answer = vec![0; 1 << 16];
            let begun = Instant::now();
            let sent = sendto(fd, &self.bytes, &kernel, MsgFlags::empty())?;
            let length = recv(fd, &mut answer, MsgFlags::MSG_DONTWAIT);
            let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
            ensure!(sent == self.bytes.len(), "a batch was cut off");
            // Without an acknowledgement there is nothing to receive.
            judge(&answer[..length.unwrap_or(0)])?;
            Ok(milliseconds)
        })
    }
}

/// Whether the kernel's answer holds no error.
fn judge(mut answer: &[u8]) -> Result<()> {
    while let [a, b, c, d, kind, kind_high, ..] = *answer {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let code = answer.get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok());
        let code = code.map_or(0, i32::from_ne_bytes);
        if u16::from_ne_bytes([kind, kind_high]) == NLMSG_ERROR && code != 0 {
            bail!("the kernel refused a batch: {}", std::io::Error::from_raw_os_error(-code));
        }
        answer = answer.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}
