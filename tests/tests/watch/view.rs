//! The view in a terminal.

use super::terminal::Terminal;
use super::{POLICY, network, send, server};
use nix::sys::signal::Signal;

/// An interval that keeps the tests short.
const OFTEN: [&str; 2] = ["--interval", "100ms"];

const SERVER_V6: &str = "fd00:1111:2222:3333:4444:5555:6666:1";

#[test]
fn what_is_denied_is_shown_and_keys_choose_what() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let mut view = Terminal::watch(&server, [80, 24], &OFTEN);
    view.says("HEAVIEST by flow, 10 min: none");
    let peer = network.host("peer");
    send(peer, "10.0.0.1", [22, 22, 22]);
    send(peer, SERVER_V6, [5432]);
    let screen = view.shows("both flows in both lists", |screen| {
        screen.matches("udp/22").count() >= 2 && screen.matches("udp/5432").count() >= 2
    });
    assert!(screen.contains("  enforce  generation 1  role server"), "{screen}");
    assert!(screen.contains("10.0.0.2 (peers)") && screen.contains("DENIED LAST"), "{screen}");
    let heaviest = screen.lines().find(|line| line.contains("udp/22")).unwrap();
    assert!(heaviest.starts_with(">     3") && heaviest.contains("  in    denied"), "{screen}");
    assert!(screen.contains("input denied, udp/22, eth0: 3 connections, 0 retries"), "{screen}");
    view.shows("the rate", |screen| screen.lines().any(|line| line.starts_with("denied   ")));
    // The last minute is a full bar.
    assert!(screen.contains('█') && screen.contains("most 4"), "{screen}");

    // What has no room is told in full.
    view.press("j");
    let screen =
        view.says("from fd00:1111:2222:3333:4444:5555:6666:7777 (a-tier-with-quite-a-long-n");
    assert!(screen.contains(&format!("to   {SERVER_V6} (server)")), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");

    view.press("b");
    let screen = view.says("HEAVIEST by source, 10 min");
    view.shows("the sources", |screen| !screen.contains("> HEAVIEST by source, 10 min: none"));
    assert!(screen.contains("b by source"), "{screen}");
    view.press("\t\t");
    view.says("HEAVIEST by service");
    view.press("t");
    view.says("HEAVIEST by service, 60 min");
    view.press("\x1b[C");
    view.says("> DENIED LAST");
    view.press("?");
    view.says("this help");
    view.press("?p");
    view.says("PAUSED");
    send(peer, "10.0.0.1", [3333]);
    view.press("p");
    let screen = view.says("udp/3333");
    assert!(!screen.contains("PAUSED"), "{screen}");

    view.resize([40, 10]);
    view.shows("a small view", |screen| {
        screen.lines().last().is_some_and(|line| line == "q quit  ? help  b by service  t 60 min")
    });
    view.resize([120, 40]);
    let screen = view.says("left/right list");
    assert!(screen.contains("> DENIED LAST") && screen.contains("udp/3333"), "{screen}");
    view.press("q");
    assert_eq!(view.ends(), (Some(0), true));
    daemon.stop().unwrap();
}

/// However it ends, the terminal is given back.
#[test]
fn the_terminal_is_given_back() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let view = Terminal::watch(&server, [80, 24], &OFTEN);
        view.says("DENIED LAST");
        assert!(!view.is_cooked());
        view.signal(signal);
        assert_eq!(view.ends(), (Some(0), true), "{signal}");
    }
    let mut view = Terminal::watch(&server, [80, 24], &OFTEN);
    view.says("DENIED LAST");
    view.press("\x03");
    assert_eq!(view.ends(), (Some(0), true));
    daemon.stop().unwrap();
}

#[test]
fn a_daemon_that_goes_away_is_asked_again() {
    let network = network();
    let server = server(&network);
    let mut view = Terminal::watch(&server, [80, 24], &OFTEN);
    view.says("NO ANSWER, trying again: tierwalld is not running");
    let daemon = server.start(&[]).unwrap();
    view.shows("the policy", |screen| screen.contains("enforce") && !screen.contains("NO ANSWER"));
    daemon.kill().unwrap();
    let screen = view.says("NO ANSWER, trying again; this is of");
    assert!(screen.contains("generation 1  role server"), "{screen}");
    let daemon = server.start(&[]).unwrap();
    view.shows("it again", |screen| !screen.contains("NO ANSWER"));
    view.press("q");
    assert_eq!(view.ends(), (Some(0), true));
    daemon.stop().unwrap();
}

#[test]
fn what_waits_and_what_is_wrong_is_shown() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let mut view = Terminal::watch(&server, [80, 24], &OFTEN);
    view.says("enforce  generation 1");
    let allow = "[[allow]]\nfrom = \"peers\"\nto = \"server\"\nservice = \"udp/53\"\n";
    server.write("tierwall.toml", format!("{POLICY}{allow}")).unwrap();
    view.says("WAITS for a reload");
    assert!(server.tierwall(&["reload", "--confirm", "10min"]).unwrap().status.success());
    view.says("CONFIRM: generation 2 waits, ");
    view.says("left, else back to 1: `tierwall confirm`");
    server.write("tierwall.toml", format!("{POLICY}{allow}[[allow]]\n")).unwrap();
    let screen = view.says("POLICY: the files can't be applied: ");
    assert!(screen.contains("CONFIRM") && screen.contains("generation 2"), "{screen}");
    view.press("q");
    assert_eq!(view.ends(), (Some(0), true));
    daemon.stop().unwrap();
}

/// After the first screen, a view in which nothing happens writes next to nothing.
#[test]
fn nothing_is_written_where_nothing_happens() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let arguments = [&OFTEN[..], &["--polls", "50"]].concat();
    let view = Terminal::watch(&server, [120, 40], &arguments);
    view.shows("the first rate", |screen| screen.contains("    0 conn/s"));
    let before = view.written().len();
    let output = view.written_until_end();
    let idle = output.len() - before;
    // What leaving the terminal takes, and perhaps the beginning of a minute.
    assert!(idle < 300, "{idle} bytes: {}", String::from_utf8_lossy(&output[before..]));
    daemon.stop().unwrap();
}

#[test]
fn without_colours_and_without_unicode() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    send(network.host("peer"), SERVER_V6, 1..30);
    let is_coloured = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        // Colours by number (SGR 38, 48 and 30 to 37), bold, faint, reversed.
        ["\x1b[38;", "\x1b[48;", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[7m"]
            .iter()
            .any(|code| text.contains(code))
    };
    let shown = |arguments: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&OFTEN[..], arguments].concat();
        let mut view = Terminal::watch_with(&server, [80, 24], &arguments, environment);
        view.says("udp/5 ");
        view.press("q");
        view.written_until_end()
    };
    assert!(is_coloured(&shown(&[], &[])));
    assert!(!is_coloured(&shown(&[], &[("NO_COLOR", "1")])));
    assert!(is_coloured(&shown(&["--color", "always"], &[("NO_COLOR", "1")])));
    let plain = shown(&["--color", "never"], &[("LC_ALL", "POSIX")]);
    assert!(!is_coloured(&plain) && plain.is_ascii(), "{}", String::from_utf8_lossy(&plain));
    daemon.stop().unwrap();
}

#[test]
fn a_terminal_that_hangs_up_ends_it() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let view = Terminal::watch(&server, [80, 24], &OFTEN);
    view.says("DENIED LAST");
    view.hang_up();
    daemon.stop().unwrap();
}
