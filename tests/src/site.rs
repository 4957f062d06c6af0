//! A server that is administered over tcp/22: by `admin`, who is allowed, beside `other`, who isn't.

#![allow(clippy::unwrap_used)]

use crate::kernel::Kernel;
use crate::network::{Host, Network};
use crate::server::Server;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

/// The addresses of the three.
pub const SERVER: &str = "10.0.1.20";
#[allow(missing_docs)]
pub const ADMIN: &str = "10.0.0.5";
#[allow(missing_docs)]
pub const OTHER: &str = "10.0.9.9";

/// `admin` is who may use tcp/22, by an allow at line 5.
pub fn policy(admin: &str) -> String {
    format!(
        "role = \"app\"\n[tiers]\nadmin = [\"{admin}\"]\napp = [\"{SERVER}\"]\n\
         [[allow]]\nfrom = \"admin\"\nto = \"app\"\nservice = \"tcp/22\"\n\
         [[allow]]\nfrom = \"any\"\nto = \"app\"\nservice = \"tcp/80\"\n"
    )
}

/// The three hosts, and what listens on the server.
#[derive(Debug)]
pub struct Site {
    /// All of them on one link.
    pub network: Network,
    /// Where tierwall is installed.
    pub server: Server,
    ssh: TcpListener,
    web: TcpListener,
}

impl Site {
    /// The site with a policy; no daemon yet.
    pub fn new(policy: &str) -> Self {
        let network = Network::new(
            [("server", SERVER), ("admin", ADMIN), ("other", OTHER)]
                .map(|(name, address)| (name, vec![address.parse().unwrap()])),
        )
        .unwrap();
        let server = Server::new(network.host("server"), policy).unwrap();
        let listen = |port: u16| {
            let address: SocketAddr = format!("0.0.0.0:{port}").parse().unwrap();
            network.host("server").namespace.run(|| TcpListener::bind(address).unwrap())
        };
        let (ssh, web) = (listen(22), listen(80));
        Self { network, server, ssh, web }
    }

    /// A connection to the server, if it is let in.
    pub fn connect(&self, from: &Host, port: u16) -> Option<TcpStream> {
        let address: SocketAddr = format!("{SERVER}:{port}").parse().unwrap();
        let limit = Duration::from_millis(700);
        from.namespace.run(|| TcpStream::connect_timeout(&address, limit).ok())
    }

    /// A session, both ends of it.
    pub fn session(&self, from: &str, port: u16) -> Session {
        let client = self.connect(self.network.host(from), port).expect("it is let in");
        let listener = if port == 22 { &self.ssh } else { &self.web };
        Session { server: listener.accept().unwrap().0, client }
    }

    /// Whether a new connection to tcp/22 is let in.
    pub fn is_let_in(&self, from: &str) -> bool {
        let stream = self.connect(self.network.host(from), 22);
        stream.is_some_and(|_client| self.ssh.accept().is_ok())
    }

    /// Runs `tierwall`: its exit code, and all that it says.
    pub fn tierwall(&self, arguments: &[&str]) -> (i32, String) {
        said(&self.server.tierwall(arguments).unwrap())
    }

    /// The same by somebody who is in by `session`, as sshd tells its programs.
    pub fn tierwall_in(&self, session: &Session, arguments: &[&str]) -> (i32, String) {
        let mut command = self.server.tierwall_command().unwrap();
        command.env("SSH_CONNECTION", session.ends()).args(arguments);
        said(&self.server.run(&mut command).unwrap())
    }

    /// Has the login manager know that somebody logged in from an address.
    pub fn log_in(&self, name: &str, from: &str) {
        let text = format!(
            "UID=1000\nSTATE=active\nREMOTE=1\nCLASS=user\nREMOTE_HOST={from}\nSERVICE=sshd\n"
        );
        let sessions = self.server.path("host/run/systemd/sessions");
        std::fs::create_dir_all(&sessions).unwrap();
        std::fs::write(sessions.join(name), text).unwrap();
    }

    /// What `status` says.
    pub fn status(&self) -> Value {
        let output = self.server.tierwall(&["status", "--json"]).unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `status` says once that holds.
    pub fn status_when(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the kernel holds.
    pub fn kernel(&self) -> Kernel {
        Kernel::of(self.server.host()).unwrap()
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Session {
    client: TcpStream,
    server: TcpStream,
}

/// The exit code of a program, and all that it said.
fn said(output: &Output) -> (i32, String) {
    let told = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

impl Session {
    /// Both ends, as `SSH_CONNECTION` has them.
    pub fn ends(&self) -> String {
        let (peer, local) = (self.server.peer_addr().unwrap(), self.server.local_addr().unwrap());
        format!("{} {} {} {}", peer.ip(), peer.port(), local.ip(), local.port())
    }

    /// Whether data still comes through.
    pub fn is_alive(&mut self) -> bool {
        let limit = Some(Duration::from_secs(5));
        self.client.write_all(b"x").unwrap();
        self.server.set_read_timeout(limit).unwrap();
        self.server.read_exact(&mut [0]).is_ok()
    }
}
