//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use policy::ConfirmTime;
use std::path::PathBuf;
use std::time::Duration;

/// Says what a tier policy means on this server, and talks to its daemon.
#[derive(Debug, Parser)]
#[command(
    name = "tierwall",
    version,
    after_help = "Exit codes: 0 done; 1 something failed; 2 `plan --detailed-exitcode` found \
                  changes, or `doctor` something to see to; 3 the policy has errors; 4 no right to do \
                  that; 5 a table `inet filter` that tierwall did not make; 6 a session would be \
                  locked out; 7 a change waits to be confirmed; 8 `import` couldn't say all; \
                  9 `explain`: it would be denied; 64 usage."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The policy file
    #[arg(long, global = true, value_name = "FILE", default_value = control::POLICY_FILE)]
    pub(crate) config: PathBuf,

    /// Where the daemon has its control socket
    #[arg(
        long,
        global = true,
        value_name = "DIRECTORY",
        default_value = control::RUNTIME_DIRECTORY
    )]
    pub(crate) runtime_directory: PathBuf,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,

    /// Read policy files that others than root may write
    #[arg(long, global = true)]
    pub(crate) insecure_permissions: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the policy, and say what this server will accept and open
    Check(Check),
    /// Say what would change in the kernel, and what that means
    Plan(Plan),
    /// Say whether a connection is allowed, by which allow, or what is missing
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Explain),
    /// Follow live packets through the rules, each step by the line of the policy behind it
    #[command(after_help = TRACE_HELP)]
    Trace(Trace),
    /// Say who reaches whom on what, tier by tier, under the policy as a whole
    #[command(after_help = MATRIX_HELP)]
    Matrix(Matrix),
    /// Say who can reach a tier or an address, and on what
    WhoCan(WhoCan),
    /// Print the compiled table
    Export(Export),
    /// Say what the daemon does and holds
    Status,
    /// Say what was denied, or would have been on a side that only observes
    Denied(Denied),
    /// Print allows that would let through what was denied, or would have been, to choose from
    #[command(after_help = SUGGEST_HELP)]
    Suggest(Suggest),
    /// Print numbers for Prometheus, in its text format, which is for programs: there is no other
    Metrics,
    /// Watch what is denied as it happens, with what is enforced and what is wrong
    #[command(after_help = WATCH_HELP)]
    Watch(Watch),
    /// Apply the policy files as they are now, and wait until the kernel has acknowledged it
    Reload(Reload),
    /// Say that a change which waits is good: it stays, where somebody has come in since
    Confirm(Confirm),
    /// List the policies that were committed here, with who asked for them
    History,
    /// Say what differs between two of them on this server
    Diff(Diff),
    /// Go back to one of them; the policy files stay as they are, and aren't applied by themselves
    Rollback(Rollback),
    /// Add and remove members of tiers, beside those of the policy files
    #[command(subcommand)]
    Member(Member),
    /// Look at this host: what stands in tierwall's way or beside it, and what to do
    Doctor(Doctor),
    /// Edit the policy file: checked and compared with the kernel before it is saved, and put back
    /// where the daemon refuses it
    Edit(Edit),
    /// Write a policy to start from, out of an existing nftables table
    #[command(after_help = IMPORT_HELP)]
    Import(Import),
    /// Take the table away: nothing is filtered until the next reload or start
    Teardown,
    /// Print completions for a shell
    Completions(Completions),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Manual(Manual),
}

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

const EXPLAIN_HELP: &str = "\
It judges this server's side of the connection; where neither party is this server, both ends, each \
by what the policy makes of a server there. It uses the policy files, with the members that were \
added by command, and says so where the daemon enforces something else. A name is looked up as a \
user of this server, also for another one.

Exits with 0 where the connection gets through (also where a side merely observes), with 9 where \
it is denied, for some members at least.";

const TRACE_HELP: &str = "\
Packets are marked by a table of its own, which the kernel takes away with this program however that \
ends; nothing else is changed, and no daemon is needed. It takes CAP_NET_ADMIN and Linux 5.12. The \
kernel tells of rules that match, so what a packet passed by isn't shown. Rules of other programs' \
tables are told too: one that drops the packet is often what is looked for.

The policy files say which line a rule is of; where they aren't what is enforced, that is told, and \
the names that the kernel's rules bear are used. docs/trace.md tells more.

Exits with 0, whatever became of the packets.";

/// Which packets, and how long.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Whose packets: a tier, an address, a prefix, a host name, self, or any
    #[arg(long, value_name = "WHO")]
    pub(crate) from: Option<String>,

    /// To whom
    #[arg(long, value_name = "WHO")]
    pub(crate) to: Option<String>,

    /// On what: tcp/443, udp/1000-2000, gre, icmp, or a service by its name
    #[arg(long)]
    pub(crate) service: Option<String>,

    /// Also what is answered: packets the other way, and ICMP errors
    #[arg(long)]
    pub(crate) both: bool,

    /// End after this many packets
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// End after this time, such as 10s or 5m
    #[arg(
        long = "for",
        value_name = "TIME",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) for_: Duration,

    /// How many packets a second are traced at most: of those that open a TCP connection, and of all
    /// others
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(crate) rate: u32,
}

const MATRIX_HELP: &str = "\
What gets through has to be opened at its sender's end and accepted at its receiver's. Addresses \
in no tier are no servers of the policy: the row `any` says what everybody may open to a tier, \
the column `any` what a tier may open to everybody. The rows and columns of tiers hold what both \
ends let through. `*` marks what only some members or users may.";

