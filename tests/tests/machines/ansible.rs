//! The Ansible role on servers, over SSH from another host.

use crate::made;
use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tierwall_tests::machine::Machine;
use tierwall_tests::network::{Host, Network};

struct Rollout {
    network: Network,
    machines: Vec<(&'static str, Machine)>,
    directory: tempfile::TempDir,
}

impl Rollout {
    fn new(servers: &[&'static str]) -> Self {
        let addresses = [("control", "10.10.0.1"), ("web1", "10.10.1.10"), ("app1", "10.10.1.20")];
        let parsed = addresses.map(|(name, at)| (name, vec![at.parse::<IpAddr>().unwrap()]));
        let network = Network::new(parsed).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        assert!(keygen.status().unwrap().success());
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let boot = |name: &&'static str| {
            let namespace = &network.host(name).namespace;
            let machine = Machine::boot(&made("TIERWALL_MACHINE"), namespace).unwrap();
            fs::create_dir_all(machine.path("/root/.ssh")).unwrap();
            machine.write("/root/.ssh/authorized_keys", &public).unwrap();
            (*name, machine)
        };
        let machines = servers.iter().map(boot).collect();
        let rollout = Self { network, machines, directory };
        rollout.write(
            "inventory",
            "[web]\nweb1 ansible_host=10.10.1.10\n[app]\napp1 ansible_host=10.10.1.20\n",
        );
        rollout
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Runs the role with these allows.
    fn play(&self, allows: &str, metrics: bool) -> Output {
        self.play_with(allows, "10.10.0.1", &format!("tierwall_metrics: {metrics}"))
    }

    /// The same with who administers, and another variable.
    fn play_with(&self, allows: &str, admin: &str, variable: &str) -> Output {
        let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/ansible/roles");
        let package = made("TIERWALL_DEB");
        let playbook = format!(
            "- hosts: all\n  roles:\n    - role: tierwall\n      vars:\n        \
             tierwall_package: {}\n        tierwall_members: {{ admin: [\"{admin}\"] }}\n        \
             tierwall_confirm: 10s\n        {variable}\n        \
             tierwall_allows:\n{allows}",
            package.display()
        );
        self.write("site.yml", &playbook);
        let key = self.directory.path().join("key");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let mut ansible = Command::new("ansible-playbook");
        ansible.current_dir(self.directory.path()).args(["-i", "inventory", "site.yml"]);
        ansible.env("ANSIBLE_ROLES_PATH", roles).env("ANSIBLE_HOST_KEY_CHECKING", "False");
        ansible.env("ANSIBLE_PRIVATE_KEY_FILE", key).env("ANSIBLE_REMOTE_USER", "root");
        ansible.env("HOME", self.directory.path()).env("ANSIBLE_NOCOLOR", "1");
        ansible.env("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3");
        let control = self.network.host("control");
        control.namespace.run(|| ansible.output()).unwrap()
    }

    fn machine(&self, name: &str) -> &Machine {
        &self.machines.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn status(&self, name: &str) -> serde_json::Value {
        let status = self.machine(name).succeed(&["tierwall", "status", "--json"]).unwrap();
        serde_json::from_str(&status).unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn reaches(from: &Host, to: &Host, port: u16) -> bool {
    let address = SocketAddr::new(to.addresses[0], port);
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
    from.namespace.run(connect)
}

fn serves_metrics(host: &Host) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], 29815));
    host.namespace.run(|| TcpStream::connect(address).is_ok())
}

const SSH: &str = "          - { from: admin, to: \"*\", service: tcp/22 }\n";
const WEB: &str = "          - { from: web, to: app, service: tcp/8080 }\n";

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn a_policy_is_rolled_out_and_one_that_locks_out_is_not() {
    let rollout = Rollout::new(&["web1", "app1"]);
    let [control, web, app] = ["control", "web1", "app1"].map(|name| rollout.network.host(name));
    let _listener = app.namespace.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());

    let first = rollout.play(SSH, false);
    assert!(first.status.success(), "{}", text(&first));
    assert!(!reaches(web, app, 8080));
    assert!(reaches(control, app, 22));
    assert_eq!(rollout.status("app1")["role"], serde_json::json!(["app"]));

    // Nothing changed: nothing is applied, and nothing waits.
    let again = rollout.play(SSH, false);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(text(&again).matches("changed=0").count(), 2, "{}", text(&again));
    assert!(!serves_metrics(app));
    // Of members alone, which apply by themselves, nothing is left to confirm.
    let members = rollout.play_with(SSH, "10.10.0.0/30", "tierwall_metrics: false");
    assert!(members.status.success(), "{}", text(&members));

