//! Loads again and again: what is kept from one to the next changes no result.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tierwall_policy::{Again, ListCache, Options, Style, Taking, load, load_again};

const POLICY: &str = "[tiers]\nbig = { file = \"big.list\" }\n\
    more = [\"10.9.0.0/16\", { file = \"big.list\" }, { file = \"six.list\" }, { file = \"small.list\" }]\n\
    [[allow]]\nfrom = \"big\"\nto = \"more\"\nservice = \"any\"\n";

struct Site {
    directory: TempDir,
    lists: ListCache,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            directory: tempfile::tempdir().expect("a directory"),
            lists: ListCache::default(),
        };
        site.write("tierwall.toml", POLICY);
        site.write("big.list", &"10.0.0.1\n10.0.2.0/24 # net\n".repeat(5000));
        site.write("six.list", &"2001:db8::1-2001:db8::9\n".repeat(5000));
        site.write("small.list", "10.8.0.1\n");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in place, in another tick of the clock that stamps it.
    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let stamp =
            |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).ok();
        let before = stamp(&path);
        loop {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
            if stamp(&path) != before {
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Loads in both ways, twice; returns what is told.
    fn agrees(&mut self, check_permissions: bool) -> String {
        let options = Options { check_permissions, ..Options::default() };
        let policy = self.path("tierwall.toml");
        let fresh = load(&policy, &options);
        let told = fresh.diagnostics.render(Style::Plain);
        for _ in 0..2 {
            // So much later that all is at rest.
            let now = SystemTime::now() + Duration::from_secs(60);
            let again = load_again(&policy, &options, Again::forced(&mut self.lists, now));
            assert_eq!(again.policy, fresh.policy);
            assert_eq!(again.diagnostics.render(Style::Plain), told);
            assert_eq!(again.inputs, fresh.inputs);
        }
        told
    }
}

#[test]
fn every_edit_is_seen() {
    let mut site = Site::new();
    assert_eq!(site.agrees(false), "");
    // In place with the same length, longer, renamed over, gone, back, and another list beside.
    let edited = "10.0.0.2\n10.0.2.0/24 # net\n".repeat(5000);
    site.write("big.list", &edited);
    assert_eq!(site.agrees(false), "");
    site.write("big.list", &format!("{edited}10.0.5.5\n"));
    assert_eq!(site.agrees(false), "");
    site.write("beside.list", &edited);
    fs::rename(site.path("beside.list"), site.path("big.list")).expect("renamed");
    assert_eq!(site.agrees(false), "");
    fs::remove_file(site.path("big.list")).expect("removed");
    assert!(site.agrees(false).contains("there is no file"));
    site.write("big.list", &edited);
    assert_eq!(site.agrees(false), "");
    site.write("small.list", "10.8.0.2\n");
    assert_eq!(site.agrees(false), "");
    site.write("tierwall.toml", &POLICY.replace("10.9.0.0/16", "10.7.0.0/16"));
    assert_eq!(site.agrees(false), "");
}

#[test]
fn what_is_wrong_is_told_each_time() {
    let mut site = Site::new();
    let good = "10.0.0.1\n".repeat(9000);
    assert_eq!(site.agrees(false), "");
    for (bad, told) in [
        (format!("{good}10.0.0.300\n{good}"), "big.list:9001:1"),
        (format!("{good}10.0.0.7 # \0\n10.0.0.300\n"), "NUL"),
        (format!("{good}{}", "x\n".repeat(50)), "30 more lines"),
    ] {
        site.write("big.list", &bad);
        assert!(site.agrees(false).contains(told), "{told}");
        site.write("big.list", &good);
        assert_eq!(site.agrees(false), "");
    }
}

#[test]
fn rights_are_judged_each_time() {
    let mut site = Site::new();
    // Where the tests aren't run by root, the owner is told of; each time, too.
    let before = site.agrees(true);
    fs::set_permissions(site.path("big.list"), Permissions::from_mode(0o666)).expect("its mode");
    let told = site.agrees(true);
    assert!(told != before && told.contains("may be written by everybody"), "{told}");
    fs::set_permissions(site.path("big.list"), Permissions::from_mode(0o644)).expect("its mode");
    assert_eq!(site.agrees(true), before);
}

#[test]
fn a_file_that_is_far_too_large_is_refused() {
    let mut site = Site::new();
    let file = fs::File::create(site.path("big.list")).expect("a file");
    file.set_len(1 << 40).expect("a hole");
    assert!(site.agrees(false).contains("is larger than 256 MiB"));
}

/// Loads of a policy with a list, one after the other.
struct Held {
    directory: tempfile::TempDir,
    lists: ListCache,
    /// What the last load said of the lists that it held.
    told: String,
}

impl Held {
    fn new(policy: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("tierwall.toml"), policy).expect("written");
        Self { directory, lists: ListCache::default(), told: String::new() }
    }

    fn write(&self, text: &str) {
        fs::write(self.directory.path().join("web.list"), text).expect("written");
    }

    /// What the tier holds, or what is wrong, and which lists are held.
    fn load(&mut self, taking: Taking, is_open: fn(&File) -> io::Result<bool>) -> (String, String) {
        self.load_at(SystemTime::now() + Duration::from_secs(60), taking, is_open)
    }

    fn load_at(
        &mut self,
        now: SystemTime,
        taking: Taking,
        is_open_for_writing: fn(&File) -> io::Result<bool>,
    ) -> (String, String) {
        let options = Options { check_permissions: false, ..Options::default() };
        let again = Again { lists: &mut self.lists, now, taking, is_open_for_writing };
        let loaded = load_again(&self.directory.path().join("tierwall.toml"), &options, again);
        let held: Vec<String> = loaded.held.iter().map(|held| format!("{:?}", held.why)).collect();
        self.told = loaded.held.iter().map(ToString::to_string).collect();
        let told = match loaded.policy {
            Some(policy) => policy.tiers["web"].v4.to_string(),
            None => loaded.diagnostics.iter().map(|found| found.code).collect(),
        };
        (told, held.join(" "))
    }
}

