//! The same filter three times: as a policy, as people write rules, and as an expert would.

use std::fmt;
use std::fmt::Write;
use std::net::Ipv4Addr;

pub(crate) const SENDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FIRST_PORT: usize = 20_000;

/// Who is allowed what. The sender is a peer of the last allow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peers {
    /// One tier, a port for each allow.
    OneTier { allows: usize },
    /// An address for each allow, all on one port.
    Literals { allows: usize },
    /// A tier for each allow, all on one port.
    Tiers { allows: usize },
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneTier { allows: 1 } => write!(f, "1 allow"),
            Self::OneTier { allows } => write!(f, "{allows} allows"),
            Self::Literals { allows } => write!(f, "{allows} literal peers on one service"),
            Self::Tiers { allows } => write!(f, "{allows} tiers on one service"),
        }
    }
}

impl Peers {
    fn allows(self) -> usize {
        match self {
            Self::OneTier { allows } | Self::Literals { allows } | Self::Tiers { allows } => allows,
        }
    }

    fn port(self, allow: usize) -> usize {
        match self {
            Self::OneTier { .. } => FIRST_PORT + allow,
            Self::Literals { .. } | Self::Tiers { .. } => FIRST_PORT,
        }
    }

    pub(crate) fn last_port(self) -> u16 {
        self.port(self.allows() - 1) as u16
    }

    /// Who the peers of an allow are: an address or a prefix.
    fn of(self, allow: usize) -> String {
        let is_last = allow + 1 == self.allows();
        match self {
            Self::OneTier { .. } => "10.0.0.0/28".into(),
            Self::Literals { .. } if is_last => SENDER.to_string(),
            Self::Literals { .. } => {
                Ipv4Addr::from_bits(0x0a01_0000 + 3 * allow as u32).to_string()
            }
            Self::Tiers { .. } if is_last => "10.0.0.0/28".into(),
            Self::Tiers { .. } => format!("10.{}.0.0/28", 100 + allow),
        }
    }

    /// The peers of all allows.
    fn all(self) -> String {
        let peers: Vec<String> = match self {
            Self::OneTier { .. } => vec![self.of(0)],
            Self::Literals { allows } | Self::Tiers { allows } => {
                (0..allows).map(|allow| self.of(allow)).collect()
            }
        };
        peers.join(", ")
    }
}

/// As tierwall is told.
pub(crate) fn policy(peers: Peers) -> String {
    let mut text = format!(
        "role = \"server\"\nmode = {{ input = \"enforce\", output = \"off\" }}\n[tiers]\n\
         server = \"{RECEIVER}\"\npeers = \"10.0.0.0/28\"\n"
    );
    if let Peers::Tiers { allows } = peers {
        for tier in 0..allows {
            let _ = writeln!(text, "t{tier} = \"{}\"", peers.of(tier));
        }
    }
    for allow in 0..peers.allows() {
        let from = match peers {
            Peers::OneTier { .. } => "peers".into(),
            Peers::Literals { .. } => peers.of(allow),
            Peers::Tiers { .. } => format!("t{allow}"),
        };
        let port = peers.port(allow);
        let _ = write!(
            text,
            "[[allow]]\nfrom = \"{from}\"\nto = \"server\"\nservice = \"udp/{port}\"\n"
        );
    }
    text
}

/// One rule after the other, as people write them.
pub(crate) fn linear(peers: Peers) -> String {
    let mut text = String::from("table inet filter {\n");
    let named = match peers {
        Peers::OneTier { .. } => 1,
        Peers::Literals { .. } => 0,
        Peers::Tiers { allows } => allows,
    };
    for set in 0..named {
        let elements = peers.of(set);
        let _ = writeln!(
            text,
            " set t{set} {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}"
        );
    }
    text += " chain input {\n type filter hook input priority 0; policy drop;\n \
             ct state established,related accept\n ct state invalid drop\n iif lo accept\n";
    for allow in 0..peers.allows() {
        let from = match peers {
            Peers::OneTier { .. } => "@t0".into(),
            Peers::Literals { .. } => peers.of(allow),
            Peers::Tiers { .. } => format!("@t{allow}"),
        };
        let port = peers.port(allow);
        let _ = writeln!(text, " ip saddr {from} udp dport {port} counter accept");
    }
    text + " }\n}\n"
}

/// One lookup for the port and one for the peer, whatever their number.
pub(crate) fn tuned(peers: Peers) -> String {
    let flags = match peers {
        Peers::Literals { .. } => "",
        Peers::OneTier { .. } | Peers::Tiers { .. } => "flags interval;",
    };
    let services = match peers {
        Peers::OneTier { allows } => allows,
        Peers::Literals { .. } | Peers::Tiers { .. } => 1,
    };
    let ports: Vec<usize> = (0..services).map(|allow| peers.port(allow)).collect();
    let mut text = format!(
        "table inet filter {{\n set peers {{ type ipv4_addr; {flags} elements = {{ {} }} }}\n",
        peers.all()
    );
    for port in &ports {
        let _ = writeln!(text, " chain p{port} {{ ip saddr @peers counter accept\n }}");
    }
    let map: Vec<String> = ports.iter().map(|port| format!("{port} : jump p{port}")).collect();
    let _ = write!(
        text,
        " map services {{ type inet_service : verdict; elements = {{ {} }} }}\n chain input {{\n \
         type filter hook input priority 0; policy drop;\n \
         ct state vmap {{ established : accept, related : accept, invalid : drop }}\n \
         iif lo accept\n udp dport vmap @services\n }}\n}}\n",
        map.join(", ")
    );
    text
}
