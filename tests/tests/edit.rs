//! `tierwall edit` at a terminal, with an editor that is a script: every way out of it.

#![allow(clippy::unwrap_used)]

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

const SERVER: &str = "10.0.1.20";
const ADMIN: &str = "10.0.0.5";
/// How long an edit may take to say the next thing.
const SAID: Duration = Duration::from_secs(20);

fn policy(admin: &str) -> String {
    format!(
        "role = \"app\"\n[tiers]\nadmin = [\"{admin}\"]\napp = [\"{SERVER}\"]\n\
         [[allow]]\nfrom = \"admin\"\nto = \"app\"\nservice = \"tcp/22\"\n"
    )
}

fn server() -> Server {
    let host = Host::alone("app1", [SERVER.parse().unwrap()]).unwrap();
    Server::new(&host, &policy(ADMIN)).unwrap()
}

fn beside(server: &Server, name: &str) -> PathBuf {
    server.config().with_file_name(name)
}

fn text(server: &Server) -> String {
    fs::read_to_string(server.config()).unwrap()
}

/// What is in the policy file's directory.
fn files(server: &Server) -> Vec<String> {
    let directory = beside(server, "");
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What is in the copy that it says it keeps.
fn kept(said: &str) -> String {
    let path = said.split("your text is in ").nth(1).expect(said);
    fs::read_to_string(path.split(['\r', '\n', ',']).next().unwrap()).unwrap()
}

/// `tierwall edit` at a terminal of its own.
struct Edit {
    child: Child,
    terminal: File,
    said: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Edit {
    /// `script` is the editor, which has the copy as `$1` and the policy's directory as `$DIR`.
    fn start(server: &Server, script: &str, arguments: &[&str]) -> Self {
        let directory = server.config().parent().unwrap().to_owned();
        let scripts = directory.parent().unwrap().join("editor");
        fs::write(&scripts, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&scripts, Permissions::from_mode(0o755)).unwrap();
        let pty = openpty(None, None).unwrap();
        let tierwall = server.tierwall_command().unwrap();
        // A session of its own, whose terminal sends it signals.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(tierwall.get_program()).args(tierwall.get_args());
        command.arg("edit").args(arguments).env("EDITOR", &scripts).env("DIR", &directory);
        command.env_remove("VISUAL").env("NO_COLOR", "1");
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = server.spawn(&mut command).unwrap();
        drop((command, pty.slave));
        let terminal = File::from(pty.master);
        let said = Arc::new(Mutex::new(String::new()));
        let (mut output, heard) = (terminal.try_clone().unwrap(), said.clone());
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { child, terminal, said, reader }
    }

    /// Waits until it says this, and forgets what it said up to there.
    fn says(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let mut said = self.said.lock().unwrap();
            if let Some(at) = said.find(text) {
                let rest = said.split_off(at + text.len());
                return std::mem::replace(&mut said, rest);
            }
            assert!(start.elapsed() < SAID, "it doesn't say {text:?}; it said:\n{said}");
            drop(said);
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn answer(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Its exit code, and what else it said.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > SAID {
                self.child.kill().unwrap();
                panic!("it doesn't end; it said:\n{}", self.said.lock().unwrap());
            }
            thread::sleep(Duration::from_millis(10));
        };
        // To the end, which is there when nobody has the terminal any more.
        while !self.reader.is_finished() && start.elapsed() < SAID {
            thread::sleep(Duration::from_millis(10));
        }
        let said = self.said.lock().unwrap().replace("\r\n", "\n");
        (status.code(), said)
    }
}

/// An edit whose editor is open until the file `open` beside the policy is gone.
fn open_editor(server: &Server) -> Edit {
    let script = "touch \"$DIR/open\"; while [ -e \"$DIR/open\" ]; do sleep 0.02; done";
    let edit = Edit::start(server, script, &[]);
    let start = Instant::now();
    while !beside(server, "open").exists() {
        assert!(start.elapsed() < SAID, "the editor doesn't start");
        thread::sleep(Duration::from_millis(10));
    }
    edit
}

/// An editor that replaces one word.
fn replace(from: &str, to: &str) -> String {
    format!("sed -i 's#{from}#{to}#' \"$1\"")
}

const APPLY: &str = "apply this? (y)es, (n)o, (e)dit again ";
const AGAIN: &str = "(e)dit again, or e(x)it and leave the policy as it was? ";

#[test]
fn a_good_edit_is_shown_then_applied_and_the_file_stays_whose_it_was() {
    let server = server();
    fs::set_permissions(server.config(), Permissions::from_mode(0o640)).unwrap();
    let daemon = server.start(&[]).unwrap();
    let (from, to) = ("\"tcp/22\"", "[\"tcp/22\", \"tcp/2222\"]");
    let mut edit = Edit::start(&server, &replace(from, to), &[]);
    let shown = edit.says(APPLY);
    assert!(shown.contains("+ ") && shown.contains("tcp/2222"), "{shown}");
    assert_eq!(text(&server), policy(ADMIN), "not before the answer");
    edit.answer("y\n");
    let (code, said) = edit.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("generation"), "{said}");
    assert_eq!(text(&server), policy(ADMIN).replace(from, to));
    assert_eq!(fs::metadata(server.config()).unwrap().mode() & 0o777, 0o640);
    assert_eq!(files(&server), ["tierwall.toml"]);
    assert!(server.nft_list("table inet filter").unwrap().contains("2222"));
    daemon.stop().unwrap();
}

#[test]
fn an_unchanged_text_is_left_alone() {
    let server = server();
    let before = fs::metadata(server.config()).unwrap().ino();
    let (code, said) = Edit::start(&server, "touch \"$1\"", &[]).end();
    assert_eq!((code, said.as_str()), (Some(0), "nothing was changed\n"));
    assert_eq!(fs::metadata(server.config()).unwrap().ino(), before);
    assert_eq!(files(&server), ["tierwall.toml"]);
}

#[test]
fn a_bad_text_is_never_saved() {
    let server = server();
    let mut edit = Edit::start(&server, &replace("\"admin\"$", "\"amdin\""), &[]);
    let told = edit.says(AGAIN);
    assert!(told.contains("did you mean `admin`") && told.contains("tierwall.toml:6"), "{told}");
    edit.answer("q\n");
    edit.says(AGAIN);
    edit.answer("y\n");
    edit.says(AGAIN);
    edit.answer("x\n");
    let (code, said) = edit.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("the policy is as it was"), "{said}");
    assert_eq!((text(&server), files(&server)), (policy(ADMIN), vec!["tierwall.toml".into()]));
}

