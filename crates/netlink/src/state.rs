//! The state of the table in the kernel: the comment of the one element of a set of its own.
//!
//! The element is deleted and added again in every batch that changes the state.

use crate::attribute::{Attribute, close, open, put, put_text};
use crate::batch::Batch;
use crate::connection::{Connection, nft};
use crate::error::{EncodeError, Error};
use crate::object::SetHead;
use crate::set;
use crate::uapi::*;
use crate::userdata::{self, Userdata};
use nix::errno::Errno;
use ruleset::{STATE_LENGTH, STATE_SET, SetSpec, TABLE};

/// The element: the mark 0.
const KEY: [u8; 4] = [0; 4];

/// The set as it is read back.
pub(crate) fn spec() -> SetSpec {
    SetSpec::exact(set::MARK, None)
}

/// The set as it is made.
pub(crate) fn set_head(id: u32) -> SetHead {
    set::marks(id)
}

/// Appends the messages that note a state, in place of another one.
pub(crate) fn encode(batch: &mut Batch, state: &str, replace: bool) -> Result<(), EncodeError> {
    let userdata = Userdata::comment(state)
        .filter(|_| (1..=STATE_LENGTH).contains(&state.len()))
        .ok_or_else(|| EncodeError::Text {
        what: "the state of the table",
        text: state.to_owned(),
        limit: STATE_LENGTH,
    })?;
    if replace {
        message(batch, NFT_MSG_DELSETELEM, 0, None);
    }
    message(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, Some(&userdata));
    Ok(())
}

fn message(batch: &mut Batch, kind: u16, flags: u16, userdata: Option<&Userdata>) {
    let message = batch.open(kind, flags);
    let bytes = batch.buffer();
    put_text(bytes, NFTA_SET_ELEM_LIST_TABLE, TABLE);
    put_text(bytes, NFTA_SET_ELEM_LIST_SET, STATE_SET);
    let list = open(bytes, NFTA_SET_ELEM_LIST_ELEMENTS);
    let element = open(bytes, NFTA_LIST_ELEM);
    let key = open(bytes, NFTA_SET_ELEM_KEY);
    put(bytes, NFTA_DATA_VALUE, &KEY);
    close(bytes, key);
    if let Some(userdata) = userdata {
        put(bytes, NFTA_SET_ELEM_USERDATA, userdata.bytes());
    }
    close(bytes, element);
    close(bytes, list);
    batch.close(message);
}

/// The state in an element, if it is the one that bears it.
fn decode(element: Attribute<'_>) -> Option<String> {
    let fields = element.table::<16>().ok()?;
    let key = fields.get(NFTA_SET_ELEM_KEY)?.table::<3>().ok()?;
    let is_ours = key.get(NFTA_DATA_VALUE)?.payload == KEY
        && fields.only(&[NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_USERDATA]);
    let state = userdata::text(fields.get(NFTA_SET_ELEM_USERDATA)?, userdata::COMMENT)?;
    (is_ours && (1..=STATE_LENGTH).contains(&state.len())).then_some(state)
}

impl Connection {
    /// Reads the state: none where there is no such set, or anything else in it.
    pub(crate) fn state(&mut self) -> Result<Option<String>, Error> {
        let select = [(NFTA_SET_ELEM_LIST_TABLE, TABLE), (NFTA_SET_ELEM_LIST_SET, STATE_SET)];
        let mut found = Vec::new();
        let answer = self.list("the state", NFT_MSG_GETSETELEM, &select, |message| {
            let fields = message.table::<8>()?;
            let list = fields.get(NFTA_SET_ELEM_LIST_ELEMENTS);
            if let Some(list) = list.filter(|_| message.kind == nft(NFT_MSG_NEWSETELEM)) {
                // Two are as good as many.
                for element in list.nested().take(2 - found.len().min(2)) {
                    found.push(decode(element?));
                }
            }
            Ok(())
        });
        match answer {
            Ok(_) if found.len() == 1 => Ok(found.pop().flatten()),
            Ok(_) | Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
