//! Each way in which a file can come to say something else is noticed, and what is loaded then is
//! what the files say.

#![allow(clippy::unwrap_used)]

mod site;

use site::{Site, policy_of, replace};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

fn web(member: &str) -> String {
    policy_of(&format!("[tiers]\nweb = [\"{member}\"]"))
}

const LIST: &str = "[tiers]\nweb = { file = \"web.list\" }";
const INCLUDE: &str = "include = [\"conf.d/*.toml\"]\n[tiers]\na = [\"192.0.2.1\"]";

#[tokio::test]
async fn a_policy_file_renamed_into_place_or_written_in_place() {
    let mut site = Site::new(&[("tierwall.toml", &web("192.0.2.1"))]).await;
    assert_eq!(site.loaded, "web 192.0.2.1");
    site.change("web 192.0.2.2", |root| replace(&root.join("tierwall.toml"), &web("192.0.2.2")))
        .await;
    site.change("web 192.0.2.3", |root| {
        fs::write(root.join("tierwall.toml"), web("192.0.2.3")).unwrap();
    })
    .await;
    site.change("web 192.0.2.4", |root| replace(&root.join("tierwall.toml"), &web("192.0.2.4")))
        .await;
}

#[tokio::test]
async fn a_list_file_in_another_directory() {
    let policy = policy_of("[tiers]\nweb = { file = \"../lists/web.list\" }");
    let files = [("etc/tierwall.toml", &*policy), ("lists/web.list", "192.0.2.1")];
    let mut site = Site::at("etc/tierwall.toml", &files).await;
    site.change("web 192.0.2.2", |root| replace(&root.join("lists/web.list"), "192.0.2.2")).await;
    site.change("web 192.0.2.3", |root| {
        fs::write(root.join("lists/web.list"), "192.0.2.3").unwrap()
    })
    .await;
    site.change("web 192.0.2.3-192.0.2.4", |root| {
        let mut file = File::options().append(true).open(root.join("lists/web.list")).unwrap();
        file.write_all(b"\n192.0.2.4\n").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_relative_path_with_parents() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().canonicalize().unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(root.join("tierwall.toml"), policy_of(LIST)).unwrap();
    fs::write(root.join("web.list"), "192.0.2.1").unwrap();
    let depth = std::env::current_dir().unwrap().components().count() - 1;
    let up: PathBuf = std::iter::repeat_n("..", depth).collect();
    let policy = up.join(root.strip_prefix("/").unwrap()).join("etc/../tierwall.toml");
    let mut site = Site::watch(policy, root, directory).await;
    assert_eq!(site.loaded, "web 192.0.2.1");
    site.change("web 192.0.2.2", |root| replace(&root.join("web.list"), "192.0.2.2")).await;
    site.change("web 192.0.2.3", |root| replace(&root.join("tierwall.toml"), &web("192.0.2.3")))
        .await;
}

#[tokio::test]
async fn a_link_to_a_file_that_leads_elsewhere() {
    let files =
        [("tierwall.toml", &*policy_of(LIST)), ("web.list", "-> one/a"), ("one/a", "192.0.2.1")];
    let mut site = Site::new(&files).await;
    site.change("web 192.0.2.2", |root| fs::write(root.join("one/a"), "192.0.2.2").unwrap()).await;
    // By a rename, as `ln -sfn` does it.
    site.change("web 192.0.2.3", |root| {
        fs::create_dir(root.join("two")).unwrap();
        fs::write(root.join("two/b"), "192.0.2.3").unwrap();
        symlink("two/b", root.join("new")).unwrap();
        fs::rename(root.join("new"), root.join("web.list")).unwrap();
    })
    .await;
    site.change("web 192.0.2.4", |root| replace(&root.join("two/b"), "192.0.2.4")).await;
    site.no_change(|root| replace(&root.join("one/a"), "192.0.2.9")).await;
    // By two calls, and to an absolute path.
    site.change("web 192.0.2.9", |root| {
        fs::remove_file(root.join("web.list")).unwrap();
        symlink(root.join("one/a"), root.join("web.list")).unwrap();
    })
    .await;
    site.change("web 192.0.2.5", |root| replace(&root.join("one/a"), "192.0.2.5")).await;
    // A link becomes a file.
    site.change("web 192.0.2.6", |root| replace(&root.join("web.list"), "192.0.2.6")).await;
    site.no_change(|root| replace(&root.join("one/a"), "192.0.2.9")).await;
}

#[tokio::test]
async fn links_that_lead_in_a_circle_until_they_dont() {
    let files = [("tierwall.toml", &*policy_of(LIST)), ("web.list", "-> a"), ("a", "-> web.list")];
    let mut site = Site::new(&files).await;
    assert!(site.loaded.contains("can't read"), "{}", site.loaded);
    site.change("web 192.0.2.1", |root| replace(&root.join("a"), "192.0.2.1")).await;
}

/// `/etc/tierwall` is a link to another directory.
#[tokio::test]
async fn a_link_to_a_directory_that_leads_elsewhere() {
    let policy = policy_of(LIST);
    let files = [
        ("srv/one/tierwall.toml", &*policy),
        ("srv/one/web.list", "192.0.2.1"),
        ("srv/two/tierwall.toml", &*policy),
        ("srv/two/web.list", "192.0.2.2"),
        ("etc/tierwall", "-> ../srv/one"),
    ];
    let mut site = Site::at("etc/tierwall/tierwall.toml", &files).await;
    assert_eq!(site.loaded, "web 192.0.2.1");
    site.change("web 192.0.2.3", |root| replace(&root.join("srv/one/web.list"), "192.0.2.3")).await;
    site.no_change(|root| replace(&root.join("srv/two/web.list"), "192.0.2.4")).await;
    site.change("web 192.0.2.4", |root| {
        symlink("../srv/two", root.join("etc/new")).unwrap();
        fs::rename(root.join("etc/new"), root.join("etc/tierwall")).unwrap();
    })
    .await;
    site.change("web 192.0.2.5", |root| replace(&root.join("srv/two/web.list"), "192.0.2.5")).await;
    // The directory of the directory.
    site.change("web 192.0.2.3", |root| {
        fs::rename(root.join("srv"), root.join("old")).unwrap();
        fs::create_dir(root.join("srv")).unwrap();
        fs::rename(root.join("old/one"), root.join("srv/two")).unwrap();
    })
    .await;
}

/// Kubernetes mounts a ConfigMap so: the files are links into `..data`, a link that is replaced.
#[tokio::test]
async fn a_config_map() {
    fn version(root: &Path, name: &str, member: &str) {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("tierwall.toml"), policy_of(LIST)).unwrap();
        fs::write(root.join(name).join("web.list"), member).unwrap();
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    }
    let directory = TempDir::new().unwrap();
    let root = directory.path().canonicalize().unwrap();
    version(&root, "..1", "192.0.2.1");
    for name in ["tierwall.toml", "web.list"] {
        symlink(Path::new("..data").join(name), root.join(name)).unwrap();
    }
    let mut site = Site::watch(root.join("tierwall.toml"), root, directory).await;
    for number in 2..6 {
        let member = format!("192.0.2.{number}");
        site.change(&format!("web {member}"), move |root| {
            version(root, &format!("..{number}"), &member);
            fs::remove_dir_all(root.join(format!("..{}", number - 1))).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_file_that_is_deleted_and_created_again() {
    let mut site =
        Site::new(&[("tierwall.toml", &policy_of(LIST)), ("web.list", "192.0.2.1")]).await;
    let missing = format!("there is no file {}/web.list", site.root.display());
    for member in ["192.0.2.2", "192.0.2.3"] {
        site.change(&missing, |root| fs::remove_file(root.join("web.list")).unwrap()).await;
        site.change(&format!("web {member}"), move |root| {
            fs::write(root.join("web.list"), member).unwrap();
        })
        .await;
    }
    let missing = format!("there is no file {}/tierwall.toml", site.root.display());
    site.change(&missing, |root| fs::remove_file(root.join("tierwall.toml")).unwrap()).await;
    site.change("web 192.0.2.4", |root| {
        fs::write(root.join("tierwall.toml"), web("192.0.2.4")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn files_of_an_include_come_and_go() {
    let files = [("tierwall.toml", &*policy_of(INCLUDE)), ("conf.d/", "")];
    let mut site = Site::new(&files).await;
    assert_eq!(site.loaded, "a 192.0.2.1");
    site.change("a 192.0.2.1; b 192.0.2.2", |root| {
        fs::write(root.join("conf.d/b.toml"), "[tiers]\nb = [\"192.0.2.2\"]").unwrap();
    })
    .await;
    site.change("a 192.0.2.1; b 192.0.2.2; c 192.0.2.3", |root| {
        fs::write(root.join("c"), "[tiers]\nc = [\"192.0.2.3\"]").unwrap();
        fs::rename(root.join("c"), root.join("conf.d/c.toml")).unwrap();
    })
    .await;
    site.change("a 192.0.2.1; b 192.0.2.4; c 192.0.2.3", |root| {
        fs::write(root.join("conf.d/b.toml"), "[tiers]\nb = [\"192.0.2.4\"]").unwrap();
    })
    .await;
    site.change("a 192.0.2.1; c 192.0.2.3", |root| {
        fs::rename(root.join("conf.d/b.toml"), root.join("conf.d/b.off")).unwrap();
    })
    .await;
    // A list file that a new file names.
    site.change("a 192.0.2.1; c 192.0.2.3; d 192.0.2.5", |root| {
        fs::write(root.join("d.list"), "192.0.2.5").unwrap();
        fs::write(root.join("conf.d/d.toml"), "[tiers]\nd = { file = \"../d.list\" }").unwrap();
    })
    .await;
    site.change("a 192.0.2.1; c 192.0.2.3; d 192.0.2.6", |root| {
        replace(&root.join("d.list"), "192.0.2.6");
    })
    .await;
    site.change("a 192.0.2.1", |root| fs::remove_dir_all(root.join("conf.d")).unwrap()).await;
}

#[tokio::test]
async fn a_directory_that_does_not_exist_yet_and_is_deleted_and_made_again() {
    let mut site = Site::new(&[("tierwall.toml", &policy_of(INCLUDE))]).await;
    for round in 2..5 {
        site.change(&format!("a 192.0.2.1; b 192.0.2.{round}"), move |root| {
            fs::create_dir(root.join("conf.d")).unwrap();
            let text = format!("[tiers]\nb = [\"192.0.2.{round}\"]");
            fs::write(root.join("conf.d/b.toml"), text).unwrap();
        })
        .await;
        site.change("a 192.0.2.1; b 192.0.2.9", |root| {
            replace(&root.join("conf.d/b.toml"), "[tiers]\nb = [\"192.0.2.9\"]");
        })
        .await;
        site.change("a 192.0.2.1", |root| fs::remove_dir_all(root.join("conf.d")).unwrap()).await;
    }
    site.change("a 192.0.2.1; b 192.0.2.8", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::write(root.join("new/b.toml"), "[tiers]\nb = [\"192.0.2.8\"]").unwrap();
        fs::rename(root.join("new"), root.join("conf.d")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn directories_that_match_a_wildcard() {
    let include = "include = [\"tiers/*/members.toml\"]\n[tiers]\na = [\"192.0.2.1\"]";
    let mut site = Site::new(&[("tierwall.toml", &policy_of(include))]).await;
    site.change("a 192.0.2.1; b 192.0.2.2", |root| {
        fs::create_dir_all(root.join("tiers/b")).unwrap();
        fs::write(root.join("tiers/b/members.toml"), "[tiers]\nb = [\"192.0.2.2\"]").unwrap();
    })
    .await;
    site.change("a 192.0.2.1; b 192.0.2.2; c 192.0.2.3", |root| {
        fs::create_dir(root.join("tiers/c")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        fs::write(root.join("tiers/c/members.toml"), "[tiers]\nc = [\"192.0.2.3\"]").unwrap();
    })
    .await;
    site.no_change(|root| fs::write(root.join("tiers/c/README"), "no member").unwrap()).await;
    site.change("a 192.0.2.1; c 192.0.2.3", |root| {
        fs::remove_dir_all(root.join("tiers/b")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_directory_above_is_taken_away_and_another_put_there() {
    let files = [("etc/tierwall/tierwall.toml", &*web("192.0.2.1"))];
    let mut site = Site::at("etc/tierwall/tierwall.toml", &files).await;
    let missing = format!("there is no file {}", site.policy.display());
    site.change(&missing, |root| fs::remove_dir_all(root.join("etc")).unwrap()).await;
    site.change("web 192.0.2.2", |root| {
        fs::create_dir_all(root.join("etc/tierwall")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        fs::write(root.join("etc/tierwall/tierwall.toml"), web("192.0.2.2")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn other_permissions() {
    let mut site = Site::new(&[("tierwall.toml", &web("192.0.2.1"))]).await;
    site.change("web 192.0.2.1", |root| {
        fs::set_permissions(root.join("tierwall.toml"), Permissions::from_mode(0o666)).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_hard_link_into_place() {
    let mut site = Site::new(&[("tierwall.toml", &policy_of(LIST))]).await;
    site.change("web 192.0.2.1", |root| {
        fs::write(root.join("list"), "192.0.2.1").unwrap();
        fs::hard_link(root.join("list"), root.join("web.list")).unwrap();
    })
    .await;
}

/// The directory that is watched is told nothing of it.
#[tokio::test]
async fn a_file_written_by_another_of_its_names() {
    let files = [("etc/tierwall.toml", &*policy_of(LIST)), ("other/list", "192.0.2.1")];
    let mut site = Site::at("etc/tierwall.toml", &files).await;
    for round in 1..3 {
        site.change(&format!("web 192.0.2.{round}"), move |root| {
            fs::hard_link(root.join("other/list"), root.join("etc/web.list")).unwrap();
        })
        .await;
        site.change(&format!("web 192.0.2.{}", round + 1), move |root| {
            fs::write(root.join("other/list"), format!("192.0.2.{}", round + 1)).unwrap();
        })
        .await;
        fs::remove_file(site.root.join("etc/web.list")).unwrap();
        site.quiet().await;
        site.no_change(|root| fs::write(root.join("other/list"), "192.0.2.2").unwrap()).await;
    }
}

/// Nothing tells this from a file whose writer is slow, so it takes a while.
#[tokio::test]
async fn a_nameless_file_linked_into_place() {
    use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
    use std::os::unix::fs::OpenOptionsExt;
    let mut site = Site::new(&[("tierwall.toml", &policy_of(LIST))]).await;
    let mut options = File::options();
    let mut file =
        options.write(true).custom_flags(OFlag::O_TMPFILE.bits()).open(&site.root).unwrap();
    file.write_all(b"192.0.2.1").unwrap();
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let to = site.root.join("web.list");
    nix::unistd::linkat(AT_FDCWD, &*name, AT_FDCWD, &to, AtFlags::AT_SYMLINK_FOLLOW).unwrap();
    tokio::time::timeout(site::LONG, site.watcher.changed()).await.unwrap().unwrap();
    site.reload();
    assert_eq!(site.loaded, "web 192.0.2.1");
}