/// A new connection.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Who opens it: a tier, an address, a prefix, a host name, or self
    #[arg(long, value_name = "WHO")]
    pub(crate) from: String,

    /// To whom
    #[arg(long, value_name = "WHO")]
    pub(crate) to: String,

    /// On what: tcp/443, udp/1000-2000, gre, icmp (an echo request), or a service by its name
    #[arg(long)]
    pub(crate) service: String,

    /// By whose program: a user's name or number; without it, one that no allow names
    #[arg(long)]
    pub(crate) user: Option<String>,

    /// Judge as another server would: a host name, an address, or a tier (several with commas)
    #[arg(long = "as", value_name = "HOST|ADDRESS|ROLE")]
    pub(crate) as_: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Matrix {
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
    #[arg(value_name = "TIER|ADDRESS")]
    pub(crate) whom: String,

    /// On these services only: tcp/443, gre, or a service by its name
    #[arg(long, value_name = "SERVICE")]
    pub(crate) on: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Add a member to a tier, at once; it survives a restart
    Add(AddMember),
    /// Remove a member that was added by command
    Remove(RemoveMember),
    /// Write a member that was added by command into the policy file that defines its tier
    Promote(RemoveMember),
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
pub(crate) struct Denied {
    /// What to sum up by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Flow)]
    pub(crate) by: By,

    /// How far back, such as 30m or 24h; longer than a day is all that the daemon remembers
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,

    /// How many lines at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) limit: usize,
}

const SUGGEST_HELP: &str = "\
What is printed is a part of a policy file, with what was seen of each allow in a comment above it. \
Nothing is added by itself. An address in a tier stands for the narrowest tier that holds it. What \
the policy files let through by now isn't suggested again. See docs/suggest.md.";

#[derive(Debug, Args)]
pub(crate) struct Suggest {
    /// How far back, such as 30m or 24h; without it, all that the daemon remembers
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,

    /// Only what a member of this tier sent or was sent
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// Only what this user's programs sent: a name or a number
    #[arg(long)]
    pub(crate) user: Option<String>,

    /// Also what came from addresses in no tier, which is commented out else
    #[arg(long)]
    pub(crate) strangers: bool,

    /// Also what looks like a scan, which is commented out else
    #[arg(long)]
    pub(crate) scans: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// What to sum up the heaviest by, at first
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Flow)]
    pub(crate) by: By,

    /// How far back the heaviest go, at first; longer than a day is all that the daemon remembers
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10min",
        value_parser = humantime::parse_duration
    )]
    pub(crate) since: Duration,

    /// How often to ask, at least 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,

    /// Print lines, also on a terminal
    #[arg(long)]
    pub(crate) lines: bool,

    /// End after so many polls
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) polls: Option<u64>,
}

/// How often a daemon may be asked.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match interval >= Duration::from_millis(100) {
        true => Ok(interval),
        false => Err("that is too often: 100ms is the least".to_owned()),
    }
}

const WATCH_HELP: &str = "\
Keys: q quits, b sums up by something else, t goes further back, the arrows choose a list and a row \
(told in full below), p pauses, ? helps. A daemon that is away is asked again.

Where standard output is no terminal, or with --lines, each flow of which something was denied since \
the last poll is a line, first the ten that were seen last; what isn't told apart is a sum. With \
--json each poll is an object on a line: what is enforced, what waits or is wrong, rates a second, the \
heaviest, and in `new` the flows with what was new of each (none in the first).";

/// What denials are summed up by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum By {
    /// Source, destination, service, user and interface
    Flow,
    /// Where they went
    Destination,
    /// Where they came from
    Source,
    /// Whose programs sent them, of this server's own
    User,
    /// Protocol and port
    Service,
    /// The tiers of either side
    Tier,
    /// The policy at the time, by the number that `history` has for it
    Generation,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Also where that locks out an open session on a guarded service
    #[arg(long)]
    pub(crate) force: bool,

    /// Go back by itself unless `tierwall confirm` comes within this time, from 5s to 1h; 60s where
    /// none is given
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s")]
    pub(crate) confirm: Option<ConfirmTime>,

    /// In place of a change that waits to be confirmed; the way back stays the same
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Whether a change has to be confirmed, of a command that takes more words: the time has to be
/// attached.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Confirming {
    /// Go back by itself unless `tierwall confirm` comes within this time, from 5s to 1h; 60s where
    /// none is given
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s"
    )]
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

    #[command(flatten)]
    pub(crate) confirming: Confirming,
}

#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 where there is nothing but notes, with 2 where there is a \
                        warning or an error. docs/doctor.md tells more about each finding.")]
pub(crate) struct Doctor {
    /// Where the daemon keeps what outlives it
    #[arg(long, value_name = "DIRECTORY", default_value = control::STATE_DIRECTORY)]
    pub(crate) state_directory: PathBuf,

    /// Print the network settings that the kernel's are compared with, as a file for /etc/sysctl.d
    #[arg(long)]
    pub(crate) sysctl: bool,

    /// Look for the files of other services below this directory
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
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
pub(crate) struct ListMembers {
    /// Of this tier only
    pub(crate) tier: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Where to
    pub(crate) directory: PathBuf,
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

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// This server's kernel, or what `nft -j list ruleset` printed: a file, or - for standard input
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

const IMPORT_HELP: &str = "\
Sets of addresses become tiers (web_v4 and web_v6 one tier, web), accepts become allows in the \
order of their rules, with their comments as names; jumps and verdict maps are followed. What \
tierwall lets through anyway needs no allow. What a policy can't say (interfaces, marks, rates, \
NAT, source ports) stays as a comment `not imported` where the rule was; a drop in front of an \
accept is taken out of the allow where that is exact, else the allow is marked `WIDER`.

Exits with 8 where anything wasn't imported or is wider.";

/// The languages of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// A script for `nft -f`
    Nft,
    /// Commands for `nft -j -f`
    Json,
}