#[test]
fn editing_again_goes_on_from_where_one_was() {
    let server = server();
    let daemon = server.start(&[]).unwrap();
    // Bad, then good but not yet wanted, then good.
    let script = "case \"$(grep service \"$1\")\" in
        *tcp/22\\\"*) sed -i 's#tcp/22#tpc/22#' \"$1\" ;;
        *tpc/22*) sed -i 's#tpc/22#tcp/22-23#' \"$1\" ;;
        *) sed -i 's#tcp/22-23#tcp/22-24#' \"$1\" ;;
    esac";
    let mut edit = Edit::start(&server, script, &[]);
    edit.says(AGAIN);
    edit.answer("e\n");
    edit.says(APPLY);
    edit.answer("E\n");
    edit.says(APPLY);
    edit.answer("yes\n");
    let (code, said) = edit.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(text(&server), policy(ADMIN).replace("tcp/22", "tcp/22-24"));
    daemon.stop().unwrap();
}

#[test]
fn whoever_says_no_changes_nothing() {
    let server = server();
    let mut edit = Edit::start(&server, &replace("tcp/22", "tcp/23"), &[]);
    edit.says(APPLY);
    edit.answer("n\n");
    let (code, said) = edit.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!((text(&server), files(&server)), (policy(ADMIN), vec!["tierwall.toml".into()]));
}