fn nobody(_: &File) -> io::Result<bool> {
    Ok(false)
}

const LISTED: &str = "[tiers]\nweb = { file = \"web.list\" }\n\
                      [[allow]]\nfrom = \"web\"\nto = \"any\"\nservice = \"any\"\n";

#[test]
fn a_list_that_looks_emptied_by_accident_is_held_until_somebody_asks() {
    let mut site = Held::new(LISTED);
    site.write("10.0.0.1\n10.0.0.3\n");
    let held = |text: &str, why: &str| (text.to_owned(), why.to_owned());
    let both = "{ 10.0.0.1, 10.0.0.3 }";
    assert_eq!(site.load(Taking::Unasked, nobody), held(both, ""));
    site.write("");
    assert_eq!(site.load(Taking::Unasked, nobody), held(both, "NoBytes"));
    fs::remove_file(site.directory.path().join("web.list")).expect("removed");
    assert_eq!(site.load(Taking::Unasked, nobody), held(both, "Missing"));
    assert_eq!(site.load(Taking::Asked, nobody), held("missing-file", ""));
    assert_eq!(site.load(Taking::Unasked, nobody), held(both, "Missing"));
    site.write("10.0.0.3\n");
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ 10.0.0.3 }", ""));
    site.write("none # since March\n");
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ }", ""));
    site.write("none\n10.0.0.1\n");
    assert_eq!(site.load(Taking::Unasked, nobody), held("none-and-members", ""));
    site.write("10.0.0.1\n");
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ 10.0.0.1 }", ""));
    site.write("");
    assert_eq!(site.load(Taking::Asked, nobody), held("{ }", ""));
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ }", ""), "it was taken");

    // What no allow names lets nobody in.
    let unused = LISTED.replace("from = \"web\"\nto = \"any\"", "from = \"any\"\nto = \"app\"");
    let mut site = Held::new(&unused.replace("[tiers]", "[tiers]\napp = [\"10.1.0.1\"]"));
    site.write("10.0.0.1\n");
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ 10.0.0.1 }", ""));
    site.write("");
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ }", ""));
    fs::remove_file(site.directory.path().join("web.list")).expect("removed");
    assert_eq!(site.load(Taking::Unasked, nobody), held("missing-file", ""));
}

