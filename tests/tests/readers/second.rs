//! The second reader: what `rustables` reads of the table, a decoder that shares nothing with ours
//! and little with `nft`'s.
//!
//! Known faults of version 0.9: a drop policy is read as accept; the inversion of a lookup isn't
//! read, and what is behind an expression it doesn't know stays raw. Elements it can't list at all:
//! it asks in no family, where the kernel finds no table. Its request is sent here with the family
//! filled in, and the elements of the answer counted.

use crate::kernel::Kernel;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use ruleset::TABLE;
use rustables::expr::ExpressionList;
use rustables::query::{get_list_of_objects, list_objects_with_data};
use rustables::set::SetElementList;
use rustables::{ChainPolicy, ChainType, ProtocolFamily, Set, Table, sys};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

/// The table as `rustables` reads it, without handles.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// The comment in the table's userdata.
    pub(crate) comment: Option<String>,
    pub(crate) chains: BTreeMap<String, SeenChain>,
    pub(crate) sets: BTreeMap<String, SeenSet>,
}

/// A chain.
#[derive(Debug, PartialEq)]
pub(crate) struct SeenChain {
    /// Hook number and priority.
    pub(crate) hook: Option<(u32, i32)>,
    pub(crate) kind: Option<ChainType>,
    pub(crate) policy: Option<ChainPolicy>,
    pub(crate) rules: Vec<SeenRule>,
}

/// A rule.
#[derive(Debug, PartialEq)]
pub(crate) struct SeenRule {
    pub(crate) comment: String,
    pub(crate) expressions: Option<ExpressionList>,
}

/// A set or map.
#[derive(Debug, PartialEq)]
pub(crate) struct SeenSet {
    pub(crate) key_type: u32,
    pub(crate) key_length: u32,
    pub(crate) flags: u32,
    /// What tells `nft` how to print it. The byte order of a key of one byte means nothing, and is
    /// taken out.
    pub(crate) userdata: Option<Vec<u8>>,
}

/// Reads the table `inet filter`, the only one there.
pub(crate) fn read(kernel: &Kernel) -> Seen {
    kernel.namespace.run(|| {
        let tables = rustables::list_tables().expect("tables");
        let [table] = &tables[..] else { panic!("one table: {tables:?}") };
        let userdata = table.get_userdata().expect("the table has a comment");
        let wanted = Table::new(ProtocolFamily::Inet).with_name(TABLE).with_flags(0u32);
        assert_eq!(*table, wanted.with_userdata(userdata.clone()));
        let comment = Some(comment(userdata));
        Seen { comment, chains: chains(table), sets: sets() }
    })
}

fn chains(table: &Table) -> BTreeMap<String, SeenChain> {
    let chains = rustables::list_chains_for_table(table).expect("chains");
    let seen = chains.iter().map(|chain| {
        let hook = chain.get_hook().map(|hook| {
            let class = *hook.get_class().expect("a hook has a number");
            (class, *hook.get_priority().expect("a hook has a priority") as i32)
        });
        let rules = rustables::list_rules_for_chain(chain).expect("rules");
        let rules = rules.iter().map(|rule| SeenRule {
            comment: rule.get_userdata().map(|data| comment(data)).unwrap_or_default(),
            expressions: rule.get_expressions().cloned(),
        });
        let (kind, policy) = (chain.get_type().copied(), chain.get_policy().copied());
        let seen = SeenChain { hook, kind, policy, rules: rules.collect() };
        (chain.get_name().expect("a chain has a name").clone(), seen)
    });
    seen.collect()
}

fn sets() -> BTreeMap<String, SeenSet> {
    let mut sets: Vec<Set> = Vec::new();
    let push = |set: Set, sets: &mut Vec<Set>| {
        sets.push(set);
        Ok(())
    };
    list_objects_with_data(sys::NFT_MSG_GETSET as u16, &push, None, &mut sets).expect("sets");
    let seen = sets.iter().map(|set| {
        let key_length = *set.get_key_len().expect("keys have a length");
        let mut userdata = set.get_userdata().cloned();
        if let (1, Some([0, 4, order @ ..])) = (key_length, userdata.as_deref_mut()) {
            order.iter_mut().take(4).for_each(|byte| *byte = 0);
        }
        let seen = SeenSet {
            key_type: *set.get_key_type().expect("a set has a type"),
            key_length,
            flags: set.get_flags().copied().unwrap_or(0),
            userdata,
        };
        (set.get_name().expect("a set has a name").clone(), seen)
    });
    seen.collect()
}

/// The comment in userdata: attributes of one byte of type and one of length; a comment is of type
/// 0 and ends with a zero (libnftnl, `udata.h`).
fn comment(userdata: &[u8]) -> String {
    let [0, length, text @ ..] = userdata else { panic!("no comment: {userdata:?}") };
    let (end, text) = text.split_last().expect("a comment has an end");
    assert_eq!((usize::from(*length), *end), (text.len() + 1, 0), "{userdata:?}");
    String::from_utf8(text.to_vec()).expect("comments are UTF-8")
}

/// The number of elements in a set, as the kernel counts them: of an interval both ends.
pub(crate) fn count_elements(kernel: &Kernel, set: &str) -> usize {
    let list = SetElementList {
        family: ProtocolFamily::Inet,
        table: Some(TABLE.to_owned()),
        set: Some(set.to_owned()),
        elements: None,
    };
    let mut request =
        get_list_of_objects(sys::NFT_MSG_GETSETELEM as u16, 0, Some(&list)).expect("a request");
    // `nfgen_family`, right behind the header of 16 bytes.
    request[16] = ProtocolFamily::Inet as u8;
    kernel.namespace.run(|| {
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
        let socket =
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).expect("a socket");
        send(socket.as_raw_fd(), &request, MsgFlags::empty()).expect("a request is sent");
        let mut buffer = vec![0; 1 << 17];
        let mut count = 0;
        loop {
            let length =
                recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("an answer");
            let mut datagram = &buffer[..length];
            while let Some((kind, message)) = next_message(&mut datagram) {
                match kind {
                    // NLMSG_ERROR and NLMSG_DONE
                    2 => panic!("can't list the elements of {set}: {message:?}"),
                    3 => return count,
                    // Behind the family, version and resource id.
                    _ => count += count_in(&message[4..]),
                }
            }
        }
    })
}

/// Takes a netlink message off: its type, and what is behind its header.
fn next_message<'a>(datagram: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(datagram[4..6].try_into().ok()?);
    let message = &datagram[16..length];
    *datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

fn count_in(attributes: &[u8]) -> usize {
    let lists = split(attributes)
        .into_iter()
        .filter(|(kind, _)| u32::from(*kind) == u32::from(sys::NFTA_SET_ELEM_LIST_ELEMENTS));
    lists.map(|(_, list)| split(list).len()).sum()
}

/// Attributes, by type without its flags.
fn split(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut attributes = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        attributes.push((u16::from_ne_bytes([k0, k1]) & 0x3fff, &bytes[4..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}
