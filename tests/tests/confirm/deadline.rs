//! Nobody confirms in time.

use super::{LONG, SHORT, gone_back, history, shut_out, without_admin};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tierwall_tests::site::{ADMIN, Site, policy};

#[test]
fn a_change_that_shuts_out_is_refused_and_by_force_goes_back_by_itself() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let mut session = site.session("admin", 22);
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let (code, told) = site.tierwall(&["reload", "--confirm", SHORT]);
    assert!(code == 6 && told.contains(ADMIN), "{told}");
    assert!(site.status()["pending"].is_null());

    shut_out(&site, SHORT);
    let status = site.status();
    let pending = &status["pending"];
    assert_eq!((&pending["back_to"], &pending["from"][0]), (&1.into(), &ADMIN.into()), "{status}");
    assert_eq!(status["generation"], pending["generation"]);
    let (_, told) = site.tierwall(&["status"]);
    assert!(told.starts_with("generation 2 waits to be confirmed"), "{told}");
    // Nobody else changes the rules meanwhile.
    let (code, told) = site.tierwall(&["reload"]);
    assert!(code == 7 && told.contains("--replace"), "{told}");

    gone_back(&site);
    assert!(session.is_alive());
    let log = daemon.log();
    assert!(log.contains("nobody confirmed generation 2 within 5 s"), "{log}");
    let past = history(&site);
    assert_eq!(past.len(), 3);
    assert_eq!((&past[1]["confirmation"], &past[1]["forced"]), (&"reverted".into(), &true.into()));
    assert_eq!((&past[2]["reason"], &past[2]["back_to"]), (&"went back".into(), &1.into()));

    // The same text isn't applied by itself, not at a restart either, until somebody asks.
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    super::a_while();
    assert!(site.is_let_in("admin"));
    daemon.stop().unwrap();
    drop(session);
    for _ in 0..2 {
        let daemon = site.server.start(&[]).unwrap();
        gone_back(&site);
        let (_, told) = site.tierwall(&["status"]);
        assert!(told.contains("the policy files are held back: nobody confirmed"), "{told}");
        daemon.stop().unwrap();
    }
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.tierwall(&["reload", "--force"]).0, 0);
    assert!(!site.is_let_in("admin") && site.status()["differs"].is_null());
    daemon.stop().unwrap();
}

#[test]
fn it_goes_back_also_where_the_daemon_was_killed_meanwhile() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    shut_out(&site, SHORT);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    // It goes on waiting for the rest of the time.
    let status = site.status();
    assert_eq!(status["pending"]["generation"], 2, "{status}");
    assert!(!site.is_let_in("admin"));
    gone_back(&site);

    shut_out(&site, SHORT);
    daemon.kill().unwrap();
    std::thread::sleep(Duration::from_secs(6));
    assert!(!site.is_let_in("admin"), "nobody is there to go back");
    let daemon = site.server.start(&[]).unwrap();
    // When it says that it is ready, it is done.
    let status = site.status();
    assert!(status["pending"].is_null() && status["generation"] == 5, "{status}");
    gone_back(&site);
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    assert_eq!(site.status()["generation"], 5);
    daemon.stop().unwrap();
}

#[test]
fn another_boot_ends_the_time() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let session = site.session("admin", 22);
    shut_out(&site, LONG);
    daemon.kill().unwrap();
    drop(session);
    let record = site.server.state_directory().join("pending.json");
    let text = fs::read_to_string(&record).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    let text = text.replace(boot.trim(), "5d1c4f4e-0000-4000-8000-000000000000");
    fs::write(&record, text).unwrap();
    // As after a boot: there is no table.
    site.server.host().namespace.command("nft", &["delete", "table", "inet", "filter"]).unwrap();

    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    assert!(!record.exists());
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    daemon.stop().unwrap();
}

#[test]
fn it_goes_back_also_where_the_client_was_killed() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let mut command = site.server.tierwall_command().unwrap();
    command.args(["reload", "--force", "--confirm", SHORT]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // One that was killed before it had asked is no test: the next has more time.
    let mut time = Duration::from_millis(10);
    loop {
        let mut client = site.server.spawn(&mut command).unwrap();
        std::thread::sleep(time);
        time = time * 6 / 5;
        client.kill().unwrap();
        client.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        if !site.status()["pending"].is_null() {
            break;
        }
    }
    assert!(!site.is_let_in("admin"));
    gone_back(&site);
    daemon.stop().unwrap();
}

/// Wherever it is killed: who is shut out by a change that was to be confirmed has a way back.
#[test]
fn no_moment_to_be_killed_at_leaves_the_change_without_a_way_back() {
    let site = Site::new(&policy(ADMIN));
    let mut daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    while !site.server.state_directory().join("last-good").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // What a change takes here, which differs a hundredfold: the last are killed after it was made.
    let begun = Instant::now();
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", LONG]);
    assert_eq!(code, 0, "{told}");
    let took = begun.elapsed();
    let (code, told) = site.tierwall(&["rollback"]);
    assert_eq!(code, 0, "{told}");

    let (mut waited, rounds) = (0, 24);
    let step = Duration::from_micros(800).max(took * 3 / 2 / rounds);
    for round in 0..rounds {
        let text = without_admin().replace("tcp/80", &format!("tcp/{}", 100 + round));
        site.server.replace("tierwall.toml", text).unwrap();
        let mut command = site.server.tierwall_command().unwrap();
        command.args(["reload", "--force", "--confirm", LONG]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut client = site.server.spawn(&mut command).unwrap();
        std::thread::sleep(step * round);
        daemon.kill().unwrap();
        client.wait().unwrap();
        daemon = site.server.start(&[]).unwrap();
        let status = site.status();
        let is_pending = !status["pending"].is_null();
        assert_eq!(site.is_let_in("admin"), !is_pending, "round {round}: {status}");
        if is_pending {
            waited += 1;
            let (code, told) = site.tierwall(&["rollback"]);
            assert_eq!(code, 0, "{told}");
        }
        assert!(site.is_let_in("admin"), "round {round}");
    }
    println!("{waited} of {rounds} waited");
    assert!(waited > 0, "it was always killed before");
    daemon.stop().unwrap();
}
