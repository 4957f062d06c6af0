//! A scenario whose servers have rules written by hand, out of which their policies are imported.

use super::{Scenario, evidence, list, pass, start_all};
use crate::network::Network;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// What is imported on a host.
#[derive(Debug, Clone)]
pub struct Import {
    /// Arguments of `tierwall import` beside `--from`.
    pub arguments: Vec<String>,
    /// Whether from what `nft -j` prints; else from the kernel.
    pub from_json: bool,
}

impl Scenario {
    /// Makes the network, and tries everything first with the rules of `HOST.nft` in `rules`, then
    /// with daemons that have the policies imported out of them.
    ///
    /// # Errors
    /// When any connection meets something else than its line says, with either.
    pub fn run_imported(&self, rules: &Path, import: impl Fn(&str) -> Import) -> Result<()> {
        let network =
            Network::new(self.hosts.iter().map(|host| (&host.name, host.addresses.clone())))?;
        let listeners = self.listen(&network)?;
        let tries = self.tries(&network)?;
        let lines = self.hosts.iter().filter(|host| host.is_server);
        let hosts: Vec<_> = lines.map(|line| network.host(&line.name)).collect();
        for host in &hosts {
            let file = rules.join(format!("{}.nft", host.name));
            let (rules, file) = (rules.display().to_string(), file.display().to_string());
            host.namespace.command("nft", &["-I", &rules, "-f", &file])?;
        }
        let wrong = pass("by hand", &tries, &network, &listeners, |line| line.expected)?;
        ensure!(wrong.is_empty(), "the rules by hand are wrong:\n{}", list(&wrong));

        let mut servers = Vec::new();
        for host in &hosts {
            let server = Server::new(host, "")?;
            let import = import(&host.name);
            let mut command = server.tierwall_command()?;
            command.arg("import").args(&import.arguments);
            if import.from_json {
                let listing = host.namespace.command("nft", &["-j", "list", "ruleset"])?;
                server.write("ruleset.json", listing)?;
                command.arg("--from").arg(server.config().with_file_name("ruleset.json"));
            }
            let output = server.run(&mut command)?;
            let told = String::from_utf8_lossy(&output.stderr);
            ensure!(matches!(output.status.code(), Some(0 | 8)), "{}: {told}", host.name);
            let policy = String::from_utf8(output.stdout).context("a policy is text")?;
            ensure!(!policy.contains("# WIDER than"), "{}: wider:\n{policy}", host.name);
            // A draft only observes.
            let policy = policy.replacen("\"observe\"", "\"enforce\"", 2);
            server.write("tierwall.toml", policy)?;
            host.namespace.command("nft", &["flush", "ruleset"])?;
            servers.push(server);
        }
        let daemons = start_all(&servers)?;
        let wrong = pass("imported", &tries, &network, &listeners, |line| line.expected)?;
        let evidence = evidence(&wrong, &servers, &daemons);
        for daemon in daemons {
            daemon.stop()?;
        }
        ensure!(wrong.is_empty(), "the policies imported are wrong:\n{}{evidence}", list(&wrong));
        Ok(())
    }
}