#[test]
fn every_way_to_name_a_tier_holds_its_list() {
    let named = "from = \"web\"\nto = \"any\"";
    for allow in [named, "from = \"any\"\nto = \"web\"", "from = \"*\"\nto = \"any\""] {
        let mut site = Held::new(&LISTED.replace(named, allow));
        site.write("10.0.0.1\n");
        site.load(Taking::Unasked, nobody);
        site.write("");
        let held = ("{ 10.0.0.1 }".to_owned(), "NoBytes".to_owned());
        assert_eq!(site.load(Taking::Unasked, nobody), held, "{allow}");
    }
}

#[test]
fn a_large_list_that_was_not_read_again_is_held_too() {
    let mut site = Held::new(LISTED);
    site.write(&"10.0.0.1\n".repeat(8000));
    for _ in 0..3 {
        let found = site.load(Taking::Unasked, nobody);
        assert_eq!(found, ("{ 10.0.0.1 }".to_owned(), String::new()));
    }
    site.write("");
    assert_eq!(site.load(Taking::Unasked, nobody).1, "NoBytes");
}

#[test]
fn a_list_that_somebody_writes_is_taken_when_they_have_closed_it() {
    let mut site = Held::new(LISTED);
    let somebody: fn(&File) -> io::Result<bool> = |file| {
        // Of the list only: the policy file is read first.
        Ok(file.metadata()?.len() < 30)
    };
    let held = |text: &str, why: &str| (text.to_owned(), why.to_owned());
    site.write("10.0.0.1\n");
    assert_eq!(site.load(Taking::Unasked, somebody), held("being-written", ""), "nothing is known");
    assert_eq!(site.load(Taking::Unasked, nobody), held("{ 10.0.0.1 }", ""));
    site.write("10.0.0.12\n10.0.0.1");
    for taking in [Taking::Unasked, Taking::Asked] {
        assert_eq!(site.load(taking, somebody), held("{ 10.0.0.1 }", "BeingWritten"));
    }
    assert_eq!(site.load(Taking::Forced, somebody), held("{ 10.0.0.1, 10.0.0.12 }", ""));
    // Nobody applies it, so it is shown as it is, with a warning.
    let shown = held("{ 10.0.0.1, 10.0.0.12 }", "");
    assert_eq!(site.load(Taking::Shown, somebody), shown);
    for (is_open, warnings) in [(nobody as fn(&File) -> io::Result<bool>, 0), (somebody, 1)] {
        let now = SystemTime::now() + Duration::from_secs(60);
        let mut lists = ListCache::default();
        let again =
            Again { lists: &mut lists, now, taking: Taking::Shown, is_open_for_writing: is_open };
        let options = Options { check_permissions: false, ..Options::default() };
        let loaded = load_again(&site.directory.path().join("tierwall.toml"), &options, again);
        let found = loaded.diagnostics.iter().filter(|found| found.is_of_a_writer());
        assert_eq!(found.count(), warnings);
    }
    // Nor is the policy file taken, whose content from before nobody has.
    for taking in [Taking::Asked, Taking::Shown] {
        assert_eq!(site.load(taking, |_| Ok(true)), held("being-written", ""));
    }
}

#[test]
fn without_leases_a_file_counts_as_written_when_it_rests_for_a_second() {
    let mut site = Held::new(LISTED);
    let unknown: fn(&File) -> io::Result<bool> = |_| Err(io::ErrorKind::InvalidInput.into());
    let held = |text: &str, why: &str| (text.to_owned(), why.to_owned());
    site.write("10.0.0.1\n");
    let now = SystemTime::now();
    let later = |seconds: u64| now + Duration::from_secs(seconds);
    assert_eq!(site.load_at(later(10), Taking::Unasked, unknown), held("{ 10.0.0.1 }", ""));
    // By a clock that is behind the file's.
    let behind = now - Duration::from_secs(600);
    let at = |milliseconds: u64| behind + Duration::from_millis(milliseconds);
    let mut site = Held::new(LISTED);
    site.write("10.0.0.1\n");
    // First the policy file, then the list that it names.
    for (time, told) in [(0, "being-written"), (500, "being-written"), (1100, "being-written")] {
        assert_eq!(site.load_at(at(time), Taking::Asked, unknown), held(told, ""), "{time}");
    }
    assert_eq!(site.load_at(at(1600), Taking::Asked, unknown), held("being-written", ""));
    assert_eq!(site.load_at(at(2100), Taking::Asked, unknown), held("{ 10.0.0.1 }", ""));
    site.write("10.0.0.1\n10.0.0.12\n");
    assert_eq!(
        site.load_at(at(2200), Taking::Asked, unknown),
        held("{ 10.0.0.1 }", "BeingWritten")
    );
    let taken = held("{ 10.0.0.1, 10.0.0.12 }", "");
    assert_eq!(site.load_at(at(3300), Taking::Asked, unknown), taken);
}

