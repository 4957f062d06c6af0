//! Ways to files: what of them may belong to others, and what leads to no file at all. Tests of
//! what root trusts need root.

use rustix::fs::{Mode, XattrFlags, mkfifoat, setxattr};
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tierwall_policy::{HostAddress, Loaded, Options, Style, check_role, load, role_of};

const CHECKED: Options = Options { check_permissions: true, strict: false, warn_unseen: false };
const UNCHECKED: Options = Options { check_permissions: false, ..CHECKED };
const STRANGER: u32 = 4242;

/// A directory whose policy names the list `place`.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new(place: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().expect("a directory") };
        let owner = fs::metadata(site.directory.path()).expect("metadata").uid();
        assert_eq!(owner, 0, "this test needs root");
        site.write(
            "tierwall.toml",
            &format!(
                "[tiers]\nweb = {{ file = \"{place}\" }}\n\
                 [[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/443\"\n"
            ),
        );
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("its mode");
    }

    fn owner(&self, name: &str, uid: u32, gid: u32) {
        lchown(self.path(name), Some(uid), Some(gid)).expect("root may");
    }

    fn load(&self, options: &Options) -> Loaded {
        load(&self.path("tierwall.toml"), options)
    }

    /// What is printed, with the directory's random name cut out.
    #[track_caller]
    fn refused(&self, options: &Options) -> String {
        let loaded = self.load(options);
        assert!(loaded.policy.is_none(), "it is trusted");
        let path = self.directory.path().to_str().expect("a plain name");
        loaded.diagnostics.render(Style::Plain).replace(path, "/etc/tierwall")
    }

    #[track_caller]
    fn trusted(&self) {
        let loaded = self.load(&CHECKED);
        assert!(loaded.policy.is_some(), "{}", loaded.diagnostics.render(Style::Plain));
    }

    /// Refused, but for who doesn't ask for it.
    #[track_caller]
    fn refused_where_checked(&self) -> String {
        assert!(self.load(&UNCHECKED).policy.is_some(), "the flag turns it off");
        self.refused(&CHECKED)
    }
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let site = Site::new("lists/web.list");
    site.write("lists/web.list", "10.0.0.1\n");
    site.trusted();
    site.mode("lists", 0o757);
    insta::assert_snapshot!("way-world-writable", site.refused_where_checked());
    site.mode("lists", 0o775);
    site.trusted();
    site.owner("lists", 0, STRANGER);
    insta::assert_snapshot!("way-group-writable", site.refused_where_checked());
    site.mode("lists", 0o755);
    site.owner("lists", STRANGER, 0);
    insta::assert_snapshot!("way-of-a-stranger", site.refused_where_checked());
    // Nor does it help that the policy itself is there.
    site.owner("", STRANGER, 0);
    assert!(site.refused_where_checked().contains("belongs to user 4242"));
}

#[test]
fn in_a_sticky_directory_only_the_owner_of_a_name_may_change_it() {
    let site = Site::new("lists/web.list");
    site.write("lists/web.list", "10.0.0.1\n");
    site.mode("lists", 0o1777);
    site.trusted();
    site.owner("lists/web.list", STRANGER, 0);
    assert!(site.refused_where_checked().contains("web.list belongs to user 4242"));
}

#[test]
fn an_access_list_counts() {
    const OWN: [(u16, u16, u32); 4] =
        [(0x01, 7, u32::MAX), (0x04, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 5, u32::MAX)];
    let site = Site::new("lists/web.list");
    site.write("lists/web.list", "10.0.0.1\n");
    let grant = |tag: u16, rights: u16, id: u32| {
        let mut entries = OWN.to_vec();
        entries.insert(if tag == 2 { 1 } else { 2 }, (tag, rights, id));
        let mut list = vec![2, 0, 0, 0];
        for (tag, rights, id) in entries {
            list.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        }
        let name = "system.posix_acl_access";
        setxattr(site.path("lists"), name, &list, XattrFlags::empty()).expect("an access list");
    };
    grant(0x02, 5, STRANGER);
    site.trusted();
    grant(0x02, 7, STRANGER);
    insta::assert_snapshot!("way-access-list", site.refused_where_checked());
    grant(0x08, 7, STRANGER);
    assert!(site.refused_where_checked().contains("its access list names"));
}

#[test]
fn links_are_followed_where_they_are_roots() {
    let site = Site::new("web.list");
    site.write("real/web.list", "10.0.0.1\n");
    symlink("down/../real/../link/web.list", site.path("web.list")).expect("a link");
    symlink("real", site.path("link")).expect("a link");
    fs::create_dir(site.path("down")).expect("a directory");
    site.trusted();
    site.mode("down", 0o777);
    // A directory on the way is on the way, even if it is left again.
    assert!(
        site.refused_where_checked()
            .contains("everybody can write the directory /etc/tierwall/down")
    );
    site.mode("down", 0o755);
    site.owner("link", STRANGER, 0);
    insta::assert_snapshot!("way-link-of-a-stranger", site.refused_where_checked());
}

#[test]
fn what_is_no_file_ends_at_once() {
    for (name, options) in [("checked", CHECKED), ("unchecked", UNCHECKED)] {
        let mut told = String::new();
        for target in ["pipe", "/dev/zero", "/proc/self/comm", "/sys/kernel/notes", "loop"] {
            let site = Site::new("web.list");
            let pipe = site.path("pipe");
            mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
            symlink("loop", site.path("loop")).expect("a link");
            symlink(target, site.path("web.list")).expect("a link");
            told += &format!("{}\n\n", site.refused(&options));
        }
        insta::assert_snapshot!(format!("no-file-{name}"), told);
    }
}