    let both = format!("{SSH}{WEB}");
    let second = rollout.play(&both, true);
    assert!(second.status.success(), "{}", text(&second));
    assert!(reaches(web, app, 8080));
    assert!(rollout.status("app1")["pending"].is_null(), "{}", rollout.status("app1"));
    assert!(serves_metrics(app));
    let again = rollout.play(&both, true);
    assert_eq!(text(&again).matches("changed=0").count(), 2, "{}", text(&again));
    let without = rollout.play(&both, false);
    assert!(without.status.success() && !serves_metrics(app), "{}", text(&without));

    // What somebody rolled back from isn't applied again by a run that brings nothing new.
    rollout.machine("app1").succeed(&["tierwall", "rollback"]).unwrap();
    let back = rollout.play(&both, false);
    assert!(!back.status.success(), "{}", text(&back));
    assert!(text(&back).contains("rolled back from generation"), "{}", text(&back));
    assert!(!reaches(web, app, 8080));
    let insists = rollout.play_with(&both, "10.10.0.1", "tierwall_insists: true");
    assert!(insists.status.success(), "{}", text(&insists));
    assert!(reaches(web, app, 8080));

    // Without a way in for whoever rolls it out.
    let locked = rollout.play(WEB, false);
    assert!(!locked.status.success(), "{}", text(&locked));
    assert!(
        text(&locked).contains("would lock out the session from 10.10.0.1"),
        "{}",
        text(&locked)
    );
    assert!(reaches(control, app, 22));
    // With errors: not even the file is replaced.
    let bad = rollout.play("          - { from: wbe, to: app, service: tcp/8080 }\n", false);
    assert!(!bad.status.success(), "{}", text(&bad));
    assert!(text(&bad).contains("wbe"), "{}", text(&bad));
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn a_first_run_locks_nobody_out_whatever_port_sshd_has() {
    let rollout = Rollout::new(&["web1"]);
    let [control, web] = ["control", "web1"].map(|name| rollout.network.host(name));
    let machine = rollout.machine("web1");
    machine.write("/etc/ssh/sshd_config.d/port.conf", "Port 2222\n").unwrap();
    machine.succeed(&["systemctl", "restart", "ssh"]).unwrap();
    let host = "[web]\nweb1 ansible_host=10.10.1.10 ansible_port=2222\n";

    // A member that nobody knows the address of.
    rollout.write("inventory", &format!("{host}app1\n"));
    let unknown = rollout.play(SSH, false);
    assert!(!unknown.status.success(), "{}", text(&unknown));
    assert!(text(&unknown).contains("app1 can't be a member of a tier"), "{}", text(&unknown));
    rollout.write("inventory", host);

    // The allow is for another port. A second run doesn't take for done what the first one began.
    for _ in 0..2 {
        let locked = rollout.play(SSH, false);
        assert!(!locked.status.success(), "{}", text(&locked));
        let why = "would lock out the session from 10.10.0.1";
        assert!(text(&locked).contains(why), "{}", text(&locked));
        assert_eq!(rollout.status("web1")["input"], "observe");
        assert!(reaches(control, web, 2222));
        machine.fail(&["systemctl", "is-enabled", "tierwalld"]).unwrap();
    }

    let allow = SSH.replace("22", "2222");
    let settings = |output: &str| {
        format!("tierwall_settings: {{ mode: {{ input: enforce, output: {output} }} }}")
    };
    let modes = || {
        let status = rollout.status("web1");
        assert!(status["pending"].is_null() && reaches(control, web, 2222), "{status}");
        [status["input"].clone(), status["output"].clone()]
    };
    let mended = rollout.play_with(&allow, "10.10.0.1", &settings("observe"));
    assert!(mended.status.success(), "{}", text(&mended));
    assert_eq!(modes(), ["enforce", "observe"]);
    machine.succeed(&["systemctl", "is-enabled", "tierwalld"]).unwrap();

    // A run that broke off once the file was written.
    let edit = "s/output = \"observe\"/output = \"enforce\"/";
    machine.succeed(&["sed", "-i", edit, "/etc/tierwall/tierwall.toml"]).unwrap();
    let finished = rollout.play_with(&allow, "10.10.0.1", &settings("enforce"));
    assert!(finished.status.success(), "{}", text(&finished));
    assert_eq!(modes(), ["enforce", "enforce"]);

    // Members apply by themselves, but for the one that the controller comes from.
    let moved = rollout.play_with(&allow, "10.10.0.9", &settings("enforce"));
    assert!(!moved.status.success(), "{}", text(&moved));
    assert!(reaches(control, web, 2222));
}
