//! A segment: hosts that reach each other directly, whatever their addresses.
//!
//! ```text
//!   host          host          host         each a namespace with eth0 (and eth1 …)
//!     │ veth        │ veth        │ veth
//!   ──┴─────────────┴─────────────┴──        a bridge, in a namespace of its own
//! ```
//!
//! Every host takes the whole address space to be on its link (a default route without a
//! gateway), so 10.10.1.20, 198.51.100.40 and 2001:db8::1 are neighbours, and only the policies
//! stand between them. There is no router and no way out.

use crate::namespace::Namespace;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const BRIDGE: &str = "segment";
/// How long links may take to come up; they need a few milliseconds.
const LINKS_UP: Duration = Duration::from_secs(10);
/// How often something that takes milliseconds is asked for.
const POLL: Duration = Duration::from_millis(2);

/// Hosts on one link.
#[derive(Debug)]
pub struct Network {
    bridge: Namespace,
    hosts: Vec<Host>,
}

/// One machine on the segment.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name, unique in the network.
    pub name: String,
    /// Its addresses. The first of each family is on `eth0`, the second on `eth1`, and so on.
    pub addresses: Vec<IpAddr>,
    /// Where its sockets and processes live.
    pub namespace: Arc<Namespace>,
}

impl Host {
    /// A host without a network: only itself reaches its addresses, which are on `lo`. Enough for
    /// what needs no packets, and made much faster.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn alone(name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Self> {
        let host = Self {
            name: name.to_owned(),
            addresses: addresses.into_iter().collect(),
            namespace: Arc::new(Namespace::new()?),
        };
        for address in &host.addresses {
            host.namespace.command("ip", &["address", "add", &address.to_string(), "dev", "lo"])?;
        }
        Ok(host)
    }

    /// The first address of the family of `peer`: what a connection to it leaves from.
    pub fn address_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == peer.is_ipv4())
    }

    /// Waits until the host takes in packets for `addresses`, which it has. The kernel adds the
    /// local route of an IPv6 address from a work queue, with `nodad` too (`addrconf_dad_work`);
    /// what arrives before, such as a neighbour's answer, is lost until it is sent again.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for_addresses(&self, addresses: &[IpAddr]) -> Result<()> {
        let start = Instant::now();
        let routes = ["-6", "route", "show", "table", "local"];
        loop {
            let listing = self.namespace.command("ip", &routes)?;
            let is_local = |address: &&IpAddr| {
                let route = format!("local {address} ");
                listing.lines().any(|line| line.starts_with(&route))
            };
            match addresses.iter().filter(|address| address.is_ipv6()).find(|a| !is_local(a)) {
                None => return Ok(()),
                Some(missing) if start.elapsed() > LINKS_UP => {
                    bail!("{} doesn't take in packets for {missing}:\n{listing}", self.name);
                }
                Some(_) => thread::sleep(POLL),
            }
        }
    }

    /// Its addresses by interface: `eth0` first.
    fn interfaces(&self) -> Vec<Vec<IpAddr>> {
        let mut interfaces: Vec<Vec<IpAddr>> = vec![Vec::new()];
        for &address in &self.addresses {
            let taken = |own: &Vec<IpAddr>| own.iter().any(|a| a.is_ipv4() == address.is_ipv4());
            match interfaces.iter_mut().find(|own| !taken(own)) {
                Some(free) => free.push(address),
                None => interfaces.push(vec![address]),
            }
        }
        interfaces
    }
}

impl Network {
    /// Makes the segment and its hosts; when it returns, they can talk.
    ///
    /// # Errors
    /// Without the right to make namespaces, without `ip`, or when an address is refused.
    pub fn new<N: Into<String>>(hosts: impl IntoIterator<Item = (N, Vec<IpAddr>)>) -> Result<Self> {
        // Every host listens on every service: the usual soft limit of 1024 is soon reached.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let bridge = Namespace::new()?;
        // Snooping would hold back neighbour discovery until the bridge has learned its members.
        let setup =
            format!("link add {BRIDGE} type bridge mcast_snooping 0\nlink set {BRIDGE} up\n");
        bridge.command_with_input("ip", &["-batch", "-"], &setup)?;
        let mut network = Self { bridge, hosts: Vec::new() };
        network.add(hosts)?;
        Ok(network)
    }