#[test]
fn the_policy_itself_and_what_it_includes_are_judged_alike() {
    let site = Site::new("web.list");
    site.write("web.list", "10.0.0.1\n");
    site.write("conf.d/more.toml", "[services]\nweb = \"tcp/80\"\n");
    let text = fs::read_to_string(site.path("tierwall.toml")).expect("the policy");
    site.write("tierwall.toml", &format!("include = [\"conf.d/*.toml\"]\n{text}"));
    site.trusted();
    site.mode("conf.d", 0o777);
    assert!(
        site.refused_where_checked()
            .contains("everybody can write the directory /etc/tierwall/conf.d")
    );
    site.mode("conf.d", 0o755);

    symlink("/proc/self/comm", site.path("comm.toml")).expect("a link");
    let loaded = load(&site.path("comm.toml"), &CHECKED);
    assert!(loaded.diagnostics.to_string().contains("/proc"), "{}", loaded.diagnostics);
}

#[test]
fn the_file_of_the_role_is_judged_alike() {
    let site = Site::new("web.list");
    site.write("web.list", "10.0.0.1\n");
    site.write("roles/role", "web\n");
    let text = fs::read_to_string(site.path("tierwall.toml")).expect("the policy");
    site.write("tierwall.toml", &format!("role = {{ file = \"roles/role\" }}\n{text}"));
    site.trusted();
    site.mode("roles", 0o777);
    assert!(
        site.refused_where_checked()
            .contains("everybody can write the directory /etc/tierwall/roles")
    );
    site.mode("roles", 0o755);
    site.mode("roles/role", 0o666);
    assert!(site.refused_where_checked().contains("roles/role may be written by everybody"));
    site.mode("roles/role", 0o644);
    site.owner("roles/role", STRANGER, 0);
    assert!(site.refused_where_checked().contains("roles/role belongs to user 4242"));
}

#[test]
fn a_way_that_leads_nowhere_is_missing() {
    for place in ["gone/web.list", "tierwall.toml/web.list", "dangling"] {
        let site = Site::new(place);
        symlink("nowhere", site.path("dangling")).expect("a link");
        let told = site.refused(&CHECKED);
        assert!(told.contains("there is no file") || told.contains("not a directory"), "{told}");
    }
    let loaded = load(Path::new(""), &CHECKED);
    assert!(loaded.policy.is_none());
}

#[test]
fn no_line_is_shown_of_a_file_that_others_may_not_read() {
    let elsewhere = Site::new("web.list");
    let secret = "root:$y$j9T$secret:19000:0:99999:7:::\n";
    elsewhere.write("shadow", secret);
    elsewhere.mode("shadow", 0o640);
    // One by one: a file that is concealed is so by all its names.
    let of = |text: &str, name: &str| {
        let site = Site::new("web.list");
        site.write("web.list", "10.0.0.1\n");
        let _ = fs::remove_file(site.path(name));
        symlink(elsewhere.path("shadow"), site.path(name)).expect("a link");
        let policy = fs::read_to_string(site.path("tierwall.toml")).expect("the policy");
        site.write("tierwall.toml", &format!("{text}{policy}"));
        let loaded = site.load(&CHECKED);
        let json = serde_json::to_string(&loaded.diagnostics).expect("JSON");
        assert!(loaded.policy.is_none() && loaded.diagnostics.len() == 1, "{json}");
        let told = loaded.diagnostics.render(Style::Plain);
        assert!(!format!("{told}{json}{}", loaded.diagnostics).contains("secret"), "{told}");
        let path = site.directory.path().to_str().expect("a plain name");
        told.replace(path, "/etc/tierwall")
    };
    insta::assert_snapshot!("secret-list", of("", "web.list"));
    insta::assert_snapshot!("secret-include", of("include = [\"more.toml\"]\n", "more.toml"));
    insta::assert_snapshot!("secret-role", of("role = { file = \"role\" }\n", "role"));
    // Nor later, of one that is good.
    elsewhere.write("shadow", "web # secret\n");
    elsewhere.mode("shadow", 0o640);
    let site = Site::new("web.list");
    site.write("web.list", "10.0.0.1\n");
    symlink(elsewhere.path("shadow"), site.path("role")).expect("a link");
    let policy = fs::read_to_string(site.path("tierwall.toml")).expect("the policy");
    site.write("tierwall.toml", &format!("role = {{ file = \"role\" }}\n{policy}"));
    let loaded = site.load(&CHECKED);
    let policy = loaded.policy.expect("a good policy");
    let own: Vec<HostAddress> = vec![IpAddr::from([10, 9, 9, 9]).into()];
    let mut found = check_role(&policy, &role_of(&policy, &own), &own);
    loaded.sources.illustrate(&mut found);
    let told = found.render(Style::Plain);
    assert!(told.contains("role:1:1") && !told.contains("secret"), "{told}");
    elsewhere.write("shadow", secret);
    elsewhere.mode("shadow", 0o644);
    let site = Site::new("web.list");
    symlink(elsewhere.path("shadow"), site.path("web.list")).expect("a link");
    assert!(site.refused(&CHECKED).contains("secret"), "everybody may read it");
    // What is kept beside the policy is the policy's.
    let own = Site::new("web.list");
    own.write("web.list", "secret\n");
    own.mode("web.list", 0o600);
    assert!(own.refused(&CHECKED).contains("secret"));
    assert_eq!(own.load(&CHECKED).diagnostics.places().lines().count(), 1);
    assert!(own.load(&CHECKED).diagnostics.places().ends_with("web.list:1:1: error: bad-address"));
}
