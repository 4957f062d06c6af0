//! The command line: the commands, and what each takes in the file of its kind.

mod between;
mod changing;
mod judging;
mod seeing;

pub(crate) use between::Between;
pub(crate) use changing::{
    Confirm, Diff, Edit, Import, ListMembers, Member, Reload, Rollback, Takeover,
};
pub(crate) use judging::{
    Check, Explain, Export, Format, Judgement, Matrix, MatrixFormat, Plan, WhoCan,
};
pub(crate) use seeing::{By, Denied, Doctor, Status, Suggest, Trace, Watch};

use changing::{IMPORT_HELP, TAKEOVER_HELP};
use judging::{EXPLAIN_HELP, MATRIX_HELP, WHO_CAN_HELP};
use seeing::{STATUS_HELP, SUGGEST_HELP, TRACE_HELP, WATCH_HELP};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Says what a tier policy means on this server, and talks to its daemon.
#[derive(Debug, Parser)]
#[command(
    name = "tierwall",
    version,
    after_help = "Exit codes: 0 done; 1 something failed; 2 `plan --detailed-exitcode` found \
                  changes, or `doctor` something to see to; 3 the policy has errors; 4 no right to do \
                  that; 5 a table `inet filter` that tierwall did not make; 6 somebody would be \
                  locked out; 7 a change waits to be confirmed; 8 `import` couldn't say all; \
                  9 `explain`: it would be denied; 10 to 12 `status --exit-code`; 64 usage."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
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

    /// Read policy files that others than root may write or replace
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
    #[command(after_help = WHO_CAN_HELP)]
    WhoCan(WhoCan),
    /// Print the compiled table
    Export(Export),
    /// Say what the daemon does and holds
    #[command(after_help = STATUS_HELP)]
    Status(Status),
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
    /// Replace a table `inet filter` that tierwall did not make by the policy, once
    #[command(after_help = TAKEOVER_HELP)]
    Takeover(Takeover),
    /// Take the table away: nothing is filtered until the next reload or start
    Teardown,
    /// Print completions for a shell
    Completions(Completions),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Manual(Manual),
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