#[test]
fn whoever_does_not_answer_changes_nothing_and_keeps_the_text() {
    for (script, question) in
        [(replace("tcp/22", "tcp/23"), APPLY), (replace("\"admin\"$", "\"amdin\""), AGAIN)]
    {
        // The end of input; Ctrl-C.
        for answer in ["\u{4}", "\u{3}"] {
            let server = server();
            let mut edit = Edit::start(&server, &script, &[]);
            edit.says(question);
            edit.answer(answer);
            let (code, said) = edit.end();
            assert_eq!((code, text(&server)), (Some(1), policy(ADMIN)), "{answer:?}: {said}");
            let kept = kept(&said);
            assert!(kept.contains("tcp/23") || kept.contains("amdin"), "{kept}");
        }
    }
}

#[test]
fn a_terminal_that_is_lost_takes_no_text_with_it() {
    let server = server();
    let edit = Edit::start(&server, &replace("tcp/22", "tcp/23"), &[]);
    edit.says(APPLY);
    // As the kernel does to the session of a terminal that hangs up.
    kill(Pid::from_raw(edit.child.id() as i32), Signal::SIGHUP).unwrap();
    let (code, said) = edit.end();
    assert_eq!((code, text(&server)), (Some(1), policy(ADMIN)), "{said}");
    assert_eq!(kept(&said), policy(ADMIN).replace("tcp/22", "tcp/23"));
}

#[test]
fn with_yes_a_good_text_needs_no_answer_and_without_a_daemon_it_is_saved() {
    let server = server();
    let (code, said) = Edit::start(&server, &replace("tcp/22", "tcp/23"), &["--yes"]).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("tierwalld isn't running"), "{said}");
    assert_eq!(text(&server), policy(ADMIN).replace("tcp/22", "tcp/23"));
    let mut edit = Edit::start(&server, &replace("tcp/23", "tpc/23"), &["--yes"]);
    edit.says(AGAIN);
    edit.answer("x\n");
    assert_eq!(edit.end().0, Some(1));
}

#[test]
fn an_editor_that_fails_or_is_interrupted_changes_nothing() {
    let server = server();
    let (code, said) = Edit::start(&server, "exit 3", &[]).end();
    assert_eq!(code, Some(1));
    assert!(said.contains("exit status: 3") && said.contains("VISUAL"), "{said}");
    assert_eq!((text(&server), files(&server)), (policy(ADMIN), vec!["tierwall.toml".into()]));
    // What it wrote is kept.
    let (code, said) = Edit::start(&server, "echo '[' > \"$1\"; kill -HUP $$", &[]).end();
    assert_eq!((code, kept(&said).as_str()), (Some(1), "[\n"));
    assert!(said.contains("exit status: 129"), "{said}");
    let mut edit =
        Edit::start(&server, "echo '[[' > \"$1\"; (sleep 0.3; echo ready) & sleep 30", &[]);
    edit.says("ready");
    edit.answer("\u{3}");
    let (code, said) = edit.end();
    assert_eq!((code, kept(&said).as_str()), (Some(1), "[[\n"));
    assert!(said.contains("signal: 2"), "{said}");
    assert_eq!(text(&server), policy(ADMIN));
}

#[test]
fn two_do_not_edit_at_once() {
    let server = server();
    let first = open_editor(&server);
    let (code, said) = Edit::start(&server, "exit 0", &[]).end();
    assert_eq!(code, Some(1));
    assert!(said.contains("is being edited already"), "{said}");
    fs::remove_file(beside(&server, "open")).unwrap();
    assert_eq!(first.end().0, Some(0));
}

#[test]
fn a_promotion_waits_for_an_edit_and_says_so() {
    let server = server();
    let daemon = server.start(&[]).unwrap();
    assert!(server.tierwall(&["member", "add", "admin", "10.0.0.6"]).unwrap().status.success());
    let edit = open_editor(&server);
    let mut promote = server.tierwall_command().unwrap();
    promote.args(["member", "promote", "admin", "10.0.0.6"]);
    let mut child = server.spawn(promote.stdout(Stdio::null()).stderr(Stdio::piped())).unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("waiting for another `tierwall edit`"), "{line}");
    assert_eq!(text(&server), policy(ADMIN));
    fs::remove_file(beside(&server, "open")).unwrap();
    assert_eq!(edit.end().0, Some(0));
    assert!(child.wait().unwrap().success());
    assert!(text(&server).contains("10.0.0.6"), "{}", text(&server));
    assert_eq!(files(&server), ["tierwall.toml"]);
    daemon.stop().unwrap();
}

