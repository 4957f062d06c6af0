//! The log of what no allow lets through: to the daemon within limits, and to the kernel log, which
//! is for people, within lower ones.
//!
//! Members of tiers have limits of their own. Else a flood from forged addresses would use up those
//! that all peers share, and hide the few packets of a member, which tell most.

use super::Compiler;
use super::base::built_in;
use crate::mark::{Fate, Mark};
use crate::model::Mode;
use ruleset::{Family, Field, Hook, KeyType, Limit, Log, LogTarget, Rule, Set, Statement, Verdict};

/// The NFLOG group that denied packets are logged to, for the daemon to read: a number that no
/// other program uses by itself.
pub const LOG_GROUP: u16 = 29_815;

/// Denied packets that are logged in a second, and at once; the others are only counted. First of
/// each peer, so that none of them hides the others, then of all members of tiers on a side, and of
/// all other peers there.
const PEER_LIMIT: Limit = Limit { rate: 100, burst: 500 };
const SIDE_LIMIT: Limit = Limit { rate: 10_000, burst: 20_000 };

/// The same in the kernel log.
const KERNEL_LOG_LIMIT: Limit = Limit { rate: 10, burst: 20 };

/// Peers of each family that a side remembers the rate of, about 200 bytes each: of members of
/// tiers, and of others. Those beyond are under the limit of the side only.
const PEERS: u32 = 16_384;

/// After how many seconds a peer is forgotten and begins anew.
const PEER_SECONDS: u64 = 60;

/// Why a packet is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Denied,
    Invalid,
}

impl Cause {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Invalid => "invalid",
        }
    }
}

impl Compiler<'_> {
    /// Logs below the rates, in a chain of its own: a limit in front of a drop would let the excess
    /// through. What it logs is counted, so that the closing counters say what the limits held
    /// back. It looks in the sets that allows look in as well, so these must be there.
    pub(super) fn log(&mut self, hook: Hook, cause: Cause, mode: Mode) -> Rule {
        let chain = format!("{hook}_log_{}", cause.name());
        let jump = built_in("log", [Statement::jump(&chain)]);
        if self.table.chains.contains_key(&chain) {
            // Of the closing rules and of what is never let through, which are logged alike.
            return jump;
        }
        let fate = match (mode, cause) {
            (Mode::Observe, Cause::Denied) => Fate::WouldDeny,
            (Mode::Observe, Cause::Invalid) => Fate::WouldDropInvalid,
            (_, Cause::Denied) => Fate::Denied,
            (_, Cause::Invalid) => Fate::Invalid,
        };
        let mark = Mark { hook, fate };
        let of_members = format!("{chain}_members");
        let rules = self.limited_log(mark, "logged_members");
        self.add_chain(&of_members, None, rules);
        let mut rules = Vec::new();
        for family in Family::BOTH {
            rules.extend(self.member_lookups(peer(hook, family), family).into_iter().map(
                |lookup| {
                    let goto = Statement::Verdict(Verdict::Goto(of_members.clone()));
                    built_in("members of tiers", [lookup, goto])
                },
            ));
        }
        rules.extend(self.limited_log(mark, "logged"));
        self.add_chain(&chain, None, rules);
        jump
    }

    /// The log of the peers whose rates are remembered in `HOOK.PEERS_v4`, one set for all causes.
    fn limited_log(&mut self, mark: Mark, peers: &str) -> Vec<Rule> {
        let hook = mark.hook;
        let mut rules = Vec::new();
        if self.policy.kernel_log {
            let log = Log { prefix: format!("{mark}: "), target: LogTarget::Kernel };
            let limit = Statement::Limit(KERNEL_LOG_LIMIT);
            rules.push(built_in("kernel log", [limit, Statement::Log(log)]));
        }
        rules.extend(Family::BOTH.map(|family| {
            // With a dot, which no tier's name has.
            let set = match family {
                Family::V4 => format!("{hook}.{peers}_v4"),
                Family::V6 => format!("{hook}.{peers}_v6"),
            };
            let rates = Set::dynamic(KeyType::Address(family), PEERS, PEER_SECONDS);
            self.table.sets.entry(set.clone()).or_insert(rates);
            let over = Statement::Over { field: peer(hook, family), set, limit: PEER_LIMIT };
            built_in("enough of this peer", [over, Statement::Verdict(Verdict::Return)])
        }));
        let counter = format!("logged.{hook}");
        self.table.counters.insert(counter.clone());
        let target = LogTarget::Group { group: LOG_GROUP, threshold: 0, snaplen: 0 };
        let log = Statement::Log(Log { prefix: mark.to_string(), target });
        let (limit, counter) = (Statement::Limit(SIDE_LIMIT), Statement::Counter(counter));
        rules.push(built_in("log", [limit, counter, log]));
        rules
    }
}

/// The address of who is logged.
fn peer(hook: Hook, family: Family) -> Field {
    match hook {
        Hook::Output => Field::Daddr(family),
        _ => Field::Saddr(family),
    }
}
