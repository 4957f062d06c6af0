//! What shows that somebody can still get in.

use super::{LONG, history, with_more};
use std::net::{TcpListener, TcpStream};
use tierwall_tests::site::{ADMIN, OTHER, SERVER, Site, policy};

fn is_confirmed(site: &Site, as_: &str) {
    let status = site.status();
    assert!(status["pending"].is_null() && status["differs"].is_null(), "{status}");
    let last = history(site).pop().unwrap();
    assert_eq!(last["confirmation"], as_, "{last}");
    assert!(!site.server.state_directory().join("pending.json").exists());
}

#[test]
fn only_a_connection_younger_than_the_change_confirms() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _older = site.session("admin", 22);
    let closed = site.session("admin", 22);
    // From another address: whoever it is didn't administer this server at the commit.
    let strangers = with_more().replace("from = \"admin\"", "from = [\"admin\", \"10.0.9.0/24\"]");
    site.server.replace("tierwall.toml", strangers).unwrap();
    let (code, told) = site.tierwall(&["reload", "--confirm", LONG]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = site.tierwall(&["confirm"]);
    assert_eq!(code, 7, "{told}");
    assert!(told.contains("older") && told.contains(ADMIN) && told.contains("--force"), "{told}");
    drop(closed);
    let _stranger = site.session("other", 22);
    let (code, told) = site.tierwall(&["confirm"]);
    assert!(code == 7 && told.contains(&format!("from {OTHER}")), "{told}");
    // One that is closed again shows nothing.
    assert!(site.is_let_in("admin"));
    assert_eq!(site.tierwall(&["confirm"]).0, 7);

    let _newer = site.session("admin", 22);
    let (code, told) = site.tierwall(&["confirm"]);
    assert_eq!(code, 0, "{told}");
    is_confirmed(&site, "confirmed");
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    is_confirmed(&site, "confirmed");
    assert!(site.is_let_in("other"));
    let (code, told) = site.tierwall(&["confirm"]);
    assert!(code == 1 && told.contains("no change waits"), "{told}");
    daemon.stop().unwrap();
}

/// After a restart, too, the sessions from before the commit are known as such.
#[test]
fn a_restart_makes_no_session_younger() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _older = site.session("admin", 22);
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.tierwall(&["confirm"]).0, 7);
    let _newer = site.session("admin", 22);
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    is_confirmed(&site, "confirmed");
    daemon.stop().unwrap();
}

#[test]
fn where_nobody_was_there_or_somebody_insists_no_proof_is_asked_for() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    // What changes nothing has nothing to confirm.
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    assert!(site.status()["pending"].is_null());
    assert!(!site.server.state_directory().join("pending.json").exists());
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    let (code, told) = site.tierwall(&["confirm", "--json"]);
    assert!(code == 0 && told.contains("\"generation\": 2"), "{told}");
    is_confirmed(&site, "confirmed");

    let _session = site.session("admin", 22);
    site.server.replace("tierwall.toml", policy("10.0.0.99")).unwrap();
    assert_eq!(site.tierwall(&["reload", "--force", "--confirm", LONG]).0, 0);
    assert_eq!(site.tierwall(&["confirm"]).0, 7);
    assert_eq!(site.tierwall(&["confirm", "--force"]).0, 0);
    is_confirmed(&site, "forced");
    assert!(!site.is_let_in("admin"));
    daemon.stop().unwrap();
}

/// Whoever asks is guarded, whatever service they came by.
#[test]
fn the_connection_of_who_asks_is_guarded() {
    const ELSEWHERE: u16 = 2222;
    let text = |from: &str| {
        format!(
            "{}[[allow]]\nfrom = \"{from}\"\nto = \"app\"\nservice = \"tcp/2222\"\n",
            policy(ADMIN)
        )
    };
    let site = Site::new(&text(OTHER));
    let daemon = site.server.start(&[]).unwrap();
    let host = site.server.host();
    let listener = host.namespace.run(|| TcpListener::bind(("0.0.0.0", ELSEWHERE)).unwrap());
    let stream: TcpStream = site.connect(site.network.host("other"), ELSEWHERE).unwrap();
    let _accepted = listener.accept().unwrap();
    let port = stream.local_addr().unwrap().port();
    let over = format!("{OTHER} {port} {SERVER} {ELSEWHERE}");
    let reload = |over: &str, arguments: &[&str]| {
        let mut command = site.server.tierwall_command().unwrap();
        command.env("SSH_CONNECTION", over).args(arguments);
        let output = site.server.run(&mut command).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), told)
    };
    site.server.replace("tierwall.toml", text("10.0.9.8")).unwrap();
    let (code, told) = reload(&over, &["reload"]);
    assert!(code == 6 && told.contains(OTHER) && told.contains("port 2222"), "{told}");
    // A variable that names no connection here, or nothing, guards nobody.
    for over in [format!("{OTHER} {} {SERVER} {ELSEWHERE}", port ^ 1), "nonsense".into()] {
        site.server.replace("tierwall.toml", text(OTHER)).unwrap();
        assert_eq!(reload(&over, &["reload"]).0, 0);
        site.server.replace("tierwall.toml", text("10.0.9.8")).unwrap();
        let (code, told) = reload(&over, &["reload"]);
        assert_eq!(code, 0, "{told}");
    }

    site.server.replace("tierwall.toml", text(OTHER)).unwrap();
    assert_eq!(reload(&over, &["reload", "--confirm", LONG]).0, 0);
    assert_eq!(site.status()["pending"]["from"][0], OTHER);
    assert_eq!(site.tierwall(&["confirm"]).0, 7);
    // Where `sudo` took the variable away, it is that of a process above.
    site.server.replace("tierwall.toml", text("10.0.9.8")).unwrap();
    let mut shell = std::process::Command::new("sh");
    let tierwall = site.server.tierwall_command().unwrap();
    let words = std::iter::once(tierwall.get_program()).chain(tierwall.get_args());
    shell.args(["-c", "env -u SSH_CONNECTION \"$@\"; exit $?", "sh"]).args(words);
    shell.args(["reload", "--replace"]).env("SSH_CONNECTION", &over);
    let output = site.server.run(&mut shell).unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
    let _newer = site.connect(site.network.host("other"), ELSEWHERE).unwrap();
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    daemon.stop().unwrap();
}