#[test]
fn what_somebody_else_wrote_meanwhile_stays() {
    let server = server();
    let script =
        format!("{}; echo '# theirs' >> \"$DIR/tierwall.toml\"", replace("tcp/22", "tcp/23"));
    let (code, said) = Edit::start(&server, &script, &["--yes"]).end();
    assert_eq!(code, Some(1));
    assert!(said.contains("changed by somebody else"), "{said}");
    assert_eq!(text(&server), policy(ADMIN) + "# theirs\n");
    assert_eq!(kept(&said), policy(ADMIN).replace("tcp/22", "tcp/23"));
}

#[test]
fn includes_are_found_and_a_link_stays_a_link() {
    let server = server();
    let directory = beside(&server, "real");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("more.toml"), "[tiers]\nmore = [\"10.9.0.1\"]\n").unwrap();
    let old = format!("include = [\"more.toml\"]\n{}", policy(ADMIN));
    fs::write(directory.join("policy.toml"), old).unwrap();
    fs::remove_file(server.config()).unwrap();
    symlink("real/policy.toml", server.config()).unwrap();
    // A path relative to the link, as for the daemon.
    fs::rename(directory.join("more.toml"), beside(&server, "more.toml")).unwrap();
    let script = replace("from = \\\"admin\\\"", "from = [\\\"admin\\\", \\\"more\\\"]");
    let (code, said) = Edit::start(&server, &script, &["--yes"]).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(fs::symlink_metadata(server.config()).unwrap().is_symlink());
    assert!(text(&server).contains("[\"admin\", \"more\"]"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let server = server();
    let output = server.tierwall(&["edit"]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("no terminal") && told.contains("tierwall reload"), "{told}");
}

#[test]
fn what_would_lock_somebody_out_is_put_back_and_kept_beside() {
    let network = Network::new(
        [("server", SERVER), ("admin", ADMIN)]
            .map(|(name, address)| (name, vec![address.parse().unwrap()])),
    )
    .unwrap();
    let server = Server::new(network.host("server"), &policy(ADMIN)).unwrap();
    let daemon = server.start(&[]).unwrap();
    let address: SocketAddr = "0.0.0.0:22".parse().unwrap();
    let ssh = network.host("server").namespace.run(|| TcpListener::bind(address).unwrap());
    let to: SocketAddr = format!("{SERVER}:22").parse().unwrap();
    let client = network.host("admin").namespace.run(|| TcpStream::connect(to).unwrap());
    let session = ssh.accept().unwrap();

    let script = replace("tcp/22", "tcp/23");
    let (code, said) = Edit::start(&server, &script, &["--yes"]).end();
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains(ADMIN) && said.contains("is as it was"), "{said}");
    assert_eq!(text(&server), policy(ADMIN));
    let rejected = fs::read_to_string(beside(&server, "tierwall.toml.rejected")).unwrap();
    assert_eq!(rejected, policy(ADMIN).replace("tcp/22", "tcp/23"));
    assert!(server.nft_list("table inet filter").unwrap().contains("22 : "));
    assert_eq!(files(&server), ["tierwall.toml", "tierwall.toml.rejected"]);

    // Where that can't be written, the policy is back all the same.
    fs::remove_file(beside(&server, "tierwall.toml.rejected")).unwrap();
    fs::create_dir(beside(&server, "tierwall.toml.rejected")).unwrap();
    let (code, said) = Edit::start(&server, &script, &["--yes"]).end();
    assert_eq!((code, text(&server)), (Some(6), policy(ADMIN)), "{said}");
    assert!(said.contains("is as it was") && said.contains("rejected can't be written"), "{said}");
    assert_eq!(kept(&said), rejected);

    let (code, said) = Edit::start(&server, &script, &["--yes", "--force"]).end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(text(&server), policy(ADMIN).replace("tcp/22", "tcp/23"));
    drop((client, session));
    daemon.stop().unwrap();
}