#[test]
fn of_a_held_list_that_not_everybody_may_read_no_address_is_named() {
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let list = elsewhere.path().join("web.list");
    let mut site = Held::new(&LISTED.replace("web.list", list.to_str().expect("a plain name")));
    let mut told = |mode: u32, text: &str| {
        let members: String = (0..6).map(|n| format!("10.0.0.{}\n", 1 + 2 * n)).collect();
        fs::write(&list, members).expect("written");
        fs::set_permissions(&list, Permissions::from_mode(mode)).expect("its mode");
        assert_eq!(site.load(Taking::Asked, nobody).1, "");
        fs::write(&list, text).expect("written");
        assert_ne!(site.load(Taking::Unasked, nobody).1, "");
        site.told.clone()
    };
    for (text, why) in [("# nobody\n", "lost 6 of its 6 members"), ("", "is empty; its 6 members")]
    {
        let open = told(0o644, text);
        assert!(
            open.contains(why) && open.contains("10.0.0.1, 10.0.0.3, 10.0.0.5 and 3"),
            "{open}"
        );
        let secret = told(0o640, text);
        assert!(secret.contains(why) && !secret.contains("10.0.0"), "{secret}");
    }
}

thread_local! {
    /// The file that somebody writes to right after that was asked, and the times it was.
    static WRITTEN: RefCell<(&'static str, usize)> = const { RefCell::new(("", 0)) };
}

/// How often that was asked of the file, this time included; none of another one.
fn asked(file: &File) -> io::Result<Option<(PathBuf, usize)>> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(WRITTEN.with_borrow_mut(|(name, times)| {
        *times += usize::from(path.ends_with(*name));
        path.ends_with(*name).then_some((path, *times))
    }))
}

/// Whoever writes it comes and goes unseen.
fn comes_and_goes(file: &File) -> io::Result<bool> {
    if let Some((path, _)) = asked(file)? {
        OpenOptions::new().append(true).open(path)?.write_all(b"# more\n")?;
    }
    Ok(false)
}

/// Whoever writes it comes once it is read, and stays.
fn comes_late(file: &File) -> io::Result<bool> {
    Ok(asked(file)?.is_some_and(|(_, times)| times == 2))
}

#[test]
fn what_is_written_while_it_is_read_is_not_taken() {
    let included = format!("include = [\"more.toml\"]\nrole = {{ file = \"role\" }}\n{LISTED}");
    let mut site = Held::new(&included);
    let beside = |name: &str, text: &str| fs::write(site.directory.path().join(name), text);
    beside("more.toml", "[services]\nweb = \"tcp/80\"\n").expect("written");
    beside("role", "web\n").expect("written");
    site.write("10.0.0.1\n");
    assert_eq!(site.load(Taking::Unasked, nobody), ("{ 10.0.0.1 }".to_owned(), String::new()));
    for (file, told, held) in [
        ("web.list", "{ 10.0.0.1 }", "BeingWritten"),
        ("tierwall.toml", "being-written", ""),
        ("more.toml", "being-written", ""),
        ("role", "being-written", ""),
    ] {
        for writer in [comes_and_goes, comes_late] {
            WRITTEN.set((file, 0));
            let found = site.load(Taking::Asked, writer);
            assert_eq!(found, (told.to_owned(), held.to_owned()), "{file}");
        }
    }
}
