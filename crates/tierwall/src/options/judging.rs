//! What judges the policy files: it asks the daemon at most, and changes nothing.

use super::Between;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// For whom a policy is compiled.
#[derive(Debug, Args)]
pub(crate) struct Judgement {
    /// Judge as another server would: a host name, an address, or a tier (several with commas)
    #[arg(long = "as", value_name = "HOST|ADDRESS|ROLE")]
    pub(crate) as_: Option<String>,

    /// Take warnings for errors
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) judgement: Judgement,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Exit with 2 where something would change
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,

    /// Print every operation too, in the manner of nft commands
    #[arg(long)]
    pub(crate) operations: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// In which language
    #[arg(long, value_enum, default_value_t = Format::Nft)]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) judgement: Judgement,
}

/// The languages of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// A script for `nft -f`
    Nft,
    /// Commands for `nft -j -f`
    Json,
}

pub(super) const EXPLAIN_HELP: &str = "\
It judges both ends of the connection: this server's, and of every other server what the same policy \
makes of it. An address in no tier lets everything through. It uses the policy files, with the members that were \
added by command, and says so where the daemon enforces something else. A name is looked up as a \
user of this server, also for another one.

Exits with 0 if the connection gets through both ends (also if a side merely observes), with 9 if \
either denies it, for some members at least.

Examples:
  tierwall explain self db tcp/5432
  tierwall explain web app tcp/8080 --user www-data";

/// A new connection.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) between: Between,

    /// By whose program: a user's name or number; without it, one that no allow names
    #[arg(long)]
    pub(crate) user: Option<String>,

    /// Judge as another server would: a host name, an address, or a tier (several with commas)
    #[arg(long = "as", value_name = "HOST|ADDRESS|ROLE")]
    pub(crate) as_: Option<String>,
}

pub(super) const MATRIX_HELP: &str = "\
What gets through has to be opened at its sender's end and accepted at its receiver's. Addresses \
in no tier are no servers of the policy: the row `any` says what everybody may open to a tier, \
the column `any` what a tier may open to everybody. The rows and columns of tiers hold what both \
ends let through. `*` marks what only some members or users may. Members by command, which this \
server alone has, count while tierwalld runs.

Examples:
  tierwall matrix
  tierwall matrix web app
  tierwall matrix --service tcp/22";

pub(super) const WHO_CAN_HELP: &str = "\
Under the policy as a whole, for every server that loads it. Members by command, which this server \
alone has, count while tierwalld runs.

Examples:
  tierwall who-can db
  tierwall who-can db tcp/5432";

#[derive(Debug, Args)]
pub(crate) struct Matrix {
    #[command(flatten)]
    pub(crate) between: Between,

    /// In which form
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<MatrixFormat>,

    /// Write it into this file, and not on standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// The forms of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixFormat {
    /// For a terminal
    Table,
    /// For programs
    Json,
    /// The graph of tiers, for graphviz
    Dot,
    /// The graph of tiers, drawn
    Svg,
    /// A page for a review, with everything
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct WhoCan {
    /// Whom: a tier or an address
    #[arg(value_name = "TO", required_unless_present = "to", conflicts_with = "to")]
    to_word: Option<String>,

    /// On these services only: tcp/443, gre, or a service by its name
    #[arg(value_name = "SERVICE", conflicts_with = "service")]
    service_word: Option<String>,

    /// The same as the word TO
    #[arg(long, value_name = "TIER|ADDRESS")]
    to: Option<String>,

    /// The same as the word SERVICE
    #[arg(long, visible_alias = "on")]
    service: Option<String>,
}

impl WhoCan {
    pub(crate) fn to(&self) -> &str {
        // One of them is there: the other is required otherwise.
        self.to.as_deref().or(self.to_word.as_deref()).unwrap_or_default()
    }

    pub(crate) fn service(&self) -> Option<&str> {
        self.service.as_deref().or(self.service_word.as_deref())
    }
}