    /// Adds hosts to the segment; when it returns, they can talk.
    ///
    /// # Errors
    /// As [`Network::new`], and for a name that is taken.
    pub fn add<N: Into<String>>(
        &mut self,
        hosts: impl IntoIterator<Item = (N, Vec<IpAddr>)>,
    ) -> Result<()> {
        let first = self.hosts.len();
        for (name, addresses) in hosts {
            let name = name.into();
            ensure!(self.find(&name).is_none(), "two hosts are called {name}");
            let namespace = Arc::new(Namespace::new()?);
            self.hosts.push(Host { name, addresses, namespace });
        }
        let added = &self.hosts[first..];
        self.bridge.command_with_input("ip", &["-batch", "-"], &cables(first, added))?;
        thread::scope(|scope| {
            let work: Vec<_> = added.iter().map(|host| scope.spawn(|| configure(host))).collect();
            work.into_iter()
                .try_for_each(|host| host.join().expect("configuring a host doesn't panic"))
        })?;
        self.wait_for_links()
    }

    /// All hosts, in the order in which they were added.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of that name.
    pub fn find(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The host of that name, which the caller knows to exist.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&self, name: &str) -> &Host {
        self.find(name).unwrap_or_else(|| panic!("no host is called {name}"))
    }

    /// Waits until every port of the bridge forwards.
    fn wait_for_links(&self) -> Result<()> {
        let ports: usize = self.hosts.iter().map(|host| host.interfaces().len()).sum();
        let start = Instant::now();
        loop {
            let list = ["-details", "-oneline", "link", "show", "master", BRIDGE];
            let listing = self.bridge.command("ip", &list)?;
            let forwarding = listing.lines().filter(|line| line.contains("state forwarding"));
            if forwarding.count() == ports {
                return Ok(());
            }
            if start.elapsed() > LINKS_UP {
                bail!("the links of the test network don't come up:\n{listing}");
            }
            thread::sleep(POLL);
        }
    }
}

/// What plugs `hosts` into the bridge, for `ip -batch`. `first` is the number of the first of them.
fn cables(first: usize, hosts: &[Host]) -> String {
    let mut batch = String::new();
    for (number, host) in (first..).zip(hosts) {
        let netns = host.namespace.path();
        for interface in 0..host.interfaces().len() {
            let port = format!("h{number}i{interface}");
            let _ = writeln!(
                batch,
                "link add {port} type veth peer name eth{interface} netns {}\n\
                 link set {port} master {BRIDGE} up",
                netns.display()
            );
        }
    }
    batch
}

/// Gives a host its addresses and routes.
fn configure(host: &Host) -> Result<()> {
    let interfaces = host.interfaces();
    let mut batch = String::new();
    let mut routed = Vec::new();
    for (index, addresses) in interfaces.iter().enumerate() {
        let _ = writeln!(batch, "link set eth{index} up");
        for address in addresses {
            let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
            let _ = writeln!(batch, "address add {address}/{length} dev eth{index}{nodad}");
            if !routed.contains(&address.is_ipv4()) {
                routed.push(address.is_ipv4());
                let family = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
                let _ = writeln!(batch, "route add {family} dev eth{index}");
            }
        }
    }
    if interfaces.len() > 1 {
        // Each interface answers for its own addresses only, and answers to a packet that came in
        // on eth1 leave through eth0, where the route is.
        for (parameter, value) in [("arp_ignore", "1"), ("rp_filter", "0")] {
            host.namespace.sysctl(&format!("net.ipv4.conf.all.{parameter}"), value)?;
            for index in 0..interfaces.len() {
                host.namespace.sysctl(&format!("net.ipv4.conf.eth{index}.{parameter}"), value)?;
            }
        }
    }
    host.namespace
        .command_with_input("ip", &["-batch", "-"], &batch)
        .with_context(|| format!("can't configure host {}", host.name))?;
    host.wait_for_addresses(&host.addresses)
}
