//! What changes the policy files or what is enforced, and what came of changes.

use clap::{Args, Subcommand};
use policy::ConfirmTime;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Also where that locks out an open session on a guarded service
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) confirming: Confirming,

    /// In place of a change that waits to be confirmed; the way back stays the same
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Whether a change has to be confirmed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Confirming {
    /// Go back by itself unless `tierwall confirm` comes within this time, from 5s to 1h; 60s where
    /// none is given
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s")]
    pub(crate) confirm: Option<ConfirmTime>,
}

#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// Also where no new connection shows that somebody can get in
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// From this generation
    #[arg(value_name = "A")]
    pub(crate) from: u64,

    /// To that one; without it, to what is enforced
    #[arg(value_name = "B")]
    pub(crate) to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The generation; without it, the one before, or the one before a change that waits to be
    /// confirmed
    pub(crate) generation: Option<u64>,

    /// Also where that locks out an open session on a guarded service
    #[arg(long)]
    pub(crate) force: bool,

    /// Go back by itself unless `tierwall confirm` comes within this time, attached as in
    /// `--confirm=2m`, from 5s to 1h; 60s where none is given
    // Else the generation would be taken for it.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s"
    )]
    pub(crate) confirm: Option<ConfirmTime>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Add a member to a tier, at once; it survives a restart
    Add(AddMember),
    /// Remove a member that was added by command; its open connections go on
    Remove(RemoveMember),
    /// Write a member that was added by command into the policy file that defines its tier
    Promote(PromoteMember),
    /// List the members that were added by command
    List(ListMembers),
}

#[derive(Debug, Args)]
pub(crate) struct AddMember {
    /// The tier
    pub(crate) tier: String,

    /// An address, a prefix or a range
    pub(crate) member: String,

    /// For how long, such as 2h or 30m; the kernel forgets it then by itself
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) for_: Option<Duration>,

    /// Why: shown by `member list`
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveMember {
    /// The tier
    pub(crate) tier: String,

    /// The address, prefix or range that was added
    pub(crate) member: String,

    /// Also where that locks out an open session on a guarded service
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteMember {
    /// The tier
    pub(crate) tier: String,

    /// The address, prefix or range that was added
    pub(crate) member: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListMembers {
    /// Of this tier only
    pub(crate) tier: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Apply a good policy without a question
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Also where that locks out an open session on a guarded service
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) confirming: Confirming,
}

pub(super) const IMPORT_HELP: &str = "\
Sets of addresses become tiers (web_v4 and web_v6 one tier, web), accepts become allows in the \
order of their rules, with their comments as names; jumps and verdict maps are followed. What \
tierwall lets through anyway needs no allow. What a policy can't say (interfaces, marks, rates, \
NAT, source ports) stays as a comment `not imported` where the rule was; a drop in front of an \
accept is taken out of the allow where that is exact, else the allow is marked `WIDER`. Rules are \
quoted as `nft list ruleset` prints them.

Several files, one of each host and named after it, become one policy: hosts with the same rules \
share a tier, sets that are the same are one tier, and the role follows from a server's addresses. A \
host's addresses are known if its file has them as well. An allow holds at both ends: if it opens more \
on another host than that host's own table does, it is marked `WIDER` too.

Example:
  (nft -j list ruleset; ip -j address) > web1.json    # on web1, as root, and so on each host
  tierwall import web1.json web2.json db1.json -o tierwall.toml

Exits with 8 where anything wasn't imported or is wider.";

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Files with what `nft -j list ruleset` printed on other hosts: one policy for all of them
    #[arg(value_name = "FILE", conflicts_with = "from")]
    pub(crate) files: Vec<String>,

    /// This server's kernel, or one such file, or - for standard input
    #[arg(long, value_name = "kernel|FILE|-", default_value = "kernel")]
    pub(crate) from: String,

    /// The table to import; several make one policy (ip/filter and ip6/filter)
    #[arg(long = "table", value_name = "FAMILY/NAME", default_value = "inet/filter")]
    pub(crate) tables: Vec<import::TableName>,

    /// This server's tier: one of the table's sets, or a new one
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,

    /// Write the policy into this file, which must not exist, and not on standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

pub(super) const TAKEOVER_HELP: &str = "\
The table goes on filtering until the policy does: both happen in one batch. A description of it is \
saved in the daemon's state directory first. If tierwalld doesn't run, its next start within ten \
minutes replaces the table. If the policy would lock out an open session on a guarded service, the \
table stays.

Example:
  tierwall import -o /etc/tierwall/tierwall.toml
  tierwall takeover
  systemctl enable --now tierwalld";

#[derive(Debug, Args)]
pub(crate) struct Takeover {
    /// Replace it without a question
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Replace it even if that locks out an open session on a guarded service
    #[arg(long)]
    pub(crate) force: bool,
}
