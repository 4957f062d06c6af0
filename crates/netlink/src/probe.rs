//! What the kernel can do, found out by trying.
//!
//! A batch without an end is answered message by message and then aborted: no event, no new
//! generation. An empty batch commits nothing, with no event and no new generation either.

use crate::attribute::{put_text, put_u32};
use crate::batch::{append_begin, append_end};
use crate::connection::{Connection, nft};
use crate::error::Error;
use crate::message::{self, Messages};
use crate::uapi::*;
use nix::errno::Errno;
use std::collections::BTreeMap;

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// A table can belong to a socket (`NFT_TABLE_F_OWNER`, 5.12).
    pub owner: bool,
    /// A table that belongs to a socket can outlive it (`NFT_TABLE_F_PERSIST`, 6.9).
    pub persistent_owner: bool,
    /// The end of a batch is acknowledged, which means that it is committed (6.10).
    pub acknowledges_end: bool,
}

const WHAT: &str = "its features";

impl Connection {
    /// Finds out what the kernel can do. Changes nothing.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel can't be asked.
    pub fn probe(&mut self) -> Result<Features, Error> {
        let acknowledges_end = self.acknowledges_end()?;
        let mut bytes = Vec::new();
        append_begin(&mut bytes, 0, None);
        for (sequence, flags) in
            [(1, NFT_TABLE_F_OWNER), (2, NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST)]
        {
            let kind = nft(NFT_MSG_NEWTABLE);
            let all = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
            let start = message::open(&mut bytes, kind, all, sequence, (NFPROTO_INET, 0));
            put_text(&mut bytes, NFTA_TABLE_NAME, &format!("tierwall-probe-{sequence}"));
            put_u32(&mut bytes, NFTA_TABLE_FLAGS, flags);
            message::close(&mut bytes, start);
        }
        let answers = self.try_batch(&bytes)?;
        let accepted = |sequence: u32| answers.get(&sequence) == Some(&0);
        Ok(Features { owner: accepted(1), persistent_owner: accepted(2), acknowledges_end })
    }

    /// Whether the kernel acknowledges the end of a batch; tried once.
    pub(crate) fn acknowledges_end(&mut self) -> Result<bool, Error> {
        if let Some(known) = self.acknowledges_end {
            return Ok(known);
        }
        let mut bytes = Vec::new();
        append_begin(&mut bytes, 0, None);
        let end = bytes.len();
        append_end(&mut bytes, 1);
        message::set_flags(&mut bytes, end, NLM_F_ACK, true);
        let answer = self.try_batch(&bytes)?.contains_key(&1);
        self.acknowledges_end = Some(answer);
        Ok(answer)
    }

    /// The error numbers that the kernel answers with, by sequence number.
    fn try_batch(&mut self, bytes: &[u8]) -> Result<BTreeMap<u32, i32>, Error> {
        let transport = |source| Error::Transport { what: WHAT, source };
        let malformed = Error::malformed(WHAT);
        self.socket.drain();
        self.socket.send(bytes).map_err(transport)?;
        let mut answers = BTreeMap::new();
        while let Some(datagram) = self.socket.receive().map_err(transport)? {
            for message in Messages::new(datagram) {
                let message = message.map_err(&malformed)?;
                if message.kind == NLMSG_ERROR {
                    let error = message.error().map_err(&malformed)?;
                    answers.insert(message.sequence, error.errno);
                }
            }
        }
        if answers.get(&0) == Some(&(Errno::EPERM as i32)) {
            return Err(Error::NotPermitted);
        }
        Ok(answers)
    }
}
