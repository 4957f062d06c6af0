//! What looks at what happens on this server: denials, live packets, the host.

use super::Between;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The examples of `status`.
pub(super) const STATUS_HELP: &str = "\
Examples:
  tierwall status
  tierwall status --exit-code || logger -p auth.warning 'the firewall needs attention'

Exit codes with --exit-code: 0 the policy is enforced as it is written; 10 something is pending: a
change to be confirmed, an edit that waits for a reload, files or lists that are held, or a reboot
would enforce something else; 11 a change was refused, the files have errors, or a side only observes or
nothing is filtered; 12 tierwalld doesn't run. The worst that is so.";

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Exit with a code that says whether the policy is enforced as it is written
    #[arg(long)]
    pub(crate) exit_code: bool,
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

pub(super) const SUGGEST_HELP: &str = "\
What is printed is a part of a policy file, with what was seen of each allow in a comment above it. \
Nothing is added by itself. An address in a tier stands for the narrowest tier that holds it. What \
the policy files let through by now isn't suggested again. See \
/usr/share/doc/tierwall/docs/suggest.md.";

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

pub(super) const WATCH_HELP: &str = "\
Keys: q quits, b sums up by something else, t goes further back, the arrows choose a list and a row \
(told in full below), p pauses, ? helps. A daemon that is away is asked again.

Where standard output is no terminal, or with --lines, each flow of which something was denied since \
the last poll is a line, first the ten that were seen last; what isn't told apart is a sum. With \
--json each poll is an object on a line: what is enforced, what waits or is wrong, rates a second, the \
heaviest, and in `new` the flows with what was new of each (none in the first).";

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

    /// End after so many polls; as lines or JSON with exit code 1 where the last had no answer
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

pub(super) const TRACE_HELP: &str = "\
Packets are marked by a table of its own, which the kernel takes away with this program however that \
ends; nothing else is changed, and no daemon is needed. It takes CAP_NET_ADMIN and Linux 5.12. The \
kernel tells of rules that match, so what a packet passed by isn't shown. Rules of other programs' \
tables are told too: one that drops the packet is often what is looked for.

The policy files say which line a rule is of; where they aren't what is enforced, that is told, and \
the names that the kernel's rules bear are used. /usr/share/doc/tierwall/docs/trace.md tells more.

Exits with 0, whatever became of the packets. Any sender or receiver is `any`.

Examples:
  tierwall trace web self tcp/8080
  tierwall trace any self --for 10s";

/// Which packets, and how long.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub(crate) between: Between,

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

#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 where there is nothing but notes, with 2 where there is a \
                        warning or an error. /usr/share/doc/tierwall/docs/doctor.md tells more \
                        about each finding.")]
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
