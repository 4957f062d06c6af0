//! What must hold whatever the disk does: nothing is enforced that a person would have to ask for, the
//! way back is there before the way out, and what isn't confirmed is rolled back on time.

use super::{SHORT, gone_back, in_two_tiers, ruled, without_admin};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tierwall_tests::site::{ADMIN, Site, policy};

/// A directory in the place of a file to be written: as long as it is there, the disk is full.
fn full(site: &Site, file: &str) -> PathBuf {
    let full = site.server.state_directory().join(format!(".{file}.new"));
    fs::create_dir(&full).unwrap();
    full
}

/// A pipe that nobody reads in that place: who opens it hangs, as on a disk that doesn't answer.
fn hung(site: &Site, file: &str) -> PathBuf {
    let pipe = site.server.state_directory().join(format!(".{file}.new"));
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    pipe
}

fn watching_all(text: &str) -> String {
    text.replace("[tiers]", "watch = \"all\"\n[tiers]")
}

fn is_out_by_restart(site: &Site) -> bool {
    let status = site.status();
    let is_in = site.is_let_in("admin");
    assert_eq!(is_in, status["differs"]["kind"] == "refused", "{status}");
    !is_in
}

#[test]
fn an_edit_that_was_refused_while_the_disk_was_full_is_not_enforced_by_a_start() {
    let site = Site::new(&watching_all(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    let full = full(&site, "refused.json");
    site.server.replace("tierwall.toml", watching_all(&without_admin())).unwrap();
    let status = site.status_when(|status| !status["refused"].is_null());
    assert_eq!(status["refused"], status["differs"]["why"], "{status}");
    let status = site.status_when(|status| !status["unrecorded"].is_null());
    let told = "applies the policy files, which are held back";
    assert_eq!(status["unrecorded"]["at_start"][0], told, "{status}");
    let (_, told) = site.tierwall(&["status"]);
    assert!(told.contains("a restart or reboot applies the policy files"), "{told}");
    // Nobody asks again when there is room.
    fs::remove_dir(&full).unwrap();
    site.status_when(|status| status["unrecorded"].is_null());
    drop(session);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(!is_out_by_restart(&site));
    daemon.stop().unwrap();
}

#[test]
fn a_reload_that_was_refused_while_the_disk_was_full_is_not_enforced_by_a_start() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let session = site.session("admin", 22);
    let full = full(&site, "refused.json");
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert!(code == 6 && told.contains("a restart may apply the files"), "{told}");
    fs::remove_dir(&full).unwrap();
    drop(session);
    // Its end has no time to wait for the next try.
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(!is_out_by_restart(&site));
    daemon.stop().unwrap();
}

#[test]
fn a_rollback_while_the_disk_was_full_is_not_undone_by_a_start() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", super::with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    let full = full(&site, "refused.json");
    assert_eq!(site.tierwall(&["rollback"]).0, 0);
    fs::remove_dir(&full).unwrap();
    site.status_when(|status| status["unrecorded"].is_null());
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.status()["differs"]["kind"], "rolled-back");
    daemon.stop().unwrap();
}

#[test]
fn a_member_is_not_out_for_good_before_the_way_back_is_recorded() {
    let (site, daemon) = in_two_tiers(super::LONG);
    let _session = site.session("admin", 22);
    let pipe = hung(&site, "pending-back");
    let mut command = site.server.tierwall_command().unwrap();
    command.args(["member", "remove", "admin", ADMIN]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = site.server.spawn(&mut command).unwrap();
    // It is under way, and hangs.
    site.status_when(|status| !status["unrecorded"].is_null());
    daemon.kill().unwrap();
    client.wait().unwrap();
    fs::remove_file(&pipe).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let (_, told) = site.tierwall(&["member", "list"]);
    assert!(site.status()["pending"].is_null() && told.matches(ADMIN).count() == 2, "{told}");
    daemon.stop().unwrap();
}

#[test]
fn a_member_that_a_pending_change_took_out_stays_out_over_a_crash_and_a_confirmation() {
    let (site, daemon) = in_two_tiers(super::LONG);
    let session = site.session("admin", 22);
    // The change itself can be recorded, and the members can't.
    let full = full(&site, "members.json");
    let (code, told) = site.tierwall(&["member", "remove", "admin", ADMIN]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let (_, told) = site.tierwall(&["member", "list"]);
    assert_eq!(told.matches(ADMIN).count(), 1, "{told}");
    // Nor can it be confirmed before a start would know that.
    let (code, told) = site.tierwall(&["confirm", "--force"]);
    assert!(code == 1 && told.contains("still waits"), "{told}");
    fs::remove_dir(&full).unwrap();
    site.status_when(|status| status["unrecorded"].is_null());
    let (code, told) = site.tierwall(&["confirm", "--force"]);
    assert_eq!(code, 0, "{told}");
    drop(session);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let (_, told) = site.tierwall(&["member", "list"]);
    assert_eq!(told.matches(ADMIN).count(), 1, "{told}");
    daemon.stop().unwrap();
}

#[test]
fn a_member_whose_removal_was_confirmed_stays_out_over_a_crash() {
    let (site, daemon) = in_two_tiers(super::LONG);
    let _session = site.session("admin", 22);
    let (code, told) = site.tierwall(&["member", "remove", "admin", ADMIN]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    assert_eq!(site.tierwall(&["confirm", "--force"]).0, 0);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let (_, told) = site.tierwall(&["member", "list"]);
    assert_eq!(told.matches(ADMIN).count(), 1, "{told}");
    daemon.stop().unwrap();
}

#[test]
fn a_change_is_rolled_back_on_time_while_the_disk_hangs() {
    let site = Site::new(&ruled(&policy(ADMIN), SHORT));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    let text = ruled(&without_admin(), SHORT);
    site.server.replace("tierwall.toml", text).unwrap();
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", SHORT]);
    assert_eq!(code, 0, "{told}");
    // The clock that goes on while the machine sleeps (CLOCK_BOOTTIME).
    assert!(timers(daemon.id()).iter().any(|timer| timer.contains("clockid: 7")));
    let pipe = hung(&site, "members.json");
    let add = |member: &str| {
        let mut command = site.server.tierwall_command().unwrap();
        command.args(["member", "add", "admin", member]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        site.server.spawn(&mut command).unwrap()
    };
    let clients = ["10.0.0.77", "10.0.0.78", "10.0.0.79"].map(add);
    // It never answers, and it is done all the same.
    let begun = Instant::now();
    while !site.is_let_in("admin") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", site.status());
    }
    let status = gone_back(&site);
    assert!(status["unrecorded"]["why"].as_str().unwrap().contains("doesn't answer"), "{status}");
    for mut client in clients {
        assert!(!client.wait().unwrap().success(), "nothing was recorded");
    }
    // What came too late isn't there when it answers.
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    site.status_when(|status| status["unrecorded"].is_null());
    reader.join().unwrap();
    let members = fs::read_to_string(site.server.state_directory().join("members.json"));
    assert!(!members.unwrap_or_default().contains("10.0.0.7"));
    daemon.stop().unwrap();
}

/// What the kernel says of the timers of a process.
fn timers(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok()).collect()
}
