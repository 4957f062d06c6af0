//! What was observed of this host, as plain values: all that the checks know.
//!
//! What couldn't be observed is none or empty here, and told as not judged.

use netlink::survey::Survey;
use netlink::{Features, LegacyTable, Link, Usage};
use policy::model::{Forward, Modes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

/// Everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) kernel: Kernel,
    /// All tables; none where the kernel has no nf_tables.
    pub(crate) survey: Option<Survey>,
    pub(crate) services: Services,
    pub(crate) links: Vec<Link>,
    pub(crate) sysctls: Sysctls,
    pub(crate) clock: Clock,
    pub(crate) paths: Vec<Owned>,
    pub(crate) policy: Policy,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) daemon: Daemon,
    /// What couldn't be observed, and why.
    pub(crate) not_judged: Vec<String>,
}

/// The kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kernel {
    /// `uname -r`
    pub(crate) release: String,
    /// Why nf_tables can't be used.
    pub(crate) nf_tables: Option<String>,
    pub(crate) features: Option<Features>,
    /// How full the table of tracked connections is, or why that can't be said.
    pub(crate) conntrack: Option<Result<Usage, String>>,
    /// Whether programs can get packets that rules log (`nfnetlink_log`).
    pub(crate) log: Option<bool>,
    /// The modules that rules need and that are neither there nor to be loaded.
    pub(crate) missing_modules: Vec<&'static str>,
    /// Whether no more modules may be loaded (`kernel.modules_disabled`).
    pub(crate) modules_disabled: bool,
}

/// What runs here, or is to run after a boot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    /// The names of processes in this network namespace, as `/proc/PID/comm` has them.
    pub(crate) processes: BTreeSet<String>,
    /// Units that systemd starts at boot.
    pub(crate) enabled: BTreeSet<String>,
    /// Units that run.
    pub(crate) active: BTreeSet<String>,
    /// Whether `/etc/ufw/ufw.conf` says so.
    pub(crate) ufw_enabled: bool,
    /// Tables of the old iptables, which nf_tables doesn't list.
    pub(crate) legacy: Vec<LegacyTable>,
}

/// Kernel settings by their paths below `/proc/sys`, as text.
pub(crate) type Sysctls = BTreeMap<String, String>;

/// The clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// Whether somebody keeps it in step with others.
    pub(crate) synchronised: Option<bool>,
    /// What it says.
    pub(crate) now: Option<SystemTime>,
    /// The file of the state directory that was written last.
    pub(crate) last_state: Option<(PathBuf, SystemTime)>,
}

/// A file or directory, and who may write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) path: PathBuf,
    pub(crate) role: Role,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The permission bits.
    pub(crate) mode: u32,
}

/// What a path is to tierwall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A directory on the way to the policy or to a file that it names.
    Way,
    /// The state directory, or a file in it.
    State,
}

/// The policy file.
#[derive(Debug, Clone, Default)]
pub(crate) enum Policy {
    /// There is none.
    #[default]
    Missing,
    /// It has errors, each in a line. What it says is known where they are only about this server:
    /// its role, its users.
    Bad { errors: Vec<String>, says: Option<Good> },
    /// It is good.
    Good(Good),
}

/// What the doctor asks of a policy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Good {
    pub(crate) forward: Forward,
    pub(crate) mode: Modes,
    /// Whether a tier has IPv6 members.
    pub(crate) has_ipv6: bool,
    /// Warnings, each in a line.
    pub(crate) warnings: Vec<String>,
    /// The tiers that this server is in only by an address that the network gave it, and that
    /// address.
    pub(crate) roles_by_network: Vec<(String, IpAddr)>,
}

impl Policy {
    /// What it says, as far as it can be read.
    pub(crate) fn says(&self) -> Option<&Good> {
        match self {
            Self::Good(good) => Some(good),
            Self::Bad { says, .. } => says.as_ref(),
            Self::Missing => None,
        }
    }
}

/// A socket that is told of every change of nf_tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Whose it is: name and process id; none where that can't be found out.
    pub(crate) process: Option<(String, u32)>,
}

/// The daemon.
#[derive(Debug, Clone, Default)]
pub(crate) enum Daemon {
    /// Nothing listens on its socket.
    #[default]
    Away,
    /// It can't be asked.
    Unreachable(String),
    /// It answers that it won't: there are too many who ask, or who asks may not.
    Refuses(String),
    /// What it says.
    Status(Box<control::Status>),
}
